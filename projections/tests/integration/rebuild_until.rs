//! Earlier states of the read models.

use domain::{event::Event, ids::TestId, time::Timestamp};
use projections::{
    documents::{Generation, PatientState},
    generations,
    rebuild::{Options, Summary, Until},
    store::{Generations, ReadModels},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fixture::{Fixture, building, of_patient};

async fn as_of(fixture: &Fixture, until: Until) -> Summary {
    let mut options = Options { until: Some(until), ..building() };
    // The end of the state is within a batch for some, between two for others.
    options.pace.batch = 3;
    let serving = fixture.serving().await;
    let summary = fixture.rebuild(&options).await.unwrap();
    assert_eq!((summary.serves, summary.until), (false, Some(until)));
    assert_eq!(summary.records, fixture.ledger.size(), "all of the ledger is verified");
    assert_eq!(fixture.serving().await, serving);
    summary
}

#[tokio::test]
async fn the_state_as_of_a_record_or_time_is_that_of_the_ledger_cut_there() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    let mut states = Vec::new();
    for seq in 0..fixture.ledger.size() {
        let time = Timestamp::from_millis(1_790_000_000_000 + i64::try_from(seq).unwrap());
        let state = as_of(&fixture, Until::Seq(seq)).await;
        assert_eq!(as_of(&fixture, Until::Time(time)).await.digest, state.digest, "{seq}");
        states.push((seq, state));
    }
    for (seq, state) in states.into_iter().rev() {
        fixture.ledger.tamper(|lines| lines.truncate(usize::try_from(seq).unwrap() + 1));
        let cut = fixture.rebuild(&building()).await.unwrap();
        assert_eq!((state.digest, state.events), (cut.digest, cut.events), "{seq}");
        for patient in patients {
            let filter = of_patient(patient);
            let activity =
                |generation| fixture.store.activity(Generation(generation), &filter, None, 100);
            let (then, now) = (activity(state.generation).await, activity(cut.generation).await);
            assert_eq!(then.unwrap(), now.unwrap(), "{seq}");
        }
    }
}

#[tokio::test]
async fn who_was_erased_later_is_erased_in_every_state() {
    let fixture = Fixture::new().await;
    let (kept, erased) = (fixture.patient().await, fixture.patient().await);
    kept.registered("Ada");
    erased.registered("Grace");
    let test = TestId::new(Uuid::new_v4());
    erased.recorded(test);
    let until = Until::Seq(2);
    kept.amended("Lovelace");
    erased.happens(&Event::PatientErased);
    // Nobody has applied the erasure yet: her key is there.
    let state = Generation(as_of(&fixture, until).await.generation);
    let document = fixture.store.patient(state, erased.id).await.unwrap().unwrap();
    assert_eq!((document.version, document.state), (3, PatientState::Erased));
    let tombstone = fixture.store.test(state, erased.id, test).await.unwrap().unwrap();
    assert_eq!((tombstone.version, tombstone.current), (3, None));
    let document = fixture.store.patient(state, kept.id).await.unwrap().unwrap();
    assert_eq!(document.version, 1);
    assert_eq!(fixture.ring.destroy_remaining(&[erased.key.kid()]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_state_that_was_built_already_is_kept_and_built_beside() {
    let fixture = Fixture::new().await;
    fixture.history().await;
    // A program that was mended since does not go by what the former one made.
    let first = as_of(&fixture, Until::Seq(5)).await;
    let second = as_of(&fixture, Until::Seq(5)).await;
    assert_eq!((first.generation, second.generation, second.resumed_at), (2, 3, 0));
    assert_eq!((second.digest, second.events), (first.digest, first.events));
    let all = fixture.rebuild(&Options { fresh: true, ..building() }).await.unwrap();
    assert_eq!((all.generation, all.resumed_at, all.dropped), (4, 0, Vec::new()));
    assert_eq!(fixture.store.list().await.unwrap(), [1, 2, 3, 4].map(Generation));
}

#[tokio::test]
async fn an_earlier_state_that_is_activated_is_brought_up_to_now() {
    let fixture = Fixture::new().await;
    let patients = fixture.history().await;
    let first = fixture.live().await;
    for until in [Until::Seq(5), Until::Time(Timestamp::from_millis(0))] {
        let state = Generation(as_of(&fixture, until).await.generation);
        let (deps, shutdown) = (fixture.deps(), CancellationToken::new());
        let pace = building().pace;
        generations::activate(&deps, state, false, &pace, &shutdown).await.unwrap();
        assert_eq!(fixture.serving().await, state);
        assert_eq!(fixture.digest(state).await, fixture.digest(first).await);
        let filter = of_patient(patients[0]);
        let activity = |generation| fixture.store.activity(generation, &filter, None, 100);
        assert_eq!(activity(state).await.unwrap(), activity(first).await.unwrap());
        fixture.lets_serve(first).await;
    }
}
