//! What a ledger shows of itself in the metrics.

use std::{sync::Arc, time::Duration};

use audit_service::{
    anchor::directory::DirectoryAnchor,
    outside::Outside,
    store::{
        LedgerStore,
        memory::{AppendFault, MemoryLedger},
        observed::Observed,
    },
    witness::client::WitnessSpec,
};
use domain::{time::Timestamp, wire::AppendResult};

use crate::{
    clock::{Hands, NOON},
    fixture::{
        FIRST_KEY, Machine, Running, by_command, event, eventually, genesis, nothing_stored,
        outcome_unknown, read, receipt, remember_the_empty_ledger,
    },
    key_rotation::{insider_block, rotate},
    notary::Failing,
    witness_fixture::{Witness, witness_secret},
};

const NEXT_KEY: u8 = 10;

const OFTEN: Duration = Duration::from_millis(20);

/// Checks metrics, each with its labels.
#[track_caller]
fn check(running: &Running, expected: &[(&str, f64)]) {
    for (metric, expected) in expected {
        assert_eq!(running.metric(metric), Some(*expected), "{metric}");
    }
}

/// Waits until a metric has such a value.
#[track_caller]
fn becomes<'a>(
    running: &'a Running,
    metric: &'a str,
    such: impl Fn(f64) -> bool + 'a,
) -> impl Future<Output = ()> + 'a {
    eventually(move || running.metric(metric).is_some_and(&such))
}

/// Waits until a metric has this value.
#[track_caller]
fn settles<'a>(running: &'a Running, metric: &'a str, value: f64) -> impl Future<Output = ()> + 'a {
    eventually(move || running.metric(metric) == Some(value))
}

fn spawn(running: &Arc<Running>, of: u64) -> tokio::task::JoinHandle<AppendResult> {
    let running = running.clone();
    tokio::spawn(async move { running.append(read(of)).await })
}

#[tokio::test]
async fn appends_are_counted_by_type_and_refusals_by_reason() {
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    let nothing = [
        (r#"vitalog_ledger_records_appended_total{type="PatientAmended"}"#, 0.0),
        (r#"vitalog_ledger_records_appended_total{type="KeyRotated"}"#, 0.0),
        ("vitalog_ledger_blocks_appended_total", 0.0),
        ("vitalog_ledger_fence_conflicts_total", 0.0),
        (r#"vitalog_ledger_ambiguous_results_total{resolved="stored"}"#, 0.0),
        (r#"vitalog_ledger_ambiguous_results_total{resolved="fenced"}"#, 0.0),
        (r#"vitalog_ledger_ambiguous_results_total{resolved="abandoned"}"#, 0.0),
        (r#"vitalog_ledger_proposals_refused_total{reason="conflict"}"#, 0.0),
        (r#"vitalog_ledger_halted{reason="verification_failed"}"#, 0.0),
        (r#"vitalog_ledger_halted{reason="key_missing"}"#, 0.0),
        (r#"vitalog_ledger_halted{reason="abandoned"}"#, 0.0),
        ("vitalog_ledger_size_records", 0.0),
        ("vitalog_ledger_queue_records", 0.0),
        ("vitalog_ledger_unsettled_seconds", 0.0),
        ("vitalog_checkpoint_age_seconds", 0.0),
    ];
    check(&running, &nothing);

    running.append_all([event(1, 1), event(1, 2), read(1)]).await;
    receipt(running.append(by_command(1, 1, event(2, 1))).await);
    receipt(running.append(by_command(1, 1, event(2, 1))).await);
    running.append(by_command(1, 2, event(2, 1))).await;
    running.append(event(1, 9)).await;
    running.operate(rotate(FIRST_KEY, NEXT_KEY, 1)).await;
    store.fail_append(AppendFault::Refuse);
    assert_eq!(running.append(read(1)).await, nothing_stored());
    check(
        &running,
        &[
            (r#"vitalog_ledger_records_appended_total{type="PatientAmended"}"#, 3.0),
            (r#"vitalog_ledger_records_appended_total{type="PatientRead"}"#, 1.0),
            ("vitalog_ledger_blocks_appended_total", 2.0),
            ("vitalog_ledger_block_records_count", 2.0),
            ("vitalog_ledger_block_records_sum", 4.0),
            (r#"vitalog_ledger_block_records_bucket{le="1"}"#, 1.0),
            ("vitalog_ledger_commit_duration_seconds_count", 2.0),
            ("vitalog_ledger_size_records", 4.0),
            (r#"vitalog_ledger_proposals_refused_total{reason="conflict"}"#, 1.0),
            (r#"vitalog_ledger_proposals_refused_total{reason="command_reused"}"#, 1.0),
            (r#"vitalog_ledger_proposals_refused_total{reason="refused"}"#, 1.0),
            (r#"vitalog_ledger_proposals_refused_total{reason="unavailable"}"#, 1.0),
            (r#"vitalog_ledger_ambiguous_results_total{resolved="stored"}"#, 0.0),
        ],
    );
}

#[tokio::test]
async fn what_became_of_ambiguous_results_is_counted() {
    let store = MemoryLedger::new();
    let (running, other) =
        (Arc::new(Machine::new().open(&store).await), Machine::new().open(&store).await);
    store.fail_append(AppendFault::FailAndPersist);
    receipt(running.append(read(1)).await);
    let ambiguous =
        |resolved| format!(r#"vitalog_ledger_ambiguous_results_total{{resolved="{resolved}"}}"#);
    check(&running, &[(&ambiguous("stored"), 1.0), ("vitalog_ledger_fence_conflicts_total", 0.0)]);

    // Its place is taken before it is sent again.
    eventually(|| other.size() == 1).await;
    store.fail_append(AppendFault::FailAndDoNotPersist);
    store.fail_append(AppendFault::Hang);
    let fenced = spawn(&running, 2);
    eventually(|| store.appends() == 3).await;
    receipt(other.append(read(3)).await);
    store.release();
    assert_eq!(receipt(fenced.await.unwrap()).seq, 2);
    let conflicts = "vitalog_ledger_fence_conflicts_total";
    check(&running, &[(&ambiguous("fenced"), 1.0), (conflicts, 1.0), (&ambiguous("stored"), 1.0)]);
    check(&other, &[(&ambiguous("fenced"), 0.0), (conflicts, 0.0)]);

    store.fail_append(AppendFault::Hide);
    let unknown = spawn(&running, 4);
    becomes(&running, "vitalog_ledger_unsettled_seconds", |seconds| seconds > 0.0).await;
    running.abandon.cancel();
    assert_eq!(unknown.await.unwrap(), outcome_unknown());
    settles(&running, r#"vitalog_ledger_halted{reason="abandoned"}"#, 1.0).await;
    check(&running, &[(&ambiguous("abandoned"), 1.0), ("vitalog_ledger_unsettled_seconds", 0.0)]);
}

#[tokio::test]
async fn a_block_that_is_not_settled_and_what_waits_behind_it_show() {
    let store = MemoryLedger::new();
    let running = Arc::new(Machine::new().open(&store).await);
    store.fail_append(AppendFault::Hang);
    let mut appends = vec![spawn(&running, 1)];
    becomes(&running, "vitalog_ledger_unsettled_seconds", |seconds| seconds > 0.02).await;
    appends.extend((2..5).map(|of| spawn(&running, of)));
    settles(&running, "vitalog_ledger_queue_records", 3.0).await;
    store.release();
    for append in appends {
        receipt(append.await.unwrap());
    }
    let settled =
        [("vitalog_ledger_queue_records", 0.0), ("vitalog_ledger_unsettled_seconds", 0.0)];
    check(&running, &settled);
}

#[tokio::test]
async fn a_ledger_that_does_not_verify_shows_as_halted() {
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    receipt(running.append(read(1)).await);
    let mut block = insider_block(&store.blocks(), vec![read(2)]);
    block.lines[0] = block.lines[0].replace("192.0.2.7", "192.0.2.8");
    genesis().fold(&block).unwrap_err();
    store.replace_block(block);
    let halted = r#"vitalog_ledger_halted{reason="verification_failed"}"#;
    settles(&running, halted, 1.0).await;
    check(&running, &[(r#"vitalog_ledger_halted{reason="key_missing"}"#, 0.0)]);
}

#[tokio::test]
async fn a_rotation_to_a_key_that_is_not_held_shows_as_halted() {
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    let other = Machine::new().open_with(&[FIRST_KEY, NEXT_KEY], &store).await;
    receipt(other.operate(rotate(FIRST_KEY, NEXT_KEY, 1)).await);
    let halted = r#"vitalog_ledger_halted{reason="key_missing"}"#;
    settles(&running, halted, 1.0).await;
    check(&other, &[(halted, 0.0)]);
}

#[tokio::test]
async fn the_signing_key_is_as_old_as_its_first_record_says() {
    const AGE: &str = r#"vitalog_key_age_seconds{key="ledger_signing"}"#;
    let (store, hands) = (MemoryLedger::new(), Hands::at(NOON));
    let set = |millis| {
        store.set_clock(Some(Timestamp::from_millis(millis)));
        hands.set(millis);
    };
    set(NOON);
    let open = async |seeds: &[u8]| {
        let machine = Machine::new();
        let parts = machine.parts_with(seeds, store.clone());
        machine.running(audit_service::Parts { clock: hands.clock(), ..parts }).await
    };
    let running = open(&[FIRST_KEY, NEXT_KEY]).await;
    assert_eq!(running.metric(AGE), None, "no record says since when");
    receipt(running.append(read(1)).await);
    set(NOON + 60_000);
    check(&running, &[(AGE, 60.0)]);
    let other = open(&[FIRST_KEY, NEXT_KEY]).await;
    check(&other, &[(AGE, 60.0)]);
    receipt(other.operate(rotate(FIRST_KEY, NEXT_KEY, 1)).await);
    check(&other, &[(AGE, 0.0)]);
    settles(&running, AGE, 0.0).await;
    set(NOON + 70_000);
    check(&open(&[NEXT_KEY]).await, &[(AGE, 10.0)]);
}

#[tokio::test]
async fn a_checkpoint_ages_while_it_is_missing() {
    const AGE: &str = "vitalog_checkpoint_age_seconds";
    let machine = Machine::new();
    let running = machine.open(&MemoryLedger::new()).await;
    check(&running, &[(AGE, 0.0)]);
    let failing = Failing::begin(&machine.checkpoint_file());
    receipt(running.append(event(1, 1)).await);
    becomes(&running, AGE, |age| age > 0.05).await;
    failing.end();
    settles(&running, AGE, 0.0).await;
}

#[tokio::test]
async fn witnesses_and_anchors_age_each_by_itself() {
    let witness = Witness::start(1).await;
    let away = WitnessSpec::new("http://127.0.0.1:1/", witness_secret(2).public()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    std::fs::write(&file, "not a directory").unwrap();
    let outside = Outside {
        witnesses: vec![witness.spec(), away],
        witness_every: OFTEN,
        anchors: vec![
            ("good".to_owned(), Arc::new(DirectoryAnchor::new(folder.path().join("good")))),
            ("bad".to_owned(), Arc::new(DirectoryAnchor::new(&file))),
        ],
        anchor_every: OFTEN,
    };
    std::fs::create_dir(folder.path().join("good")).unwrap();
    let machine = Machine::new();
    remember_the_empty_ledger(&machine.checkpoint_file());
    let parts = machine.parts(MemoryLedger::new());
    let running = Running::open(audit_service::Parts { outside, ..parts }).await.unwrap();
    let age = |kind, name| format!(r#"vitalog_{kind}_age_seconds{{{kind}="{name}"}}"#);
    let names = ["witness.test/w1", "witness.test/w2"];
    for metric in [age("witness", names[0]), age("witness", names[1]), age("anchor", "good")] {
        check(&running, &[(&metric, 0.0)]);
    }
    receipt(running.append(event(1, 1)).await);
    for metric in [age("witness", names[1]), age("anchor", "bad")] {
        becomes(&running, &metric, |age| age > 0.05).await;
    }
    for metric in [age("witness", names[0]), age("anchor", "good")] {
        settles(&running, &metric, 0.0).await;
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    settles(&running, &age("anchor", "bad"), 0.0).await;
    running.stop().await;
    witness.stop().await;
}

#[tokio::test]
async fn calls_of_an_observed_store_are_measured() {
    let memory = MemoryLedger::new();
    let store = Observed::new("memory", memory.clone());
    memory.fail_append(AppendFault::FailAndDoNotPersist);
    let machine = Machine::new();
    let running = machine.running(machine.parts(store)).await;
    receipt(running.append(event(1, 1)).await);
    let store = Observed::new("memory", memory.clone());
    store.append(&memory.blocks()[0]).await.unwrap_err();
    memory.fail_reads(1);
    store.head().await.unwrap_err();

    // A place that is taken is an answer. Nobody else in this process names a store so.
    let text = runtime::metrics::process().text().unwrap();
    for (labels, count) in [
        (r#"db_operation_name="append",db_system_name="memory""#, 2),
        (r#"db_operation_name="append",db_system_name="memory",error_type="ambiguous""#, 1),
        (r#"db_operation_name="head",db_system_name="memory",error_type="unavailable""#, 1),
    ] {
        let line = format!(
            "db_client_operation_duration_seconds_count{{db_collection_name=\"blocks\",\
             db_namespace=\"ledger\",{labels}}} {count}"
        );
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}
