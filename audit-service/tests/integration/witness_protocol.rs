//! The witness over HTTP: every status of C2SP tlog-witness, and what it remembers.

use std::sync::Arc;

use audit_service::{
    service::system_clock,
    witness::{
        cosigner::Cosigner,
        request::{AddCheckpoint, MAX_REQUEST_BYTES},
        state::WitnessState,
    },
};
use audit_verify::checkpoint::LedgerSecret;
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::hash::Hash;
use ed25519_dalek::{Signature, SigningKey, Verifier};
use sha2_for_ct_merkle::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::{
    fixture::{ORIGIN, eventually, name},
    privacy::Logs,
    witness_fixture::{COSIGNED_AT, Log, Said, Witness, ledger_secret, witness_secret},
};

#[track_caller]
fn cosigned(witness: &Witness, note: &str, said: &Said) {
    assert_eq!(said.status, 200, "{}", said.text);
    let at = witness.key.cosigned_at(&format!("{note}{}", said.text)).unwrap();
    assert_eq!(at, Some(COSIGNED_AT));
}

#[track_caller]
fn other_size(said: &Said, size: u64) {
    let expected = Said { status: 409, kind: "text/x.tlog.size".into(), text: format!("{size}\n") };
    assert_eq!(*said, expected);
}

#[track_caller]
fn problem(said: &Said, status: u16) {
    assert_eq!((said.status, said.kind.as_str()), (status, "application/problem+json"), "{said:?}");
}

/// Size of the remembered checkpoint.
fn remembered(witness: &Witness) -> Option<u64> {
    witness.remembered().map(|note| note.lines().nth(1).unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_cosignature_is_made_as_the_specification_says() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    let note = log.note(5);
    let said = witness.add(&log.request(0, 5)).await;
    cosigned(&witness, &note, &said);

    // C2SP signed-note and tlog-cosignature, by hand.
    let public = SigningKey::from_bytes(&[101; 32]).verifying_key();
    let id = Sha256::new()
        .chain_update("witness.test/w1\n\x04")
        .chain_update(public.as_bytes())
        .finalize();
    let line = said.text.strip_suffix('\n').unwrap();
    let bytes = STANDARD.decode(line.strip_prefix("— witness.test/w1 ").unwrap()).unwrap();
    assert_eq!(bytes.len(), 4 + 8 + 64);
    assert_eq!(bytes[..4], id[..4]);
    assert_eq!(bytes[4..12], COSIGNED_AT.to_be_bytes());
    let text = note.split_once("\n\n").unwrap().0;
    let message = format!("cosignature/v1\ntime {COSIGNED_AT}\n{text}\n");
    let signature = Signature::from_bytes(bytes[12..].try_into().unwrap());
    public.verify(message.as_bytes(), &signature).unwrap();
    witness.stop().await;
}

#[tokio::test]
async fn a_ledger_that_grows_is_cosigned_from_every_size_to_every_other() {
    let log = Log::new();
    for from in [1, 2, 3, 7, 8, 13] {
        for to in [13, 14, 16, 33, 64] {
            let witness = Witness::start(1).await;
            cosigned(&witness, &log.note(from), &witness.add(&log.request(0, from)).await);
            cosigned(&witness, &log.note(to), &witness.add(&log.request(from, to)).await);
            // The same once more: the answer may have been lost.
            cosigned(&witness, &log.note(to), &witness.add(&log.request(to, to)).await);
            assert_eq!(remembered(&witness), Some(to));
            witness.stop().await;
        }
    }
}

#[tokio::test]
async fn the_remembered_size_is_told_to_whoever_believes_another() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    other_size(&witness.add(&log.request(3, 5)).await, 0);
    cosigned(&witness, &log.note(5), &witness.add(&log.request(0, 5)).await);
    for (old, size) in [(0, 9), (3, 9), (6, 9), (0, 5), (0, 3), (3, 3)] {
        other_size(&witness.add(&log.request(old, size)).await, 5);
    }
    assert_eq!(remembered(&witness), Some(5));
    assert!(witness.evidence("forks").is_empty() && witness.evidence("unproven").is_empty());
    witness.stop().await;
}

#[tokio::test]
async fn every_other_refusal_has_its_status_and_changes_nothing() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    cosigned(&witness, &log.note(5), &witness.add(&log.request(0, 5)).await);

    for body in ["", "old 5\n", "rubbish\n\nnote", "old 5\n\nrubbish", "old 05\n\nx"] {
        problem(&witness.post(body).await, 400);
    }
    problem(&witness.post(vec![0xff; 10]).await, 400);
    problem(&witness.add(&log.request(9, 8)).await, 400);
    problem(&witness.post(vec![b'x'; MAX_REQUEST_BYTES + 1]).await, 413);

    let unknown_key = Log::new().signed_by(LedgerSecret::new(name(ORIGIN), &[8; 32]));
    problem(&witness.add(&unknown_key.request(5, 8)).await, 403);
    let unsigned = log.note(8).split_once("\n\n").unwrap().0.to_owned() + "\n\n";
    let request = AddCheckpoint { note: unsigned, ..log.request(5, 8) };
    assert!(matches!(witness.add(&request).await.status, 400 | 403));
    let unknown_origin = Log::new().signed_by(LedgerSecret::new(name("other"), &[9; 32]));
    problem(&witness.add(&unknown_origin.request(5, 8)).await, 404);
    let other_text = AddCheckpoint { note: log.note(8).replacen('8', "9", 1), ..log.request(5, 8) };
    problem(&witness.add(&other_text).await, 403);

    let mut proof = log.proof(5, 8);
    proof[0] = Hash::of_line("wrong");
    problem(&witness.add(&AddCheckpoint { proof, ..log.request(5, 8) }).await, 422);
    problem(&witness.add(&AddCheckpoint { proof: vec![], ..log.request(5, 8) }).await, 422);
    let more = AddCheckpoint { proof: vec![Hash::ZERO], ..log.request(5, 5) };
    problem(&witness.add(&more).await, 422);

    assert_eq!(remembered(&witness), Some(5));
    cosigned(&witness, &log.note(8), &witness.add(&log.request(5, 8)).await);
    witness.stop().await;

    let witness = Witness::start(1).await;
    let proof = vec![Hash::ZERO];
    problem(&witness.add(&AddCheckpoint { proof, ..log.request(0, 5) }).await, 422);
    assert_eq!(remembered(&witness), None);
    witness.stop().await;
}

#[tokio::test]
async fn other_paths_and_methods_are_problems_and_health_is_told() {
    let witness = Witness::start(1).await;
    let http = runtime::client::internal_client();
    for (path, status) in [("/", 404), ("/add-checkpoint", 405), ("/healthz", 200)] {
        let answer = http.get(format!("{}{path}", witness.url)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    witness.stop().await;
}

#[tokio::test]
async fn a_fork_at_the_same_size_is_refused_and_kept_as_evidence() {
    let (witness, log, fork) = (Witness::start(1).await, Log::new(), Log::forked_at(3));
    cosigned(&witness, &log.note(5), &witness.add(&log.request(0, 5)).await);
    problem(&witness.add(&fork.request(5, 5)).await, 409);
    problem(&witness.add(&fork.request(5, 5)).await, 409);
    // It is one too where the sender believes another size.
    other_size(&witness.add(&fork.request(3, 5)).await, 5);
    assert_eq!(witness.evidence("forks"), [fork.note(5)]);
    assert!(witness.remembered().unwrap().starts_with(&log.note(5)));
    cosigned(&witness, &log.note(8), &witness.add(&log.request(5, 8)).await);
    witness.stop().await;
}

#[tokio::test]
async fn a_fork_behind_a_larger_size_is_refused_and_kept_as_evidence() {
    let (witness, log, fork) = (Witness::start(1).await, Log::new(), Log::forked_at(3));
    cosigned(&witness, &log.note(5), &witness.add(&log.request(0, 5)).await);
    problem(&witness.add(&fork.request(5, 9)).await, 422);
    assert_eq!(witness.evidence("unproven"), [fork.note(9)]);
    assert_eq!(remembered(&witness), Some(5));
    // One that forked later has the same beginning.
    let later = Log::forked_at(5);
    cosigned(&witness, &later.note(9), &witness.add(&later.request(5, 9)).await);
    witness.stop().await;
}

#[tokio::test]
async fn an_older_checkpoint_is_refused_after_a_restart() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    cosigned(&witness, &log.note(20), &witness.add(&log.request(0, 20)).await);
    let witness = witness.restart(1).await;
    for old in [0, 7, 10] {
        other_size(&witness.add(&log.request(old, 10)).await, 20);
    }
    problem(&witness.add(&log.request(20, 10)).await, 400);
    assert_eq!(remembered(&witness), Some(20));
    cosigned(&witness, &log.note(21), &witness.add(&log.request(20, 21)).await);
    witness.stop().await;
}

#[tokio::test]
async fn a_cosignature_that_got_lost_can_be_had_again() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    // Nobody waits for the answer, and the process is gone after it remembered.
    let body = log.request(0, 7).to_text();
    let address = witness.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: {}", body.len());
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    eventually(|| remembered(&witness) == Some(7)).await;
    drop(stream);
    let witness = witness.restart(1).await;
    other_size(&witness.add(&log.request(0, 7)).await, 7);
    cosigned(&witness, &log.note(7), &witness.add(&log.request(7, 7)).await);
    witness.stop().await;
}

#[tokio::test]
async fn a_state_that_cannot_be_trusted_stops_the_witness() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    let stranger = LedgerSecret::new(name(ORIGIN), &[8; 32]);
    let other_ledger = LedgerSecret::new(name("other"), &[9; 32]);
    for content in [
        String::new(),
        "rubbish".to_owned(),
        Log::new().signed_by(stranger).note(3),
        Log::new().signed_by(other_ledger).note(3),
        log.note(3).replacen('3', "2", 1),
        "x".repeat(1_000_000),
    ] {
        std::fs::write(witness.state_file(), &content).unwrap();
        problem(&witness.add(&log.request(0, 5)).await, 503);
        problem(&witness.add(&log.request(3, 5)).await, 503);
        assert_eq!(witness.remembered(), Some(content));
    }
    std::fs::remove_file(witness.state_file()).unwrap();
    std::fs::create_dir(witness.state_file()).unwrap();
    problem(&witness.add(&log.request(0, 5)).await, 503);
    witness.stop().await;
}

#[tokio::test]
async fn what_cannot_be_remembered_is_not_cosigned() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    cosigned(&witness, &log.note(5), &witness.add(&log.request(0, 5)).await);
    // The file beside its place cannot be made.
    let mut beside = witness.state_file().into_os_string();
    beside.push(format!(".{}.new", std::process::id()));
    std::fs::create_dir(&beside).unwrap();
    problem(&witness.add(&log.request(5, 8)).await, 503);
    assert_eq!(remembered(&witness), Some(5));
    std::fs::remove_dir(&beside).unwrap();
    cosigned(&witness, &log.note(8), &witness.add(&log.request(5, 8)).await);
    witness.stop().await;
}

#[tokio::test]
async fn a_ledger_may_rotate_its_key() {
    let new = LedgerSecret::new(name(ORIGIN), &[7; 32]);
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let both = vec![ledger_secret().public(), new.public()];
    let witness = Witness::start_in(1, folder.clone(), both).await;
    let (log, rotated) = (Log::new(), Log::new().signed_by(new.clone()));
    cosigned(&witness, &log.note(5), &witness.add(&log.request(0, 5)).await);
    cosigned(&witness, &rotated.note(8), &witness.add(&rotated.request(5, 8)).await);
    witness.stop().await;
    // What the retired key signed is still remembered, by the witness's own signature.
    std::fs::remove_file(folder.path().join(format!("{ORIGIN}.checkpoint"))).unwrap();
    let witness = Witness::start_in(1, folder.clone(), vec![ledger_secret().public()]).await;
    cosigned(&witness, &log.note(5), &witness.add(&log.request(0, 5)).await);
    witness.stop().await;
    let witness = Witness::start_in(1, folder, vec![new.public()]).await;
    problem(&witness.add(&log.request(5, 8)).await, 403);
    cosigned(&witness, &rotated.note(8), &witness.add(&rotated.request(5, 8)).await);
    witness.stop().await;
}

/// Signature lines that nobody who is known made.
fn junk(lines: usize) -> String {
    let line = |n: usize| format!("— junk{n} {}\n", STANDARD.encode([u8::MAX; 4 + 64]));
    (0..lines).map(line).collect()
}

#[tokio::test]
async fn signatures_that_strangers_add_are_not_remembered() {
    let (witness, log) = (Witness::start(1).await, Log::new());
    let genuine = log.note(5);
    let own = genuine.split_inclusive('\n').next_back().unwrap();
    let stale = witness_secret(1).cosign(&genuine, 1).unwrap();
    for padding in [junk(99), own.repeat(99), stale.repeat(50) + &junk(49)] {
        let _ = std::fs::remove_file(witness.state_file());
        let note = format!("{genuine}{padding}");
        let padded = AddCheckpoint { note, ..log.request(0, 5) };
        let said = witness.add(&padded).await;
        cosigned(&witness, &genuine, &said);
        assert_eq!(witness.remembered(), Some(format!("{genuine}{}", said.text)));
    }
    cosigned(&witness, &log.note(8), &witness.add(&log.request(5, 8)).await);
    let note = log.note(9) + &junk(99);
    let padded = AddCheckpoint { note, ..log.request(8, 9) };
    assert_eq!(witness.add(&padded).await.status, 200);
    let witness = witness.restart(1).await;
    cosigned(&witness, &log.note(20), &witness.add(&log.request(9, 20)).await);
    witness.stop().await;
}

#[tokio::test]
async fn strangers_cannot_fill_the_log_with_errors() {
    let (folder, log) = (tempfile::tempdir().unwrap(), Log::new());
    let logs = Logs::of_this_thread();
    let state = WitnessState::open(folder.path()).unwrap();
    let ledgers = vec![ledger_secret().public()];
    let cosigner = Cosigner::new(witness_secret(1), ledgers, state, system_clock());
    cosigner.add(&log.request(0, 5)).unwrap();
    let unproven = AddCheckpoint { proof: vec![], ..log.request(5, 8) };
    let fork = Log::forked_at(3).request(5, 5);
    let errors = || logs.lines_with("\"ERROR\"").len();
    for request in [&unproven, &fork] {
        let before = errors();
        for _ in 0..5 {
            cosigner.add(request).unwrap_err();
        }
        assert_eq!(errors() - before, 1);
    }
    assert_eq!(logs.lines_with("FORK").len(), 1);
    // A folder that is full is told once; new evidence is not even an error.
    let evidence = folder.path().join("evidence").join("unproven");
    for number in 0..2_000 {
        std::fs::write(evidence.join(number.to_string()), "").unwrap();
    }
    let state = WitnessState::open(folder.path()).unwrap();
    let ledgers = vec![ledger_secret().public()];
    let cosigner = Cosigner::new(witness_secret(1), ledgers, state, system_clock());
    let before = errors();
    for size in 9..20 {
        let unproven = AddCheckpoint { proof: vec![], ..log.request(5, size) };
        cosigner.add(&unproven).unwrap_err();
    }
    assert_eq!((errors(), logs.lines_with("\"WARN\"").len()), (before, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_submissions_that_race_one_wins_and_nothing_is_rolled_back() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let keys = vec![ledger_secret().public()];
    // Two processes on one folder: each takes the lock through a file of its own.
    let one = Arc::new(Witness::start_in(1, folder.clone(), keys.clone()).await);
    let other = Arc::new(Witness::start_in(1, folder, keys).await);
    let climb = |witness: Arc<Witness>, step: u64| async move {
        let (log, mut taken, mut believed, mut size) = (Log::new(), Vec::new(), 0, step);
        while size <= 60 {
            let said = witness.add(&log.request(believed, size)).await;
            match said.status {
                200 => {
                    cosigned(&witness, &log.note(size), &said);
                    taken.push((believed, size));
                    believed = size;
                }
                409 => {
                    let has = said.text.trim().parse().unwrap();
                    assert!(has > believed, "rolled back from {believed} to {has}");
                    believed = has;
                }
                _ => panic!("{said:?}"),
            }
            size = size.max(believed) + u64::from(size <= believed) * step;
        }
        taken
    };
    let climbers = (1..=8).map(|n| {
        let witness = if n % 2 == 0 { one.clone() } else { other.clone() };
        tokio::spawn(climb(witness, 1 + n % 3))
    });
    let mut taken = Vec::new();
    for climber in climbers.collect::<Vec<_>>() {
        taken.extend(climber.await.unwrap());
    }
    // One chain of steps: no size was left twice for different ones.
    taken.sort_unstable();
    let steps: Vec<_> = taken.iter().filter(|(old, size)| old < size).collect();
    for pair in steps.windows(2) {
        assert_eq!(pair[0].1, pair[1].0, "{steps:?}");
    }
    assert_eq!(remembered(&one), steps.last().map(|(_, size)| *size));
    assert!(one.evidence("forks").is_empty() && one.evidence("unproven").is_empty());
}
