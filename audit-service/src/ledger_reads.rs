//! Reading the ledger is itself recorded: once per reader and minute (design §8).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::Name,
    record::RecordType,
    wire::{AppendResult, Proposal, Receipt, Stored},
};
use runtime::problem::Problem;
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

use crate::{
    admit::place_nowhere,
    append_api::{APPEND_DEADLINE, to_problem},
    service::AuditLedger,
};

/// One record a reader in this time.
const PERIOD: Duration = Duration::from_mins(1);

/// Readers remembered; when there are more, the ones whose minute is over are forgotten.
const MAX_READERS: usize = 10_000;

/// When a reader's last record was acknowledged. Locked while one is on its way, so that reads
/// at the same time wait for it.
type LastRecord = Arc<AsyncMutex<Option<Instant>>>;

/// Who read the ledger when.
#[derive(Default)]
pub struct LedgerReads(Mutex<HashMap<(ActorKind, Name), LastRecord>>);

impl LedgerReads {
    /// Records that a client reads, unless that was done within the minute. Without the
    /// acknowledgement nothing may be read. Returns the receipt of the record that it caused.
    pub async fn record(
        &self,
        ledger: &AuditLedger,
        read: Read,
    ) -> Result<Option<Receipt>, Problem> {
        let last = self.last_of((read.actor.kind, read.actor.id.clone()));
        // Readers of one name wait for each other's record, but not for ever.
        let locked = tokio::time::timeout(APPEND_DEADLINE, last.lock()).await;
        let mut last = locked
            .map_err(|_| to_problem(AppendResult::Unavailable { stored: Stored::NothingStored }))?;
        if is_recent(*last) {
            return Ok(None);
        }
        let source = read.source.clone();
        let admitted = place_nowhere(read.into_proposal(), ledger.origin(), &source)
            .map_err(Problem::bad_request)?;
        match ledger.queue.submit(vec![admitted], APPEND_DEADLINE).await.pop() {
            Some(AppendResult::Appended(receipt)) => {
                *last = Some(Instant::now());
                Ok(Some(receipt))
            }
            other => Err(other.map_or_else(Problem::internal, to_problem)),
        }
    }

    fn last_of(&self, reader: (ActorKind, Name)) -> LastRecord {
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = readers.get(&reader) {
            return last.clone();
        }
        if readers.len() >= MAX_READERS {
            // One that is locked is being written.
            readers.retain(|_, last| last.try_lock().map_or(true, |last| is_recent(*last)));
        }
        let last = LastRecord::default();
        // Beyond the bound a reader is recorded each time.
        if readers.len() < MAX_READERS {
            readers.insert(reader, last.clone());
        }
        last
    }
}

fn is_recent(last: Option<Instant>) -> bool {
    last.is_some_and(|last| last.elapsed() < PERIOD)
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
            client: self.client,
            trace: self.trace,
            ..Proposal::new(RecordType::LedgerRead, self.actor, self.purpose, Outcome::Success)
        }
    }
}
