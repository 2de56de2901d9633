//! Starting on a ledger whose signing key was rotated: the store's lookup is not believed alone.

use std::collections::HashMap;

use async_trait::async_trait;
use audit_service::{
    OpenError, Parts,
    block::Block,
    start::StartError,
    store::{
        AppendError, LedgerStore, StoreError, StoredTile, memory::MemoryLedger,
        sqlite::SqliteLedger,
    },
    tiles::{Tile, TileId},
};
use domain::{
    ids::{Mac, Stream},
    record::Record,
    time::Timestamp,
};

use crate::{
    fixture::{FIRST_KEY, Machine, Running, ledger_secret, read, receipt},
    key_rotation::{insider_block, rotate},
};

const OLD: u8 = FIRST_KEY;
const NEW: u8 = 10;
const STRANGER: u8 = 99;

/// Where the rotation stands.
const ROTATION: u64 = 2;

/// Five records: two, the rotation, and two more.
struct Rotated {
    store: MemoryLedger,
    /// Its checkpoint file ends before the rotation.
    before: Machine,
    /// Its checkpoint file covers everything.
    after: Machine,
}

async fn rotated_ledger() -> Rotated {
    let (store, before, after) = (MemoryLedger::new(), Machine::new(), Machine::new());
    let running = before.open_with(&[OLD, NEW], &store).await;
    receipt(running.append(read(1)).await);
    receipt(running.append(read(1)).await);
    running.stop().await;
    let running = after.open_with(&[OLD, NEW], &store).await;
    assert_eq!(receipt(running.operate(rotate(OLD, NEW, 1)).await).seq, ROTATION);
    receipt(running.append(read(1)).await);
    receipt(running.append(read(1)).await);
    running.stop().await;
    Rotated { store, before, after }
}

/// A store whose lookup of rotations shows what somebody likes.
#[derive(Clone)]
struct Lying {
    store: MemoryLedger,
    rotations: Vec<String>,
    /// Shown as the last block, as if those after it had come a moment later.
    head: Option<Block>,
}

impl Lying {
    fn showing(store: &MemoryLedger, rotations: Vec<String>) -> Self {
        let head = store.blocks().last().cloned();
        Self { store: store.clone(), rotations, head }
    }
}

#[async_trait]
impl LedgerStore for Lying {
    async fn head(&self) -> Result<Option<Block>, StoreError> {
        Ok(self.head.clone())
    }

    async fn append(&self, block: &Block) -> Result<(), AppendError> {
        self.store.append(block).await
    }

    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError> {
        self.store.block_at(first).await
    }

    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError> {
        self.store.blocks_from(seq, max).await
    }

    async fn stream_versions(
        &self,
        streams: &[Stream],
    ) -> Result<HashMap<Stream, u64>, StoreError> {
        self.store.stream_versions(streams).await
    }

    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError> {
        self.store.find_commands(ids).await
    }

    async fn stream_lines(
        &self,
        _: Stream,
        from_version: u64,
        _: usize,
    ) -> Result<Vec<String>, StoreError> {
        let from = usize::try_from(from_version).unwrap() - 1;
        Ok(self.rotations.iter().skip(from).cloned().collect())
    }

    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        self.store.put_tiles(tiles).await
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError> {
        self.store.tiles(ids).await
    }

    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError> {
        self.store.repair_tile(good, bad).await
    }

    async fn stray(&self) -> Result<Option<audit_service::store::Stray>, StoreError> {
        self.store.stray().await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.store.clock().await
    }
}

async fn refused(parts: Parts) -> OpenError {
    Running::open(parts).await.err().expect("it is refused")
}

/// A rotation's line as an insider would write it at a position.
fn line_at(seq: u64, from: u8, to: u8) -> String {
    let line = insider_block(&[], vec![rotate(from, to, 1)]).lines.remove(0);
    Record { seq, ..Record::parse(&line).unwrap() }.to_line()
}

#[tokio::test]
async fn one_that_holds_the_new_key_alone_starts_from_whatever_it_remembers() {
    let Rotated { store, before, after } = rotated_ledger().await;
    for machine in [before, after, Machine::new()] {
        let running = machine.open_with(&[NEW], &store).await;
        assert_eq!(running.size(), 5);
        let (old, new) = (ledger_secret(OLD).public(), ledger_secret(NEW).public());
        assert_eq!(running.ledger.keys().keys(), [(0, old), (ROTATION + 1, new.clone())]);
        new.open(&running.ledger.checkpoint().await.unwrap()).unwrap();
    }
}

#[tokio::test]
async fn one_that_holds_the_old_key_alone_is_told_which_is_missing() {
    let Rotated { store, before, after } = rotated_ledger().await;
    for machine in [before, after, Machine::new()] {
        let error = refused(machine.parts_with(&[OLD], store.clone())).await;
        let OpenError::Start(error @ StartError::KeyMissing { .. }) = error else {
            panic!("{error}")
        };
        let text = error.to_string();
        assert!(text.contains("does not hold the current one"), "{text}");
        assert!(text.ends_with(&ledger_secret(NEW).public().to_string()), "{text}");
    }
}

#[tokio::test]
async fn a_hidden_rotation_is_noticed() {
    let Rotated { store, before, after } = rotated_ledger().await;
    let hiding = Lying::showing(&store, Vec::new());
    // The blocks that are folded hold it.
    for machine in [&before, &Machine::new()] {
        for keys in [&[OLD, NEW][..], &[OLD]] {
            let error = refused(machine.parts_with(keys, hiding.clone())).await;
            let found = matches!(error, OpenError::Start(StartError::KeyHistory { seq: ROTATION }));
            assert!(found, "{keys:?}: {error:?}");
        }
    }
    // Rotations are remembered, whichever keys there are and whatever was signed since.
    for keys in [&[OLD, NEW][..], &[OLD], &[NEW]] {
        let error = refused(after.parts_with(keys, hiding.clone())).await;
        let found = matches!(error, OpenError::Start(StartError::KeyHistory { seq: ROTATION }));
        assert!(found, "{keys:?}: {error:?}");
    }
    // Without that, the remembered checkpoint is signed by the key that was hidden.
    after.forget_keys();
    let error = refused(after.parts_with(&[OLD, NEW], hiding)).await;
    assert!(matches!(error, OpenError::Checkpoint(_)), "{error:?}");
    // Taken out of the stored lookup entries themselves, below what is folded.
    let mut block = store.blocks().remove(2);
    block.streams.clear();
    store.replace_block(block);
    let error = refused(after.parts_with(&[OLD, NEW], store)).await;
    assert!(matches!(error, OpenError::Checkpoint(_)), "{error:?}");
}

#[tokio::test]
async fn a_rotation_that_was_made_up_is_noticed() {
    let Rotated { store, before, after } = rotated_ledger().await;
    let real = store.blocks()[2].lines[0].clone();
    let check = async |what: &str, rotations: Vec<String>, expected: fn(&OpenError) -> bool| {
        let lying = Lying::showing(&store, rotations);
        for machine in [&before, &after, &Machine::new()] {
            let error = refused(machine.parts_with(&[OLD, NEW], lying.clone())).await;
            assert!(expected(&error), "{what}: {error:?}");
        }
    };
    let not_vouched_for =
        |error: &OpenError| matches!(error, OpenError::Start(StartError::Rotation { .. }));
    let mut forged = Record::parse(&line_at(ROTATION, OLD, NEW)).unwrap();
    forged.key.as_mut().unwrap().voucher.0[5] ^= 1;
    check("forged", vec![forged.to_line()], not_vouched_for).await;
    check("rubbish", vec!["rubbish".to_owned()], not_vouched_for).await;
    check("twice", vec![real.clone(), real.clone()], not_vouched_for).await;
    let access = store.blocks()[0].lines[0].clone();
    check("another record", vec![real, access], not_vouched_for).await;
    let missing =
        |error: &OpenError| matches!(error, OpenError::Start(StartError::KeyMissing { .. }));
    check("to a key of nobody here", vec![line_at(ROTATION, OLD, STRANGER)], missing).await;
    let found = |error: &OpenError| {
        matches!(
            error,
            OpenError::Checkpoint(_)
                | OpenError::Start(StartError::KeyHistory { .. } | StartError::Fold(_))
        )
    };
    check("genuine, but earlier", vec![line_at(0, OLD, NEW)], found).await;
    check("genuine, but later", vec![line_at(9, OLD, NEW)], found).await;
    check("from a stranger's key", vec![line_at(ROTATION, STRANGER, NEW)], found).await;
}

#[tokio::test]
async fn a_store_that_shows_what_is_remembered_is_believed_again() {
    let Rotated { store, after, .. } = rotated_ledger().await;
    let path = after.checkpoint_file().path().with_extension("keys");
    let listing = std::fs::read_to_string(&path).unwrap();
    let running = after.open_with(&[NEW], &store).await;
    assert_eq!(running.ledger.keys().to_string(), listing);
    running.stop().await;
    for rubbish in ["rubbish", "0 rubbish\n"] {
        std::fs::write(&path, rubbish).unwrap();
        let error = refused(after.parts_with(&[NEW], store.clone())).await;
        assert!(matches!(error, OpenError::Checkpoint(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_rotation_that_came_between_the_lookup_and_the_fold_is_no_lie() {
    let Rotated { store, before, .. } = rotated_ledger().await;
    let head = store.blocks().get(1).cloned();
    let late = Lying { head, ..Lying::showing(&store, Vec::new()) };
    let running = Running::open(before.parts_with(&[OLD, NEW], late.clone())).await.unwrap();
    assert_eq!(running.ledger.keys().keys().len(), 2);
    running.stop().await;
    let error = refused(Machine::new().parts_with(&[OLD], late)).await;
    assert!(matches!(error, OpenError::Start(StartError::KeyMissing { .. })), "{error:?}");
}

#[tokio::test]
async fn keys_in_the_wrong_order_are_refused_before_anything_is_signed() {
    let (store, machine) = (MemoryLedger::new(), Machine::new());
    let running = machine.open_with(&[OLD, NEW], &store).await;
    receipt(running.append(read(1)).await);
    running.stop().await;
    for keys in [&[NEW, OLD][..], &[NEW]] {
        let error = refused(machine.parts_with(keys, store.clone())).await;
        assert!(matches!(error, OpenError::Checkpoint(_)), "{error:?}");
    }
}

#[tokio::test]
async fn an_embedded_store_shows_its_rotations_too() {
    let (folder, machine) = (tempfile::tempdir().unwrap(), Machine::new());
    let open = || SqliteLedger::open(folder.path().join("ledger.db")).unwrap();
    let running = Running::open(machine.parts_with(&[OLD, NEW], open())).await.unwrap();
    receipt(running.append(read(1)).await);
    receipt(running.operate(rotate(OLD, NEW, 1)).await);
    receipt(running.append(read(1)).await);
    running.stop().await;
    let error = refused(machine.parts_with(&[OLD], open())).await;
    assert!(matches!(error, OpenError::Start(StartError::KeyMissing { .. })), "{error:?}");
    let running = Running::open(machine.parts_with(&[NEW], open())).await.unwrap();
    assert_eq!((running.size(), running.ledger.keys().keys().len()), (3, 2));
}
