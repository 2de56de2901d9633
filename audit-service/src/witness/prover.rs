//! Consistency proofs for submissions, from what the blocks hold.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use domain::{
    hash::Hash,
    merkle::{Frontier, Node, Subtree, consistency_path},
};

use crate::{
    block::Block,
    store::{LedgerStore, StoreError},
};

/// Makes consistency proofs.
///
/// What it reads may have been changed behind its back, so a proof is worth nothing until it is
/// checked; a witness does that.
#[async_trait]
pub trait ConsistencyProver: Send + Sync {
    /// The proof that the ledger at size `to` extends that at `from` (RFC 6962 §2.1.2); empty
    /// where the sizes are equal or `from` is 0.
    async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, ProveError>;
}

/// No proof can be made.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The smaller size is not the smaller one.
    #[error("there is no proof from {from} to {to}")]
    Range {
        /// Size of the smaller tree.
        from: u64,
        /// Size of the larger tree.
        to: u64,
    },
    /// The store did not answer.
    #[error("the ledger store cannot be read")]
    Store(#[from] StoreError),
    /// A block is not there, or its frontier is none.
    #[error("the ledger store lacks what the proof needs at record {seq}")]
    Missing {
        /// A record of that block.
        seq: u64,
    },
}

/// Proofs from the frontiers that blocks hold: two blocks for each complete subtree, of which a
/// proof has O(log² n), whatever the ledger's size.
pub struct BlockProver {
    store: Arc<dyn LedgerStore>,
}

impl BlockProver {
    /// A prover on a store.
    pub fn new(store: Arc<dyn LedgerStore>) -> Self {
        Self { store }
    }

    async fn subtree(&self, subtree: Subtree) -> Result<Hash, ProveError> {
        let mut known = HashMap::new();
        for node in subtree.nodes() {
            known.insert(node, self.node(node).await?);
        }
        subtree.hash(|node| {
            known.get(&node).copied().ok_or(ProveError::Missing { seq: subtree.begin })
        })
    }

    /// The hash of a complete subtree appears when its last leaf is added: the frontier before
    /// that leaf ends with the left siblings on the way up.
    async fn node(&self, node: Node) -> Result<Hash, ProveError> {
        let seq = ((node.index + 1) << node.level) - 1;
        let missing = || ProveError::Missing { seq };
        let block = self.block_holding(seq).await?;
        let mut frontier = if block.first == 0 {
            Frontier::default()
        } else {
            let before = self.block_holding(block.first - 1).await?;
            Frontier::from_parts(block.first, before.frontier).ok_or_else(missing)?
        };
        for line in
            block.lines.iter().take(usize::try_from(seq - block.first).unwrap_or(usize::MAX))
        {
            frontier.push(Hash::of_line(line));
        }
        let mut hash = Hash::of_line(block.line_at(seq).ok_or_else(missing)?);
        let mut left = frontier.hashes().iter().rev();
        for _ in 0..node.level {
            hash = Hash::of_node(*left.next().ok_or_else(missing)?, hash);
        }
        Ok(hash)
    }

    async fn block_holding(&self, seq: u64) -> Result<Block, ProveError> {
        let block = self.store.blocks_from(seq, 1).await?.into_iter().next();
        let holds = |block: &Block| block.first <= seq && seq < block.end();
        block.filter(holds).ok_or(ProveError::Missing { seq })
    }
}

#[async_trait]
impl ConsistencyProver for BlockProver {
    async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, ProveError> {
        let path = consistency_path(from, to).ok_or(ProveError::Range { from, to })?;
        let mut proof = Vec::with_capacity(path.len());
        for subtree in path {
            proof.push(self.subtree(subtree).await?);
        }
        Ok(proof)
    }
}
