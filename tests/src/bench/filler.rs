//! A ledger of its own in this process, filled with what happens to patients.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use audit_client::{AuditClient, Options};
use audit_service::{
    Parts,
    checkpoint::{CheckpointFile, CheckpointSigner, new_signing_key},
    outside::Outside,
    seal::SealKeys,
    service::system_clock,
    store::sqlite::SqliteLedger,
};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    content::{PatientContent, TestContent},
    event::{Event, SCHEMA},
    ids::{ObjectRef, PatientId, Stream, TestId},
    record::RecordType,
    strict_json::parse_object,
    wire::Proposal,
};
use projections::{
    key_ring::{DataKey, KeyRing},
    sealing::seal_event,
};
use runtime::{health::Readiness, secrets::Secret, service_keys::Callers};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::load;

/// Patients who are busy at once.
const AT_ONCE: usize = 256;

/// Events of one patient: registered, two tests, amended.
pub const EVENTS_A_PATIENT: u64 = 4;

/// An audit service with a ledger in a file; it ends when this is dropped.
pub struct Ledger {
    /// Where it listens.
    pub url: String,
    _shutdown: DropGuard,
}

impl Ledger {
    /// Starts one.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let signing_key = new_signing_key(&"bench.vitalog".parse()?, [3; 32]);
        let parts = Parts {
            store: Arc::new(SqliteLedger::open(folder.join("ledger.db"))?),
            signer: CheckpointSigner::from_secret(&Secret::new(signing_key.as_bytes()))?,
            seal_keys: SealKeys::new([4; 32]),
            checkpoint_file: CheckpointFile::new(folder.join("checkpoint")),
            clock: system_clock(),
            outside: Outside::default(),
        };
        let callers = ["patient-service", "projections"].map(|name| (name, service_key(name)));
        let callers = Callers::from_keys(callers)?;
        let readiness = Readiness::default();
        let shutdown = CancellationToken::new();
        let guard = shutdown.clone().drop_guard();
        let ready = readiness.clone();
        let parts = async { Ok(parts) };
        tokio::spawn(audit_service::run(listener, callers, readiness, shutdown, parts));
        while !ready.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Self { url, _shutdown: guard })
    }

    /// A client as one of the services.
    pub fn client(&self, name: &str) -> AuditClient {
        AuditClient::start(Options::new(self.url.as_str(), service_key(name)))
    }

    /// Appends whole lives of patients, [`EVENTS_A_PATIENT`] events and one read each, until
    /// there are about `events`.
    pub async fn fill(&self, ring: &KeyRing, events: u64) -> anyhow::Result<()> {
        let left = Arc::new(AtomicU64::new(events / EVENTS_A_PATIENT));
        let audit = self.client("patient-service");
        let tasks: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (left, audit, ring) = (left.clone(), audit.clone(), ring.clone());
                tokio::spawn(async move {
                    let one_less = |left: u64| left.checked_sub(1);
                    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
                    {
                        live(&audit, &ring).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    }
}

/// The service key of a caller, as its secret file would hold it.
pub fn service_key(name: &str) -> Secret {
    Secret::new(format!("the service key of {name}"))
}

async fn live(audit: &AuditClient, ring: &KeyRing) -> anyhow::Result<()> {
    let key = ring.fresh().await?;
    let patient = PatientId::new(Uuid::new_v4());
    let test = || Event::TestRecorded { test: TestId::new(Uuid::new_v4()), content: laboratory() };
    let events =
        [Event::PatientRegistered(person()), test(), test(), Event::PatientAmended(person())];
    for (event, version) in events.iter().zip(1..) {
        audit.append(proposal_of(patient, version, &key, event)?).await?;
    }
    let read =
        Proposal { stream: Some(Stream::Patient(patient)), ..proposal(RecordType::PatientRead) };
    audit.append(read).await?;
    Ok(())
}

fn proposal_of(
    patient: PatientId,
    version: u64,
    key: &DataKey,
    event: &Event,
) -> anyhow::Result<Proposal> {
    Ok(Proposal {
        stream: Some(Stream::Patient(patient)),
        version: Some(version),
        object: event.test().map(ObjectRef),
        schema: Some(SCHEMA),
        data: seal_event(key, patient, version, event).context("content of a bench fits")?,
        ..proposal(event.record_type())
    })
}

fn proposal(record_type: RecordType) -> Proposal {
    let id = "bench".parse().expect("a name");
    let actor = Actor { id, kind: ActorKind::Subscription, roles: Vec::new() };
    Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
}

/// A patient as the older system's load test makes them.
pub fn person() -> PatientContent {
    let body = parse_object(load::patient().as_bytes()).expect("a JSON object");
    PatientContent::from_create(&body).expect("a valid patient")
}

/// A test as the older system's load test makes them.
pub fn laboratory() -> TestContent {
    let body = parse_object(load::test().as_bytes()).expect("a JSON object");
    TestContent::from_create(&body).expect("a valid test")
}
