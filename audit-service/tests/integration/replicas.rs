//! Several processes on one ledger: one chain, whatever happens.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use audit_service::store::memory::{AppendFault, MemoryLedger};
use domain::wire::{AppendResult, Receipt};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    chain::Chain,
    fixture::{Machine, Running, by_command, event, eventually, mac, patient, receipt},
};

/// Patients that all the writers share, so that they meet.
const PATIENTS: u64 = 6;

/// Writers of each process, and what each has to get acknowledged.
const WRITERS: u64 = 8;
const COMMANDS: u64 = 20;

/// How long a writer waits before it tries the same command elsewhere.
const IMPATIENT: Duration = Duration::from_millis(60);

struct Load {
    replicas: Vec<Running>,
    /// The highest version of each patient that was acknowledged to anybody.
    acknowledged: Vec<AtomicU64>,
    receipts: Mutex<HashMap<u64, Receipt>>,
}

impl Load {
    /// Gets one event acknowledged, through whichever process takes it.
    async fn write(&self, command: u64, random: &mut StdRng) {
        let of = random.random_range(0..self.acknowledged.len());
        let mut version = 1;
        loop {
            let replica = &self.replicas[random.random_range(0..self.replicas.len())];
            let known = self.acknowledged[of].load(Ordering::SeqCst);
            let proposal = by_command(command, command, event(of as u64, version));
            match replica.append_within(IMPATIENT, proposal).await {
                AppendResult::Appended(receipt) => return self.acknowledge(command, of, receipt),
                AppendResult::Conflict { stream, expected, actual } => {
                    assert_eq!((stream, expected), (patient(of as u64), version - 1));
                    assert!(actual >= known, "an old head spoke: {actual} < {known}");
                    version = actual + 1;
                }
                AppendResult::Unavailable { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn acknowledge(&self, command: u64, of: usize, receipt: Receipt) {
        let version = receipt.version.unwrap();
        self.acknowledged[of].fetch_max(version, Ordering::SeqCst);
        assert_eq!(self.receipts.lock().unwrap().insert(command, receipt), None);
    }
}

/// Makes the store fail in every way, again and again. After some faults it works for a while,
/// a hidden block comes to light or is lost before long, and nobody hangs for ever.
async fn misbehave(store: MemoryLedger, stop: Arc<AtomicBool>, mut random: StdRng) {
    use AppendFault::{FailAndDoNotPersist, FailAndPersist, Hang, Hide, LandLate, Refuse};
    while !stop.load(Ordering::SeqCst) {
        let faults = [FailAndPersist, FailAndDoNotPersist, Refuse, Hang, LandLate, Hide];
        let count = random.random_range(1..4);
        for _ in 0..count {
            store.fail_append(faults[random.random_range(0..faults.len())]);
        }
        store.fail_reads(random.random_range(0..2));
        let worked = store.appends() + count + random.random_range(1..4);
        while store.appends() < worked && !stop.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(random.random_range(1..10))).await;
            store.release();
            match random.random_range(0..4) {
                0 => store.reveal(),
                1 => store.roll_back(),
                2 => store.land(),
                _ => {}
            }
        }
    }
}

async fn check_one_chain(replicas: usize, seed: u64) {
    let store = MemoryLedger::new();
    let mut running = Vec::new();
    for _ in 0..replicas {
        running.push(Machine::new().open(&store).await);
    }
    let load = Arc::new(Load {
        replicas: running,
        acknowledged: (0..PATIENTS).map(|_| AtomicU64::new(0)).collect(),
        receipts: Mutex::default(),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let faults = tokio::spawn(misbehave(store.clone(), stop.clone(), StdRng::seed_from_u64(seed)));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS * replicas as u64 {
        let load = load.clone();
        writers.spawn(async move {
            let mut random = StdRng::seed_from_u64(seed ^ (writer << 32));
            for number in 0..COMMANDS {
                load.write(writer * COMMANDS + number, &mut random).await;
            }
        });
    }
    let finished = tokio::time::timeout(Duration::from_mins(1), writers.join_all()).await;
    assert!(finished.is_ok(), "seed {seed}: not everything was acknowledged in a minute");
    stop.store(true, Ordering::SeqCst);
    faults.await.unwrap();

    let chain = Chain::check(&store.blocks());
    let receipts = load.receipts.lock().unwrap();
    assert_eq!(receipts.len() as u64, WRITERS * replicas as u64 * COMMANDS);
    assert_eq!(chain.records.len(), receipts.len(), "seed {seed}");
    for (command, receipt) in receipts.iter() {
        assert_eq!(chain.with_command(&mac(*command).to_string()), [receipt.seq], "seed {seed}");
        let seq = usize::try_from(receipt.seq).unwrap();
        assert_eq!(chain.hashes[seq], receipt.hash.to_string(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_and_a_failing_store_make_one_chain() {
    check_one_chain(2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_and_a_failing_store_make_one_chain() {
    check_one_chain(3, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_names_the_version_of_the_ledger_and_not_of_an_old_head() {
    let store = MemoryLedger::new();
    let (busy, behind) = (Machine::new().open(&store).await, Machine::new().open(&store).await);
    receipt(behind.append(event(1, 1)).await);
    settle().await;
    receipt(busy.append_all((2..=5).map(|version| event(1, version))).await.pop().unwrap());

    let conflict = |expected| AppendResult::Conflict { stream: patient(1), expected, actual: 5 };
    // Wrong by its old head already, right by its old head, and a stream that it never saw.
    assert_eq!(behind.size(), 1);
    assert_eq!(behind.append(event(1, 1)).await, conflict(0));
    receipt(busy.append(event(2, 1)).await);
    assert_eq!(behind.append(event(1, 5)).await, conflict(4));
    receipt(busy.append_all((1..=5).map(|version| event(3, version))).await.pop().unwrap());
    let stranger = AppendResult::Conflict { stream: patient(3), expected: 0, actual: 5 };
    assert_eq!(behind.append(event(3, 1)).await, stranger);
}

/// Lets both processes have their first look around. While time stands still they have no second.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_access_names_the_version_at_its_place() {
    let store = MemoryLedger::new();
    let (busy, behind) = (Machine::new().open(&store).await, Machine::new().open(&store).await);
    receipt(behind.append(event(1, 1)).await);
    settle().await;
    receipt(busy.append(event(1, 2)).await);
    assert_eq!(behind.size(), 1);
    let read = receipt(behind.append(crate::fixture::read(1)).await);
    assert_eq!((read.seq, read.current_version), (2, Some(2)));
    let unknown = receipt(behind.append(crate::fixture::read(9)).await);
    assert_eq!(unknown.current_version, Some(0));
}

#[tokio::test]
async fn an_idle_process_follows_the_others() {
    let store = MemoryLedger::new();
    let (busy, idle) = (Machine::new().open(&store).await, Machine::new().open(&store).await);
    receipt(busy.append(event(1, 1)).await);
    eventually(|| idle.size() == 1).await;
    assert_eq!(idle.ledger.checkpoint().await.unwrap(), busy.ledger.checkpoint().await.unwrap());
}
