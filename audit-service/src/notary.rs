//! Signing checkpoints, none of which leaves before the checkpoint file holds one as high: a
//! ledger that is cut back below what anybody was shown must not start again.

use std::sync::{Arc, Mutex, PoisonError};

use audit_verify::key_history::KeyHistory;
use domain::ids::Name;
use runtime::health::Component;
use tokio::sync::watch;

use crate::checkpoint::{CheckpointError, CheckpointFile, CheckpointSigner, TreeHead};

/// Signs, and remembers first.
pub struct Notary {
    signer: Arc<CheckpointSigner>,
    /// The ledger's key history; covers every head that is signed.
    keys: watch::Receiver<KeyHistory>,
    file: CheckpointFile,
    /// The highest size known to be in the file.
    saved: Mutex<u64>,
    component: Component,
}

impl Notary {
    /// A notary that is not ready until it has saved something or there is nothing to save.
    pub fn new(
        signer: Arc<CheckpointSigner>,
        keys: watch::Receiver<KeyHistory>,
        file: CheckpointFile,
        component: Component,
    ) -> Self {
        Self { signer, keys, file, saved: Mutex::new(0), component }
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        self.signer.origin()
    }

    /// The keys that signed and sign the ledger's checkpoints.
    pub fn keys(&self) -> KeyHistory {
        self.keys.borrow().clone()
    }

    /// The signed checkpoint of a durable head, once it is remembered. The key is the one that
    /// the ledger's history names for the head's size.
    pub async fn sign(self: &Arc<Self>, head: TreeHead) -> Result<String, CheckpointError> {
        let keys = self.keys();
        let note = self.signer.sign(&keys, head)?;
        let (this, text) = (self.clone(), note.clone());
        let saved = tokio::task::spawn_blocking(move || this.save(&keys, head.size, &text)).await;
        // A task that was cancelled: the process is going down.
        let saved = saved.unwrap_or(Err(CheckpointError::NotRemembered));
        match saved {
            Ok(()) => self.component.ready(),
            Err(_) => self.component.not_ready("the checkpoint file cannot be written"),
        }
        saved.map(|()| note)
    }

    fn save(&self, keys: &KeyHistory, size: u64, note: &str) -> Result<(), CheckpointError> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if size > *saved {
            self.file.raise(&self.signer, keys, size, note)?;
            *saved = size;
        }
        Ok(())
    }
}
