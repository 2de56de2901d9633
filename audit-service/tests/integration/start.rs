//! Opening a ledger: it must extend the checkpoint that is known outside its store.

use audit_service::{
    OpenError, Parts,
    checkpoint::{CheckpointSigner, TreeHead, new_signing_key},
    start::StartError,
    store::memory::MemoryLedger,
};
use domain::hash::Hash;
use runtime::secrets::Secret;

use crate::{
    chain::Chain,
    fixture::{
        Machine, Running, event, eventually, keys, ledger_secret, name, read, receipt, signer,
    },
};

/// A ledger of so many blocks of two records, and the machine that remembers its checkpoint.
async fn ledger_of(blocks: u64) -> (MemoryLedger, Machine) {
    let (store, machine) = (MemoryLedger::new(), Machine::new());
    extend(&store, &machine, 0..blocks).await;
    (store, machine)
}

async fn extend(store: &MemoryLedger, machine: &Machine, patients: std::ops::Range<u64>) {
    let running = machine.open(store).await;
    for patient in patients {
        for result in running.append_all([event(patient, 1), event(patient, 2)]).await {
            receipt(result);
        }
    }
    running.stop().await;
}

fn signed(head: TreeHead) -> String {
    signer().sign(&keys(), head).unwrap()
}

async fn refused(store: &MemoryLedger, machine: &Machine) -> StartError {
    match Running::open(machine.parts(store.clone())).await {
        Err(OpenError::Start(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn the_checkpoint_of_the_head_is_remembered_at_a_clean_stop() {
    let (store, machine) = ledger_of(3).await;
    let remembered = machine.checkpoint_file().load(&keys()).unwrap();
    let root = store.blocks().pop().unwrap().root;
    assert_eq!(remembered, Some(TreeHead { size: 6, root }));
}

#[tokio::test]
async fn the_checkpoint_is_remembered_while_running() {
    let (store, machine) = (MemoryLedger::new(), Machine::new());
    let running = machine.open(&store).await;
    receipt(running.append(event(1, 1)).await);
    let size = || machine.checkpoint_file().load(&keys()).unwrap().map(|head| head.size);
    eventually(|| size() == Some(1)).await;
}

#[tokio::test]
async fn a_ledger_that_goes_on_after_the_checkpoint_is_opened() {
    let (store, machine) = ledger_of(3).await;
    // Another process, which has a checkpoint file of its own, goes on.
    extend(&store, &Machine::new(), 3..9).await;
    let running = machine.open(&store).await;
    assert_eq!(running.size(), 18);
    receipt(running.append(event(3, 3)).await);
    Chain::check(&store.blocks());
}

#[tokio::test]
async fn a_ledger_that_was_cut_back_is_refused() {
    let (store, machine) = ledger_of(3).await;
    for size in [4, 2, 0] {
        store.truncate(size);
        let error = refused(&store, &machine).await;
        assert!(
            matches!(error, StartError::CutBack { stored, signed: 6 } if stored == size),
            "{error}"
        );
        assert!(error.to_string().contains(&format!("it has {size} records, and 6 were signed")));
    }
}

#[tokio::test]
async fn another_history_of_the_same_length_is_refused() {
    let (_, machine) = ledger_of(3).await;
    // The same keys, as after a restored backup that was gone on with.
    let (other, _) = ledger_of(1).await;
    extend(&other, &Machine::new(), 7..9).await;
    let error = refused(&other, &machine).await;
    assert!(matches!(error, StartError::Differs { seq: 5 }), "{error}");
    assert!(error.to_string().contains("at or before record 5"), "{error}");
}

#[tokio::test]
async fn a_signed_record_that_is_missing_below_the_head_is_no_short_ledger() {
    let (store, machine) = ledger_of(2).await;
    extend(&store, &Machine::new(), 2..4).await;
    let blocks = store.blocks();
    store.truncate(2);
    store.replace_block(blocks[2].clone());
    let error = refused(&store, &machine).await;
    assert!(matches!(error, StartError::Differs { seq: 3 }), "{error}");
}

#[tokio::test]
async fn without_a_checkpoint_file_everything_is_verified() {
    let (store, machine) = ledger_of(100).await;
    let mut block = store.blocks()[1].clone();
    block.lines[1] = block.lines[1].replace("192.0.2.7", "192.0.2.8");
    store.replace_block(block);
    // With one, only what is new is read; a change below it is for verifiers to find.
    assert_eq!(machine.open(&store).await.size(), 200);
    let error = refused(&store, &Machine::new()).await;
    assert!(error.to_string().contains("does not verify at record"), "{error}");
}

#[tokio::test]
async fn a_checkpoint_file_of_another_key_or_none_at_all_is_an_error() {
    let (store, machine) = ledger_of(1).await;
    let other = ledger_secret(8);
    let head = TreeHead { size: 2, root: Hash::ZERO };
    for note in [other.sign(head), String::new(), "rubbish".to_owned()] {
        machine.checkpoint_file().save(&note).unwrap();
        let opened = Running::open(machine.parts(store.clone())).await;
        assert!(matches!(opened, Err(OpenError::Checkpoint(_))), "{note:?}");
    }
}

#[tokio::test]
async fn a_ledger_of_another_name_is_refused() {
    let (store, _) = ledger_of(1).await;
    let key = new_signing_key(&name("another-ledger"), [9; 32]);
    let signer = CheckpointSigner::from_secret(&Secret::new(key.as_bytes())).unwrap();
    let parts = Parts { signer, ..Machine::new().parts(store) };
    let Err(OpenError::Start(error)) = Running::open(parts).await else { panic!("opened") };
    assert!(error.to_string().contains("does not verify at record 0"), "{error}");
}

#[tokio::test]
async fn a_signed_checkpoint_of_nothing_is_no_obstacle() {
    let machine = Machine::new();
    let note = signed(TreeHead { size: 0, root: Hash::of_nothing() });
    machine.checkpoint_file().save(&note).unwrap();
    assert_eq!(machine.open(&MemoryLedger::new()).await.size(), 0);
}

#[tokio::test]
async fn no_checkpoint_leaves_before_it_is_remembered() {
    let store = MemoryLedger::new();
    let machine = Machine::new();
    let running = machine.open(&store).await;
    receipt(running.append(read(1)).await);
    let note = running.ledger.checkpoint().await.unwrap();
    assert_eq!(std::fs::read_to_string(machine.checkpoint_file().path()).unwrap(), note);
    // A folder in its place cannot be replaced by a file.
    std::fs::remove_file(machine.checkpoint_file().path()).unwrap();
    std::fs::create_dir(machine.checkpoint_file().path()).unwrap();
    receipt(running.append(read(2)).await);
    assert!(running.ledger.checkpoint().await.is_err());
    eventually(|| !running.readiness.is_ready()).await;
}

#[tokio::test]
async fn a_replica_that_lags_does_not_lower_the_remembered_checkpoint() {
    let machine = Machine::new();
    let file = machine.checkpoint_file();
    for size in [5, 4] {
        let head = TreeHead { size, root: Hash::ZERO };
        file.raise(&signer(), &keys(), size, &signed(head)).unwrap();
        assert_eq!(file.load(&keys()).unwrap().map(|head| head.size), Some(5));
    }
}
