//! Content of every version ever written is read as it was meant, for ever.
//!
//! `tests/golden/schema-<n>/<type>.<form>.json` is content as version n wrote it. The files and
//! their hashes never change; a new version adds its own ([`domain::schema`] has the steps).

use std::{collections::BTreeSet, fmt::Write, fs, path::PathBuf};

use domain::{
    content::{Gender, Observation, PatientContent, TestContent},
    event::{Event, SCHEMA},
    ids::TestId,
    record::{Kind, RecordType},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const TEST: TestId = TestId::new(Uuid::from_u128(0x6f96_19ff_8b86_4011_b42d_00cf_4fc9_64ff));

/// SHA-256 of every file.
const FILES: &[(&str, &str)] = &[
    (
        "schema-1/PatientAmended.full.json",
        "d92a334f99d12367b64a5da28a4c2f20399211bb2b67dbd18075fc1b308a49db",
    ),
    (
        "schema-1/PatientAmended.minimal.json",
        "007059d52d19114bdcc49374d57a94057ea61a5e798c40b013b4066f23f0f1d3",
    ),
    (
        "schema-1/PatientAmended.unicode.json",
        "ebf7c54868f25563e4c7da1defa7e6b52841004f0e4c59ccda72680603d125dd",
    ),
    (
        "schema-1/PatientRegistered.full.json",
        "d92a334f99d12367b64a5da28a4c2f20399211bb2b67dbd18075fc1b308a49db",
    ),
    (
        "schema-1/PatientRegistered.minimal.json",
        "007059d52d19114bdcc49374d57a94057ea61a5e798c40b013b4066f23f0f1d3",
    ),
    (
        "schema-1/PatientRegistered.unicode.json",
        "ebf7c54868f25563e4c7da1defa7e6b52841004f0e4c59ccda72680603d125dd",
    ),
    (
        "schema-1/TestAmended.full.json",
        "69e0ef6b4d808d3203974a818e6a452effb767671b477c27b2357f3170db9e8a",
    ),
    (
        "schema-1/TestAmended.minimal.json",
        "e15e3b140fa9dd306e5cd779e258bcc5d3d4278c3a3ff4287c0a04af31eee3e6",
    ),
    (
        "schema-1/TestAmended.unicode.json",
        "478def0588773a5b2d366795631942d1251f5cdbb446dcb4dafe54e80e11963c",
    ),
    (
        "schema-1/TestRecorded.full.json",
        "69e0ef6b4d808d3203974a818e6a452effb767671b477c27b2357f3170db9e8a",
    ),
    (
        "schema-1/TestRecorded.minimal.json",
        "e15e3b140fa9dd306e5cd779e258bcc5d3d4278c3a3ff4287c0a04af31eee3e6",
    ),
    (
        "schema-1/TestRecorded.unicode.json",
        "478def0588773a5b2d366795631942d1251f5cdbb446dcb4dafe54e80e11963c",
    ),
];

/// What the content of an event may look like.
const FORMS: [&str; 3] = ["minimal", "full", "unicode"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn name(version: u32, record_type: RecordType, form: &str) -> String {
    format!("schema-{version}/{record_type}.{form}.json")
}

fn minimal_patient() -> PatientContent {
    PatientContent {
        first_name: "J".into(),
        last_name: None,
        full_name: None,
        gender: Gender::Unknown,
        date_of_birth: "1980".into(),
        post_code: "0815".into(),
        insurance_number: None,
        preferred_contact_number: None,
    }
}

fn full_patient() -> PatientContent {
    PatientContent {
        first_name: "JANE".into(),
        last_name: Some("CITIZEN".into()),
        full_name: Some("JANE CITIZEN".into()),
        gender: Gender::Female,
        date_of_birth: "1980-07-15".into(),
        post_code: "3000".into(),
        insurance_number: Some("INS-99".into()),
        preferred_contact_number: Some("+49 30 1".into()),
    }
}

/// Escapes, control characters, a combining mark, right-to-left text, characters outside of the
/// basic plane, a joined emoji, and the last code point that there is.
const ODD: &str = "\"\\/\u{8}\u{c}\n\r\t\u{1}\u{7f}\u{2028}e\u{301}é\u{5e9}\u{5dc}𝟙👩\u{200d}🔬\u{feff}\u{10ffff}";

fn odd_patient() -> PatientContent {
    PatientContent {
        first_name: ODD.into(),
        last_name: Some(" ".into()),
        full_name: Some("\u{0}".into()),
        gender: Gender::Other,
        date_of_birth: "0001-02".into(),
        post_code: "𝟙𝟚𝟛𝟜".into(),
        insurance_number: Some(ODD.into()),
        preferred_contact_number: Some("null".into()),
    }
}

fn observation(id: &str, text: &str, issued: &str) -> Observation {
    Observation {
        id: id.into(),
        code: text.into(),
        measurement: text.into(),
        interpretation: text.into(),
        status: text.into(),
        issued: issued.into(),
    }
}

fn a_test(form: &str) -> TestContent {
    let (performer, observations) = match form {
        "minimal" => ("p", vec![]),
        "full" => (
            "Laboratory 7",
            vec![
                observation("o-1", "2093-3", "2002-02-15T10:00:00.5+02:00"),
                observation("o-1", "145 mmol/L", "2002-02"),
            ],
        ),
        _ => (ODD, vec![observation(ODD, ODD, "2002-02-15t10:00:00z")]),
    };
    let order_reference = if form == "unicode" { ODD } else { "order-1" };
    let (performer, order_reference) = (performer.to_owned(), order_reference.to_owned());
    TestContent { performer, order_reference, observations }
}

/// What the files of a version are read as, in today's types.
fn expected(record_type: RecordType, form: &str) -> Event {
    let patient = || match form {
        "minimal" => minimal_patient(),
        "full" => full_patient(),
        _ => odd_patient(),
    };
    match record_type {
        RecordType::PatientRegistered => Event::PatientRegistered(patient()),
        RecordType::PatientAmended => Event::PatientAmended(patient()),
        RecordType::TestRecorded => Event::TestRecorded { test: TEST, content: a_test(form) },
        _ => Event::TestAmended { test: TEST, content: a_test(form) },
    }
}

/// The types of events that have content, found by trying.
fn with_content() -> Vec<RecordType> {
    let refuses_none = |record_type: &&RecordType| {
        let parts = |test| Event::from_parts(**record_type, test, SCHEMA, None);
        parts(None).is_err() && parts(Some(TEST)).is_err()
    };
    let events = RecordType::ALL.iter().filter(|it| it.kind() == Kind::Event);
    events.filter(refuses_none).copied().collect()
}

fn content(name: &str) -> Option<Vec<u8>> {
    fs::read(folder().join(name)).ok()
}

fn every_file() -> impl Iterator<Item = (u32, RecordType, &'static str)> {
    (1..=SCHEMA).flat_map(|version| {
        with_content()
            .into_iter()
            .flat_map(move |record_type| FORMS.map(|form| (version, record_type, form)))
    })
}

#[test]
fn no_file_ever_changes_and_none_is_unknown() {
    let mut found = BTreeSet::new();
    for version in fs::read_dir(folder()).unwrap() {
        let version = version.unwrap().path();
        for file in fs::read_dir(&version).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned();
            let hash = hex::encode(Sha256::digest(fs::read(&path).unwrap()));
            found.insert((name, hash));
        }
    }
    let known = FILES.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned()));
    assert_eq!(found, known.collect());
}

#[test]
fn every_version_has_files_of_every_type_and_they_are_read_as_they_were_meant() {
    assert_eq!(with_content().len(), 4);
    let mut missing = String::new();
    for (version, record_type, form) in every_file() {
        let name = name(version, record_type, form);
        let event = expected(record_type, form);
        let Some(content) = content(&name) else {
            let json = String::from_utf8(event.content_json().unwrap()).unwrap();
            writeln!(missing, "{name}: {json}").unwrap();
            continue;
        };
        let read = Event::from_parts(record_type, event.test(), version, Some(&content)).unwrap();
        assert!(read == event, "{name}");
    }
    assert!(missing.is_empty(), "files to save, without the name and a newline:\n{missing}");
}

#[test]
fn what_is_written_today_is_byte_for_byte_what_the_newest_version_wrote_first() {
    for (version, record_type, form) in every_file().filter(|(version, ..)| *version == SCHEMA) {
        let name = name(version, record_type, form);
        let today = expected(record_type, form).content_json();
        assert!(today.is_some() && today == content(&name), "{name}: make a new version");
    }
}
