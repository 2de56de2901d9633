//! The records of an export so far: one chain, and its Merkle tree.

use audit_verify::checkpoint::TreeHead;
use domain::{
    chain::{ChainError, Link},
    hash::Hash,
    ids::Name,
    merkle::Frontier,
};

use crate::output::Failure;

/// The records so far.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    ledger: Name,
    link: Link,
    frontier: Frontier,
    /// A checkpoint that the records must contain.
    known: Option<TreeHead>,
}

impl Chain {
    /// No records of a ledger yet.
    pub(crate) fn new(ledger: Name, known: Option<TreeHead>) -> Self {
        Self { ledger, link: Link::genesis(), frontier: Frontier::default(), known }
    }

    /// The ledger.
    pub(crate) const fn ledger(&self) -> &Name {
        &self.ledger
    }

    /// How many records there are.
    pub(crate) const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Their Merkle root.
    pub(crate) fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// Takes the next line, if it follows. `place` says where it stands.
    pub(crate) fn follow(&mut self, line: &str, place: &str) -> Result<(), Failure> {
        let followed = self.link.follow(&self.ledger, line);
        followed.map_err(|error| tampered(&error, place))?;
        self.frontier.push(self.link.hash);
        match self.known {
            Some(known) if known.size == self.size() && known.root != self.root() => {
                let words = format!(
                    "fork: {place}, the first {} records are not those of the checkpoint that \
                     was saved before",
                    known.size
                );
                Err(Failure::tampered(None, words))
            }
            _ => Ok(()),
        }
    }
}

fn tampered(error: &ChainError, place: &str) -> Failure {
    let mut words = format!("{place}, {error}");
    if let ChainError::Parse { source, .. } = error {
        words = format!("{words}: {source}");
    }
    Failure::tampered(error.seq(), words)
}
