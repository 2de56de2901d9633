//! A real audit service in this process, with a ledger of its own.

use std::{path::Path, sync::Arc};

use audit_client::{AuditClient, Options};
use audit_service::{
    Parts,
    checkpoint::{CheckpointFile, CheckpointSigner, new_signing_key},
    outside::Outside,
    seal::SealKeys,
    service::system_clock,
    store::{LedgerStore, memory::MemoryLedger, sqlite::SqliteLedger},
};
use audit_verify::checkpoint::LedgerKey;
use domain::record::Record;
use runtime::{health::Readiness, secrets::Secret, service_keys::Callers};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running audit service; it ends when this is dropped.
pub(crate) struct Audit {
    url: String,
    patient_service: AuditClient,
    _shutdown: DropGuard,
}

impl Audit {
    pub(crate) async fn on_sqlite(file: &Path) -> Self {
        let store = Arc::new(SqliteLedger::open(file).unwrap());
        Self::start(store, &file.with_extension("checkpoint")).await
    }

    /// With the store itself, to tamper with.
    pub(crate) async fn in_memory(folder: &Path) -> (Self, MemoryLedger) {
        let store = MemoryLedger::new();
        let audit = Self::start(Arc::new(store.clone()), &folder.join("checkpoint")).await;
        (audit, store)
    }

    async fn start(store: Arc<dyn LedgerStore>, checkpoint: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let signing_key = new_signing_key(&"test.vitalog".parse().unwrap(), [3; 32]);
        let parts = Parts {
            store,
            signer: CheckpointSigner::from_secret(&Secret::new(signing_key.as_bytes())).unwrap(),
            seal_keys: SealKeys::new([4; 32]),
            checkpoint_file: CheckpointFile::new(checkpoint),
            clock: system_clock(),
            outside: Outside::default(),
        };
        let names = ["patient-service", "projections"];
        let callers = Callers::from_keys(names.map(|name| (name, key(name)))).unwrap();
        let readiness = Readiness::default();
        let shutdown = CancellationToken::new();
        let guard = shutdown.clone().drop_guard();
        let ready = readiness.clone();
        tokio::spawn(audit_service::run(listener, callers, readiness, shutdown, async {
            Ok(parts)
        }));
        let patient_service = client(&url, "patient-service");
        while !ready.is_ready() || patient_service.checkpoint().await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        Self { url, patient_service, _shutdown: guard }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A client as one of the services.
    pub(crate) fn client(&self, name: &str) -> AuditClient {
        match name {
            "patient-service" => self.patient_service.clone(),
            _ => client(&self.url, name),
        }
    }

    /// Records in the ledger, by its checkpoint.
    pub(crate) async fn size(&self) -> u64 {
        let key: LedgerKey = self.patient_service.verifier_key().await.unwrap().parse().unwrap();
        let head = key.open(&self.patient_service.checkpoint().await.unwrap()).unwrap();
        let last = self.patient_service.record(head.size - 1).await.unwrap().unwrap();
        assert_eq!(Record::parse(&last).unwrap().seq + 1, head.size);
        head.size
    }
}

pub(crate) fn client(url: &str, name: &str) -> AuditClient {
    AuditClient::start(Options::new(url, key(name)))
}

fn key(name: &str) -> Secret {
    Secret::new(format!("the service key of {name}"))
}
