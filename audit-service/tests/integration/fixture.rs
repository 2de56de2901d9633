//! Proposals, ledgers in memory and their appenders.

use std::{os::unix::fs::FileTypeExt, path::PathBuf, sync::Arc, time::Duration};

use audit_service::{
    AuditLedger, OpenError, Parts,
    admit::admit,
    checkpoint::{CheckpointFile, CheckpointSigner, TreeHead},
    clock::Clock,
    ledger::Ledger,
    outside::Outside,
    queue::Admitted,
    roles::Role,
    seal::SealKeys,
    service::system_clock,
    store::{LedgerStore, memory::MemoryLedger},
};
use audit_verify::{checkpoint::LedgerSecret, key_history::KeyHistory};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::{KeyId, Mac, Name, PatientId, Stream},
    record::{CommandRef, KeyName, RecordType},
    sealed::{JweHeader, write_compact},
    wire::{AppendResult, Proposal, Receipt, Stored},
};
use runtime::{health::Readiness, metrics::Meters, secrets::Secret};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

pub(crate) const ORIGIN: &str = "test-ledger";

/// The seal key of every honest process.
pub(crate) const SEAL_KEY: [u8; 32] = [5; 32];

/// How long anything that should happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn mac(number: u64) -> Mac {
    Mac::new(Hash::of_line(&number.to_string()).0)
}

pub(crate) fn patient(number: u64) -> Stream {
    Stream::Patient(PatientId::new(Uuid::from_u128(u128::from(number) << 64 | 7)))
}

/// A record of nothing in particular.
fn proposal(record_type: RecordType) -> Proposal {
    let actor = Actor { id: name("clinic"), kind: ActorKind::Subscription, roles: Vec::new() };
    Proposal {
        client: Some("192.0.2.7".parse().unwrap()),
        ..Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
    }
}

/// A compact JWE with so many bytes of content; the content itself is nothing.
fn sealed(stream: Stream, record_type: RecordType, version: u64, bytes: usize) -> String {
    let kid = KeyId::new(Uuid::from_u128(1));
    let header = JweHeader::new(kid, Some(stream), record_type, Some(version));
    write_compact(&header.encode(), &[1; 12], &vec![7; bytes], &[2; 16])
}

/// An event that takes this version of the patient's stream.
pub(crate) fn event(of: u64, version: u64) -> Proposal {
    event_of_bytes(of, version, 40)
}

pub(crate) fn event_of_bytes(of: u64, version: u64, bytes: usize) -> Proposal {
    let (stream, record_type) = (patient(of), RecordType::PatientAmended);
    Proposal {
        stream: Some(stream),
        version: Some(version),
        schema: Some(1),
        data: Some(sealed(stream, record_type, version, bytes)),
        ..proposal(record_type)
    }
}

/// A read of a patient.
pub(crate) fn read(of: u64) -> Proposal {
    Proposal { stream: Some(patient(of)), ..proposal(RecordType::PatientRead) }
}

/// Adds a command whose id was made by a client, so that the ledger may hold it already.
pub(crate) fn by_command(id: u64, digest: u64, proposal: Proposal) -> Proposal {
    let command = CommandRef { id: mac(id), digest: mac(digest), kid: KeyName::new([1; 4]) };
    Proposal { command: Some(command), ..proposal }
}

/// Says that the command's id was made for this very request.
pub(crate) fn fresh(proposal: Proposal) -> Proposal {
    Proposal { fresh: true, ..proposal }
}

pub(crate) fn admitted(proposals: impl IntoIterator<Item = Proposal>) -> Vec<Admitted> {
    let admit = |proposal| {
        admit(proposal, Role::PatientService, &name(ORIGIN), &name("patient-service")).unwrap()
    };
    proposals.into_iter().map(admit).collect()
}

/// The first signing key of every test's ledger.
pub(crate) const FIRST_KEY: u8 = 9;

/// A signing key of the tests' ledger.
pub(crate) fn ledger_secret(seed: u8) -> LedgerSecret {
    LedgerSecret::new(name(ORIGIN), &[seed; 32])
}

/// Holds these signing keys.
pub(crate) fn signer_of(seeds: &[u8]) -> CheckpointSigner {
    let secrets: Vec<_> =
        seeds.iter().map(|seed| Secret::new(ledger_secret(*seed).to_text().as_bytes())).collect();
    CheckpointSigner::from_secrets(&secrets).unwrap()
}

pub(crate) fn signer() -> CheckpointSigner {
    signer_of(&[FIRST_KEY])
}

/// The keys of a ledger whose key was never rotated.
pub(crate) fn keys() -> KeyHistory {
    KeyHistory::new(ledger_secret(FIRST_KEY).public())
}

/// The empty ledger.
pub(crate) fn genesis() -> Ledger {
    Ledger::genesis(keys().newest().clone(), Arc::new(SealKeys::new(SEAL_KEY)))
}

/// A process's own files.
pub(crate) struct Machine {
    folder: Arc<TempDir>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { folder: Arc::new(tempfile::tempdir().unwrap()) }
    }

    pub(crate) fn checkpoint_file(&self) -> CheckpointFile {
        CheckpointFile::new(self.folder.path().join("checkpoint"))
    }

    /// Loses what was remembered of rotations.
    pub(crate) fn forget_keys(&self) {
        std::fs::remove_file(self.folder.path().join("checkpoint.keys")).unwrap();
    }

    pub(crate) fn parts(&self, store: impl LedgerStore) -> Parts {
        Parts {
            store: Arc::new(store),
            signer: signer(),
            seal_keys: SealKeys::new(SEAL_KEY),
            checkpoint_file: self.checkpoint_file(),
            clock: system_clock(),
            outside: Outside::default(),
        }
    }

    /// As [`Machine::parts`], with these signing keys.
    pub(crate) fn parts_with(&self, seeds: &[u8], store: impl LedgerStore) -> Parts {
        Parts { signer: signer_of(seeds), ..self.parts(store) }
    }

    /// Opens a ledger with these signing keys, which must open.
    pub(crate) async fn open_with(&self, seeds: &[u8], store: &MemoryLedger) -> Running {
        self.running(self.parts_with(seeds, store.clone())).await
    }

    /// Opens a ledger that must open.
    pub(crate) async fn open(&self, store: &MemoryLedger) -> Running {
        self.running(self.parts(store.clone())).await
    }

    pub(crate) async fn open_with_clock(&self, store: &MemoryLedger, clock: Clock) -> Running {
        self.running(Parts { clock, ..self.parts(store.clone()) }).await
    }

    /// Opens what must open.
    pub(crate) async fn running(&self, parts: Parts) -> Running {
        let folder = Some(self.folder.clone());
        Running { _folder: folder, ..Running::open(parts).await.unwrap() }
    }
}

/// As a process leaves it that has seen the ledger empty: it does not ask anchors what was signed.
pub(crate) fn remember_the_empty_ledger(file: &CheckpointFile) {
    let empty = TreeHead { size: 0, root: Hash::of_nothing() };
    file.save(&signer().sign(&keys(), empty).unwrap()).unwrap();
}

/// A running ledger, as one process has it.
pub(crate) struct Running {
    pub(crate) ledger: AuditLedger,
    pub(crate) readiness: Readiness,
    pub(crate) abandon: CancellationToken,
    meters: Meters,
    tasks: TaskTracker,
    /// The machine's files stay for as long as the process runs.
    _folder: Option<Arc<TempDir>>,
}

impl Running {
    pub(crate) async fn open(parts: Parts) -> Result<Self, OpenError> {
        let readiness = Readiness::default();
        let tasks = TaskTracker::new();
        let abandon = CancellationToken::new();
        let shutdown = CancellationToken::new();
        let meters = Meters::default();
        let meter = meters.meter();
        let opening =
            AuditLedger::open_measured(parts, &readiness, &tasks, &shutdown, &abandon, &meter);
        let ledger = opening.await?;
        Ok(Self { ledger, readiness, abandon, meters, tasks, _folder: None })
    }

    pub(crate) async fn append_all(
        &self,
        proposals: impl IntoIterator<Item = Proposal>,
    ) -> Vec<AppendResult> {
        self.ledger.queue.submit(admitted(proposals), PATIENCE).await
    }

    pub(crate) async fn append(&self, proposal: Proposal) -> AppendResult {
        self.append_all([proposal]).await.pop().unwrap()
    }

    /// Appends as the caller `operator`.
    pub(crate) async fn operate(&self, proposal: Proposal) -> AppendResult {
        let operator = name("operator");
        let admitted = admit(proposal, Role::Operator, &name(ORIGIN), &operator).unwrap();
        self.ledger.queue.submit(vec![admitted], PATIENCE).await.pop().unwrap()
    }

    /// As [`Running::append`], for a caller who waits no longer than this.
    pub(crate) async fn append_within(&self, wait: Duration, proposal: Proposal) -> AppendResult {
        self.ledger.queue.submit(admitted([proposal]), wait).await.pop().unwrap()
    }

    /// What the process shows of a metric, given with its labels.
    pub(crate) fn metric(&self, metric: &str) -> Option<f64> {
        let text = self.meters.text().unwrap();
        let mut values =
            text.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        values.next().map(|value| value.parse().unwrap())
    }

    pub(crate) fn size(&self) -> u64 {
        self.ledger.head.borrow().size
    }

    /// Stops cleanly: what waits is finished and the checkpoint is remembered.
    pub(crate) async fn stop(self) {
        let Self { ledger, abandon, tasks, .. } = self;
        drop(ledger);
        abandon.cancel();
        tasks.close();
        tokio::time::timeout(PATIENCE, tasks.wait()).await.expect("the tasks end");
    }
}

#[track_caller]
pub(crate) fn receipt(result: AppendResult) -> Receipt {
    match result {
        AppendResult::Appended(receipt) => receipt,
        other => panic!("not appended: {other:?}"),
    }
}

pub(crate) fn nothing_stored() -> AppendResult {
    AppendResult::Unavailable { stored: Stored::NothingStored }
}

pub(crate) fn outcome_unknown() -> AppendResult {
    AppendResult::Unavailable { stored: Stored::Unknown }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let polling = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, polling).await;
        assert!(in_time.is_ok(), "it did not come to pass: {caller}");
    }
}

/// A file that does not answer whoever opens it, as on a mount that hangs.
pub(crate) struct Hung(PathBuf);

impl Hung {
    /// Puts it in place of what is there.
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let _ = std::fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        Self(path)
    }

    /// What answers whoever reads it now. Blocks until somebody does.
    pub(crate) fn reader(&self) -> std::fs::File {
        std::fs::File::options().write(true).open(&self.0).unwrap()
    }

    /// Answers whoever reads it now with this. Blocks until somebody does.
    pub(crate) fn answer(&self, content: &str) {
        std::io::Write::write_all(&mut self.reader(), content.as_bytes()).unwrap();
    }
}

impl Drop for Hung {
    /// Lets go of whoever hangs: the test's end would wait for them.
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.0);
        if found.is_ok_and(|found| found.file_type().is_fifo()) {
            let _writer = std::fs::File::options().read(true).write(true).open(&self.0);
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// Runs a test where no more than two threads may block.
pub(crate) fn with_two_blocking_threads(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// Whether a thread can be had.
pub(crate) async fn a_thread_is_left() -> bool {
    tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(|| ())).await.is_ok()
}
