//! What all requests share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use audit_client::AuditClient;
use domain::time::Timestamp;
use projections::{
    applier::Applier,
    documents::{Generation, Pointer},
    key_ring::KeyRing,
    rebuild::POINTER_LIFETIME,
    store::ProjectionStore,
};
use runtime::secrets::SecretError;
use tokio::sync::Semaphore;

use crate::{
    activity::MAX_ACCOUNTINGS, command_id::CommandKeys, error::Failure, past::Turns, service::Deps,
    streams::Streams,
};

/// The current time; read in composition roots alone.
pub type Clock = fn() -> Timestamp;

/// What the store said of its generations, and when it was asked.
#[derive(Clone, Copy)]
struct Seen {
    pointer: Pointer,
    at: Instant,
}

/// The parts that requests use.
pub(crate) struct App {
    pub(crate) audit: AuditClient,
    pub(crate) store: Arc<dyn ProjectionStore>,
    pub(crate) ring: KeyRing,
    pub(crate) applier: Applier,
    pub(crate) command_keys: CommandKeys,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    /// Turns of requests that read whole streams.
    pub(crate) past: Turns,
    /// Places of accountings.
    pub(crate) accountings: Semaphore,
    /// The generations in use as last seen.
    seen: Mutex<Option<Seen>>,
}

impl App {
    pub(crate) fn new(deps: Deps) -> Result<Self, SecretError> {
        let Deps { audit, store, ring, command_key, older_command_keys, clock } = deps;
        Ok(Self {
            applier: Applier::start(store.clone(), audit.clone(), ring.clone()),
            command_keys: CommandKeys::new(&command_key, &older_command_keys)?,
            streams: Streams::new(),
            past: Turns::new(),
            accountings: Semaphore::new(MAX_ACCOUNTINGS),
            seen: Mutex::new(None),
            audit,
            store,
            ring,
            clock,
        })
    }

    /// The generation to read; a request asks once and stays with it.
    pub(crate) fn generation(&self) -> Result<Generation, Failure> {
        Ok(self.pointer().ok_or(Failure::Starting)?.serving)
    }

    /// The generations in use; `None` where that is not known, or not any more.
    pub(crate) fn pointer(&self) -> Option<Pointer> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|seen| seen.at.elapsed() < POINTER_LIFETIME).map(|seen| seen.pointer)
    }

    /// Takes what the store said, asked at a time.
    pub(crate) fn set_pointer(&self, pointer: Pointer, at: Instant) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { pointer, at });
    }
}
