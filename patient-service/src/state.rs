//! What all requests share.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use audit_client::AuditClient;
use domain::time::Timestamp;
use projections::{
    applier::Applier, documents::Generation, key_ring::KeyRing, store::ProjectionStore,
};
use runtime::secrets::SecretError;

use crate::{command_id::CommandKey, error::Failure, service::Deps, streams::Streams};

/// The current time; read in composition roots alone.
pub type Clock = fn() -> Timestamp;

/// The parts that requests use.
pub(crate) struct App {
    pub(crate) audit: AuditClient,
    pub(crate) store: Arc<dyn ProjectionStore>,
    pub(crate) ring: KeyRing,
    pub(crate) applier: Applier,
    pub(crate) command_key: CommandKey,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    /// The serving generation as last seen; 0 until it was seen.
    generation: AtomicU32,
}

impl App {
    pub(crate) fn new(deps: Deps) -> Result<Self, SecretError> {
        let Deps { audit, store, ring, command_key, clock } = deps;
        Ok(Self {
            applier: Applier::start(store.clone(), audit.clone(), ring.clone()),
            command_key: CommandKey::new(&command_key)?,
            streams: Streams::new(),
            generation: AtomicU32::new(0),
            audit,
            store,
            ring,
            clock,
        })
    }

    /// The generation to read and write; a request asks once and stays with it.
    pub(crate) fn generation(&self) -> Result<Generation, Failure> {
        match self.generation.load(Ordering::Acquire) {
            0 => Err(Failure::Starting),
            number => Ok(Generation(number)),
        }
    }

    pub(crate) fn set_generation(&self, generation: Generation) {
        self.generation.store(generation.0, Ordering::Release);
    }
}
