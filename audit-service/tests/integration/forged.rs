//! Blocks that an administrator of the store made: found at start and while running.

use audit_service::{
    OpenError, Parts, block::Block, ledger::entries, seal::SealKeys, start::StartError,
    store::memory::MemoryLedger,
};
use domain::{hash::Hash, merkle::Frontier};

use crate::{
    fixture::{
        Machine, Running, by_command, event, eventually, genesis, mac, nothing_stored, read,
        receipt,
    },
    privacy::Logs,
};

/// Three honest blocks of two records each: at 0, 2 and 4.
async fn honest() -> Vec<Block> {
    let store = MemoryLedger::new();
    fill(&Machine::new().open(&store).await).await;
    store.blocks()
}

async fn fill(running: &Running) {
    for patient in 0..3 {
        let event = by_command(patient, 0, event(patient, 1));
        for result in running.append_all([event, read(patient)]).await {
            receipt(result);
        }
    }
}

/// Makes root and frontier fit the lines again, as anybody can.
fn reroot(block: &mut Block, before: &[Block]) {
    let mut frontier = Frontier::default();
    for line in before.iter().flat_map(|block| &block.lines).chain(&block.lines) {
        frontier.push(Hash::of_line(line));
    }
    block.root = frontier.root();
    block.frontier = frontier.hashes().to_vec();
}

/// The middle block after `forge` is found, at start and when it comes while running, and the
/// first bad position is named.
async fn check_found(what: &str, seq: u64, forge: impl Fn(&mut Block, &[Block])) {
    let blocks = check_found_at_start(what, seq, forge).await;
    check_stops_appending(what, seq, &blocks).await;
}

async fn check_found_at_start(
    what: &str,
    seq: u64,
    forge: impl Fn(&mut Block, &[Block]),
) -> Vec<Block> {
    let mut blocks = honest().await;
    let (before, from) = blocks.split_at_mut(1);
    forge(&mut from[0], before);
    let store = MemoryLedger::new();
    for block in &blocks {
        store.replace_block(block.clone());
    }
    let Err(OpenError::Start(error)) = Running::open(Machine::new().parts(store)).await else {
        panic!("{what}: opened");
    };
    assert!(matches!(error, StartError::Fold(_)), "{what}: {error}");
    assert!(error.to_string().ends_with(&format!("at record {seq}")), "{what}: {error}");
    blocks
}

async fn check_stops_appending(what: &str, seq: u64, blocks: &[Block]) {
    let logs = Logs::of_this_thread();
    let store = MemoryLedger::new();
    store.replace_block(blocks[0].clone());
    let running = Machine::new().open(&store).await;
    assert_eq!(running.size(), 2);
    eventually(|| running.readiness.is_ready()).await;
    for block in &blocks[1..] {
        store.replace_block(block.clone());
    }
    let size = store.blocks().len();
    assert_eq!(running.append(read(7)).await, nothing_stored(), "{what}");
    eventually(|| !running.readiness.is_ready()).await;
    assert_eq!(running.append(read(7)).await, nothing_stored(), "{what}");
    assert_eq!((running.size(), store.blocks().len()), (2, size), "{what}");
    assert!(running.ledger.checkpoint().await.unwrap().starts_with("test-ledger\n2\n"), "{what}");
    let errors = logs.lines_with("the stored ledger does not verify; nothing will be appended");
    assert_eq!(errors.len(), 1, "{what}: {errors:?}");
    assert!(errors[0].contains(&format!("\"seq\":{seq}")), "{what}: {errors:?}");
}

#[tokio::test]
async fn a_changed_line_is_found_where_it_breaks_the_chain() {
    check_found("first line", 3, |block, _| {
        block.lines[0] = block.lines[0].replace("192.0.2.7", "192.0.2.8");
    })
    .await;
    check_found("last line", 2, |block, _| {
        block.lines[1] = block.lines[1].replace("192.0.2.7", "192.0.2.8");
    })
    .await;
    check_found("not canonical", 2, |block, before| {
        block.lines[0] = block.lines[0].replacen(':', ": ", 1);
        reroot(block, before);
    })
    .await;
    check_found("no record", 3, |block, before| {
        block.lines[1] = "{}".to_owned();
        reroot(block, before);
    })
    .await;
}

#[tokio::test]
async fn removed_inserted_and_swapped_records_are_found() {
    check_found("removed at the end", 2, |block, before| {
        block.lines.pop();
        reroot(block, before);
    })
    .await;
    check_found("removed at the front", 2, |block, before| {
        block.lines.remove(0);
        reroot(block, before);
    })
    .await;
    check_found("inserted", 3, |block, before| {
        block.lines.insert(0, block.lines[0].clone());
        reroot(block, before);
    })
    .await;
    check_found("swapped", 2, |block, before| {
        block.lines.swap(0, 1);
        reroot(block, before);
    })
    .await;
    check_found("emptied", 2, |block, before| {
        // Root and seal of the block before are genuine for what an empty one leaves behind.
        *block = Block { first: block.first, lines: Vec::new(), ..before[0].clone() };
        block.streams.clear();
        block.commands.clear();
    })
    .await;
}

#[tokio::test]
async fn a_root_that_fits_changed_lines_does_not_have_our_seal() {
    check_found("root and frontier recomputed", 2, |block, before| {
        block.lines[1] = block.lines[1].replace("192.0.2.7", "192.0.2.8");
        reroot(block, before);
    })
    .await;
    check_found("seal of another block", 2, |block, before| block.seal = before[0].seal).await;
    check_found("seal made up", 2, |block, _| block.seal = mac(1)).await;
}

#[tokio::test]
async fn derived_members_that_do_not_fit_are_found() {
    check_found("frontier", 2, |block, _| block.frontier[0] = Hash::ZERO).await;
    check_found("short frontier", 2, |block, _| block.frontier.clear()).await;
    check_found("root", 2, |block, _| block.root = Hash::ZERO).await;
    check_found("stream's version", 2, |block, _| block.streams[0].version = 9).await;
    check_found("stream entry removed", 2, |block, _| block.streams.clear()).await;
    check_found("command's id", 2, |block, _| block.commands[0].id = mac(99)).await;
    check_found("command entry removed", 2, |block, _| block.commands.clear()).await;
}

#[tokio::test]
async fn a_block_in_another_place_is_found_at_start() {
    check_found_at_start("moved", 2, |block, _| block.first = 3).await;
    check_found_at_start("overlap", 2, |block, before| {
        block.first = 1;
        block.lines.insert(0, before[0].lines[1].clone());
    })
    .await;
}

#[tokio::test]
async fn a_whole_chain_without_the_seal_key_is_refused() {
    let forged = MemoryLedger::new();
    let parts = Parts { seal_keys: SealKeys::new([6; 32]), ..Machine::new().parts(forged.clone()) };
    fill(&Running::open(parts).await.unwrap()).await;
    let Err(OpenError::Start(error)) = Running::open(Machine::new().parts(forged)).await else {
        panic!("opened")
    };
    assert!(error.to_string().ends_with("at record 0"), "{error}");
}

#[tokio::test]
async fn an_idle_process_finds_a_forged_block_too() {
    let mut blocks = honest().await;
    blocks[1].seal = mac(1);
    let store = MemoryLedger::new();
    store.replace_block(blocks[0].clone());
    let running = Machine::new().open(&store).await;
    store.replace_block(blocks[1].clone());
    eventually(|| !running.readiness.is_ready()).await;
    assert_eq!(running.append(read(7)).await, nothing_stored());
}

#[tokio::test]
async fn a_lookup_that_leads_to_another_command_stops_appending() {
    let store = MemoryLedger::new();
    fill(&Machine::new().open(&store).await).await;
    let running = Machine::new().open(&store).await;
    let mut block = store.blocks()[0].clone();
    block.commands[0].id = mac(99);
    store.replace_block(block);
    let misled = running.append(by_command(99, 0, event(9, 1))).await;
    assert_eq!(misled, crate::fixture::outcome_unknown());
    eventually(|| !running.readiness.is_ready()).await;
    assert_eq!(store.blocks().len(), 3);
}

#[test]
fn versions_that_do_not_follow_each_other_are_refused_under_our_own_seal() {
    let mut ledger = genesis();
    let (mut lines, mut records) = (Vec::new(), Vec::new());
    for proposed in crate::fixture::admitted([event(1, 1), event(2, 1), event(1, 3)]) {
        let mut record = proposed.record;
        (record.seq, record.prev) = (ledger.size(), ledger.link().hash);
        let line = record.to_line();
        ledger.push(&record, &line).unwrap();
        lines.push(line);
        records.push(record);
    }
    let block = ledger.close_block(0, lines, entries(&records));
    assert_eq!(genesis().fold(&block).unwrap_err().seq(), 2);
}

#[tokio::test]
async fn a_bad_block_leaves_a_ledger_where_it_was() {
    let blocks = honest().await;
    let mut ledger = genesis();
    ledger.fold(&blocks[0]).unwrap();
    let before = (ledger.size(), ledger.root(), ledger.link().clone());
    let mut bad = blocks[1].clone();
    bad.seal = mac(1);
    assert_eq!(ledger.fold(&bad).unwrap_err().seq(), 2);
    assert_eq!(ledger.fold(&blocks[2]).unwrap_err().seq(), 2, "a block is missing");
    assert_eq!((ledger.size(), ledger.root(), ledger.link().clone()), before);
    ledger.fold(&blocks[1]).unwrap();
    ledger.fold(&blocks[2]).unwrap();
}

#[tokio::test]
async fn a_last_block_that_is_taken_away_is_not_built_upon() {
    let logs = Logs::of_this_thread();
    let store = MemoryLedger::new();
    let machine = Machine::new();
    let running = machine.open(&store).await;
    fill(&running).await;
    eventually(|| running.readiness.is_ready()).await;
    store.truncate(4);
    eventually(|| !running.readiness.is_ready()).await;
    assert_eq!(running.append(read(7)).await, nothing_stored());
    assert_eq!(store.blocks().len(), 2);
    let errors = logs.lines_with("the stored ledger does not verify; nothing will be appended");
    assert!(errors[0].contains("\"seq\":4"), "{errors:?}");
}
