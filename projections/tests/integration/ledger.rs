//! A ledger that speaks the audit service's read routes and lets tests change what it holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use audit_client::{AuditClient, Options};
use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret, TreeHead},
    key_history::rotation,
    proof_file::ProofFile,
};
use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::get,
};
use domain::{
    actor::{Actor, ActorKind, ErasureReason, Outcome, Purpose},
    chain::Link,
    event::{Event, SCHEMA},
    hash::Hash,
    ids::{Name, ObjectRef, PatientId, Stream},
    merkle::{Frontier, Subtree, inclusion_path},
    record::{Record, RecordType},
    time::Timestamp,
    wire::Proposal,
};
use projections::{key_ring::DataKey, sealing};
use runtime::secrets::Secret;
use tokio::net::TcpListener;

/// A key pair of the documentation of `golang.org/x/mod/sumdb/note`.
const SIGNER: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const OTHER_VERIFIER: &str = "PeterNeumann+0878cf9d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const ORIGIN: &str = "PeterNeumann";

/// When the first record of every test was made; each later one is a millisecond younger.
const BEGINNING: i64 = 1_790_000_000_000;

#[derive(Clone)]
pub(crate) struct FakeLedger {
    inner: Arc<Mutex<Inner>>,
    url: String,
}

#[derive(Default)]
struct Inner {
    lines: Vec<String>,
    link: Option<Link>,
    versions: HashMap<PatientId, u64>,
    /// Requests that are answered 503 before one is answered well.
    failing: usize,
    signed_root: Option<Hash>,
    signs: Option<LedgerSecret>,
    /// The keys after the first, each with the smallest size that it signs.
    rotations: Vec<(u64, LedgerSecret)>,
    hides_rotations: bool,
}

impl Inner {
    fn signer(&self, size: u64) -> LedgerSecret {
        let at = self.rotations.iter().rfind(|(from, _)| *from <= size);
        at.map_or_else(FakeLedger::first_secret, |(_, secret)| secret.clone())
    }

    fn root(&self) -> Hash {
        let mut frontier = Frontier::default();
        self.lines.iter().for_each(|line| frontier.push(Hash::of_line(line)));
        frontier.root()
    }
}

impl FakeLedger {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ledger = Self { inner: Arc::default(), url };
        let app = Router::new()
            .route("/records", get(records))
            .route("/records/{seq}", get(record))
            .route("/records/{seq}/proof", get(proof))
            .route("/streams/patient/{id}/records", get(stream))
            .route("/streams/ledger/keys/records", get(rotations))
            .route("/checkpoint", get(checkpoint))
            .route("/key", get(key))
            .with_state(ledger.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        ledger
    }

    pub(crate) fn client(&self) -> AuditClient {
        AuditClient::start(Options::new(self.url.as_str(), Secret::new(*b"service key")))
    }

    pub(crate) fn origin() -> Name {
        ORIGIN.parse().unwrap()
    }

    /// The key of somebody else, under the same name.
    pub(crate) fn other_key() -> LedgerKey {
        OTHER_VERIFIER.parse().unwrap()
    }

    /// The secret of the key that signed first.
    pub(crate) fn first_secret() -> LedgerSecret {
        LedgerSecret::parse(SIGNER).unwrap()
    }

    /// The key that signed first.
    pub(crate) fn first_key() -> LedgerKey {
        Self::first_secret().public()
    }

    /// The key that signs now.
    pub(crate) fn newest_key(&self) -> LedgerKey {
        self.lock().signer(u64::MAX).public()
    }

    /// Rotates the signing key; `voucher` of whom, where it is not the key's holder.
    pub(crate) fn rotate(&self, next: u8, voucher: Option<LedgerSecret>) -> Record {
        let current = self.lock().signer(u64::MAX);
        let next = LedgerSecret::new(Self::origin(), &[next; 32]);
        let version = self.lock().rotations.len() as u64 + 1;
        let mut key = rotation(&current, &next.public(), version);
        if let Some(somebody) = voucher {
            key.voucher = rotation(&somebody, &next.public(), version).voucher;
        }
        let mut proposal = proposal(RecordType::KeyRotated);
        proposal.stream = Some(Stream::LedgerKeys);
        proposal.version = Some(version);
        proposal.key = Some(key);
        let record = self.append(proposal);
        self.lock().rotations.push((record.seq + 1, next));
        record
    }

    pub(crate) fn root(&self) -> Hash {
        self.lock().root()
    }

    pub(crate) fn size(&self) -> u64 {
        self.lock().lines.len() as u64
    }

    /// Appends an event of a patient, sealed under her key, as the next of her stream.
    pub(crate) fn event(&self, patient: PatientId, key: &DataKey, event: &Event) -> Record {
        let version = self.lock().versions.get(&patient).copied().unwrap_or(0) + 1;
        let mut proposal = proposal(event.record_type());
        proposal.stream = Some(Stream::Patient(patient));
        proposal.version = Some(version);
        proposal.object = event.test().map(ObjectRef);
        proposal.schema = Some(SCHEMA);
        proposal.reason =
            (*event == Event::PatientErased).then_some(ErasureReason::ConsentWithdrawn);
        proposal.data = sealing::seal_event(key, patient, version, event).unwrap();
        let record = self.append(proposal);
        self.lock().versions.insert(patient, version);
        record
    }

    /// Shows no rotation any more where they are asked for by themselves.
    pub(crate) fn hide_rotations(&self) {
        self.lock().hides_rotations = true;
    }

    /// Makes the next event of a patient follow this version, whatever is true.
    pub(crate) fn pretend_version(&self, patient: PatientId, version: u64) {
        self.lock().versions.insert(patient, version);
    }

    /// Appends a read of a patient.
    pub(crate) fn read(&self, patient: PatientId) -> Record {
        let mut proposal = proposal(RecordType::PatientRead);
        proposal.stream = Some(Stream::Patient(patient));
        self.append(proposal)
    }

    /// Appends a refusal, which concerns no patient.
    pub(crate) fn refusal(&self) -> Record {
        let mut proposal = proposal(RecordType::AccessRefused);
        proposal.outcome = Outcome::Denied;
        self.append(proposal)
    }

    /// Appends a search that returned patients.
    pub(crate) fn search(&self, key: &DataKey, subjects: Vec<PatientId>) -> Record {
        let mut proposal = proposal(RecordType::PatientsSearched);
        proposal.subjects = subjects;
        proposal.data = Some(sealing::seal_search(key, &domain::search::SearchCriteria::default()));
        self.append(proposal)
    }

    fn append(&self, proposal: Proposal) -> Record {
        let mut inner = self.lock();
        let mut end = inner.link.clone().unwrap_or_else(Link::genesis);
        let at = Timestamp::from_millis(BEGINNING + i64::try_from(end.next_seq).unwrap());
        let source = "patient-service".parse().unwrap();
        let record = proposal.into_record(Self::origin(), source, &end, at);
        record.check().unwrap();
        let line = record.to_line();
        end.advance(&record, Hash::of_line(&line));
        inner.link = Some(end);
        inner.lines.push(line);
        record
    }

    /// Changes what is stored, as one with access to the store could.
    pub(crate) fn tamper(&self, change: impl FnOnce(&mut Vec<String>)) {
        change(&mut self.lock().lines);
    }

    /// Signs this root from now on.
    pub(crate) fn sign_root(&self, root: Hash) {
        self.lock().signed_root = Some(root);
    }

    /// Signs with this key from now on, whoever's turn it is.
    pub(crate) fn sign_with(&self, secret: LedgerSecret) {
        self.lock().signs = Some(secret);
    }

    /// Fails the next requests.
    pub(crate) fn fail(&self, times: usize) {
        self.lock().failing = times;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn answer<T>(&self, answer: impl FnOnce(&Inner) -> T) -> Result<T, StatusCode> {
        let mut inner = self.lock();
        if inner.failing > 0 {
            inner.failing -= 1;
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok(answer(&inner))
    }
}

fn proposal(record_type: RecordType) -> Proposal {
    let id = "clinic".parse().unwrap();
    let actor = Actor { id, kind: ActorKind::Subscription, roles: Vec::new() };
    Proposal {
        client: Some("192.0.2.7".parse().unwrap()),
        ..Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
    }
}

type Parameters = Query<HashMap<String, u64>>;

async fn records(
    State(ledger): State<FakeLedger>,
    Query(parameters): Parameters,
) -> Result<String, StatusCode> {
    let parameter = |name| parameters.get(name).copied().unwrap_or(0);
    let from = parameter("from");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(parameter("wait"));
    while ledger.size() <= from && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (from, limit) = (usize::try_from(from), usize::try_from(parameter("limit")));
    ledger.answer(|inner| page(&inner.lines, from.unwrap(), limit.unwrap()))
}

async fn record(
    State(ledger): State<FakeLedger>,
    Path(seq): Path<usize>,
) -> Result<String, StatusCode> {
    ledger.answer(|inner| inner.lines.get(seq).cloned())?.ok_or(StatusCode::NOT_FOUND)
}

async fn proof(
    State(ledger): State<FakeLedger>,
    Path(seq): Path<u64>,
    Query(parameters): Parameters,
) -> Result<String, StatusCode> {
    let size = parameters["size"];
    ledger.answer(|inner| {
        let root_of = |Subtree { begin, end }| {
            let (begin, end) = (usize::try_from(begin).unwrap(), usize::try_from(end).unwrap());
            let mut frontier = Frontier::default();
            inner.lines[begin..end].iter().for_each(|line| frontier.push(Hash::of_line(line)));
            frontier.root()
        };
        let hashes = inclusion_path(seq, size).unwrap().into_iter().map(root_of).collect();
        let head = TreeHead { size, root: inner.root() };
        let checkpoint = inner.signer(size).sign(head);
        ProofFile { extra: None, index: seq, hashes, checkpoint }.to_string()
    })
}

async fn stream(
    State(ledger): State<FakeLedger>,
    Path(id): Path<String>,
    Query(parameters): Parameters,
) -> Result<String, StatusCode> {
    let stream = Stream::Patient(id.parse().unwrap());
    let from = parameters["from"];
    ledger.answer(|inner| {
        let lines: Vec<String> = inner
            .lines
            .iter()
            .filter(|line| {
                let position = Record::parse(line).ok().and_then(|record| record.stream_version());
                position.is_some_and(|(of, version)| of == stream && version >= from)
            })
            .cloned()
            .collect();
        page(&lines, 0, usize::MAX)
    })
}

async fn checkpoint(State(ledger): State<FakeLedger>) -> Result<String, StatusCode> {
    ledger.answer(|inner| {
        let root = inner.signed_root.unwrap_or_else(|| inner.root());
        let head = TreeHead { size: inner.lines.len() as u64, root };
        let signer = inner.signs.clone().unwrap_or_else(|| inner.signer(head.size));
        signer.sign(head)
    })
}

async fn rotations(State(ledger): State<FakeLedger>) -> Result<String, StatusCode> {
    ledger.answer(|inner| {
        let rotation =
            |line: &&String| Record::parse(line).unwrap().key.is_some() && !inner.hides_rotations;
        let lines: Vec<String> = inner.lines.iter().filter(rotation).cloned().collect();
        page(&lines, 0, usize::MAX)
    })
}

async fn key(State(ledger): State<FakeLedger>) -> String {
    ledger.newest_key().to_string()
}

fn page(lines: &[String], from: usize, limit: usize) -> String {
    let page = lines.iter().skip(from).take(limit);
    page.flat_map(|line| [line.as_str(), "\n"]).collect()
}
