//! Proof files: C2SP tlog-proof. One record, its inclusion proof and a signed checkpoint.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    hash::Hash,
    merkle::{ProofError, check_inclusion},
};

use crate::checkpoint::{CheckpointError, LedgerKey, TreeHead};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Hashes of one proof at most: the height of the largest tree.
pub const MAX_HASHES: usize = 63;

/// A proof that one record is in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// Data of the application; never part of what is proven. This system writes none.
    pub extra: Option<Vec<u8>>,
    /// The record's `seq`.
    pub index: u64,
    /// The inclusion proof, from the leaf upwards.
    pub hashes: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// Why a text is not a proof file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a proof file (c2sp.org/tlog-proof@v1): line {line} is not what must stand there")]
pub struct NotAProof {
    /// The line, from 1.
    pub line: usize,
}

/// Why a proof does not prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// The checkpoint is not believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead from the record to the checkpoint's root.
    #[error("the record is not the one that the checkpoint has at this place")]
    Inclusion(#[from] ProofError),
}

impl ProofFile {
    /// Reads a proof file.
    pub fn parse(text: &str) -> Result<Self, NotAProof> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(NotAProof { line: 1 })?;
        let mut lines = (1..).zip(head.split('\n')).peekable();
        let (_, header) = lines.next().ok_or(NotAProof { line: 1 })?;
        if header != HEADER {
            return Err(NotAProof { line: 1 });
        }
        let mut extra = None;
        if let Some((line, text)) = lines.next_if(|(_, text)| text.starts_with("extra ")) {
            let bytes = STANDARD.decode(&text["extra ".len()..]);
            extra = Some(bytes.map_err(|_| NotAProof { line })?);
        }
        let (line, index) = lines.next().ok_or(NotAProof { line: 2 })?;
        let index = index.strip_prefix("index ").and_then(decimal).ok_or(NotAProof { line })?;
        let mut hashes = Vec::new();
        for (line, text) in lines {
            if hashes.len() == MAX_HASHES {
                return Err(NotAProof { line });
            }
            hashes.push(hash_from_base64(text).ok_or(NotAProof { line })?);
        }
        Ok(Self { extra, index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Checks the checkpoint's signature and that the record with this hash is in its tree.
    pub fn check(&self, key: &LedgerKey, record: Hash) -> Result<TreeHead, NotProven> {
        let head = key.open(&self.checkpoint)?;
        check_inclusion(record, self.index, head.size, head.root, &self.hashes)?;
        Ok(head)
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        // One text for all of them: an append may answer a thousand proofs.
        let mut lines = String::with_capacity(self.hashes.len() * 45);
        for hash in &self.hashes {
            STANDARD.encode_string(hash.0, &mut lines);
            lines.push('\n');
        }
        f.write_str(&lines)?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// A whole number without leading zeros.
pub fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A hash as proof lines have it.
pub fn hash_from_base64(text: &str) -> Option<Hash> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(Hash(bytes.try_into().ok()?))
}
