//! Data keys made ahead: durable first, handed out afterwards, each once.
//!
//! One key a patient written when she is registered would cost a majority write on the way of
//! every registration. Here one write makes a thousand keys, in the background.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    DataKey, KeyRingError, bounded,
    keks::Keks,
    store::{KeyStore, KeyStoreError},
};
use tokio::sync::oneshot;

/// Keys of the first batch: small, so that the first caller after a start waits little.
const FIRST_BATCH: usize = 64;

/// Keys of a later batch: at ten batches a second, ten thousand patients a second. Also what is
/// lost at most when a process stops, about 200 kB of unused keys in the store.
const BATCH: usize = 1_024;

/// A refill starts below this many keys, so that the other half lasts while it is under way.
const LOW_WATER: usize = BATCH / 2;

/// How long a caller waits for a key, below the deadlines of the requests that need one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Callers who wait at once; more means that keys are asked for faster than the store takes them.
const MAX_WAITING: usize = 65_536;

/// Pause after a failed refill, so that a failing store is not hammered.
const PAUSE: Duration = Duration::from_millis(100);

/// Keys that are durable and belong to nobody yet. Those left at shutdown are never used: they
/// stay in the store as keys without a patient.
pub(super) struct Pool {
    store: Arc<dyn KeyStore>,
    keks: Arc<Keks>,
    state: Mutex<State>,
}

struct State {
    ready: Vec<DataKey>,
    waiting: VecDeque<oneshot::Sender<Result<DataKey, KeyStoreError>>>,
    refilling: bool,
    next_batch: usize,
}

impl Pool {
    pub(super) fn new(store: Arc<dyn KeyStore>, keks: Arc<Keks>) -> Arc<Self> {
        let state = State {
            ready: Vec::new(),
            waiting: VecDeque::new(),
            refilling: false,
            next_batch: FIRST_BATCH,
        };
        Arc::new(Self { store, keks, state: Mutex::new(state) })
    }

    /// Takes a key, and sees to it that more are made when few are left.
    pub(super) async fn take(self: &Arc<Self>) -> Result<DataKey, KeyRingError> {
        let waiter = {
            let mut state = self.state();
            let key = state.ready.pop();
            if state.ready.len() < LOW_WATER && !state.refilling {
                state.refilling = true;
                tokio::spawn(Refill { pool: self.clone(), finished: false }.run());
            }
            match key {
                Some(key) => return Ok(key),
                None if state.waiting.len() >= MAX_WAITING => {
                    return Err(KeyRingError::Unavailable(KeyStoreError::TimedOut));
                }
                None => {
                    let (sender, receiver) = oneshot::channel();
                    state.waiting.push_back(sender);
                    receiver
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiter).await {
            Ok(Ok(result)) => result.map_err(KeyRingError::Unavailable),
            // The refill ended without a word, or takes too long.
            Ok(Err(_)) | Err(_) => Err(KeyRingError::Unavailable(KeyStoreError::TimedOut)),
        }
    }

    /// A panic elsewhere leaves the state whole: every change is one step under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a key to the first who still waits; back if nobody does.
    fn hand_out(&mut self, key: DataKey) -> Option<DataKey> {
        let mut key = key;
        while let Some(waiter) = self.waiting.pop_front() {
            match waiter.send(Ok(key)) {
                // Who gives up in this moment takes the key along: lost, never handed out twice.
                Ok(()) => return None,
                Err(returned) => key = returned.ok()?,
            }
        }
        Some(key)
    }
}

/// The one refill under way; makes batches until nobody waits and the pool is half full.
struct Refill {
    pool: Arc<Pool>,
    finished: bool,
}

impl Refill {
    async fn run(mut self) {
        while !self.finished {
            match self.make_batch().await {
                Ok(keys) => self.deliver(keys),
                Err(error) => {
                    self.fail(&error);
                    tokio::time::sleep(PAUSE).await;
                    self.stop_unless_wanted();
                }
            }
        }
    }

    async fn make_batch(&self) -> Result<Vec<DataKey>, KeyStoreError> {
        let size = self.pool.state().next_batch;
        let keys: Vec<_> = (0..size).map(|_| DataKey::generate()).collect();
        let wrapped: Vec<_> = keys.iter().map(|key| self.pool.keks.wrap(key)).collect();
        bounded(self.pool.store.insert_batch(&wrapped)).await?;
        Ok(keys)
    }

    /// Hands durable keys to those who wait, in the order in which they came, and keeps the rest.
    fn deliver(&mut self, keys: Vec<DataKey>) {
        let mut state = self.pool.state();
        state.next_batch = BATCH;
        for key in keys {
            if let Some(key) = state.hand_out(key) {
                state.ready.push(key);
            }
        }
        if state.waiting.is_empty() && state.ready.len() >= LOW_WATER {
            state.refilling = false;
            self.finished = true;
        }
    }

    fn fail(&self, error: &KeyStoreError) {
        let waiting = std::mem::take(&mut self.pool.state().waiting);
        tracing::warn!(
            error = error as &dyn std::error::Error,
            waiting = waiting.len(),
            "data keys could not be made ahead"
        );
        for waiter in waiting {
            // One who gave up needs no answer.
            let _ = waiter.send(Err(error.clone()));
        }
    }

    fn stop_unless_wanted(&mut self) {
        let mut state = self.pool.state();
        if state.waiting.is_empty() {
            state.refilling = false;
            self.finished = true;
        }
    }
}

/// A refill that panics or whose runtime stops must not leave the pool waiting for it.
impl Drop for Refill {
    fn drop(&mut self) {
        if !self.finished {
            let mut state = self.pool.state();
            state.refilling = false;
            state.waiting.clear();
        }
    }
}
