//! Reading the ledger ahead of what is applied, and verifying it.

use std::time::Duration;

use audit_client::{AuditClient, ProofSize, ReadError};
use audit_verify::{checkpoint::TreeHead, key_history::KeyHistory, proof_file::ProofFile};
use domain::merkle::{Frontier, check_inclusion};
use tokio::sync::mpsc;

use crate::{
    backoff::{Tries, persist},
    documents::Position,
    error::{FollowError, RebuildError},
    tail::{Tail, Verified},
};

/// How long one read waits for a record that the checkpoint says is there.
const READ_WAIT: Duration = Duration::from_secs(2);

/// Such reads in a row that may be empty: a replica of the audit service may be a little behind
/// the one that gave the checkpoint.
const MAX_EMPTY_READS: u32 = 5;

/// Records that follow from all before them, and what is known after them.
pub(super) struct Batch {
    pub(super) records: Vec<Verified>,
    pub(super) after: After,
}

/// What is known of the ledger after a record.
#[derive(Clone)]
pub(super) struct After {
    pub(super) position: Position,
    pub(super) frontier: Option<Frontier>,
    pub(super) keys: KeyHistory,
}

/// A place in the ledger, and what is needed to compare it with checkpoints.
pub(super) struct Reader {
    pub(super) tail: Tail,
    /// The Merkle tree over all records before; `None` where reading began within the ledger.
    pub(super) frontier: Option<Frontier>,
    pub(super) keys: KeyHistory,
}

impl Reader {
    /// Reads up to a size, in batches.
    pub(super) async fn read_to(
        mut self,
        size: u64,
        batch: usize,
        batches: mpsc::Sender<Batch>,
    ) -> Result<Self, RebuildError> {
        let mut empty_reads = 0;
        while self.tail.next_seq() < size {
            let left = usize::try_from(size - self.tail.next_seq()).unwrap_or(batch);
            let mut tries = Tries::of("reading the ledger");
            let records = loop {
                match self.tail.next(left.min(batch), READ_WAIT).await {
                    Ok(records) => break records,
                    Err(error) => tries.again(FollowError::from(error)).await?,
                }
            };
            let Some(position) = self.tail.position().filter(|_| !records.is_empty()) else {
                empty_reads += 1;
                if empty_reads > MAX_EMPTY_READS {
                    return Err(RebuildError::Size { read: self.tail.next_seq(), size });
                }
                continue;
            };
            empty_reads = 0;
            for verified in &records {
                if let Some(frontier) = &mut self.frontier {
                    frontier.push(verified.hash);
                }
                self.keys.follow(&verified.record)?;
            }
            let (frontier, keys) = (self.frontier.clone(), self.keys.clone());
            let after = After { position, frontier, keys };
            if batches.send(Batch { records, after }).await.is_err() {
                return Err(RebuildError::Interrupted);
            }
        }
        Ok(self)
    }

    /// Compares what was read with a checkpoint of just that size: by the root of all records,
    /// or where reading began within the ledger, by a proof of the last one, which is linked to
    /// all before it.
    pub(super) async fn check(&self, audit: &AuditClient, note: &str) -> Result<(), RebuildError> {
        let TreeHead { size, root } = self.keys.open(note)?;
        let fits = match (&self.frontier, self.tail.position()) {
            (Some(frontier), _) => frontier.root() == root,
            (None, None) => size == 0,
            (None, Some(Position { next_seq, hash, .. })) => {
                let seq = next_seq - 1;
                let file = persist("asking for a proof", || async {
                    let file = audit.proof(seq, ProofSize::Exactly(size)).await;
                    file.map_err(FollowError::from)
                });
                let file = ProofFile::parse(&file.await?)
                    .map_err(|_| FollowError::from(ReadError::Malformed))?;
                check_inclusion(hash, seq, size, root, &file.hashes).is_ok()
            }
        };
        if fits { Ok(()) } else { Err(RebuildError::Root { size }) }
    }
}
