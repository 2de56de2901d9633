//! The ledger's key history as this process last verified it, in a file beside the checkpoint
//! file: a store that hides a rotation later, or makes one up, is found out.

use std::io;

use audit_verify::{
    checkpoint::LedgerKey,
    key_history::{KeyHistory, read_listing},
};

use crate::checkpoint::{CheckpointError, CheckpointFile};

impl CheckpointFile {
    /// The remembered history, oldest key first, each with the smallest size that it signs; empty
    /// for a ledger whose key was never rotated.
    pub fn known_keys(&self) -> Result<Vec<(u64, LedgerKey)>, CheckpointError> {
        let file = self.beside(".keys");
        let listing = file.read()?.unwrap_or_default();
        let invalid = |error| file.error(io::Error::new(io::ErrorKind::InvalidData, error));
        read_listing(&listing).map_err(invalid)
    }

    /// Remembers a history unless that much is remembered already, by whatever process. The
    /// caller holds the checkpoint file's lock.
    pub(crate) fn raise_keys(&self, keys: &KeyHistory) -> Result<(), CheckpointError> {
        let was_rotated = keys.keys().len() > 1;
        if was_rotated && self.known_keys()?.len() < keys.keys().len() {
            self.beside(".keys").save(&keys.to_string())?;
        }
        Ok(())
    }
}
