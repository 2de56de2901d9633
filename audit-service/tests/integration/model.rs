//! Random proposals get exactly the answers of a model that a page can hold.

use std::{collections::HashMap, num::NonZeroUsize, sync::Arc};

use audit_service::{
    appender::{Appender, Head},
    clock::ClockGuard,
    metrics::LedgerMetrics,
    prover::Prover,
    queue::Queue,
    recent::Recent,
    service::system_clock,
    store::memory::MemoryLedger,
    tail::TailGuard,
};
use domain::{
    hash::Hash,
    time::Timestamp,
    wire::{AppendResult, Proposal, Receipt},
};
use proptest::{collection::vec, option, prelude::*};
use runtime::{health::Readiness, metrics::Meters};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    chain::Chain,
    fixture::{
        PATIENCE, admitted, by_command, event, fresh, genesis, keys, mac, patient, read, signer,
    },
};

/// One proposal, in small numbers so that they meet each other.
#[derive(Debug, Clone)]
struct Offer {
    patient: u64,
    /// `None` for a read.
    version: Option<u64>,
    /// Id and digest.
    command: Option<(u64, u64)>,
}

impl Offer {
    fn proposal(&self, known: bool) -> Proposal {
        let proposal = match self.version {
            Some(version) => event(self.patient, version),
            None => read(self.patient),
        };
        match self.command {
            // A service says so of ids that it made itself, and those it never made before.
            Some((id, digest)) if !known => fresh(by_command(id, digest, proposal)),
            Some((id, digest)) => by_command(id, digest, proposal),
            None => proposal,
        }
    }
}

fn offers() -> impl Strategy<Value = Vec<Vec<Offer>>> {
    let version = option::weighted(0.8, 1..6_u64);
    let command = option::of((0..12_u64, 0..10_u64));
    let offer = (0..3_u64, version, command).prop_map(|(patient, version, command)| Offer {
        patient,
        version,
        // A command belongs to an event, and is seldom sent again with another body.
        command: command.filter(|_| version.is_some()).map(|(id, d)| (id, u64::from(d == 0))),
    });
    vec(vec(offer, 1..12), 1..12)
}

/// What the ledger should be.
#[derive(Default)]
struct Model {
    size: u64,
    versions: HashMap<u64, u64>,
    /// Digest and position of each command.
    commands: HashMap<u64, (u64, u64)>,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Appended { seq: u64, replayed: bool, current: Option<u64> },
    Conflict { expected: u64, actual: u64 },
    Reused,
}

impl Model {
    /// Whether the ledger may hold the command or the stream already; then the offer must not
    /// be called fresh. Even ids are never called so.
    fn may_know(&self, offer: &Offer) -> bool {
        let begun = self.versions.get(&offer.patient).is_some_and(|version| *version > 0);
        let command = |(id, _)| self.commands.contains_key(&id) || id % 2 == 0;
        begun && offer.version == Some(1) || offer.command.is_some_and(command)
    }

    fn offer(&mut self, offer: &Offer) -> Expected {
        if let Some((digest, seq)) = offer.command.and_then(|(id, _)| self.commands.get(&id)) {
            if Some(*digest) != offer.command.map(|(_, digest)| digest) {
                return Expected::Reused;
            }
            return Expected::Appended { seq: *seq, replayed: true, current: None };
        }
        let version = self.versions.entry(offer.patient).or_default();
        let mut current = Some(*version);
        if let Some(wanted) = offer.version {
            if wanted != *version + 1 {
                return Expected::Conflict { expected: wanted - 1, actual: *version };
            }
            *version = wanted;
            current = None;
        }
        let seq = self.size;
        self.size += 1;
        if let Some((id, digest)) = offer.command {
            self.commands.insert(id, (digest, seq));
        }
        Expected::Appended { seq, replayed: false, current }
    }
}

fn told(result: &AppendResult, offer: &Offer) -> Expected {
    match result {
        AppendResult::Appended(Receipt { seq, replayed, current_version, .. }) => {
            Expected::Appended { seq: *seq, replayed: *replayed, current: *current_version }
        }
        AppendResult::Conflict { stream, expected, actual } => {
            assert_eq!(*stream, patient(offer.patient));
            Expected::Conflict { expected: *expected, actual: *actual }
        }
        AppendResult::CommandReused => Expected::Reused,
        other => panic!("{other:?}"),
    }
}

/// An appender that remembers so many streams and commands; the rest it has to look up.
pub(crate) fn start_forgetful(store: &MemoryLedger, remembers: usize) -> Queue {
    let remembers = NonZeroUsize::new(remembers).unwrap();
    let metrics = LedgerMetrics::new(&Meters::default().meter());
    let (queue, items) = Queue::new(metrics.clone());
    let head = Head { size: 0, root: Hash::of_nothing(), at: Timestamp::EPOCH, wakes: 0 };
    let appender = Appender {
        store: Arc::new(store.clone()),
        ledger: genesis(),
        signer: Arc::new(signer()),
        keys: watch::channel(keys()).0,
        recent: Recent::remembering(remembers, remembers),
        tree: watch::Sender::default(),
        prover: Prover::new().0,
        head: watch::channel(head).0,
        tail: TailGuard::default(),
        clock: ClockGuard::new(system_clock()),
        component: Readiness::default().component("ledger store"),
        abandon: CancellationToken::new(),
        metrics,
    };
    tokio::spawn(appender.run(items));
    queue
}

async fn run(batches: Vec<Vec<Offer>>) {
    let store = MemoryLedger::new();
    let queue = start_forgetful(&store, 2);
    let mut model = Model::default();
    for batch in &batches {
        let proposals: Vec<Proposal> =
            batch.iter().map(|offer| offer.proposal(model.may_know(offer))).collect();
        let results = queue.submit(admitted(proposals), PATIENCE).await;
        assert_eq!(results.len(), batch.len());
        for (offer, result) in batch.iter().zip(&results) {
            assert_eq!(told(result, offer), model.offer(offer), "{offer:?}");
        }
    }
    let blocks = store.blocks();
    assert!(blocks.len() <= batches.len());
    let chain = Chain::check(&blocks);
    assert_eq!(chain.records.len() as u64, model.size);
    for (id, (_, seq)) in &model.commands {
        assert_eq!(chain.with_command(&mac(*id).to_string()), [*seq]);
    }
    let mut second = genesis();
    for block in &blocks {
        let records = second.fold(block).unwrap();
        let lines: Vec<String> = records.iter().map(domain::record::Record::to_line).collect();
        assert_eq!(lines, block.lines);
        assert_eq!(second.root(), block.root);
    }
    assert_eq!(second.size(), model.size);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn appending_answers_as_the_model_does(batches in offers()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(batches));
    }
}
