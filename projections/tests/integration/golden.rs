//! Whole lines of every version ever written still follow from each other and open to the events
//! that they were made of.
//!
//! `tests/golden/schema-<n>.ndjson` is a ledger as version n wrote it, sealed under keys that are
//! published here. Files and hashes never change; a new version adds its own
//! ([`domain::schema`] has the steps).

use std::{collections::HashSet, fs, path::PathBuf, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use domain::{
    actor::{Actor, ActorKind, ErasureReason, Outcome, Purpose},
    chain::Link,
    event::{Event, Recorded, SCHEMA},
    hash::Hash,
    ids::{KeyId, ObjectRef, PatientId, Stream, TestId},
    record::{CommandRef, HexBytes, KeyName, Kind, Record, RecordType},
    time::Timestamp,
    wire::Proposal,
};
use projections::{
    history, jwe,
    key_ring::{DataKey, KeyRing, kek::Kek, memory::MemoryKeys, store::KeyStore},
    sealing,
};
use uuid::Uuid;

use crate::fixture::{person, test};

/// SHA-256 of every file.
const FILES: &[(&str, &str)] =
    &[("schema-1.ndjson", "4d3e7eeee2cfd692b4ea19c97af1366d9a82b93c0eab937813343d12d80101f4")];

const ORIGIN: &str = "golden-ledger";
const SOURCE: &str = "patient-service";

/// When the first record was made; each later one is a second younger.
const BEGINNING: i64 = 1_795_000_000_000;

const ONE: PatientId = PatientId::new(Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_1111));
const TWO: PatientId = PatientId::new(Uuid::from_u128(0x2222_2222_2222_4222_8222_2222_2222_2222));
const TEST: TestId = TestId::new(Uuid::from_u128(0x3333_3333_3333_4333_8333_3333_3333_3333));

/// The patients' keys, which are secret nowhere.
fn key_of(patient: PatientId) -> DataKey {
    let byte = if patient == ONE { 0xa1 } else { 0xa2 };
    DataKey::from_parts(KeyId::new(Uuid::from_bytes([byte; 16])), [byte; 32].into())
}

/// What happened, in the order of the ledger; `None` is a read.
fn happened() -> Vec<(PatientId, Option<Event>)> {
    let mut odd = person("A\"\u{1}é\u{301}𝟙👩\u{200d}🔬");
    odd.last_name = Some("\u{10ffff}".to_owned());
    vec![
        (ONE, Some(Event::PatientRegistered(person("Ada")))),
        (TWO, Some(Event::PatientRegistered(person("Grace")))),
        (ONE, Some(Event::TestRecorded { test: TEST, content: test("first") })),
        (ONE, None),
        (ONE, Some(Event::TestAmended { test: TEST, content: test("second") })),
        (ONE, Some(Event::PatientAmended(odd))),
        (ONE, Some(Event::TestRemoved { test: TEST })),
        (TWO, Some(Event::PatientErased)),
        (ONE, Some(Event::PatientRemoved)),
    ]
}

/// The events of a patient as they are to be read, in today's types.
fn expected(patient: PatientId) -> Vec<Recorded> {
    let events = happened().into_iter().enumerate();
    let hers = events.filter_map(|(seq, (of, event))| (of == patient).then_some((seq, event?)));
    (1..)
        .zip(hers)
        .map(|(version, (seq, event))| Recorded { version, at: at(seq), event })
        .collect()
}

fn at(seq: usize) -> Timestamp {
    Timestamp::from_millis(BEGINNING + 1_000 * i64::try_from(seq).unwrap())
}

/// The lines that today's programs write for it, around data that `data` gives.
fn written(data: impl Fn(usize, PatientId, u64, &Event) -> Option<String>) -> Vec<String> {
    let mut link = Link::genesis();
    let (mut versions, mut lines) = ([0, 0], Vec::new());
    for (seq, (patient, event)) in happened().into_iter().enumerate() {
        let version = &mut versions[usize::from(patient == TWO)];
        *version += u64::from(event.is_some());
        let record_type = event.as_ref().map_or(RecordType::PatientRead, Event::record_type);
        let actor =
            Actor { id: "clinic".parse().unwrap(), kind: ActorKind::Subscription, roles: vec![] };
        let mut proposal = Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success);
        proposal.stream = Some(Stream::Patient(patient));
        proposal.version = Some(*version);
        proposal.client = Some("192.0.2.7".parse().unwrap());
        proposal.trace = Some("4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap());
        if let Some(event) = &event {
            let kid = KeyName::new([3; 4]);
            let [digest, id] = [1, 2].map(|byte| domain::ids::Mac::new([byte; 32]));
            proposal.command = Some(CommandRef { digest, id, kid });
            proposal.schema = Some(SCHEMA);
            proposal.object = event.test().map(ObjectRef);
            let erased = *event == Event::PatientErased;
            proposal.reason = erased.then_some(ErasureReason::ConsentWithdrawn);
            proposal.data = data(seq, patient, *version, event);
        }
        let record =
            proposal.into_record(ORIGIN.parse().unwrap(), SOURCE.parse().unwrap(), &link, at(seq));
        let text = record.to_line();
        link.advance(&record, Hash::of_line(&text));
        lines.push(text);
    }
    lines
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[track_caller]
fn lines(version: u32) -> Vec<String> {
    let name = format!("schema-{version}.ndjson");
    if let Ok(text) = fs::read_to_string(folder().join(&name)) {
        return text.lines().map(str::to_owned).collect();
    }
    let seal = |_, patient, version, event: &Event| {
        sealing::seal_event(&key_of(patient), patient, version, event).unwrap()
    };
    panic!("{name} is missing; save these lines:\n{}", written(seal).join("\n"));
}

async fn ring() -> KeyRing {
    let (keys, kek) = (MemoryKeys::default(), Kek::new([7; 32].into()));
    keys.insert_batch(&[ONE, TWO].map(|patient| kek.wrap(&key_of(patient)))).await.unwrap();
    KeyRing::new(Arc::new(keys), kek)
}

#[test]
fn no_file_ever_changes_and_none_is_unknown() {
    let files = fs::read_dir(folder()).unwrap().map(|file| {
        let file = file.unwrap();
        let digest = digest(&SHA256, &fs::read(file.path()).unwrap());
        let hash = HexBytes::<32>(digest.as_ref().try_into().unwrap()).to_string();
        (file.file_name().into_string().unwrap(), hash)
    });
    let found: HashSet<_> = files.collect();
    let known = FILES.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned()));
    assert_eq!(found, known.collect());
}

#[tokio::test]
async fn lines_of_every_version_open_to_the_events_that_they_were_made_of() {
    for version in 1..=SCHEMA {
        let lines = lines(version);
        let mut link = Link::genesis();
        for line in &lines {
            link.follow(&ORIGIN.parse().unwrap(), line).unwrap();
        }
        let records: Vec<_> = lines.iter().map(|line| Record::parse(line).unwrap()).collect();
        let written: HashSet<_> = records.iter().map(|record| record.record_type).collect();
        let events = RecordType::ALL.iter().filter(|it| it.kind() == Kind::Event);
        assert!(events.into_iter().all(|record_type| written.contains(record_type)));
        for patient in [ONE, TWO] {
            let hers = |record: &Record| {
                record.kind == Kind::Event && record.stream == Some(Stream::Patient(patient))
            };
            let hers = lines.iter().zip(&records).filter(|(_, record)| hers(record));
            let hers: Vec<_> = hers
                .inspect(|(_, record)| assert_eq!(record.schema, Some(version)))
                .map(|(line, _)| line.clone())
                .collect();
            let read = history::read_lines(&ring().await, patient, 1, &hers).await.unwrap();
            assert_eq!(read.kid, Some(key_of(patient).kid()));
            assert_eq!(read.events, expected(patient), "version {version}");
        }
    }
}

#[test]
fn what_is_written_today_is_byte_for_byte_what_the_newest_version_wrote_first() {
    let golden = lines(SCHEMA);
    let records: Vec<_> = golden.iter().map(|line| Record::parse(line).unwrap()).collect();
    for (record, (patient, event)) in records.iter().zip(happened()) {
        let data = record.data.as_ref();
        let content = data.map(|data| jwe::open(&key_of(patient), data).unwrap().to_vec());
        let today = event.and_then(|event| event.content_json());
        assert!(content == today, "record {}: make a new version", record.seq);
    }
    // Sealing gives other bytes each time, so what was sealed then stands in for it.
    assert_eq!(written(|seq, _, _, _| records[seq].data.clone()), golden);
}
