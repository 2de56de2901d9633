//! Applying what one process acknowledged: changes that wait travel together.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, LazyLock},
    time::Duration,
};

use audit_client::AuditClient;
use domain::ids::PatientId;
use futures::{StreamExt, stream};
use runtime::{
    spans::{self, TARGET},
    store_calls::CallError,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tracing::{Instrument, Span, field::Empty};

use crate::{
    change::StreamChange,
    documents::Generation,
    error::ApplyError,
    key_ring::KeyRing,
    repair::Repairer,
    store::{Applied, ProjectionStore},
    tally::{By, TALLY},
};

/// Changes that wait in the queue at most. A store that is this far behind will not answer the
/// caller within its deadline, and the follower catches up anyway.
pub const MAX_WAITING: usize = 4_096;

/// Changes written at once at most: at some kilobytes each a write of about a megabyte.
pub const MAX_BATCH: usize = 512;

/// Batches in flight at most: one is written while the next one's answers come in. More would
/// only make them smaller.
const MAX_IN_FLIGHT: usize = 2;

/// Changes taken off the queue at most: two full batches, and some that wait for a patient.
const MAX_BACKLOG: usize = 4 * MAX_BATCH;

/// How long a caller waits. Its command is durable already, so it can say that the projection is
/// pending instead of keeping the client.
pub const APPLY_DEADLINE: Duration = Duration::from_secs(5);

/// Streams of one batch that are repaired from the ledger at once.
const REPAIRS_AT_ONCE: usize = 8;

/// A handle to the task that applies; clones share it.
#[derive(Clone)]
pub struct Applier {
    queue: mpsc::Sender<Job>,
}

impl Applier {
    /// Starts the task on the current runtime; it ends when the last handle is dropped and all
    /// that waited is written.
    pub fn start(store: Arc<dyn ProjectionStore>, audit: AuditClient, ring: KeyRing) -> Self {
        LazyLock::force(&TALLY);
        let (queue, waiting) = mpsc::channel(MAX_WAITING);
        let writer = Writer { repairer: Repairer::new(Arc::clone(&store), audit, ring), store };
        tokio::spawn(Batcher::new(writer).run(waiting));
        Self { queue }
    }

    /// Applies the change of one stream. Events missing before it are taken from the ledger.
    ///
    /// A failure loses nothing: what is in the ledger reaches the read models by the follower,
    /// and a change whose caller stopped waiting may still be applied here.
    pub async fn apply(
        &self,
        generation: Generation,
        change: StreamChange,
    ) -> Result<(), ApplyError> {
        let started = Instant::now();
        let span = Some(spans::current()).filter(spans::is_traced).unwrap_or_else(Span::none);
        let (answer, answered) = oneshot::channel();
        let job = Job { generation, change, answer, span };
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ApplyError::Busy,
            mpsc::error::TrySendError::Closed(_) => ApplyError::Stopped,
        })?;
        let result = match tokio::time::timeout(APPLY_DEADLINE, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ApplyError::Stopped),
            Err(_) => Err(ApplyError::TimedOut),
        };
        TALLY.apply_seconds.record(started.elapsed().as_secs_f64(), &[]);
        result
    }
}

struct Job {
    generation: Generation,
    change: StreamChange,
    answer: oneshot::Sender<Result<(), ApplyError>>,
    /// Whoever waits for it; none where its trace is not sampled.
    span: Span,
}

/// The span of a batch: a child of the first job's that has one, and linked to all of them.
fn span_of(batch: &[Job]) -> Span {
    let traced = || batch.iter().map(|job| &job.span).filter(|span| !span.is_none());
    let Some(parent) = traced().next() else { return Span::none() };
    let span = tracing::info_span!(
        target: TARGET,
        parent: parent,
        "apply batch",
        changes = i64::try_from(batch.len()).unwrap_or(i64::MAX),
        otel.status_code = Empty,
        error.type = Empty,
    );
    for place in traced().filter_map(spans::context) {
        spans::link(&span, place);
    }
    span
}

/// Makes batches of what waits. Without a timer: while a batch is written the next one gathers.
struct Batcher {
    writer: Arc<Writer>,
    backlog: VecDeque<Job>,
    /// Patients with a change in flight; the store takes one change a patient at a time.
    busy: HashSet<PatientId>,
    running: JoinSet<()>,
    patients: HashMap<Id, Vec<PatientId>>,
}

impl Batcher {
    fn new(writer: Writer) -> Self {
        Self {
            writer: Arc::new(writer),
            backlog: VecDeque::new(),
            busy: HashSet::new(),
            running: JoinSet::new(),
            patients: HashMap::new(),
        }
    }

    async fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut open = true;
        while open || !self.backlog.is_empty() || !self.running.is_empty() {
            while self.backlog.len() < MAX_BACKLOG
                && let Ok(job) = waiting.try_recv()
            {
                self.backlog.push_back(job);
            }
            self.start_batches();
            tokio::select! {
                job = waiting.recv(), if open && self.backlog.len() < MAX_BACKLOG => match job {
                    Some(job) => self.backlog.push_back(job),
                    None => open = false,
                },
                Some(ended) = self.running.join_next_with_id() => self.end(ended),
            }
        }
    }

    fn start_batches(&mut self) {
        while self.running.len() < MAX_IN_FLIGHT {
            let batch = self.take();
            let Some(first) = batch.first() else { return };
            let generation = first.generation;
            let patients = batch.iter().map(|job| job.change.patient).collect();
            let writer = Arc::clone(&self.writer);
            let span = span_of(&batch);
            let writing = async move { writer.write(generation, batch).await };
            let task = self.running.spawn(writing.instrument(span));
            self.patients.insert(task.id(), patients);
        }
    }

    /// Takes a batch: one generation, one change a patient, none of a patient in flight. Of one
    /// patient the change that came first goes first.
    fn take(&mut self) -> Vec<Job> {
        let mut batch: Vec<Job> = Vec::new();
        let mut later = VecDeque::new();
        for job in self.backlog.drain(..) {
            let fits = batch.len() < MAX_BATCH
                && batch.first().is_none_or(|first| first.generation == job.generation)
                && self.busy.insert(job.change.patient);
            if fits {
                batch.push(job);
            } else {
                later.push_back(job);
            }
        }
        self.backlog = later;
        batch
    }

    fn end(&mut self, ended: Result<(Id, ()), JoinError>) {
        // A task that panicked dropped its answers; its patients must not stay busy for ever.
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        for patient in self.patients.remove(&id).unwrap_or_default() {
            self.busy.remove(&patient);
        }
    }
}

struct Writer {
    store: Arc<dyn ProjectionStore>,
    repairer: Repairer,
}

impl Writer {
    async fn write(&self, generation: Generation, batch: Vec<Job>) {
        TALLY.batch_changes.record(batch.len() as u64, &[]);
        let (changes, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.change, job.answer)).unzip();
        let results = match self.store.apply(generation, &changes).await {
            Ok(results) => results,
            Err(error) => {
                spans::fail(&Span::current(), error.error_type().unwrap_or("refused"));
                let error = Arc::new(error);
                for answer in answers {
                    // A caller that stopped waiting has no use for the answer.
                    let _ = answer.send(Err(ApplyError::Store(Arc::clone(&error))));
                }
                return;
            }
        };
        TALLY.applied(By::Command, count_done(&results));
        let mut behind = Vec::new();
        for ((change, answer), result) in changes.iter().zip(answers).zip(results) {
            match result {
                Applied::Done | Applied::Already => {
                    let _ = answer.send(Ok(()));
                }
                Applied::Gap { at } => behind.push((change.patient, at, change.to, answer)),
            }
        }
        let repairs = stream::iter(behind).map(async |(patient, at, to, answer)| {
            let result = self.repairer.repair(generation, patient, at, to).await;
            TALLY.applied(By::Command, result.is_ok().into());
            let _ = answer.send(result.map_err(ApplyError::Repair));
        });
        repairs.buffer_unordered(REPAIRS_AT_ONCE).collect::<()>().await;
    }
}

/// How many changes were brought in by the call that gave these results.
pub(crate) fn count_done(results: &[Applied]) -> u64 {
    results.iter().filter(|result| matches!(result, Applied::Done)).count() as u64
}
