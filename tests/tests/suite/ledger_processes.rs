//! Processes of the audit service on one MongoDB, and writers who know what was acknowledged.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use audit_client::{AppendError, AuditClient, Options};
use audit_service::{
    block::Block,
    ledger::Ledger,
    seal::SealKeys,
    store::{
        LedgerStore,
        mongo::{MongoLedger, MongoOptions},
    },
};
use audit_verify::checkpoint::LedgerSecret;
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::{Mac, PatientId, Stream},
    record::{CommandRef, KeyName, Record, RecordType},
    wire::{Proposal, Receipt},
};
use rand::Rng;
use runtime::secrets::Secret;
use tempfile::TempDir;
use tests::{
    ledger::hash_of,
    mongod,
    programs::{self, POLL_PAUSE, Program},
    system::free_address,
};
use tokio::task::JoinSet;
use uuid::Uuid;

pub(super) const ORIGIN: &str = "test-ledger";
const SEAL_KEY: [u8; 32] = *b"seal key of the ledger processes";
const OPERATOR_KEY: &str = "the-service-key-of-operator";
const SERVICE_KEY: &str = "the-service-key-of-patient-service";

/// How long anything that should happen may take; far more than it needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// Patients that all writers share, so that they meet.
const PATIENTS: usize = 32;

/// A ledger on MongoDB and the processes that append to it.
pub(super) struct Deployment {
    folder: TempDir,
    pub(super) prefix: String,
    /// Where the tests themselves read the ledger.
    uri: String,
    pub(super) replicas: Vec<Replica>,
}

/// One process of the audit service, with a checkpoint file of its own.
pub(super) struct Replica {
    pub(super) url: String,
    arguments: Vec<String>,
    log: PathBuf,
    pub(super) program: Program,
}

impl Deployment {
    /// Starts a process for each way to the same MongoDB and waits until they are ready.
    pub(super) async fn start(uri: &str, ways: &[&str]) -> Self {
        Self::start_with(&["ledger.key"], uri, ways).await
    }

    /// As [`Deployment::start`], with these of the signing keys `ledger.key` and `next.key`.
    pub(super) async fn start_with(keys: &[&str], uri: &str, ways: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (file, secret) in [("ledger.key", ledger_secret()), ("next.key", next_secret())] {
            fs::write(folder.path().join(file), secret.to_text().as_bytes()).unwrap();
        }
        fs::write(folder.path().join("operator.key"), OPERATOR_KEY).unwrap();
        fs::write(folder.path().join("seal.key"), hex::encode(SEAL_KEY)).unwrap();
        fs::write(folder.path().join("service.key"), SERVICE_KEY).unwrap();
        let prefix = mongod::database("appender");
        let mut deployment = Self { folder, prefix, uri: uri.to_owned(), replicas: Vec::new() };
        for way in ways {
            deployment.add_with(keys, way);
        }
        for replica in &deployment.replicas {
            replica.become_ready().await;
        }
        deployment
    }

    /// Starts one more process, which may not become ready.
    pub(super) fn add(&mut self, way: &str) -> usize {
        self.add_with(&["ledger.key"], way)
    }

    /// As [`Deployment::add`], with these signing keys.
    pub(super) fn add_with(&mut self, keys: &[&str], way: &str) -> usize {
        let number = self.replicas.len();
        let (listen, url) = free_address().unwrap();
        let file = |name: &str| self.file(name).display().to_string();
        let keys: Vec<_> = keys.iter().map(|key| format!("file:{}", file(key))).collect();
        let arguments = [
            "serve".to_owned(),
            format!("--listen={listen}"),
            format!("--store={way}"),
            format!("--database-prefix={}", self.prefix),
            format!("--checkpoint-file={}", file(&format!("{number}.checkpoint"))),
            format!("--signing-key={}", keys.join(",")),
            format!("--seal-key=file:{}", file("seal.key")),
            format!("--caller=patient-service=file:{}", file("service.key")),
            format!("--caller=operator=file:{}", file("operator.key")),
        ];
        let log = self.folder.path().join(format!("{number}.log"));
        let program = start(&arguments, &log);
        self.replicas.push(Replica { url, arguments: arguments.into(), log, program });
        number
    }

    /// The ledger as the tests see it.
    pub(super) async fn store(&self) -> MongoLedger {
        let database = format!("{}_ledger", self.prefix);
        MongoLedger::connect(&self.uri, &database, MongoOptions::default()).await.unwrap()
    }

    /// The stored ledger, verified in full: chain, roots, seals, lookups.
    pub(super) async fn verify(&self) -> Verified {
        let store = self.store().await;
        let mut ledger =
            Ledger::genesis(ledger_secret().public(), Arc::new(SealKeys::new(SEAL_KEY)));
        let mut lines = Vec::new();
        let mut records = Vec::new();
        loop {
            let blocks: Vec<Block> = store.blocks_from(ledger.size(), 64).await.unwrap();
            if blocks.is_empty() {
                break;
            }
            for block in blocks {
                records.extend(ledger.fold(&block).unwrap());
                lines.extend(block.lines);
            }
        }
        Verified { lines, records }
    }

    /// Starts a process that has ended again, with these signing keys.
    pub(super) fn restart_with(&mut self, keys: &[&str], replica: usize) {
        let keys: Vec<_> =
            keys.iter().map(|key| format!("file:{}", self.file(key).display())).collect();
        let replica = &mut self.replicas[replica];
        for argument in &mut replica.arguments {
            if argument.starts_with("--signing-key=") {
                *argument = format!("--signing-key={}", keys.join(","));
            }
        }
        replica.restart();
    }

    /// A file that the processes have in common.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn clients(&self) -> Vec<AuditClient> {
        self.replicas.iter().map(Replica::client).collect()
    }
}

/// The ledger's first signing key.
pub(super) fn ledger_secret() -> LedgerSecret {
    LedgerSecret::new(ORIGIN.parse().unwrap(), b"signing key one of the processes")
}

/// The signing key that may take over.
pub(super) fn next_secret() -> LedgerSecret {
    LedgerSecret::new(ORIGIN.parse().unwrap(), b"signing key two of the processes")
}

fn start(arguments: &[String], log: &std::path::Path) -> Program {
    Program::start(&programs::built("audit-service").unwrap(), arguments, "", log).unwrap()
}

impl Replica {
    pub(super) fn client(&self) -> AuditClient {
        AuditClient::start(Options {
            append_deadline: Duration::from_secs(2),
            ..Options::new(&self.url, Secret::new(SERVICE_KEY))
        })
    }

    /// As [`Replica::client`], as the operator, who may see the key history.
    pub(super) fn operator(&self) -> AuditClient {
        AuditClient::start(Options::new(&self.url, Secret::new(OPERATOR_KEY)))
    }

    /// Kills the process without warning.
    pub(super) fn kill(&mut self) {
        self.program.kill().unwrap();
    }

    /// Starts it again with the same settings and files.
    pub(super) fn restart(&mut self) {
        self.program = start(&self.arguments, &self.log);
    }

    pub(super) async fn become_ready(&self) {
        assert!(self.is_ready_within(PATIENCE).await, "{}", self.program.last_words());
    }

    async fn is_ready_within(&self, patience: Duration) -> bool {
        let http = runtime::client::internal_client();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let answer = http.get(format!("{}/readyz", self.url)).timeout(Duration::from_secs(1));
            if answer.send().await.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        false
    }

    pub(super) async fn become_not_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_ready_within(POLL_PAUSE).await {
            assert!(Instant::now() < deadline, "it is still ready");
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// Waits until the process refuses to run; what it said.
    pub(super) async fn refuses_to_start(&mut self) -> String {
        let status = self.program.wait(PATIENCE).await.unwrap();
        assert!(!status.success());
        self.program.log()
    }

    /// Size of the ledger by the signed checkpoint.
    pub(super) async fn size(&self) -> u64 {
        let note = self.client().checkpoint().await.unwrap();
        note.lines().nth(1).unwrap().parse().unwrap()
    }
}

/// A whole ledger that was found good.
pub(super) struct Verified {
    pub(super) lines: Vec<String>,
    pub(super) records: Vec<Record>,
}

impl Verified {
    /// Where a command stands, all of its places.
    pub(super) fn places_of(&self, command: u64) -> Vec<u64> {
        let by = |record: &&Record| record.command.is_some_and(|c| c.id == mac(command));
        self.records.iter().filter(by).map(|record| record.seq).collect()
    }

    /// Every acknowledged command is there exactly once, where its receipt says, and nothing
    /// else is there; every stream's versions follow each other.
    pub(super) fn check(&self, load: &Load) {
        let mut places: HashMap<Mac, Vec<u64>> = HashMap::new();
        let mut versions: HashMap<Stream, u64> = HashMap::new();
        for record in self.records.iter().filter(|record| record.key.is_none()) {
            places.entry(record.command.unwrap().id).or_default().push(record.seq);
            let (stream, version) = record.stream_version().unwrap();
            let before = versions.insert(stream, version).unwrap_or(0);
            assert_eq!(version, before + 1, "{stream} at {}", record.seq);
        }
        let receipts = load.receipts.lock().unwrap();
        for (command, receipt) in receipts.iter() {
            assert_eq!(places.get(&mac(*command)), Some(&vec![receipt.seq]), "command {command}");
            let line = &self.lines[usize::try_from(receipt.seq).unwrap()];
            assert_eq!(hash_of(line), receipt.hash.to_string());
        }
        assert_eq!(places.len(), receipts.len(), "something that nobody asked for is stored");
    }
}

/// An event that takes a version of a patient's stream, by a command of its own.
pub(super) fn event(patient: usize, version: u64, command: u64) -> Proposal {
    let id = "clinic".parse().unwrap();
    let actor = Actor { id, kind: ActorKind::Subscription, roles: Vec::new() };
    let record_type = RecordType::PatientRemoved;
    Proposal {
        stream: Some(Stream::Patient(PatientId::new(Uuid::from_u128(patient as u128 + 1)))),
        version: Some(version),
        schema: Some(1),
        command: Some(CommandRef { id: mac(command), digest: mac(0), kid: KeyName::new([1; 4]) }),
        ..Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
    }
}

pub(super) fn mac(number: u64) -> Mac {
    Mac::new(Hash::of_line(&number.to_string()).0)
}

/// Writers, and what was acknowledged to them.
pub(super) struct Load {
    clients: Vec<AuditClient>,
    next_command: AtomicU64,
    /// The highest version of each patient that was acknowledged, more or less.
    versions: [AtomicU64; PATIENTS],
    receipts: Mutex<HashMap<u64, Receipt>>,
    acknowledged: AtomicUsize,
    /// Tries that were not acknowledged in time, after which a writer went on elsewhere.
    failures: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    pub(super) fn new(deployment: &Deployment) -> Arc<Self> {
        Arc::new(Self {
            clients: deployment.clients(),
            next_command: AtomicU64::new(1_000),
            versions: std::array::from_fn(|_| AtomicU64::new(0)),
            receipts: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// Starts so many writers. Each has one command after the other acknowledged, by whatever
    /// process takes it, until it is told to stop.
    pub(super) fn writers(self: &Arc<Self>, count: usize) -> JoinSet<()> {
        let mut writers = JoinSet::new();
        for _ in 0..count {
            let load = self.clone();
            writers.spawn(async move {
                while !load.stop.load(Ordering::SeqCst) {
                    load.write().await;
                }
            });
        }
        writers
    }

    async fn write(&self) {
        let command = self.next_command.fetch_add(1, Ordering::SeqCst);
        let patient = rand::rng().random_range(0..PATIENTS);
        let mut version = self.versions[patient].load(Ordering::SeqCst) + 1;
        // The command's id is new, but the stream may not be.
        let mut fresh = version > 1;
        loop {
            let client = &self.clients[rand::rng().random_range(0..self.clients.len())];
            let proposal = Proposal { fresh, ..event(patient, version, command) };
            fresh = false;
            match client.append(proposal).await {
                Ok(receipt) => {
                    self.versions[patient].fetch_max(version, Ordering::SeqCst);
                    return self.acknowledge(command, receipt);
                }
                Err(AppendError::Conflict { actual, .. }) => version = actual + 1,
                Err(AppendError::Unavailable(_)) => {
                    self.failures.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(POLL_PAUSE).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }

    pub(super) fn acknowledge(&self, command: u64, receipt: Receipt) {
        assert_eq!(self.receipts.lock().unwrap().insert(command, receipt), None);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    pub(super) fn count(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more were acknowledged.
    pub(super) async fn go_on(&self, more: usize) {
        let (until, deadline) = (self.count() + more, Instant::now() + PATIENCE);
        while self.count() < until {
            assert!(Instant::now() < deadline, "nothing is acknowledged any more");
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    /// Waits until every writer's last command is acknowledged.
    pub(super) async fn finish(&self, writers: JoinSet<()>) {
        self.stop.store(true, Ordering::SeqCst);
        let finished = tokio::time::timeout(PATIENCE, writers.join_all()).await;
        assert!(finished.is_ok(), "the last commands are not acknowledged");
    }
}
