//! The signing key changes hands: in the ledger itself, under load, and by nobody else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use audit_service::{
    block::Block,
    checkpoint::CheckpointError,
    ledger::{FoldError, entries},
    rotate_key::proposal,
    seal::SealKeys,
    store::memory::MemoryLedger,
};
use audit_verify::{
    checkpoint::{LedgerKey, TreeHead},
    key_history::{KeyHistory, rotation},
};
use domain::{
    chain::Link,
    hash::Hash,
    ids::Name,
    merkle::Frontier,
    record::Record,
    time::Timestamp,
    wire::{AppendResult, Proposal, Receipt},
};

use crate::{
    chain::Chain,
    fixture::{
        FIRST_KEY, Machine, ORIGIN, PATIENCE, Running, SEAL_KEY, event, eventually, genesis, keys,
        ledger_secret, nothing_stored, read, receipt, signer_of,
    },
    privacy::Logs,
};

/// The keys in the order in which they sign.
const OLD: u8 = FIRST_KEY;
const NEW: u8 = 10;
const NEWER: u8 = 11;
const STRANGER: u8 = 99;

fn key(seed: u8) -> LedgerKey {
    ledger_secret(seed).public()
}

pub(crate) fn rotate(from: u8, to: u8, version: u64) -> Proposal {
    proposal(&ledger_secret(from), &key(to), version)
}

/// A rotation that somebody else than the holder of `from` vouched for.
fn forged(from: u8, to: u8, version: u64) -> Proposal {
    let mut forged = rotate(from, to, version);
    let voucher = rotation(&ledger_secret(STRANGER), &key(to), version).voucher;
    forged.key.as_mut().unwrap().voucher = voucher;
    forged
}

async fn rotated(running: &Running, from: u8, to: u8, version: u64) -> Receipt {
    receipt(running.operate(rotate(from, to, version)).await)
}

/// Opens under this key and under none of the others.
#[track_caller]
fn check_signed_by(note: &str, signer: u8) {
    for seed in [OLD, NEW, NEWER] {
        assert_eq!(key(seed).open(note).is_ok(), seed == signer, "by {seed}: {note}");
    }
}

#[tokio::test]
async fn checkpoints_are_signed_by_the_key_of_their_size() {
    let running = Machine::new().open_with(&[OLD, NEW], &MemoryLedger::new()).await;
    receipt(running.append(read(1)).await);
    let before = running.ledger.checkpoint().await.unwrap();
    assert_eq!(rotated(&running, OLD, NEW, 1).await.seq, 1);
    let at = running.ledger.checkpoint().await.unwrap();
    receipt(running.append(read(1)).await);
    let after = running.ledger.checkpoint().await.unwrap();
    check_signed_by(&before, OLD);
    check_signed_by(&at, NEW);
    check_signed_by(&after, NEW);
    let keys = running.ledger.keys();
    assert_eq!(keys.keys(), [(0, key(OLD)), (2, key(NEW))]);
    for note in [before, at, after] {
        keys.open(&note).unwrap();
    }
}

#[test]
fn a_head_from_before_the_rotation_is_signed_by_the_old_key_still() {
    // A reader may ask for it in the moment in which the rotation is folded.
    let mut ledger = genesis();
    ledger.fold(&insider_block(&[], vec![read(1), rotate(OLD, NEW, 1)])).unwrap();
    let signer = signer_of(&[OLD, NEW]);
    for (size, by) in [(1, OLD), (2, NEW), (3, NEW)] {
        let note = signer.sign(ledger.keys(), TreeHead { size, root: Hash::ZERO }).unwrap();
        check_signed_by(&note, by);
    }
}

#[tokio::test]
async fn records_of_one_block_around_a_rotation_are_signed_by_the_new_key() {
    let store = MemoryLedger::new();
    let running = Machine::new().open_with(&[OLD, NEW], &store).await;
    let rotated = rotated(&running, OLD, NEW, 1);
    let (rotated, results) = tokio::join!(rotated, running.append_all([read(1), read(2)]));
    assert!(results.iter().all(|result| matches!(result, AppendResult::Appended(_))));
    assert_eq!(running.ledger.keys().keys()[1], (rotated.seq + 1, key(NEW)));
    check_signed_by(&running.ledger.checkpoint().await.unwrap(), NEW);
    Chain::check(&store.blocks());
}

/// Writers that count what was not appended at once.
async fn write(running: &Running, writer: u64, stop: &AtomicBool, failures: &AtomicU64) {
    let mut version = 1;
    while !stop.load(Ordering::SeqCst) {
        match running.append(event(writer, version)).await {
            AppendResult::Appended(_) => version += 1,
            _ => drop(failures.fetch_add(1, Ordering::SeqCst)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_append_fails_while_two_replicas_with_both_keys_see_the_rotation() {
    let store = MemoryLedger::new();
    let replicas = [
        Machine::new().open_with(&[OLD, NEW], &store).await,
        Machine::new().open_with(&[OLD, NEW], &store).await,
    ];
    let (replicas, stop, failures) =
        (Arc::new(replicas), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (replicas, stop, failures) = (replicas.clone(), stop.clone(), failures.clone());
        writers.spawn(async move {
            let replica = &replicas[usize::try_from(writer % 2).unwrap()];
            write(replica, writer, &stop, &failures).await;
        });
    }
    let grown = |by: u64| {
        let (until, replicas) = (replicas[0].size() + by, replicas.clone());
        async move { eventually(|| replicas[1].size() >= until).await }
    };
    grown(50).await;
    let rotated = rotated(&replicas[0], OLD, NEW, 1).await;
    grown(50).await;
    stop.store(true, Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, writers.join_all()).await.unwrap();
    assert_eq!(failures.load(Ordering::SeqCst), 0);
    eventually(|| replicas[0].size() == replicas[1].size()).await;
    for replica in &*replicas {
        check_signed_by(&replica.ledger.checkpoint().await.unwrap(), NEW);
        assert!(replica.readiness.is_ready());
    }
    let chain = Chain::check(&store.blocks());
    assert_eq!(chain.records[usize::try_from(rotated.seq).unwrap()]["type"], "KeyRotated");
}

#[tokio::test]
async fn a_replica_without_the_new_key_stops_and_says_so() {
    let logs = Logs::of_this_thread();
    let store = MemoryLedger::new();
    let (ready, machine) = (Machine::new().open_with(&[OLD, NEW], &store).await, Machine::new());
    let behind = machine.open_with(&[OLD], &store).await;
    receipt(ready.append(read(1)).await);
    eventually(|| behind.size() == 1).await;
    rotated(&ready, OLD, NEW, 1).await;
    receipt(ready.append(read(1)).await);
    assert_eq!(behind.append(read(2)).await, nothing_stored());
    eventually(|| !behind.readiness.is_ready()).await;
    assert_eq!(behind.append(read(2)).await, nothing_stored());
    // It serves what it can sign, and its file never holds more.
    assert_eq!((behind.size(), store.blocks().len()), (1, 3));
    let note = behind.ledger.checkpoint().await.unwrap();
    check_signed_by(&note, OLD);
    assert!(note.starts_with("test-ledger\n1\n"), "{note}");
    let said = "this replica does not hold the ledger's current signing key";
    let errors = logs.lines_with(said);
    assert!(errors.iter().any(|line| line.contains(&key(NEW).to_string())), "{errors:?}");
    assert!(errors.iter().any(|line| line.contains("component is not ready")), "{errors:?}");
    behind.stop().await;
    let remembered = machine.checkpoint_file().read().unwrap().unwrap();
    check_signed_by(&remembered, OLD);
}

#[tokio::test]
async fn a_replica_without_the_next_key_does_not_append_the_rotation() {
    let store = MemoryLedger::new();
    let running = Machine::new().open_with(&[OLD], &store).await;
    let AppendResult::Refused { reason } = running.operate(rotate(OLD, NEW, 1)).await else {
        panic!("appended")
    };
    assert!(reason.contains("does not hold the next signing key"), "{reason}");
    receipt(running.append(read(1)).await);
    assert!(running.readiness.is_ready());
    assert_eq!(store.blocks().len(), 1);
}

#[tokio::test]
async fn a_rotation_that_the_current_key_does_not_vouch_for_is_refused() {
    let store = MemoryLedger::new();
    let running = Machine::new().open_with(&[OLD, NEW], &store).await;
    let not_this_place = {
        // Vouched for as the second rotation, offered as the first.
        let mut proposal = rotate(OLD, NEW, 2);
        proposal.version = Some(1);
        proposal
    };
    for (what, proposal) in [
        ("forged", forged(OLD, NEW, 1)),
        ("by a stranger", rotate(STRANGER, NEW, 1)),
        ("by the next key", rotate(NEW, NEW, 1)),
        ("for another place", not_this_place),
    ] {
        let AppendResult::Refused { reason } = running.operate(proposal).await else {
            panic!("{what}: not refused")
        };
        assert!(reason.contains("did not vouch"), "{what}: {reason}");
    }
    let early = running.operate(rotate(OLD, NEW, 2)).await;
    assert!(matches!(early, AppendResult::Conflict { expected: 1, actual: 0, .. }), "{early:?}");
    assert!(store.blocks().is_empty());
    rotated(&running, OLD, NEW, 1).await;
    let again = running.operate(rotate(OLD, NEW, 1)).await;
    assert!(matches!(again, AppendResult::Conflict { actual: 1, .. }), "{again:?}");
    let AppendResult::Refused { .. } = running.operate(rotate(OLD, NEW, 2)).await else {
        panic!("the old key vouches no longer")
    };
}

/// The block after `blocks` as somebody makes it who has the seal key and checks nothing.
pub(crate) fn insider_block(blocks: &[Block], proposals: Vec<Proposal>) -> Block {
    let origin: Name = ORIGIN.parse().unwrap();
    let (mut link, mut frontier) = (Link::genesis(), Frontier::default());
    for line in blocks.iter().flat_map(|block| &block.lines) {
        link.follow(&origin, line).unwrap();
        frontier.push(link.hash);
    }
    let first = link.next_seq;
    let mut lines = Vec::new();
    let mut records = Vec::new();
    for proposal in proposals {
        let at = link.at.max(Timestamp::EPOCH);
        let record = proposal.into_record(origin.clone(), origin.clone(), &link, at);
        let text = record.to_line();
        link.advance(&record, Hash::of_line(&text));
        frontier.push(link.hash);
        lines.push(text);
        records.push(record);
    }
    let (streams, commands) = entries(&records);
    let root = frontier.root();
    let seal = SealKeys::new(SEAL_KEY).seal(&origin, link.next_seq, root);
    Block { first, lines, streams, commands, frontier: frontier.hashes().to_vec(), root, seal }
}

async fn check_is_not_folded(what: &str, proposal: Proposal) {
    let logs = Logs::of_this_thread();
    let store = MemoryLedger::new();
    let running = Machine::new().open_with(&[OLD, NEW], &store).await;
    receipt(running.append(read(1)).await);
    eventually(|| running.readiness.is_ready()).await;
    let block = insider_block(&store.blocks(), vec![proposal]);
    let mut ledger = genesis();
    ledger.fold(&store.blocks()[0]).unwrap();
    let error = ledger.fold(&block).unwrap_err();
    assert!(matches!(error, FoldError::Rotation(_)), "{what}: {error}");
    assert_eq!((error.seq(), ledger.size()), (1, 1), "{what}");
    store.replace_block(block);
    eventually(|| !running.readiness.is_ready()).await;
    assert_eq!(running.append(read(1)).await, nothing_stored(), "{what}");
    let errors = logs.lines_with("the stored ledger does not verify; nothing will be appended");
    assert!(errors[0].contains("\"seq\":1"), "{what}: {errors:?}");
    check_signed_by(&running.ledger.checkpoint().await.unwrap(), OLD);
}

#[tokio::test]
async fn a_rotation_written_with_the_seal_key_and_without_the_old_key_is_not_folded() {
    check_is_not_folded("forged voucher", forged(OLD, NEW, 1)).await;
    check_is_not_folded("handed on by a stranger", rotate(STRANGER, NEW, 1)).await;
    check_is_not_folded("another place", rotate(OLD, NEW, 2)).await;
}

#[test]
fn a_rotation_with_its_voucher_is_folded_whoever_wrote_it() {
    let mut ledger = genesis();
    ledger.fold(&insider_block(&[], vec![rotate(OLD, NEW, 1), rotate(NEW, NEWER, 2)])).unwrap();
    assert_eq!(ledger.keys().keys(), [(0, key(OLD)), (1, key(NEW)), (2, key(NEWER))]);
}

#[tokio::test]
async fn keys_follow_each_other() {
    let store = MemoryLedger::new();
    let machine = Machine::new();
    let running = machine.open_with(&[OLD, NEW], &store).await;
    rotated(&running, OLD, NEW, 1).await;
    running.stop().await;
    let running = machine.open_with(&[NEW, NEWER], &store).await;
    check_signed_by(&running.ledger.checkpoint().await.unwrap(), NEW);
    receipt(running.append(read(1)).await);
    rotated(&running, NEW, NEWER, 2).await;
    running.stop().await;
    let running = machine.open_with(&[NEWER], &store).await;
    check_signed_by(&running.ledger.checkpoint().await.unwrap(), NEWER);
    let from = [(0, key(OLD)), (1, key(NEW)), (3, key(NEWER))];
    assert_eq!(running.ledger.keys().keys(), from);
    // A reader who was given any of them can follow.
    for pinned in [OLD, NEW, NEWER] {
        let mut keys = KeyHistory::with(key(pinned));
        for line in store.blocks().iter().flat_map(|block| &block.lines) {
            keys.follow(&Record::parse(line).unwrap()).unwrap();
        }
        assert_eq!(keys.keys(), from);
        keys.open(&running.ledger.checkpoint().await.unwrap()).unwrap();
    }
}

#[test]
fn the_file_of_a_replica_that_has_rotated_counts_as_higher_for_one_that_lags() {
    let machine = Machine::new();
    let file = machine.checkpoint_file();
    let head = |size| TreeHead { size, root: Hash::ZERO };
    let ahead = ledger_secret(NEW).sign(head(2));
    let behind = ledger_secret(OLD).sign(head(1));
    file.save(&ahead).unwrap();
    file.raise(&signer_of(&[OLD, NEW]), &keys(), 1, &behind).unwrap();
    assert_eq!(file.read().unwrap().unwrap(), ahead);
    // For one that does not hold the new key it is somebody else's.
    let refused = file.raise(&signer_of(&[OLD]), &keys(), 1, &behind).unwrap_err();
    assert!(matches!(refused, CheckpointError::NotOurs(_)), "{refused}");
    assert_eq!(file.read().unwrap().unwrap(), ahead);
}
