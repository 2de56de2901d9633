//! A document as one line of canonical JSON.

use domain::{
    content::{Gender, Observation, PatientContent, TestContent},
    ids::{KeyId, PatientId},
    time::Timestamp,
};
use serde::Serialize;
use uuid::Uuid;

use super::Document;
use crate::documents::{Erasure, PatientDoc, PatientState, TestDoc};

/// One document as its line.
pub(super) struct Entry {
    pub(super) id: Uuid,
    pub(super) document: Document,
    pub(super) version: u64,
    pub(super) line: String,
}

/// A document's line. Members are declared in sorted order, so that serialising is
/// canonicalising; absent ones are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<u64>,
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<KeyId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<PatientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Patient(PatientMembers<'a>),
    Test(TestMembers<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PatientMembers<'a> {
    date_of_birth: &'a str,
    first_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    full_name: Option<&'a str>,
    gender: Gender,
    #[serde(skip_serializing_if = "Option::is_none")]
    insurance_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<&'a str>,
    post_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_contact_number: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TestMembers<'a> {
    observations: Vec<ObservationMembers<'a>>,
    order_reference: &'a str,
    performer: &'a str,
}

#[derive(Serialize)]
struct ObservationMembers<'a> {
    code: &'a str,
    id: &'a str,
    interpretation: &'a str,
    issued: &'a str,
    measurement: &'a str,
    status: &'a str,
}

impl<'a> From<&'a PatientContent> for PatientMembers<'a> {
    fn from(content: &'a PatientContent) -> Self {
        Self {
            date_of_birth: &content.date_of_birth,
            first_name: &content.first_name,
            full_name: content.full_name.as_deref(),
            gender: content.gender,
            insurance_number: content.insurance_number.as_deref(),
            last_name: content.last_name.as_deref(),
            post_code: &content.post_code,
            preferred_contact_number: content.preferred_contact_number.as_deref(),
        }
    }
}

impl<'a> From<&'a TestContent> for TestMembers<'a> {
    fn from(content: &'a TestContent) -> Self {
        let members = |observation: &'a Observation| ObservationMembers {
            code: &observation.code,
            id: &observation.id,
            interpretation: &observation.interpretation,
            issued: &observation.issued,
            measurement: &observation.measurement,
            status: &observation.status,
        };
        Self {
            observations: content.observations.iter().map(members).collect(),
            order_reference: &content.order_reference,
            performer: &content.performer,
        }
    }
}

impl Line<'_> {
    /// What is left of a document that is gone.
    fn tombstone(id: Uuid, status: &'static str, version: u64) -> Self {
        let (content, first, kid, last_updated, patient, revision) =
            (None, None, None, None, None, None);
        let version = Some(version);
        Self { content, first, id, kid, last_updated, patient, revision, status, version }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and integers always serialise")
    }
}

impl From<&PatientDoc> for Entry {
    fn from(document: &PatientDoc) -> Self {
        let PatientDoc { id, version, state } = document;
        let tombstone = |status| Line::tombstone(id.uuid(), status, *version);
        let line = match state {
            PatientState::Active { kid, current } => Line {
                content: Some(Content::Patient((&current.content).into())),
                kid: Some(*kid),
                last_updated: Some(current.last_updated),
                revision: Some(current.revision),
                ..tombstone("active")
            },
            PatientState::Removed => tombstone("removed"),
            PatientState::Erased => tombstone("erased"),
        };
        let document = Document::Patient(*id);
        Self { id: id.uuid(), document, version: *version, line: line.text() }
    }
}

impl From<&TestDoc> for Entry {
    fn from(document: &TestDoc) -> Self {
        let TestDoc { id, patient, version, first, current } = document;
        let line = match current {
            Some(current) => Line {
                content: Some(Content::Test((&current.content).into())),
                first: Some(*first),
                last_updated: Some(current.last_updated),
                patient: Some(*patient),
                revision: Some(current.revision),
                ..Line::tombstone(id.uuid(), "active", *version)
            },
            None => Line::tombstone(id.uuid(), "removed", *version),
        };
        let document = Document::Test(*patient, *id);
        Self { id: id.uuid(), document, version: *version, line: line.text() }
    }
}

impl From<&Erasure> for Entry {
    fn from(erasure: &Erasure) -> Self {
        let Erasure { patient, kid } = *erasure;
        let id = patient.uuid();
        let line = Line { kid: Some(kid), version: None, ..Line::tombstone(id, "erasure", 0) };
        Self { id, document: Document::Erasure(patient), version: 0, line: line.text() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::{ids::TestId, patient::Current};

    use super::*;

    #[track_caller]
    fn check_canonical(entry: &Entry) {
        let value: serde_json::Value = serde_json::from_str(&entry.line).unwrap();
        assert_eq!(entry.line, serde_jcs::to_string(&value).unwrap());
    }

    fn current<T>(content: T) -> Current<T> {
        Current { content, revision: 3, last_updated: Timestamp::from_millis(1_700_000_000_123) }
    }

    #[test]
    fn lines_are_canonical_json() {
        let id = PatientId::new(Uuid::from_u128(1));
        let content: PatientContent = serde_json::from_value(serde_json::json!({
            "firstName": "Zoë \u{1}\n\"\\/ 😀", "lastName": "L", "fullName": "F", "gender": "other",
            "dateOfBirth": "1980", "postCode": "1234", "insuranceNumber": "I",
            "preferredContactNumber": "C",
        }))
        .unwrap();
        let kid = KeyId::new(Uuid::from_u128(2));
        let active = PatientState::Active { kid, current: current(content) };
        for state in [active, PatientState::Removed, PatientState::Erased] {
            check_canonical(&Entry::from(&PatientDoc { id, version: 3, state }));
        }
        let content: TestContent = serde_json::from_value(serde_json::json!({
            "performer": "P", "orderReference": "O", "observations": [{
                "id": "1", "code": "c", "measurement": "7", "interpretation": "high",
                "status": "final", "issued": "2020"
            }],
        }))
        .unwrap();
        for current in [Some(current(content)), None] {
            let id = TestId::new(Uuid::from_u128(3));
            let patient = PatientId::new(Uuid::from_u128(1));
            check_canonical(&Entry::from(&TestDoc { id, patient, version: 9, first: 3, current }));
        }
    }

    #[test]
    fn an_erasure_is_id_kid_and_status() {
        let patient = PatientId::new(Uuid::from_u128(1));
        let entry = Entry::from(&Erasure { patient, kid: KeyId::new(Uuid::from_u128(2)) });
        check_canonical(&entry);
        assert_eq!(
            entry.line,
            r#"{"id":"00000000-0000-0000-0000-000000000001","kid":"00000000-0000-0000-0000-000000000002","status":"erasure"}"#
        );
    }

    #[test]
    fn a_tombstone_is_id_status_and_version() {
        let id = PatientId::new(Uuid::from_u128(1));
        let entry = Entry::from(&PatientDoc { id, version: 7, state: PatientState::Erased });
        assert_eq!(
            entry.line,
            r#"{"id":"00000000-0000-0000-0000-000000000001","status":"erased","version":7}"#
        );
    }
}
