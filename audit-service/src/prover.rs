//! Answers appends that ask for a proof, beside the appender, which waits for neither the
//! signature nor the checkpoint file.

use std::{sync::Arc, time::Duration};

use audit_verify::proof_file::ProofFile;
use domain::{
    hash::Hash,
    merkle::Frontier,
    wire::{AppendResult, Receipt},
};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle, JoinSet},
};

use crate::{
    block_tree::BlockTree,
    checkpoint::{CheckpointError, TreeHead},
    notary::Notary,
    queue::Item,
};

/// Blocks that one write of the checkpoint file covers at most.
const BLOCKS_AT_ONCE: usize = 64;

/// How long a proof may take. The record is durable, so its receipt goes out without one then,
/// before its caller stops waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the proofs of a block that was just made durable are made of.
pub struct Grown {
    /// The tree before the block.
    pub before: Frontier,
    /// Hashes of the block's records.
    pub leaves: Vec<Hash>,
    /// The tree after the block.
    pub head: TreeHead,
}

/// The appender's end. Unbounded in count alone: every item holds its share of the queue's
/// capacity until it is answered.
#[derive(Clone)]
pub struct Prover(mpsc::UnboundedSender<Waiting>);

/// The task's end.
pub struct Waits(mpsc::UnboundedReceiver<Waiting>);

struct Waiting {
    grown: Grown,
    items: Vec<(Item, Receipt)>,
}

impl Prover {
    /// Both ends.
    pub fn new() -> (Self, Waits) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Waits(receiver))
    }

    /// Answers the items of a round: at once those that want no proof or have no new record.
    pub fn answer(&self, items: Vec<Item>, results: Vec<AppendResult>, grown: Option<Grown>) {
        let mut waiting = Vec::new();
        for (item, result) in items.into_iter().zip(results) {
            match result {
                AppendResult::Appended(receipt)
                    if item.proof && !receipt.replayed && grown.is_some() =>
                {
                    waiting.push((item, receipt));
                }
                result => item.answer(result),
            }
        }
        if let Some(grown) = grown.filter(|_| !waiting.is_empty())
            && let Err(gone) = self.0.send(Waiting { grown, items: waiting })
        {
            gone.0.give_out(None);
        }
    }
}

impl Waits {
    /// Runs until the appender is gone and everybody is answered.
    pub async fn run(mut self, notary: Arc<Notary>) {
        let mut blocks = Vec::new();
        let mut signing = Signing { notary, stuck: None };
        // As many as there are blocks whose callers wait.
        let mut giving = JoinSet::new();
        while self.0.recv_many(&mut blocks, BLOCKS_AT_ONCE).await > 0 {
            // The highest first: once the file holds it, the others need no write.
            for block in blocks.drain(..).rev() {
                let note = signing.sign(block.grown.head).await;
                // Some hundred hashes and as many texts: not for a thread that others wait for.
                giving.spawn_blocking(move || block.give_out(note.as_deref()));
            }
            while let Some(given) = giving.try_join_next() {
                log_failure(given);
            }
        }
        while let Some(given) = giving.join_next().await {
            log_failure(given);
        }
    }
}

fn log_failure(given: Result<(), JoinError>) {
    if let Err(error) = given {
        tracing::error!(%error, "receipts were not given out");
    }
}

/// Signs, one checkpoint after another.
struct Signing {
    notary: Arc<Notary>,
    /// One that took too long. While it goes on, nothing else is asked to wait for the file.
    stuck: Option<JoinHandle<Result<String, CheckpointError>>>,
}

impl Signing {
    /// The signed checkpoint, unless it takes too long or cannot be remembered.
    async fn sign(&mut self, head: TreeHead) -> Option<String> {
        if self.stuck.as_ref().is_some_and(|stuck| !stuck.is_finished()) {
            return None;
        }
        self.stuck = None;
        let notary = self.notary.clone();
        let mut task = tokio::spawn(async move { notary.sign(head).await });
        match tokio::time::timeout(PATIENCE, &mut task).await {
            Ok(Ok(Ok(note))) => return Some(note),
            Ok(Ok(Err(error))) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "no checkpoint was signed, so receipts go out without a proof"
            ),
            Ok(Err(error)) => tracing::error!(%error, "no checkpoint was signed"),
            Err(_) => {
                tracing::error!("the checkpoint file is slow, so receipts go out without a proof");
                self.stuck = Some(task);
            }
        }
        None
    }
}

impl Waiting {
    fn give_out(self, note: Option<&str>) {
        let Self { grown: Grown { before, leaves, .. }, items } = self;
        let tree = note.map(|note| (note, BlockTree::new(before, leaves)));
        for (item, mut receipt) in items {
            receipt.proof = tree.as_ref().and_then(|(note, tree)| {
                let hashes = tree.proof(receipt.seq)?;
                let checkpoint = (*note).to_owned();
                let file = ProofFile { extra: None, index: receipt.seq, hashes, checkpoint };
                Some(file.to_string())
            });
            item.answer(AppendResult::Appended(receipt));
        }
    }
}
