//! What waits to be appended, bounded in bytes, and the promise of an answer for each item.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{
    record::Record,
    wire::{AppendResult, Stored},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::{
    append_span::AppendSpan,
    block::{MAX_BLOCK_BYTES, MAX_BLOCK_RECORDS},
    metrics::LedgerMetrics,
};

/// Kibibytes of lines that may wait or be under way; beyond it, appends are refused at once.
const CAPACITY_KIB: usize = 64 * 1024;

/// A proposal on its way into a block.
pub struct Item {
    /// The record; its place in the ledger is not set yet.
    pub record: Record,
    /// See [`domain::wire::Proposal::fresh`].
    pub fresh: bool,
    /// See [`domain::wire::Proposal::proof`].
    pub proof: bool,
    /// Bytes of its line at most.
    pub line_bytes: usize,
    /// Ends when it is answered.
    pub span: AppendSpan,
    deadline: Instant,
    batch: Arc<Batch>,
    index: usize,
}

/// A proposal that passed the checks that need no ledger.
pub struct Admitted {
    /// The record; its place in the ledger is not set yet.
    pub record: Record,
    /// See [`domain::wire::Proposal::fresh`].
    pub fresh: bool,
    /// See [`domain::wire::Proposal::proof`].
    pub proof: bool,
    /// Bytes of its line at most.
    pub line_bytes: usize,
    /// Began with its admission.
    pub span: AppendSpan,
}

/// Items that came together and are answered together.
struct Batch {
    state: Mutex<BatchState>,
}

struct BatchState {
    results: Vec<Option<AppendResult>>,
    /// Of items that were answered; they end where their caller is.
    spans: Vec<AppendSpan>,
    missing: usize,
    taken: bool,
    withdrawn: bool,
    answer: Option<oneshot::Sender<()>>,
    /// Held until the last item is answered.
    _permit: OwnedSemaphorePermit,
}

/// The callers' end.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::UnboundedSender<Item>,
    capacity: Arc<Semaphore>,
    metrics: Arc<LedgerMetrics>,
}

/// The appender's end. Unbounded in count alone: every item holds its share of the capacity.
pub struct Items {
    receiver: mpsc::UnboundedReceiver<Item>,
    metrics: Arc<LedgerMetrics>,
}

impl Items {
    /// The next item; `None` when every handle of the queue is gone. Loses nothing if it is not
    /// waited for to the end.
    pub async fn recv(&mut self) -> Option<Item> {
        let item = self.receiver.recv().await?;
        self.metrics.dequeued(1);
        Some(item)
    }

    fn try_recv(&mut self) -> Option<Item> {
        let item = self.receiver.try_recv().ok()?;
        self.metrics.dequeued(1);
        Some(item)
    }
}

impl Queue {
    /// Both ends of an empty queue.
    pub fn new(metrics: Arc<LedgerMetrics>) -> (Self, Items) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let capacity = Arc::new(Semaphore::new(CAPACITY_KIB));
        (Self { sender, capacity, metrics: metrics.clone() }, Items { receiver, metrics })
    }

    /// Waits for the results of all items, at most until the deadline. Items that nobody had
    /// looked at by then are withdrawn; of the others the outcome is unknown.
    pub async fn submit(&self, admitted: Vec<Admitted>, deadline: Duration) -> Vec<AppendResult> {
        let results = self.results(admitted, deadline).await;
        self.metrics.answered(&results);
        results
    }

    /// The answer to a proposal that is not admitted.
    pub fn refused(&self, reason: String) -> AppendResult {
        let result = AppendResult::Refused { reason };
        self.metrics.answered(std::slice::from_ref(&result));
        result
    }

    async fn results(&self, admitted: Vec<Admitted>, deadline: Duration) -> Vec<AppendResult> {
        let count = admitted.len();
        let deadline = Instant::now() + deadline;
        let Some((batch, answered)) = self.enqueue(admitted, deadline) else {
            return vec![unavailable(Stored::NothingStored); count];
        };
        if tokio::time::timeout_at(deadline, answered).await.is_err() {
            batch.withdraw();
        }
        batch.results()
    }

    /// `None` where the queue is full.
    fn enqueue(
        &self,
        admitted: Vec<Admitted>,
        deadline: Instant,
    ) -> Option<(Arc<Batch>, oneshot::Receiver<()>)> {
        let kib: usize = admitted.iter().map(|item| item.line_bytes.div_ceil(1024)).sum();
        let permit = self.capacity.clone().try_acquire_many_owned(u32::try_from(kib).ok()?).ok()?;
        let (answer, answered) = oneshot::channel();
        let state = BatchState {
            results: vec![None; admitted.len()],
            spans: Vec::new(),
            missing: admitted.len(),
            taken: false,
            withdrawn: false,
            answer: Some(answer),
            _permit: permit,
        };
        let batch = Arc::new(Batch { state: Mutex::new(state) });
        for (index, admitted) in admitted.into_iter().enumerate() {
            let Admitted { record, fresh, proof, line_bytes, span } = admitted;
            let of = batch.clone();
            let item = Item { record, fresh, proof, line_bytes, span, deadline, batch: of, index };
            self.metrics.queued(1);
            if self.sender.send(item).is_err() {
                self.metrics.dequeued(1);
                // The appender is gone; it may have taken the items before this one.
                batch.withdraw();
                batch.give_up();
                break;
            }
        }
        Some((batch, answered))
    }
}

impl Item {
    /// Claims the item for a block; `false` if its caller no longer waits.
    pub fn take(&self) -> bool {
        let waited_for = self.is_waited_for();
        let mut state = self.batch.lock();
        let takes = waited_for && !state.withdrawn;
        state.taken |= takes;
        takes
    }

    /// Whether the caller still waits. After a pause of the whole process the clock says so
    /// before the caller does.
    pub fn is_waited_for(&self) -> bool {
        Instant::now() < self.deadline
    }

    /// Answers the item.
    pub fn answer(mut self, mut result: AppendResult) {
        self.span.answer(&mut result);
        let mut state = self.batch.lock();
        if self.span.is_some() {
            state.spans.push(self.span);
        }
        if let Some(slot) = state.results.get_mut(self.index)
            && slot.replace(result).is_none()
        {
            state.missing -= 1;
        }
        if state.missing == 0 {
            state.finish();
        }
    }
}

/// Everything that waits, up to what one block takes, and the item that was one too many.
pub fn take_round(first: Item, items: &mut Items) -> (Vec<Item>, Option<Item>) {
    let mut bytes = first.line_bytes;
    let mut round: Vec<Item> = Vec::new();
    round.extend(first.take().then_some(first));
    while round.len() < MAX_BLOCK_RECORDS {
        let Some(next) = items.try_recv() else { break };
        if bytes + next.line_bytes > MAX_BLOCK_BYTES {
            return (round, Some(next));
        }
        if next.take() {
            bytes += next.line_bytes;
            round.push(next);
        }
    }
    (round, None)
}

/// Answers items that were not appended.
pub fn refuse(items: Vec<Item>, stored: Stored) {
    for item in items {
        item.answer(unavailable(stored));
    }
}

/// No acknowledgement.
pub fn unavailable(stored: Stored) -> AppendResult {
    AppendResult::Unavailable { stored }
}

impl BatchState {
    fn finish(&mut self) {
        if let Some(answer) = self.answer.take() {
            // The caller may have gone; the results are then nobody's.
            let _ = answer.send(());
        }
    }
}

impl Batch {
    fn lock(&self) -> std::sync::MutexGuard<'_, BatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn withdraw(&self) {
        self.lock().withdrawn = true;
    }

    /// Wakes the caller, with whatever results there are.
    fn give_up(&self) {
        self.lock().finish();
    }

    fn results(&self) -> Vec<AppendResult> {
        // Ended when nobody is kept waiting by the lock.
        let _spans = std::mem::take(&mut self.lock().spans);
        let mut state = self.lock();
        let stored = if state.taken { Stored::Unknown } else { Stored::NothingStored };
        std::mem::take(&mut state.results)
            .into_iter()
            .map(|result| result.unwrap_or(unavailable(stored)))
            .collect()
    }
}
