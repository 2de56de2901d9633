//! Events on the way to a record and back, and one patient's history from the ledger's lines.

use std::sync::Arc;

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    content::{Gender, MAX_CONTENT_BYTES, Observation, PatientContent, TestContent},
    event::{Event, Recorded},
    hash::Hash,
    ids::{KeyId, ObjectRef, PatientId, Stream, TestId},
    patient::{Lifecycle, Patient},
    record::{FormatVersion, Record, RecordType},
    sealed::parse_compact,
    search::SearchCriteria,
    time::Timestamp,
};
use projections::{
    history::{self, HistoryError},
    jwe,
    key_ring::{DataKey, KeyRing, KeyRingError, kek::Kek, memory::Fault, memory::MemoryKeys},
    sealing::{Content, ContentTooLarge, OpenError, open_events, seal_event, seal_search},
};
use uuid::Uuid;
use zeroize::Zeroizing;

struct Fixture {
    store: Arc<MemoryKeys>,
    ring: KeyRing,
    key: DataKey,
    patient: PatientId,
}

impl Fixture {
    async fn new() -> Self {
        let store = Arc::new(MemoryKeys::default());
        let ring = Self::ring(&store);
        let key = ring.fresh().await.unwrap();
        Self { store, ring, key, patient: PatientId::new(Uuid::new_v4()) }
    }

    /// Another ring over the same store, with nothing in memory.
    fn ring(store: &Arc<MemoryKeys>) -> KeyRing {
        KeyRing::new(store.clone(), Kek::new(Zeroizing::new([1; 32])))
    }

    fn record(&self, version: u64, event: &Event) -> Record {
        let data = seal_event(&self.key, self.patient, version, event).unwrap();
        record(Some(self.patient), version, event, data)
    }

    fn records(&self, events: &[Event]) -> Vec<Record> {
        events.iter().zip(1..).map(|(event, version)| self.record(version, event)).collect()
    }
}

fn record(patient: Option<PatientId>, version: u64, event: &Event, data: Option<String>) -> Record {
    let record_type = event.record_type();
    Record {
        actor: Actor {
            id: "clinic".parse().unwrap(),
            kind: ActorKind::Subscription,
            roles: vec![],
        },
        client: None,
        command: None,
        data,
        external: None,
        key: None,
        kind: record_type.kind(),
        ledger: "tests".parse().unwrap(),
        object: event.test().map(ObjectRef),
        outcome: Outcome::Success,
        prev: Hash::ZERO,
        purpose: Purpose::Treatment,
        reason: (record_type == RecordType::PatientErased)
            .then_some(domain::actor::ErasureReason::ConsentWithdrawn),
        recorded_at: at(version),
        schema: Some(domain::event::SCHEMA),
        seq: 100 + version,
        source: "patient-service".parse().unwrap(),
        stream: patient.map(Stream::Patient),
        subjects: vec![],
        subscription: None,
        trace: None,
        record_type,
        v: FormatVersion,
        version: Some(version),
    }
}

fn at(version: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + i64::try_from(version).unwrap())
}

fn patient_content(first_name: &str) -> PatientContent {
    PatientContent {
        first_name: first_name.to_owned(),
        last_name: None,
        full_name: None,
        gender: Gender::Other,
        date_of_birth: "1980-07".to_owned(),
        post_code: "2000".to_owned(),
        insurance_number: None,
        preferred_contact_number: None,
    }
}

fn test_content(observations: usize, length: usize) -> TestContent {
    let observation = Observation {
        id: "1".to_owned(),
        code: "718-7".to_owned(),
        measurement: "x".repeat(length),
        interpretation: "N".to_owned(),
        status: "final".to_owned(),
        issued: "2026-11-23".to_owned(),
    };
    TestContent {
        performer: "laboratory".to_owned(),
        order_reference: "order".to_owned(),
        observations: vec![observation; observations],
    }
}

fn events() -> Vec<Event> {
    let test = TestId::new(Uuid::from_u128(5));
    vec![
        Event::PatientRegistered(patient_content("JOAN")),
        Event::TestRecorded { test, content: test_content(2, 10) },
        Event::TestAmended { test, content: test_content(1, 10) },
        Event::PatientAmended(patient_content("JANE")),
        Event::TestRemoved { test },
        Event::PatientRemoved,
    ]
}

fn recorded(events: &[Event]) -> Vec<Recorded> {
    let number = |(event, version): (&Event, u64)| Recorded {
        version,
        at: at(version),
        event: event.clone(),
    };
    events.iter().zip(1..).map(number).collect()
}

fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(Record::to_line).collect()
}

#[tokio::test]
async fn every_event_comes_back_from_its_record() {
    let fixture = Fixture::new().await;
    let records = fixture.records(&events());
    for record in &records {
        Record::parse(&record.to_line()).unwrap();
    }
    let opened = open_events(&Fixture::ring(&fixture.store), &records).await.unwrap();
    assert_eq!(opened.len(), records.len());
    for ((opened, record), expected) in opened.iter().zip(&records).zip(recorded(&events())) {
        assert_eq!((opened.seq, opened.patient), (record.seq, fixture.patient));
        assert_eq!(opened.kid, record.data.is_some().then(|| fixture.key.kid()));
        assert_eq!(opened.content, Content::Open(expected));
    }
}

#[tokio::test]
async fn records_of_other_kinds_are_skipped_without_a_key() {
    let fixture = Fixture::new().await;
    let mut search = record(None, 1, &events()[0], None);
    search.record_type = RecordType::PatientsSearched;
    search.kind = search.record_type.kind();
    search.schema = None;
    search.version = None;
    search.data = Some(seal_search(&fixture.key, &SearchCriteria::default()));
    Record::parse(&search.to_line()).unwrap();
    fixture.store.set_fault(Fault::Fails);
    let ring = Fixture::ring(&fixture.store);
    assert_eq!(open_events(&ring, &[search]).await.unwrap(), []);
}

#[tokio::test]
async fn searches_are_sealed_without_stream_and_version() {
    let fixture = Fixture::new().await;
    let key = fixture.ring.epoch_key(at(1)).await.unwrap();
    let criteria =
        SearchCriteria { first_name: Some("JOAN".to_owned()), ..SearchCriteria::default() };
    let data = seal_search(&key, &criteria);
    let header = parse_compact(&data).unwrap().header;
    assert_eq!((header.stream, header.version), (None, None));
    assert_eq!(header.record_type, RecordType::PatientsSearched);
    assert_eq!(jwe::open(&key, &data).unwrap().as_slice(), br#"{"firstName":"JOAN"}"#);
}

#[tokio::test]
async fn content_that_does_not_fit_a_line_is_refused_with_its_size() {
    let fixture = Fixture::new().await;
    let event = |length| Event::TestRecorded {
        test: TestId::new(Uuid::from_u128(5)),
        content: test_content(1, length),
    };
    let overhead = event(0).content_json().unwrap().len();
    let largest = event(MAX_CONTENT_BYTES - overhead);
    // The largest content fits a line, whatever else stands in the record.
    let mut record = fixture.record(domain::ids::MAX_SAFE_INTEGER - 200, &largest);
    record.actor.id = "x".repeat(64).parse().unwrap();
    Record::parse(&record.to_line()).unwrap();
    let larger = event(MAX_CONTENT_BYTES - overhead + 1);
    let error = seal_event(&fixture.key, fixture.patient, 1, &larger).unwrap_err();
    assert_eq!(error, ContentTooLarge { bytes: MAX_CONTENT_BYTES + 1 });
}

#[tokio::test]
async fn data_of_another_record_is_not_accepted() {
    let fixture = Fixture::new().await;
    let records = fixture.records(&events());
    let mut moved = records[3].clone();
    moved.data.clone_from(&records[0].data);
    let error = open_events(&fixture.ring, &[moved]).await.unwrap_err();
    assert!(matches!(error, OpenError::Record { seq: 104 }), "{error}");
}

#[tokio::test]
async fn changed_data_names_the_record_and_nothing_else() {
    let fixture = Fixture::new().await;
    let mut records = fixture.records(&events());
    let other = DataKey::from_parts(fixture.key.kid(), Zeroizing::new([3; 32]));
    records[1].data = seal_event(&other, fixture.patient, 2, &events()[1]).unwrap();
    let error = open_events(&fixture.ring, &records).await.unwrap_err();
    assert!(matches!(error, OpenError::Unauthentic { seq: 102 }), "{error}");

    let mut records = fixture.records(&events());
    records[0].data = Some(jwe::seal(
        &fixture.key,
        records[0].stream,
        RecordType::PatientRegistered,
        Some(1),
        br#"{"firstName":"CANARY"}"#,
    ));
    let error = open_events(&fixture.ring, &records).await.unwrap_err();
    assert!(matches!(error, OpenError::Content { seq: 101, .. }), "{error}");
    assert!(!format!("{error:?} {error}").contains("CANARY"));
}

#[tokio::test]
async fn a_ring_that_does_not_answer_is_not_a_key_that_is_gone() {
    let fixture = Fixture::new().await;
    fixture.store.set_fault(Fault::Fails);
    let ring = Fixture::ring(&fixture.store);
    let error = open_events(&ring, &fixture.records(&events())).await.unwrap_err();
    assert!(matches!(error, OpenError::Keys(KeyRingError::Unavailable(_))), "{error}");
}

#[tokio::test]
async fn a_history_is_the_whole_stream() {
    let fixture = Fixture::new().await;
    let lines = lines(&fixture.records(&events()));
    let ring = Fixture::ring(&fixture.store);
    let history = history::read_lines(&ring, fixture.patient, 1, &lines).await.unwrap();
    assert_eq!(history.kid, Some(fixture.key.kid()));
    assert_eq!(history.events, recorded(&events()));
    let later = history::read_lines(&ring, fixture.patient, 5, &lines[4..]).await.unwrap();
    assert_eq!(later.events, recorded(&events())[4..]);
    assert_eq!(later.kid, None);
    let none = history::read_lines(&ring, fixture.patient, 1, &[]).await.unwrap();
    assert_eq!((none.kid, none.events), (None, vec![]));
}

#[tokio::test]
async fn a_history_has_no_gaps_and_nothing_of_others() {
    let fixture = Fixture::new().await;
    let ring = &fixture.ring;
    let lines = lines(&fixture.records(&events()));
    let gap = [lines[0].clone(), lines[2].clone()];
    let error = history::read_lines(ring, fixture.patient, 1, &gap).await.unwrap_err();
    assert!(matches!(error, HistoryError::Gap { expected: 2, found: 3 }), "{error}");
    let error = history::read_lines(ring, fixture.patient, 1, &lines[1..]).await.unwrap_err();
    assert!(matches!(error, HistoryError::Gap { expected: 1, found: 2 }), "{error}");
    let other = PatientId::new(Uuid::new_v4());
    let error = history::read_lines(ring, other, 1, &lines).await.unwrap_err();
    assert!(matches!(error, HistoryError::Foreign { seq: 101 }), "{error}");
    let error = history::read_lines(ring, other, 1, &["{}".to_owned()]).await.unwrap_err();
    assert!(matches!(error, HistoryError::Line(_)), "{error}");
}

#[tokio::test]
async fn a_patient_has_one_key() {
    let fixture = Fixture::new().await;
    let second = fixture.ring.fresh().await.unwrap();
    let mut records = fixture.records(&events());
    records[3].data = seal_event(&second, fixture.patient, 4, &events()[3]).unwrap();
    let error =
        history::read_lines(&fixture.ring, fixture.patient, 1, &lines(&records)).await.unwrap_err();
    assert!(matches!(error, HistoryError::KeyChanged { version: 4 }), "{error}");
}

#[tokio::test]
async fn a_key_may_be_gone_only_where_the_ledger_says_erased() {
    let fixture = Fixture::new().await;
    let (patient, ring) = (fixture.patient, &fixture.ring);
    let mut events = events();
    let lost = lines(&fixture.records(&events));
    events.push(Event::PatientErased);
    let records = fixture.records(&events);
    ring.destroy(fixture.key.kid()).await.unwrap();

    let error = history::read_lines(ring, patient, 1, &lost).await.unwrap_err();
    assert!(matches!(error, HistoryError::KeyLost { version: 1 }), "{error}");

    let opened = open_events(ring, &records).await.unwrap();
    assert!(matches!(
        opened[0].content,
        Content::KeyGone { version: 1, record_type: RecordType::PatientRegistered, .. }
    ));
    let history = history::read_lines(ring, patient, 1, &lines(&records)).await.unwrap();
    assert_eq!(history.kid, Some(KeyId::new(fixture.key.kid().uuid())));
    let state = Patient::replay(&history.events);
    assert_eq!((state.version, state.lifecycle), (7, Lifecycle::Erased));
}
