//! Successful answers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use domain::{
    content::{PatientView, TestView},
    event::{Event, Recorded},
    ids::PatientId,
    wire::Receipt,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, ETAG, LINK, LOCATION},
};
use serde::Serialize;

use crate::conditions::etag;

/// Names the record that a request caused (design §9).
pub(crate) const AUDIT_RECEIPT: HeaderName = HeaderName::from_static("audit-receipt");

/// Says that the command is durable and the read models follow shortly.
pub(crate) const X_PROJECTION: HeaderName = HeaderName::from_static("x-projection");

/// Names the event that a state of the past ends with.
pub(crate) const VITALOG_AS_OF: HeaderName = HeaderName::from_static("vitalog-as-of");

/// Whether an event is in the read models when its command is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Projection {
    Applied,
    Pending,
}

/// An answer that leaves only with the receipt of its record.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode, receipt: &Receipt) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(AUDIT_RECEIPT, receipt_value(receipt));
        Self { status, headers, body: Vec::new() }
    }

    /// A success with a body of another type than JSON.
    pub(crate) fn with_body(receipt: &Receipt, media_type: &'static str, body: Vec<u8>) -> Self {
        let mut answer = Self::empty(StatusCode::OK, receipt);
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        answer.body = body;
        answer
    }

    /// An answer with a JSON body.
    pub(crate) fn json(status: StatusCode, receipt: &Receipt, body: &impl Serialize) -> Self {
        let mut answer = Self::empty(status, receipt);
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.body = serde_json::to_vec(body).expect("views are strings and arrays");
        answer
    }

    /// The answer to a command, from the event that it caused.
    pub(crate) fn of_event(
        patient: PatientId,
        recorded: Recorded,
        receipt: &Receipt,
        projection: Projection,
    ) -> Self {
        let Recorded { version, at, event } = recorded;
        let last_updated = at;
        let mut answer = match event {
            Event::PatientRegistered(content) => {
                let view = PatientView { id: patient, last_updated, content };
                Self::json(StatusCode::CREATED, receipt, &view)
                    .revision(version)
                    .location(&format!("/patient/{patient}"))
            }
            Event::PatientAmended(content) => {
                let view = PatientView { id: patient, last_updated, content };
                Self::json(StatusCode::OK, receipt, &view).revision(version)
            }
            Event::TestRecorded { test, content } => {
                let view = TestView { id: test, patient_id: patient, last_updated, content };
                Self::json(StatusCode::CREATED, receipt, &view)
                    .revision(version)
                    .location(&format!("/patient/{patient}/tests/{test}"))
            }
            Event::TestAmended { test, content } => {
                let view = TestView { id: test, patient_id: patient, last_updated, content };
                Self::json(StatusCode::OK, receipt, &view).revision(version)
            }
            Event::PatientRemoved | Event::PatientErased | Event::TestRemoved { .. } => {
                Self::empty(StatusCode::NO_CONTENT, receipt)
            }
        };
        if projection == Projection::Pending {
            answer.headers.insert(X_PROJECTION, HeaderValue::from_static("pending"));
        }
        answer
    }

    /// Adds the revision of the resource.
    pub(crate) fn revision(mut self, revision: u64) -> Self {
        self.headers.insert(ETAG, etag(revision));
        self
    }

    /// Adds which event the state shown ends with.
    pub(crate) fn up_to(mut self, seq: u64, version: u64) -> Self {
        self.headers.insert(VITALOG_AS_OF, ascii(&format!("seq={seq}, version={version}")));
        self
    }

    /// Adds where more is.
    pub(crate) fn link(mut self, value: &str) -> Self {
        self.headers.insert(LINK, ascii(value));
        self
    }

    fn location(mut self, path: &str) -> Self {
        self.headers.insert(LOCATION, ascii(path));
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// The value of `Audit-Receipt`.
pub(crate) fn receipt_value(receipt: &Receipt) -> HeaderValue {
    ascii(&receipt.header_value())
}

/// A header of ids, numbers and fixed words.
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids and numbers are ASCII")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::{content::PatientContent, hash::Hash, time::Timestamp};
    use serde_json::{Value, json};

    const PATIENT: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

    fn receipt() -> Receipt {
        Receipt {
            seq: 7,
            hash: Hash::ZERO,
            stream: None,
            version: Some(3),
            recorded_at: Timestamp::from_millis(0),
            current_version: None,
            replayed: false,
            proof: None,
            span: None,
        }
    }

    fn content() -> PatientContent {
        serde_json::from_value(json!({
            "firstName": "JANE", "gender": "female", "dateOfBirth": "1980", "postCode": "1234",
        }))
        .unwrap()
    }

    fn answer(event: Event, projection: Projection) -> Answer {
        let recorded = Recorded { version: 3, at: Timestamp::from_millis(0), event };
        Answer::of_event(PATIENT.parse().unwrap(), recorded, &receipt(), projection)
    }

    #[test]
    fn a_registration_is_created_with_its_place_revision_and_receipt() {
        let answer = answer(Event::PatientRegistered(content()), Projection::Applied);
        assert_eq!(answer.status, StatusCode::CREATED);
        assert_eq!(answer.headers[LOCATION], format!("/patient/{PATIENT}"));
        assert_eq!(answer.headers[ETAG], "\"3\"");
        assert_eq!(answer.headers[AUDIT_RECEIPT], receipt().header_value());
        assert!(!answer.headers.contains_key(X_PROJECTION));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let expected = json!({
            "id": PATIENT, "lastUpdated": "1970-01-01T00:00:00.000Z", "firstName": "JANE",
            "gender": "female", "dateOfBirth": "1980", "postCode": "1234",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn a_removal_is_answered_with_its_receipt_alone() {
        let answer = answer(Event::PatientRemoved, Projection::Pending);
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert!(answer.body.is_empty());
        assert_eq!(answer.headers[AUDIT_RECEIPT], receipt().header_value());
        assert_eq!(answer.headers[X_PROJECTION], "pending");
        assert!(!answer.headers.contains_key(ETAG));
    }
}
