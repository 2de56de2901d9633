//! What appends and reads of a ledger take, for comparing ledgers of different sizes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use audit_service::{AuditLedger, admit::place_nowhere, queue::Admitted};
use domain::{
    ids::{Mac, PatientId, Stream},
    wire::{AppendResult, Proposal},
};
use rand::Rng;
use uuid::Uuid;

use super::{
    filler::EVENTS_A_PATIENT,
    lives::{self, Lives},
    report::Figures,
};

/// How long an append may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(5);

/// Records of one append of many.
const AT_ONCE: usize = 64;

/// Lines of one page of a stream at most.
const PAGE: usize = 100;

/// The times of each kind of operation.
pub type Times = BTreeMap<&'static str, Vec<Duration>>;

/// Figures of each kind of operation.
pub type Round = BTreeMap<&'static str, Figures>;

/// Operations of one round.
#[derive(Debug, Clone, Copy)]
pub struct Samples {
    /// Of each kind of read, and appends of one record.
    pub single: usize,
    /// Appends of 64 records.
    pub many: usize,
}

/// One round on a ledger whose first `filled` records are [`Lives`]. Kinds alternate, so that
/// whatever else the machine does meets all of them.
pub async fn round(
    ledger: &AuditLedger,
    lives: &Lives,
    filled: u64,
    samples: Samples,
) -> anyhow::Result<Round> {
    let mut times = Times::new();
    for turn in 0..samples.single {
        appends(ledger, lives, filled, &mut times).await?;
        if turn * samples.many / samples.single != (turn + 1) * samples.many / samples.single {
            append_many(ledger, lives, &mut times).await?;
        }
        reads(ledger, filled, &mut times).await?;
    }
    Ok(times.into_iter().map(|(kind, times)| (kind, figures(times))).collect())
}

/// The figures of one kind; the rate is that of one caller.
pub fn figures(times: Vec<Duration>) -> Figures {
    let elapsed = times.iter().sum();
    Figures::of(times, 0, elapsed)
}

/// Of each quantile the median of several rounds.
pub fn median(rounds: &[Round]) -> BTreeMap<&'static str, (Duration, Duration)> {
    let middle = |kind: &str, of: fn(&Figures) -> Duration| {
        let mut values: Vec<Duration> =
            rounds.iter().filter_map(|round| round.get(kind)).map(of).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let kinds = rounds.first().into_iter().flat_map(|round| round.keys());
    kinds.map(|kind| (*kind, (middle(kind, |it| it.p50), middle(kind, |it| it.p99)))).collect()
}

async fn appends(
    ledger: &AuditLedger,
    lives: &Lives,
    filled: u64,
    times: &mut Times,
) -> anyhow::Result<()> {
    let newcomer = vec![admitted(ledger, lives.newcomer()?)?];
    timed(times, "append: a new patient", submit(ledger, newcomer)).await?;
    let read = vec![admitted(ledger, lives::read(stranger(), None))?];
    timed(times, "append: a read, looked up in vain", submit(ledger, read)).await?;
    let read = lives::read(old_patient(filled), Some(EVENTS_A_PATIENT));
    let read = vec![admitted(ledger, read)?];
    timed(times, "append: a read of a patient", submit(ledger, read)).await
}

async fn append_many(ledger: &AuditLedger, lives: &Lives, times: &mut Times) -> anyhow::Result<()> {
    let one = |number: usize| match number % 2 {
        0 => admitted(ledger, lives.newcomer()?),
        _ => admitted(ledger, lives::read(stranger(), None)),
    };
    let many = (0..AT_ONCE).map(one).collect::<anyhow::Result<_>>()?;
    timed(times, "append: 64 at once, half of each", submit(ledger, many)).await
}

async fn reads(ledger: &AuditLedger, filled: u64, times: &mut Times) -> anyhow::Result<()> {
    let store = &*ledger.store;
    let seq = rand::rng().random_range(0..filled);
    let line = async {
        let block = store.blocks_from(seq, 1).await?.into_iter().next();
        let block = block.context("a block")?;
        block.line_at(seq).context("a line").map(drop)
    };
    timed(times, "read: a record by its position", line).await?;

    let event = seq_of_event(filled);
    let known = async {
        let id = lives::command(event);
        ensure!(store.find_commands(&[id]).await?.get(&id) == Some(&event), "a known command");
        Ok(())
    };
    timed(times, "read: a known command", known).await?;
    let unknown = async {
        let found = store.find_commands(&[Mac::new(rand::random())]).await?;
        ensure!(found.is_empty(), "an unknown command");
        Ok(())
    };
    timed(times, "read: an unknown command", unknown).await?;

    let stream = Stream::Patient(old_patient(filled));
    let page = async {
        ensure!(!store.stream_lines(stream, 1, PAGE).await?.is_empty(), "a patient's stream");
        Ok(())
    };
    timed(times, "read: a patient's stream", page).await
}

async fn timed(
    times: &mut Times,
    kind: &'static str,
    operation: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    operation.await?;
    times.entry(kind).or_default().push(begun.elapsed());
    Ok(())
}

async fn submit(ledger: &AuditLedger, admitted: Vec<Admitted>) -> anyhow::Result<()> {
    for result in ledger.queue.submit(admitted, DEADLINE).await {
        ensure!(matches!(result, AppendResult::Appended(_)), "not appended: {result:?}");
    }
    Ok(())
}

/// As the service admits what patient-service sends.
fn admitted(ledger: &AuditLedger, proposal: Proposal) -> anyhow::Result<Admitted> {
    let source = "patient-service".parse()?;
    place_nowhere(proposal, ledger.origin(), &source).map_err(anyhow::Error::msg)
}

/// A patient of whom there is nothing. The appender remembers the patients that it met, which are
/// soon all of a small ledger and few of a large one; her it must look up whatever the size.
fn stranger() -> PatientId {
    PatientId::new(Uuid::new_v4())
}

fn old_patient(filled: u64) -> PatientId {
    lives::patient(rand::rng().random_range(0..lives::patients(filled).max(1)))
}

fn seq_of_event(filled: u64) -> u64 {
    let mut random = rand::rng();
    loop {
        let seq = random.random_range(0..filled);
        if lives::is_event(seq) {
            return seq;
        }
    }
}
