//! A proof in the receipt: to the checkpoint that was signed right after the same commit.

use std::{fs, time::Instant};

use audit_service::store::memory::{AppendFault, MemoryLedger};
use audit_verify::{
    checkpoint::{LedgerKey, TreeHead},
    proof_file::ProofFile,
};
use domain::wire::{Proposal, Receipt};

use crate::{
    fixture::{
        Machine, PATIENCE, Running, admitted, by_command, event, eventually, keys, read, receipt,
    },
    server::Server,
};

fn proven(proposal: Proposal) -> Proposal {
    Proposal { proof: true, ..proposal }
}

fn key() -> LedgerKey {
    keys().newest().clone()
}

/// Checks a receipt's proof and returns the tree that it is of.
#[track_caller]
fn check(receipt: &Receipt) -> TreeHead {
    let file = ProofFile::parse(receipt.proof.as_deref().expect("a proof")).unwrap();
    assert_eq!(file.index, receipt.seq);
    file.check(&key(), receipt.hash).unwrap()
}

#[tokio::test]
async fn every_record_of_a_block_that_asks_is_proven_to_the_blocks_end() {
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    for round in 0..40_u64 {
        let items = (0..=round % 9).map(|n| {
            let proposal = read(n);
            if n % 3 == 1 { proposal } else { proven(proposal) }
        });
        let results = running.append_all(items).await;
        let block = store.blocks().pop().unwrap();
        for (place, result) in results.into_iter().enumerate() {
            let receipt = receipt(result);
            if place % 3 == 1 {
                assert_eq!(receipt.proof, None);
            } else {
                assert_eq!(check(&receipt), TreeHead { size: block.end(), root: block.root });
            }
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proofs_hold_with_several_appenders_and_callers() {
    let store = MemoryLedger::new();
    let one = Machine::new().open(&store).await;
    let other = Machine::new().open(&store).await;
    let append = async |running: &Running, round: u64| {
        let mut heads = Vec::new();
        for n in 0..30 {
            let items = (0..4).map(|m| proven(read(round * 1_000 + n * 4 + m)));
            for result in running.append_all(items).await {
                heads.push(check(&receipt(result)));
            }
        }
        heads
    };
    let heads =
        tokio::join!(append(&one, 1), append(&other, 2), append(&one, 3), append(&other, 4));
    let blocks = store.blocks();
    for head in [heads.0, heads.1, heads.2, heads.3].concat() {
        let block = blocks.iter().find(|block| block.end() == head.size).unwrap();
        assert_eq!(block.root, head.root);
    }
    assert_eq!(blocks.last().unwrap().end(), 480);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_leaves_is_in_the_checkpoint_file() {
    let machine = Machine::new();
    let running = machine.open(&MemoryLedger::new()).await;
    for n in 0..10 {
        let head = check(&receipt(running.append(proven(read(n))).await));
        let remembered = machine.checkpoint_file().load(&keys()).unwrap().unwrap();
        assert!(remembered.size >= head.size, "{remembered:?} {head:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_command_that_was_recorded_before_has_no_proof_of_its_commit() {
    let running = Machine::new().open(&MemoryLedger::new()).await;
    let command = || proven(by_command(1, 1, event(1, 1)));
    let first = receipt(running.append(command()).await);
    assert_eq!(check(&first).size, 1);
    let again = receipt(running.append(command()).await);
    assert_eq!(again, Receipt { replayed: true, proof: None, ..first });
    // Twice in one block: the second is a repetition too.
    let both = running.append_all([1, 2].map(|_| proven(by_command(2, 1, event(2, 1))))).await;
    let [one, two]: [Receipt; 2] =
        both.into_iter().map(receipt).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(check(&one).size, 2);
    assert_eq!((two.replayed, two.proof), (true, None));
    running.stop().await;
}

#[tokio::test]
async fn a_block_whose_outcome_was_unknown_is_proven_once_it_is_found() {
    for fault in [AppendFault::FailAndPersist, AppendFault::FailAndDoNotPersist] {
        let store = MemoryLedger::new();
        let running = Machine::new().open(&store).await;
        running.append(read(1)).await;
        store.fail_append(fault);
        let receipt = receipt(running.append(proven(read(2))).await);
        assert_eq!(check(&receipt).size, 2);
        running.stop().await;
    }
}

#[tokio::test]
async fn without_a_checkpoint_file_the_receipt_goes_out_without_a_proof() {
    let machine = Machine::new();
    let running = machine.open(&MemoryLedger::new()).await;
    let path = machine.checkpoint_file().path().to_owned();
    let remembered = fs::read(&path).ok();
    // A folder in its place can be neither read nor replaced.
    fs::remove_file(&path).ok();
    fs::create_dir(&path).unwrap();
    let durable = receipt(running.append(proven(read(1))).await);
    assert_eq!((durable.seq, durable.proof), (0, None));
    fs::remove_dir(&path).unwrap();
    remembered.map(|note| fs::write(&path, note));
    assert_eq!(check(&receipt(running.append(proven(read(1))).await)).size, 2);
    running.stop().await;
}

/// Whoever holds this lock keeps every process from writing the checkpoint file.
fn locked(machine: &Machine) -> fs::File {
    let mut lock = machine.checkpoint_file().path().as_os_str().to_owned();
    lock.push(".lock");
    let lock = fs::File::create(lock).unwrap();
    lock.lock().unwrap();
    lock
}

#[tokio::test]
async fn the_appender_does_not_wait_for_the_checkpoint_file() {
    let machine = Machine::new();
    let running = machine.open(&MemoryLedger::new()).await;
    let lock = locked(&machine);
    let waiting = running.ledger.queue.submit(admitted([proven(read(1))]), PATIENCE);
    let appending = async {
        eventually(|| running.size() == 1).await;
        for n in 0..5 {
            assert_eq!(receipt(running.append(read(n)).await).proof, None);
        }
        lock.unlock().unwrap();
    };
    let (mut results, ()) = tokio::join!(waiting, appending);
    assert_eq!(check(&receipt(results.pop().unwrap())).size, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_checkpoint_file_that_hangs_holds_nobody_up_for_long() {
    let machine = Machine::new();
    let running = machine.open(&MemoryLedger::new()).await;
    let lock = locked(&machine);
    let begun = Instant::now();
    for n in 0..8 {
        assert_eq!(receipt(running.append(proven(read(n))).await).proof, None);
    }
    // The first waits for a while, the others know better.
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    lock.unlock().unwrap();
    while receipt(running.append(proven(read(9))).await).proof.is_none() {
        assert!(begun.elapsed() < PATIENCE, "no proof any more");
    }
    running.stop().await;
}

#[tokio::test]
async fn over_http_a_proof_is_asked_for_item_by_item() {
    let server = Server::start().await;
    let body = serde_json::to_string(&proven(read(1))).unwrap();
    let one: Receipt =
        serde_json::from_value(server.post("patient-service", "/records", body).await.json())
            .unwrap();
    assert_eq!(check(&one).size, 1);
    let results = crate::api_proof::append(&server, &[read(1), proven(read(2))]).await;
    assert!(results[0].get("proof").is_none());
    let two: Receipt = serde_json::from_value(results[1].clone()).unwrap();
    assert_eq!(check(&two).size, 3);
    server.stop().await;
}
