//! Reading a stream page by page, as far as it may be read.

use std::sync::Arc;

use domain::{
    event::{Event, Recorded},
    hash::Hash,
    ids::{PatientId, TestId},
    patient::Lifecycle,
    record::Record,
};
use futures::FutureExt;
use projections::{
    history::{self, Bounds, HistoryError, Reader, Reading},
    key_ring::{KeyRing, kek::Kek, memory::MemoryKeys, store::KeyStore},
};
use uuid::Uuid;

use crate::fixture::{Fixture, Somebody, test};

/// Takes the events up to a version.
struct Notes {
    last: u64,
    events: Vec<Recorded>,
    asked: bool,
}

impl Notes {
    fn up_to(last: u64) -> Self {
        Self { last, events: Vec::new(), asked: false }
    }

    fn versions(&self) -> Vec<u64> {
        self.events.iter().map(|recorded| recorded.version).collect()
    }
}

impl Reading for Notes {
    fn wants(&self, record: &Record) -> bool {
        record.version.unwrap() <= self.last
    }

    fn take(&mut self, record: &Record, line: &str, recorded: Recorded) {
        assert_eq!(Record::parse(line).unwrap(), *record);
        assert_eq!(Hash::of_line(line), Hash::of_line(&record.to_line()));
        assert_eq!((record.version, record.recorded_at), (Some(recorded.version), recorded.at));
        self.asked = true;
        self.events.push(recorded);
    }
}

fn reader(fixture: &Fixture, patient: PatientId) -> Reader {
    Reader::new(fixture.ledger.client(), fixture.ring.clone(), patient)
}

/// A patient with so many events: more than a page has.
async fn with_events(fixture: &Fixture, count: usize) -> Somebody<'_> {
    const TEST: TestId = TestId::new(Uuid::nil());
    let patient = fixture.patient().await;
    patient.registered("Ada");
    patient.recorded(TEST);
    for number in 2..count {
        let content = test(&number.to_string());
        patient.happens(&Event::TestAmended { test: TEST, content });
    }
    patient
}

#[tokio::test]
async fn pages_come_to_what_the_whole_stream_does_and_go_on_where_they_ended() {
    let fixture = Fixture::new().await;
    let patient = with_events(&fixture, 1_001).await;
    let (mut reader, mut notes) = (reader(&fixture, patient.id), Notes::up_to(u64::MAX));
    reader.read_on(&mut notes).await.unwrap();
    let whole = history::load(&fixture.ledger.client(), &fixture.ring, patient.id).await.unwrap();
    assert!(notes.events == whole.events);
    assert_eq!((reader.version(), reader.is_erased()), (1_001, false));
    patient.amended("Grace");
    reader.read_on(&mut notes).await.unwrap();
    assert_eq!((reader.version(), notes.events.len()), (1_002, 1_002));
}

#[tokio::test]
async fn nothing_is_opened_beyond_what_is_wanted() {
    let fixture = Fixture::new().await;
    let patient = with_events(&fixture, 4).await;
    // Sealed under a key that the ring does not have.
    let stranger = Fixture::new().await;
    let key = stranger.patient().await.key;
    fixture.ledger.event(patient.id, &key, &Event::PatientAmended(crate::fixture::person("X")));
    let (mut wanting, mut notes) = (reader(&fixture, patient.id), Notes::up_to(4));
    wanting.read_on(&mut notes).await.unwrap();
    assert_eq!((wanting.version(), notes.versions()), (5, vec![1, 2, 3, 4]));
    let (mut wanting, mut notes) = (reader(&fixture, patient.id), Notes::up_to(5));
    let error = wanting.read_on(&mut notes).await.unwrap_err();
    assert!(matches!(error, HistoryError::KeyLost { version: 5 }), "{error}");
}

#[tokio::test]
async fn an_erasure_pages_away_excuses_a_key_that_is_gone() {
    let fixture = Fixture::new().await;
    let patient = with_events(&fixture, 700).await;
    let (mut first, mut notes) = (reader(&fixture, patient.id), Notes::up_to(u64::MAX));
    first.read_on(&mut notes).await.unwrap();
    fixture.ring.destroy(patient.key.kid()).await.unwrap();
    let (mut lost, mut nothing) = (reader(&fixture, patient.id), Notes::up_to(u64::MAX));
    let error = lost.read_on(&mut nothing).await.unwrap_err();
    assert!(matches!(error, HistoryError::KeyLost { version: 1 }), "{error}");

    patient.happens(&Event::PatientErased);
    for reader in [&mut first, &mut reader(&fixture, patient.id)] {
        let mut nothing = Notes::up_to(u64::MAX);
        reader.read_on(&mut nothing).await.unwrap();
        assert_eq!((reader.version(), reader.is_erased(), nothing.asked), (701, true, false));
    }
}

/// A fixture, and the store of its keys.
async fn with_store() -> (Fixture, Arc<MemoryKeys>) {
    let store = Arc::new(MemoryKeys::default());
    let ring = KeyRing::new(store.clone(), Kek::new([7; 32].into()));
    (Fixture { ring, ..Fixture::new().await }, store)
}

#[tokio::test]
async fn the_key_of_an_erased_patient_is_dropped_from_memory() {
    let (fixture, store) = with_store().await;
    let patient = with_events(&fixture, 3).await;
    let kid = patient.key.kid();
    // Another process erases her: this one's memory still has the key.
    store.destroy(kid).await.unwrap();
    assert!(fixture.ring.get(kid).await.unwrap().is_some());
    patient.happens(&Event::PatientErased);
    let (mut reader, mut notes) = (reader(&fixture, patient.id), Notes::up_to(u64::MAX));
    reader.read_on(&mut notes).await.unwrap();
    assert!(!notes.asked);
    assert!(fixture.ring.get(kid).await.unwrap().is_none());
}

#[tokio::test]
async fn an_erasure_while_the_stream_is_on_its_way_is_no_lost_key() {
    let (fixture, store) = with_store().await;
    let erased_meanwhile = |patient: &Somebody<'_>| {
        let (ledger, ring, store) = (fixture.ledger.clone(), fixture.ring.clone(), store.clone());
        let (id, key) = (patient.id, patient.key.clone());
        fixture.ledger.after_stream(move || {
            ledger.event(id, &key, &Event::PatientErased);
            ring.forget(key.kid());
            store.destroy(key.kid()).now_or_never().unwrap().unwrap();
        });
    };
    let patient = with_events(&fixture, 3).await;
    erased_meanwhile(&patient);
    let (mut reader, mut notes) = (reader(&fixture, patient.id), Notes::up_to(u64::MAX));
    reader.read_on(&mut notes).await.unwrap();
    assert_eq!((reader.version(), reader.is_erased(), notes.asked), (4, true, false));

    let other = with_events(&fixture, 3).await;
    erased_meanwhile(&other);
    let audit = fixture.ledger.client();
    let history = history::load(&audit, &fixture.ring, other.id).await.unwrap();
    assert_eq!((history.state.version, history.state.lifecycle), (4, Lifecycle::Erased));
}

#[tokio::test]
async fn a_stream_beyond_the_bounds_is_refused_and_one_at_them_is_read() {
    let fixture = Fixture::new().await;
    let patient = with_events(&fixture, 1_000).await;
    let read = async |events: u64, bytes: usize| {
        let reader = reader(&fixture, patient.id);
        reader.within(Bounds { events, bytes }).read_on(&mut Notes::up_to(0)).await
    };
    read(1_000, usize::MAX).await.unwrap();
    // Bounds are looked at after each page of 500.
    read(501, usize::MAX).await.unwrap();
    for (events, bytes) in [(500, usize::MAX), (u64::MAX, 1_000)] {
        let error = read(events, bytes).await.unwrap_err();
        assert!(matches!(error, HistoryError::TooLong), "{error}");
    }
}

#[tokio::test]
async fn who_was_never_registered_has_no_event() {
    let fixture = Fixture::new().await;
    let (mut reader, mut notes) =
        (reader(&fixture, PatientId::new(Uuid::nil())), Notes::up_to(u64::MAX));
    reader.read_on(&mut notes).await.unwrap();
    assert_eq!((reader.version(), reader.is_erased(), notes.asked), (0, false, false));
}
