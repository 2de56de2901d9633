//! Signing checkpoints, none of which leaves before the checkpoint file holds one as high: a
//! ledger that is cut back below what anybody was shown must not start again.

use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::Name;
use runtime::health::Component;

use crate::checkpoint::{CheckpointError, CheckpointFile, CheckpointSigner, TreeHead};

/// Signs, and remembers first.
pub struct Notary {
    signer: CheckpointSigner,
    file: CheckpointFile,
    /// The highest size known to be in the file.
    saved: Mutex<u64>,
    component: Component,
}

impl Notary {
    /// A notary that is not ready until it has saved something or there is nothing to save.
    pub fn new(signer: CheckpointSigner, file: CheckpointFile, component: Component) -> Self {
        Self { signer, file, saved: Mutex::new(0), component }
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        self.signer.origin()
    }

    /// The verifier key (C2SP vkey).
    pub fn verifier_key(&self) -> &str {
        self.signer.verifier_key()
    }

    /// The signed checkpoint of a durable head, once it is remembered.
    pub async fn sign(self: &Arc<Self>, head: TreeHead) -> Result<String, CheckpointError> {
        let note = self.signer.sign(head);
        let (this, text) = (self.clone(), note.clone());
        let saved = tokio::task::spawn_blocking(move || this.save(head.size, &text)).await;
        // A task that was cancelled: the process is going down.
        let saved = saved.unwrap_or(Err(CheckpointError::NotRemembered));
        match saved {
            Ok(()) => self.component.ready(),
            Err(_) => self.component.not_ready("the checkpoint file cannot be written"),
        }
        saved.map(|()| note)
    }

    fn save(&self, size: u64, note: &str) -> Result<(), CheckpointError> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if size > *saved {
            self.file.raise(&self.signer, size, note)?;
            *saved = size;
        }
        Ok(())
    }
}
