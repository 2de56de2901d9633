//! The records of an export so far: one chain, and its Merkle tree.

use audit_verify::checkpoint::TreeHead;
use domain::{
    chain::{ChainError, Link},
    hash::Hash,
    ids::Name,
    merkle::Frontier,
    record::Record,
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
    /// Where the records of a file end and those of a server begin.
    joint: Option<Joint>,
}

#[derive(Debug, Clone)]
struct Joint {
    seq: u64,
    file: String,
}

impl Chain {
    /// No records of a ledger yet.
    pub(crate) fn new(ledger: Name, known: Option<TreeHead>) -> Self {
        Self { ledger, link: Link::genesis(), frontier: Frontier::default(), known, joint: None }
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

    /// Says that the records so far are those of a file, and that others follow.
    pub(crate) fn leave_file(&mut self, file: String) {
        self.joint = (self.size() > 0).then_some(Joint { seq: self.size(), file });
    }

    /// Takes the next line, if it follows. `next` is the line after it, where it is at hand: it
    /// tells which of two records that do not fit was changed. `place` says where they stand.
    pub(crate) fn follow(
        &mut self,
        line: &str,
        next: Option<&str>,
        place: &str,
    ) -> Result<(), Failure> {
        let followed = self.link.follow(&self.ledger, line);
        followed.map_err(|error| tampered(&error, line, next, place, self.joint.as_ref()))?;
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

fn tampered(
    error: &ChainError,
    line: &str,
    next: Option<&str>,
    place: &str,
    joint: Option<&Joint>,
) -> Failure {
    match (error, joint) {
        (ChainError::Prev { seq }, Some(joint)) if *seq == joint.seq => {
            let words = format!(
                "record {seq}, {place}, is not a continuation of {}: the records there are of \
                 another history, or one of them was changed",
                joint.file
            );
            Failure::tampered(*seq, words)
        }
        (ChainError::Prev { seq }, _) if *seq > 0 && confirms(next, line) => {
            let changed = seq - 1;
            let words = format!(
                "{place}, record {changed} is not the one that record {seq} was made to follow"
            );
            Failure::tampered(changed, words)
        }
        (ChainError::Parse { source, .. }, _) => {
            Failure::tampered(error.seq(), format!("{place}, {error}: {source}"))
        }
        _ => Failure::tampered(error.seq(), format!("{place}, {error}")),
    }
}

/// Whether a line was made to follow another.
fn confirms(next: Option<&str>, line: &str) -> bool {
    let next = next.and_then(|next| Record::parse(next).ok());
    next.is_some_and(|next| next.prev == Hash::of_line(line))
}
