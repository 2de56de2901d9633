//! Whose ledger it is, and what its signed checkpoints say.

use std::{fmt, str::FromStr};

use domain::{hash::Hash, ids::Name};
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::Checkpoint;

/// The key that verifies a ledger's checkpoints; its name is the ledger's origin.
#[derive(Clone)]
pub struct LedgerKey {
    origin: Name,
    verifier: StandardVerifier,
}

/// What a verified checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Records in the ledger.
    pub size: u64,
    /// Merkle root over them.
    pub root: Hash,
}

/// Why a text is not a verifier key of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a verifier key: write origin+id+key as the audit service shows it")]
pub struct NotALedgerKey;

/// Why a checkpoint is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note with a checkpoint in it.
    #[error("the checkpoint cannot be read")]
    Malformed,
    /// Not signed by the ledger's key.
    #[error("the checkpoint is not signed by the ledger's key")]
    Signature,
    /// Signed by the ledger's key, but about another ledger.
    #[error("the checkpoint is of another ledger")]
    Origin,
}

impl LedgerKey {
    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// Verifies a checkpoint (C2SP tlog-checkpoint) and reads it.
    pub fn open(&self, checkpoint: &str) -> Result<TreeHead, CheckpointError> {
        let note =
            Note::from_bytes(checkpoint.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
        let known = VerifierList::new(vec![Box::new(self.verifier.clone())]);
        note.verify(&known).map_err(|_| CheckpointError::Signature)?;
        let checkpoint =
            Checkpoint::from_bytes(note.text()).map_err(|_| CheckpointError::Malformed)?;
        if checkpoint.origin() != self.origin.as_str() {
            return Err(CheckpointError::Origin);
        }
        Ok(TreeHead { size: checkpoint.size(), root: Hash(checkpoint.hash().0) })
    }
}

impl FromStr for LedgerKey {
    type Err = NotALedgerKey;

    fn from_str(text: &str) -> Result<Self, NotALedgerKey> {
        let verifier = StandardVerifier::new(text.trim()).map_err(|_| NotALedgerKey)?;
        let origin = verifier.name().parse().map_err(|_| NotALedgerKey)?;
        Ok(Self { origin, verifier })
    }
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LedgerKey").field(&self.origin).finish()
    }
}
