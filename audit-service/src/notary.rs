//! Signing checkpoints, none of which leaves before the checkpoint file holds one as high: a
//! ledger that is cut back below what anybody was shown must not start again.
//!
//! The file may hang. One thread at most is in it, and callers do not wait for it for ever.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use audit_verify::key_history::KeyHistory;
use domain::ids::Name;
use runtime::health::Component;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::{
    checkpoint::{CheckpointError, CheckpointFile, CheckpointSigner, TreeHead},
    outside::reach::Reached,
};

/// How long a caller waits for the checkpoint file. It waits for two writes at most, each of which
/// takes some milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Signs, and remembers first.
pub struct Notary {
    signer: Arc<CheckpointSigner>,
    /// The ledger's key history; covers every head that is signed.
    keys: watch::Receiver<KeyHistory>,
    file: CheckpointFile,
    /// One permit, which belongs to the thread that is in the file.
    thread: Arc<Semaphore>,
    /// Never locked while the file is used.
    state: Mutex<State>,
    component: Component,
}

struct State {
    /// The highest size known to be in the file.
    saved: u64,
    /// Since when it is known to be there.
    saved_at: Instant,
    /// The highest that somebody waits for, or waited for.
    wanted: Option<Wanted>,
    /// Whether the last write failed, or somebody gave up waiting for one.
    failing: bool,
}

/// A checkpoint that is to be remembered.
struct Wanted {
    keys: KeyHistory,
    size: u64,
    note: String,
}

impl Notary {
    /// A notary that is not ready until it has saved something or there is nothing to save.
    pub fn new(
        signer: Arc<CheckpointSigner>,
        keys: watch::Receiver<KeyHistory>,
        file: CheckpointFile,
        component: Component,
    ) -> Self {
        let thread = Arc::new(Semaphore::new(1));
        let state = State { saved: 0, saved_at: Instant::now(), wanted: None, failing: false };
        Self { signer, keys, file, thread, state: Mutex::new(state), component }
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        self.signer.origin()
    }

    /// The keys that signed and sign the ledger's checkpoints.
    pub fn keys(&self) -> KeyHistory {
        self.keys.borrow().clone()
    }

    /// The signed checkpoint of a durable head, once it is remembered; an error after
    /// [`PATIENCE`]. The key is the one that the ledger's history names for the head's size.
    pub async fn sign(self: &Arc<Self>, head: TreeHead) -> Result<String, CheckpointError> {
        let keys = self.keys();
        let note = self.signer.sign(&keys, head)?;
        if self.holds(head.size) {
            return Ok(note);
        }
        let mine = Wanted { keys, size: head.size, note: note.clone() };
        let remembered = timeout(PATIENCE, self.remember(mine)).await;
        remembered.unwrap_or_else(|_| self.slow(head.size)).map(|()| note)
    }

    /// Whether the file holds a checkpoint as high.
    fn holds(&self, size: u64) -> bool {
        let state = self.state();
        let holds = size <= state.saved;
        // That an older one needs no write says nothing of a file that failed since.
        if holds && !state.failing {
            self.component.ready();
        }
        holds
    }

    async fn remember(self: &Arc<Self>, mine: Wanted) -> Result<(), CheckpointError> {
        let size = mine.size;
        self.want(Wanted { keys: mine.keys.clone(), size, note: mine.note.clone() });
        let permit = self.thread.clone().acquire_owned().await;
        let permit = permit.map_err(|_| CheckpointError::NotRemembered)?;
        if self.holds(size) {
            return Ok(());
        }
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            this.write(mine)
        });
        // A task that was cancelled: the process is going down.
        written.await.unwrap_or(Err(CheckpointError::NotRemembered))
    }

    /// The highest size that this process knows to be in the file, and since when.
    pub(crate) fn remembered(&self) -> Reached {
        let state = self.state();
        Reached { size: state.saved, at: state.saved_at }
    }

    fn want(&self, wanted: Wanted) {
        let mut state = self.state();
        if state.wanted.as_ref().is_none_or(|highest| highest.size < wanted.size) {
            state.wanted = Some(wanted);
        }
    }

    /// Writes the highest that anybody waits for: one write covers all below it.
    fn write(&self, mine: Wanted) -> Result<(), CheckpointError> {
        let highest = self.state().wanted.take();
        let Wanted { keys, size, note } =
            highest.filter(|highest| highest.size >= mine.size).unwrap_or(mine);
        let written = self.file.raise(&self.signer, &keys, size, &note);
        let mut state = self.state();
        state.failing = written.is_err();
        if written.is_ok() {
            if state.saved < size {
                (state.saved, state.saved_at) = (size, Instant::now());
            }
            self.component.ready();
        } else {
            self.component.not_ready("the checkpoint file cannot be written");
        }
        written
    }

    /// Notes that a caller waited for nothing, unless it was remembered just now.
    fn slow(&self, size: u64) -> Result<(), CheckpointError> {
        let mut state = self.state();
        if size <= state.saved {
            return Ok(());
        }
        state.failing = true;
        self.component.not_ready("the checkpoint file does not answer");
        Err(CheckpointError::Slow)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
