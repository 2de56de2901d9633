//! What a proof costs: to make, from tiles in memory, and to check, signature included.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::Context;
use audit_service::{
    block::Block,
    proofs::Proofs,
    store::{LedgerStore, memory::MemoryLedger},
    tiles::{Edge, WIDTH},
};
use audit_verify::{checkpoint::LedgerSecret, proof_file::ProofFile};
use domain::{hash::Hash, ids::Mac, merkle::Frontier};
use rand::Rng;
use tokio::sync::{mpsc, watch};

/// Leaves between two writes of tiles, so that only the store holds many.
const LEAVES_PER_WRITE: u64 = 16_384;

/// Costs at one size; medians.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// Making one: reading and checking tiles, signing, writing the file's text.
    pub make: Duration,
    /// Checking one: reading the text, the signature, the hashes.
    pub check: Duration,
    /// Bytes of the largest file.
    pub bytes: usize,
}

/// Proves random records of a ledger of `size` to random sizes from there on.
pub async fn costs(size: u64, rounds: usize) -> anyhow::Result<Costs> {
    let (store, tree) = ledger(size).await?;
    let (_trees, tree) = watch::channel(tree);
    let (rebuild, _asked) = mpsc::channel(1);
    let tiled = Arc::new(AtomicU64::new(size - size % WIDTH as u64));
    let proofs = Proofs::new(Arc::new(store), tree, tiled, rebuild);
    let secret = LedgerSecret::new("bench".parse()?, &[7; 32]);
    let key = secret.public();
    let (mut make, mut check, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let seq = rand::rng().random_range(0..size);
        let to = rand::rng().random_range(seq + 1..=size);
        let begun = Instant::now();
        let proven = proofs.inclusion(seq, to).await?;
        let checkpoint = secret.sign(proven.head);
        let file = ProofFile { extra: None, index: seq, hashes: proven.hashes, checkpoint };
        let text = file.to_string();
        make.push(begun.elapsed());
        bytes = bytes.max(text.len());
        let record = Hash::of_line(&seq.to_string());
        let begun = Instant::now();
        ProofFile::parse(&text)?.check(&key, record)?;
        check.push(begun.elapsed());
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times.get(times.len() / 2).copied().context("at least one round")
    };
    Ok(Costs { make: median(make)?, check: median(check)?, bytes })
}

/// The tiles of a ledger of so many lines, and the one block that proofs may still need.
async fn ledger(size: u64) -> anyhow::Result<(MemoryLedger, Frontier)> {
    let store = MemoryLedger::new();
    let mut edge = Edge::default();
    let mut tree = Frontier::default();
    for seq in 0..size {
        let leaf = Hash::of_line(&seq.to_string());
        edge.push(leaf);
        tree.push(leaf);
        if seq % LEAVES_PER_WRITE == 0 {
            store.put_tiles(&edge.take_changed()).await?;
        }
    }
    store.put_tiles(&edge.take_changed()).await?;
    let first = size - size % WIDTH as u64;
    store.replace_block(Block {
        first,
        lines: (first..size).map(|seq| seq.to_string()).collect(),
        streams: Vec::new(),
        commands: Vec::new(),
        frontier: tree.hashes().to_vec(),
        root: tree.root(),
        seal: Mac::new([0; 32]),
    });
    Ok((store, tree))
}
