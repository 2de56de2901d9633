//! Reading the ledger is itself recorded: once per reader and minute (design §8).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::{
    actor::{Actor, Outcome, Purpose},
    ids::Name,
    record::RecordType,
    wire::{AppendResult, Proposal},
};
use runtime::problem::Problem;
use tokio::time::Instant;

use crate::{
    admit::place_nowhere,
    append_api::{APPEND_DEADLINE, to_problem},
    service::AuditLedger,
};

/// One record a reader in this time.
const PERIOD: Duration = Duration::from_mins(1);

/// Readers remembered; when there are more, the ones whose minute is over are forgotten.
const MAX_READERS: usize = 10_000;

/// Who read the ledger when.
#[derive(Default)]
pub struct LedgerReads(Mutex<HashMap<Name, Instant>>);

impl LedgerReads {
    /// Records that a client reads, unless that was done within the minute. Without the
    /// acknowledgement nothing may be read.
    pub async fn record(&self, ledger: &AuditLedger, read: Read) -> Result<(), Problem> {
        let reader = read.actor.id.clone();
        if !self.is_due(&reader) {
            return Ok(());
        }
        let source = read.source.clone();
        let admitted = place_nowhere(read.into_proposal(), ledger.origin(), &source)
            .map_err(Problem::bad_request)?;
        let result = ledger.queue.submit(vec![admitted], APPEND_DEADLINE).await.pop();
        if let Some(AppendResult::Appended(_)) = result {
            return Ok(());
        }
        self.lock().remove(&reader);
        Err(result.map_or_else(Problem::internal, to_problem))
    }

    fn is_due(&self, reader: &Name) -> bool {
        let now = Instant::now();
        let mut readers = self.lock();
        if readers.get(reader).is_some_and(|last| now - *last < PERIOD) {
            return false;
        }
        if readers.len() >= MAX_READERS {
            readers.retain(|_, last| now - *last < PERIOD);
        }
        if readers.len() < MAX_READERS {
            readers.insert(reader.clone(), now);
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's read of the ledger, through a service.
pub struct Read {
    /// The client.
    pub actor: Actor,
    /// Its address.
    pub client: Option<std::net::IpAddr>,
    /// The trace.
    pub trace: Option<domain::ids::TraceId>,
    /// The service.
    pub source: Name,
    /// Why.
    pub purpose: Purpose,
}

impl Read {
    fn into_proposal(self) -> Proposal {
        Proposal {
            record_type: RecordType::LedgerRead,
            stream: None,
            version: None,
            object: None,
            subjects: Vec::new(),
            schema: None,
            actor: self.actor,
            client: self.client,
            purpose: self.purpose,
            outcome: Outcome::Success,
            command: None,
            fresh: false,
            trace: self.trace,
            data: None,
            external: None,
        }
    }
}
