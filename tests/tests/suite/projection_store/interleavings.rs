//! Whatever the order in which runs of events arrive, and however many write at once, the
//! documents end as one replay of the history says.

use std::{collections::VecDeque, time::Duration};

use domain::{
    event::{Event, Recorded},
    ids::PatientId,
    patient::{Lifecycle, Patient, Test},
};
use futures::future::join_all;
use projections::{
    documents::{Generation, PatientState},
    store::{Applied, ProjectionStore},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use uuid::Uuid;

use super::{
    backends::Stores,
    fixtures::{
        KID, full_history_and, history, own_tests, patient_id, registered, run, test_amended,
        test_recorded, whole,
    },
    histories::random_history,
};

/// Random cases of each backend.
const CASES: u64 = 60;

/// Streams written at once in one case.
const STREAMS: usize = 4;

/// Rounds of the race.
const RACES: u128 = 40;

/// Writers of one stream at once, where it matters who inserts.
const WRITERS: u64 = 12;

/// Rounds of the race against a batch.
const SLOW_RACES: u128 = 8;

/// Patients of that batch.
const BATCH: u128 = 200;

/// A patient's events `from + 1 ..= to`.
#[derive(Clone)]
struct Run<'a> {
    patient: PatientId,
    history: &'a [Recorded],
    from: u64,
    to: u64,
}

/// The documents of a patient are those of her events.
pub(super) async fn check_documents(
    store: &dyn ProjectionStore,
    generation: Generation,
    id: PatientId,
    history: &[Recorded],
) {
    let expected = Patient::replay(history);
    let document = store.patient(generation, id).await.unwrap().expect("the patient is stored");
    assert_eq!(document.version, expected.version);
    match (&document.state, &expected.lifecycle) {
        (PatientState::Active { kid, current }, Lifecycle::Active(expected)) => {
            assert_eq!((*kid, current), (KID, expected));
        }
        (PatientState::Removed, Lifecycle::Removed) | (PatientState::Erased, Lifecycle::Erased) => {
        }
        (stored, expected) => panic!("{stored:?} is not {expected:?}"),
    }
    for (test, expected) in &expected.tests {
        let stored = store.test(generation, id, *test).await.unwrap().expect("a test is stored");
        match expected {
            Test::Active { first, current } => {
                assert_eq!((stored.first, stored.version), (*first, current.revision));
                assert_eq!(stored.current.as_ref(), Some(current));
            }
            Test::Gone => assert_eq!(stored.current, None),
        }
    }
    let listed: Vec<_> = store
        .tests(generation, id)
        .await
        .unwrap()
        .into_iter()
        .map(|test| (test.id, test.current.unwrap().content))
        .collect();
    let views: Vec<_> =
        expected.test_views(id).into_iter().map(|view| (view.id, view.content)).collect();
    assert_eq!(listed, views);
}

/// Cuts a history into runs that cover it, adds overlapping ones, and shuffles them.
fn random_runs<'a>(
    rng: &mut StdRng,
    patient: PatientId,
    history: &'a [Recorded],
) -> VecDeque<Run<'a>> {
    let length = history.len() as u64;
    let mut runs = Vec::new();
    let mut from = 0;
    while from < length {
        let to = rng.random_range(from + 1..=length);
        runs.push(Run { patient, history, from, to });
        from = to;
    }
    for _ in 0..rng.random_range(0..6) {
        let from = rng.random_range(0..length);
        runs.push(Run { patient, history, from, to: rng.random_range(from + 1..=length) });
    }
    runs.shuffle(rng);
    runs.into()
}

/// Applies runs, one a patient in a batch. A run with a gap before it waits for another try, or
/// is made again from where the cursor is, as the follower does.
async fn work(
    store: &dyn ProjectionStore,
    generation: Generation,
    mut runs: VecDeque<Run<'_>>,
    mut rng: StdRng,
) {
    while !runs.is_empty() {
        let mut batch: Vec<Run<'_>> = Vec::new();
        for _ in 0..runs.len() {
            let Some(run) = runs.pop_front() else { break };
            if batch.iter().any(|it| it.patient == run.patient) || rng.random_bool(0.2) {
                runs.push_back(run);
            } else {
                batch.push(run);
            }
        }
        let changes: Vec<_> =
            batch.iter().map(|it| run(it.patient, it.history, it.from, it.to)).collect();
        let results = store.apply(generation, &changes).await.unwrap();
        for (run, result) in batch.into_iter().zip(results) {
            match result {
                Applied::Done | Applied::Already => {}
                Applied::Gap { .. } if rng.random_bool(0.5) => runs.push_back(run),
                Applied::Gap { at } => runs.push_back(Run { from: at, ..run }),
            }
        }
    }
}

// The case is shown where the test fails.
#[allow(clippy::print_stdout)]
pub(super) async fn any_order_of_runs_gives_the_documents_of_one_replay(stores: &Stores) {
    let generation = stores.generation().await;
    for seed in 0..CASES {
        println!("case {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let histories: Vec<(PatientId, Vec<Recorded>)> = (0..STREAMS)
            .map(|_| (PatientId::new(Uuid::from_u128(rng.random())), random_history(&mut rng)))
            .collect();
        let mut shares: [VecDeque<Run<'_>>; 2] = Default::default();
        for (patient, history) in &histories {
            for share in &mut shares {
                share.extend(random_runs(&mut rng, *patient, history));
            }
        }
        let [one, two] = shares;
        let late: Vec<Run<'_>> = one.iter().chain(&two).cloned().collect();
        let rngs = [rng.random(), rng.random()].map(StdRng::seed_from_u64);
        let [first, second] = rngs;
        tokio::join!(
            work(&*stores.one, generation, one, first),
            work(&*stores.two, generation, two, second),
        );
        for (patient, history) in &histories {
            check_documents(&*stores.one, generation, *patient, history).await;
        }
        for it in late {
            let change = run(it.patient, it.history, it.from, it.to);
            let results = stores.one.apply(generation, &[change]).await.unwrap();
            assert_eq!(results, [Applied::Already]);
        }
        for (patient, history) in &histories {
            check_documents(&*stores.two, generation, *patient, history).await;
        }
    }
}

/// The interleaving that a store without transactions gets wrong most easily: one writer brings
/// a test, another takes all tests away, and each looks while the other writes.
pub(super) async fn two_writers_of_one_stream_at_once_lose_nothing(stores: &Stores) {
    let generation = stores.generation().await;
    for round in 0..RACES {
        let patient = patient_id(round + 1);
        let events = own_tests(full_history_and([Event::PatientRemoved]), round + 1);
        let length = events.len() as u64;
        let steps = |from: u64| (from..length).map(move |at| (at, at + 1));
        let writer = async |store: &dyn ProjectionStore, runs: Vec<(u64, u64)>| {
            for (from, to) in runs {
                let change = run(patient, &events, from, to);
                // A gap closes when the other writer gets there.
                while let [Applied::Gap { .. }] =
                    store.apply(generation, std::slice::from_ref(&change)).await.unwrap()[..]
                {
                    tokio::task::yield_now().await;
                }
            }
        };
        let (even, odd): (Vec<_>, Vec<_>) = steps(0).partition(|(from, _)| from % 2 == 0);
        tokio::join!(writer(&*stores.one, even), writer(&*stores.two, odd));
        check_documents(&*stores.one, generation, patient, &events).await;
    }
}

/// A removal is on its way, in a batch that takes long, while the test before it is recorded:
/// whoever buries the tests first and looks at the patient afterwards leaves this one standing.
pub(super) async fn a_test_recorded_beside_the_removal_does_not_stay(stores: &Stores) {
    let generation = stores.generation().await;
    for round in 0..SLOW_RACES {
        let id = 1_000 * (round + 1);
        let patient = patient_id(id);
        let events = history([registered("ANN"), test_recorded(id, "lab"), Event::PatientRemoved]);
        stores.one.apply(generation, &[run(patient, &events, 0, 1)]).await.unwrap();

        let mut batch = vec![run(patient, &events, 2, 3)];
        batch.extend((id + 1..id + BATCH).map(|id| {
            whole(patient_id(id), &history([registered("BEA"), test_recorded(id, "lab")]))
        }));
        let recording = async {
            // Somewhere within the batch: late enough at least once.
            tokio::time::sleep(Duration::from_millis(10 * u64::try_from(round).unwrap())).await;
            stores.two.apply(generation, &[run(patient, &events, 1, 2)]).await.unwrap()
        };
        let (results, recorded) = tokio::join!(stores.one.apply(generation, &batch), recording);
        assert_eq!(recorded, [Applied::Done]);
        if let Applied::Gap { at } = results.unwrap()[0] {
            let repair = run(patient, &events, at, 3);
            assert_eq!(stores.one.apply(generation, &[repair]).await.unwrap(), [Applied::Done]);
        }
        check_documents(&*stores.two, generation, patient, &events).await;
    }
}

/// Many writers insert the same documents at the same moment, each with an event more.
pub(super) async fn the_newest_of_many_first_writers_wins(stores: &Stores) {
    let generation = stores.generation().await;
    for round in 1..=RACES {
        let patient = patient_id(round);
        let mut events = vec![registered("ANN"), test_recorded(round, "lab")];
        events.extend((2..WRITERS).map(|n| test_amended(round, &format!("lab {n}"))));
        let events = history(events);
        let writers = (1..=WRITERS).map(async |to| {
            let store = if to % 2 == 0 { &stores.one } else { &stores.two };
            store.apply(generation, &[run(patient, &events, 0, to)]).await.unwrap();
        });
        join_all(writers).await;
        check_documents(&*stores.two, generation, patient, &events).await;
    }
}
