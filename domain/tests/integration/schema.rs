//! Content of older versions, with versions made up for it: the mechanism, whatever the versions.

use domain::{
    content::{PatientContent, TestContent},
    event::{ContentError, Event, SCHEMA},
    record::{Kind, RecordType},
    schema::{Members, Schema, TODAY, Upcaster},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::given::{patient, test, test_id};

/// Version 1 called the first name `givenName`.
fn rename(mut members: Members) -> Option<Members> {
    let name = members.remove("givenName")?;
    members.insert("firstName".into(), name);
    Some(members)
}

/// Version 2 had no post code.
fn default(mut members: Members) -> Option<Members> {
    let before = members.insert("postCode".into(), json!("0000"));
    before.is_none().then_some(members)
}

/// Version 2 had one observation, and not in an array.
fn wrap(mut members: Members) -> Option<Members> {
    let one = members.remove("observation")?;
    members.insert("observations".into(), json!([one]));
    Some(members)
}

const PATIENT: &[RecordType] = &[RecordType::PatientRegistered, RecordType::PatientAmended];
const RECORDED: &[RecordType] = &[RecordType::TestRecorded];

const MADE_UP: Schema<'static> = Schema {
    version: 3,
    upcasters: &[
        Upcaster { from: 2, types: PATIENT, upcast: default },
        Upcaster { from: 1, types: PATIENT, upcast: rename },
        Upcaster { from: 2, types: RECORDED, upcast: wrap },
    ],
};

fn read_patient(version: u32, content: &Value) -> Result<PatientContent, ContentError> {
    let content = content.to_string();
    MADE_UP.read(RecordType::PatientAmended, version, content.as_bytes())
}

#[test]
fn content_goes_through_every_version_after_its_own_in_order() {
    let mut expected = patient("JANE");
    "0000".clone_into(&mut expected.post_code);
    let rest = json!({"gender": "female", "dateOfBirth": "1980"});
    let with = |name: &str, extra: Option<&str>| {
        let mut content = rest.clone();
        content[name] = json!("JANE");
        if let Some(post_code) = extra {
            content["postCode"] = json!(post_code);
        }
        content
    };
    assert!(read_patient(1, &with("givenName", None)).unwrap() == expected);
    assert!(read_patient(2, &with("firstName", None)).unwrap() == expected);
    // Of the newest version nothing is changed.
    let newest = read_patient(3, &with("firstName", Some("1234"))).unwrap();
    assert_eq!(newest.post_code, "1234");
}

#[test]
fn a_step_is_for_its_own_types_alone() {
    let mut content = serde_json::to_value(test("P")).unwrap();
    let text = content.to_string();
    let same: TestContent = MADE_UP.read(RecordType::TestAmended, 1, text.as_bytes()).unwrap();
    assert!(same == test("P"));
    let members = content.as_object_mut().unwrap();
    let observation = members.remove("observations").unwrap()[0].take();
    members.insert("observation".into(), observation);
    let text = content.to_string();
    let read = |record_type| MADE_UP.read::<TestContent>(record_type, 2, text.as_bytes());
    assert!(read(RecordType::TestRecorded).unwrap() == test("P"));
    assert!(matches!(read(RecordType::TestAmended), Err(ContentError::Shape(_))));
}

#[test]
fn what_does_not_fit_is_refused_and_not_shown() {
    #[track_caller]
    fn check(version: u32, content: &str) {
        let result =
            MADE_UP.read::<PatientContent>(RecordType::PatientAmended, version, content.as_bytes());
        let error = result.unwrap_err();
        assert!(matches!(error, ContentError::Shape(RecordType::PatientAmended)));
        assert!(!format!("{error} {error:?}").contains("JANE"));
    }
    let rest = r#""gender": "female", "dateOfBirth": "1980""#;
    check(1, &format!(r#"{{"firstName": "JANE", {rest}}}"#));
    check(1, r#"["JANE"]"#);
    check(1, "{\"JANE");
    check(2, &format!(r#"{{"givenName": "JANE", {rest}}}"#));
    // Nothing is left out that no member of today takes.
    check(2, &format!(r#"{{"firstName": "JANE", "nickname": "JANE", {rest}}}"#));
    check(2, &format!(r#"{{"firstName": "JANE", "lastName": null, {rest}}}"#));
    check(3, &format!(r#"{{"firstName": "JANE", {rest}}}"#));
}

#[test]
fn versions_that_never_were_are_refused() {
    for version in [0, 4, u32::MAX] {
        let error = read_patient(version, &json!({})).unwrap_err();
        assert!(matches!(error, ContentError::Schema(of) if of == version));
    }
    let content = serde_json::to_vec(&patient("A")).unwrap();
    for version in [0, SCHEMA + 1] {
        let parts = |record_type, content| Event::from_parts(record_type, None, version, content);
        for result in [
            parts(RecordType::PatientAmended, Some(content.as_slice())),
            parts(RecordType::PatientRemoved, None),
        ] {
            assert!(matches!(result, Err(ContentError::Schema(of)) if of == version));
        }
    }
}

#[test]
fn todays_table_has_one_step_at_most_for_a_version_and_type() {
    let mut steps = Vec::new();
    for upcaster in TODAY.upcasters {
        assert!((1..SCHEMA).contains(&upcaster.from));
        for record_type in upcaster.types {
            assert_eq!(record_type.kind(), Kind::Event);
            assert!(!steps.contains(&(upcaster.from, *record_type)));
            steps.push((upcaster.from, *record_type));
        }
    }
    assert_eq!(TODAY.version, SCHEMA);
}

proptest! {
    #[test]
    fn whatever_an_older_version_could_write_is_content_of_today(
        name in ".{1,8}", last_name in prop::option::of(".{1,8}"), performer in ".{1,8}",
    ) {
        let mut old = json!({"givenName": name, "gender": "other", "dateOfBirth": "1980-07"});
        if let Some(last_name) = &last_name {
            old["lastName"] = json!(last_name);
        }
        for record_type in PATIENT {
            let content: PatientContent =
                MADE_UP.read(*record_type, 1, old.to_string().as_bytes()).unwrap();
            prop_assert_eq!(&content.first_name, &name);
            prop_assert_eq!(&content.last_name, &last_name);
            let again = serde_json::to_vec(&content).unwrap();
            let again: PatientContent = MADE_UP.read(*record_type, 3, &again).unwrap();
            prop_assert!(again == content);
        }
        let old = serde_json::to_vec(&test(&performer)).unwrap();
        let content: TestContent = MADE_UP.read(RecordType::TestAmended, 1, &old).unwrap();
        prop_assert!(content == test(&performer));
        let event = Event::TestRecorded { test: test_id(1), content };
        let json = event.content_json().unwrap();
        let read = Event::from_parts(event.record_type(), event.test(), SCHEMA, Some(&json));
        prop_assert!(read.unwrap() == event);
    }
}
