//! What a patient and a test contain, and the rules for it (contract, "Patient", "Test").

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    actor::closed_list,
    ids::{PatientId, TestId},
    time::{Timestamp, first_day, is_rfc3339},
    validation::{FieldError, Fields, Invalid, valid_or},
};

use std::{fmt, str::FromStr};

/// Bytes of an event's content, as JSON, before encryption: it must fit a record's line.
pub const MAX_CONTENT_BYTES: usize = 47_000;

/// Observations of one test.
pub const MAX_OBSERVATIONS: usize = 500;

closed_list!(
    /// Administrative gender.
    Gender, UnknownGender, "must be one of [male, female, other, unknown]" {
        /// Male.
        Male = "male",
        /// Female.
        Female = "female",
        /// Other.
        Other = "other",
        /// Unknown.
        Unknown = "unknown",
    }
);

/// A patient's data, all of it personal. Also the content of `PatientRegistered` and
/// `PatientAmended`, schema 1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatientContent {
    /// 1 to 64 characters.
    pub first_name: String,
    /// 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    /// 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// Administrative gender.
    pub gender: Gender,
    /// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, as written by the client.
    pub date_of_birth: String,
    /// Four characters.
    pub post_code: String,
    /// 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insurance_number: Option<String>,
    /// 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_contact_number: Option<String>,
}

/// A test's data. Also the content of `TestRecorded` and `TestAmended`, schema 1.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestContent {
    /// 1 to 256 characters.
    pub performer: String,
    /// 1 to 256 characters.
    pub order_reference: String,
    /// At most [`MAX_OBSERVATIONS`].
    pub observations: Vec<Observation>,
}

/// One observation of a test. Every field has 1 to 1,000 characters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// The laboratory's id.
    pub id: String,
    /// What was observed.
    pub code: String,
    /// The value.
    pub measurement: String,
    /// High, low, normal ….
    pub interpretation: String,
    /// Final, amended ….
    pub status: String,
    /// RFC 3339 or `YYYY[-MM[-DD]]`, as written by the client.
    pub issued: String,
}

/// Personal data has no `Debug` form, so that no log or panic can print it.
macro_rules! hidden_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}
pub(crate) use hidden_debug;

hidden_debug!(PatientContent, TestContent, Observation);

/// A patient as clients see her.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatientView {
    /// Given by the system.
    pub id: PatientId,
    /// `recordedAt` of the record that set the content.
    pub last_updated: Timestamp,
    /// The data.
    #[serde(flatten)]
    pub content: PatientContent,
}

/// A test as clients see it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestView {
    /// Given by the system.
    pub id: TestId,
    /// Whose test it is.
    pub patient_id: PatientId,
    /// `recordedAt` of the record that set the content.
    pub last_updated: Timestamp,
    /// The data.
    #[serde(flatten)]
    pub content: TestContent,
}

hidden_debug!(PatientView, TestView);

impl PatientContent {
    /// Reads the body of `POST /patient`.
    pub fn from_create(body: &Map<String, Value>) -> Result<Self, Invalid> {
        let mut fields = Fields::new(body, "");
        fields.refused("id", "Id unexpected.");
        fields.refused("lastUpdated", "lastUpdated unexpected.");
        Self::read(fields)
    }

    /// Reads the body of `PUT /patient/{id}`: `id` is required and equal to the path's.
    pub fn from_update(body: &Map<String, Value>, path: PatientId) -> Result<Self, Invalid> {
        let mut fields = Fields::new(body, "");
        let id = fields.required_parsed("id", "must be a valid GUID", |text| text.parse().ok());
        if id.is_some_and(|id: PatientId| id != path) {
            fields.complain_verbatim("id", "Inconsistent registration IDs");
        }
        ignored_time(&mut fields);
        Self::read(fields)
    }

    fn read(mut fields: Fields<'_>) -> Result<Self, Invalid> {
        let first_name = fields.required("firstName", 64);
        let last_name = fields.optional("lastName", 64);
        let full_name = fields.optional("fullName", 128);
        let gender = fields.required_parsed("gender", GENDERS, |text| text.parse().ok());
        let date_of_birth = fields.required_parsed("dateOfBirth", DATE_PATTERN, |text| {
            first_day(text).map(|_| text.to_owned())
        });
        let post_code = fields.required_parsed("postCode", POST_CODE, |text| {
            (text.chars().count() == 4).then(|| text.to_owned())
        });
        let insurance_number = fields.optional("insuranceNumber", 64);
        let preferred_contact_number = fields.optional("preferredContactNumber", 64);
        let errors = fields.finish();
        let content = (|| {
            Some(Self {
                first_name: first_name?,
                last_name,
                full_name,
                gender: gender?,
                date_of_birth: date_of_birth?,
                post_code: post_code?,
                insurance_number,
                preferred_contact_number,
            })
        })();
        valid_or(content, errors)
    }
}

const GENDERS: &str = "must be one of [male, female, other, unknown]";
pub(crate) const DATE_PATTERN: &str = "fails to match the date pattern";
const POST_CODE: &str = "length must be 4 characters long";

impl TestContent {
    /// Reads the body of `POST /patient/{id}/tests`. A `patientId` in it must be a UUID; the
    /// path's wins.
    pub fn from_create(body: &Map<String, Value>) -> Result<Self, Invalid> {
        let mut fields = Fields::new(body, "");
        fields.refused("id", "Id unexpected.");
        fields.refused("lastUpdated", "lastUpdated unexpected.");
        Self::read(fields)
    }

    /// Reads the body of `PUT /patient/{id}/tests/{testId}`: `id` is required and equal to
    /// the path's.
    pub fn from_update(body: &Map<String, Value>, path: TestId) -> Result<Self, Invalid> {
        let mut fields = Fields::new(body, "");
        let id = fields.required_parsed("id", "must be a valid GUID", |text| text.parse().ok());
        if id.is_some_and(|id: TestId| id != path) {
            fields.complain_verbatim("id", "Inconsistent test IDs");
        }
        ignored_time(&mut fields);
        Self::read(fields)
    }

    fn read(mut fields: Fields<'_>) -> Result<Self, Invalid> {
        fields.optional_parsed("patientId", "must be a valid GUID", |text| {
            text.parse::<PatientId>().ok()
        });
        let performer = fields.required("performer", 256);
        let order_reference = fields.required("orderReference", 256);
        let observations = read_observations(&mut fields);
        let errors = fields.finish();
        let content = (|| {
            Some(Self {
                performer: performer?,
                order_reference: order_reference?,
                observations: observations?,
            })
        })();
        valid_or(content, errors)
    }
}

fn read_observations(fields: &mut Fields<'_>) -> Option<Vec<Observation>> {
    let items = match fields.take("observations") {
        None => {
            fields.complain("observations", "is required");
            return None;
        }
        Some(Value::Array(items)) => items,
        Some(_) => {
            fields.complain("observations", "must be an array");
            return None;
        }
    };
    if items.len() > MAX_OBSERVATIONS {
        let what = format!("must contain less than or equal to {MAX_OBSERVATIONS} items");
        fields.complain("observations", &what);
        return None;
    }
    let mut observations = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Value::Object(object) = item else {
            fields.complain(&format!("observations[{index}]"), "must be of type object");
            continue;
        };
        let (observation, errors) = Observation::read(object, index);
        fields.absorb(errors);
        observations.extend(observation);
    }
    (observations.len() == items.len()).then_some(observations)
}

impl Observation {
    fn read(object: &Map<String, Value>, index: usize) -> (Option<Self>, Vec<FieldError>) {
        const MAX: usize = 1_000;
        let mut fields = Fields::new(object, format!("observations[{index}]."));
        let id = fields.required("id", MAX);
        let code = fields.required("code", MAX);
        let measurement = fields.required("measurement", MAX);
        let interpretation = fields.required("interpretation", MAX);
        let status = fields.required("status", MAX);
        let issued = fields.required_parsed("issued", "must be a valid date", |text| {
            (first_day(text).is_some() || is_rfc3339(text)).then(|| text.to_owned())
        });
        let observation = (|| {
            Some(Self {
                id: id?,
                code: code?,
                measurement: measurement?,
                interpretation: interpretation?,
                status: status?,
                issued: issued?,
            })
        })();
        (observation, fields.finish())
    }
}

/// `lastUpdated` of an update: clients send back what they loaded; it is checked and ignored.
fn ignored_time(fields: &mut Fields<'_>) {
    fields.optional_parsed("lastUpdated", "must be a valid date", |text| {
        is_rfc3339(text).then_some(())
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("not an object") };
        object
    }

    #[track_caller]
    fn complaints<T>(result: Result<T, Invalid>) -> Vec<String> {
        match result {
            Ok(_) => Vec::new(),
            Err(invalid) => invalid.0.into_iter().map(|e| e.detail).collect(),
        }
    }

    fn patient() -> Value {
        json!({"firstName": "JANE", "gender": "female", "dateOfBirth": "1980-07", "postCode": "1234"})
    }

    #[test]
    fn every_wrong_field_is_named_at_once_in_the_old_words() {
        let body = object(json!({
            "id": "x", "lastUpdated": "x", "lastName": "", "fullName": 7, "gender": "m",
            "dateOfBirth": "2001-02-29", "postCode": "12345", "insuranceNumber": null,
            "preferredContactNumber": "5".repeat(65), "nickname": "J", "Jane Doe": 1,
        }));
        assert_eq!(
            complaints(PatientContent::from_create(&body)),
            [
                "Id unexpected.",
                "lastUpdated unexpected.",
                "\"firstName\" is required",
                "\"lastName\" is not allowed to be empty",
                "\"fullName\" must be a string",
                "\"gender\" must be one of [male, female, other, unknown]",
                "\"dateOfBirth\" fails to match the date pattern",
                "\"postCode\" length must be 4 characters long",
                "\"insuranceNumber\" must be a string",
                "\"preferredContactNumber\" length must be less than or equal to 64 characters long",
                "\"<unknown>\" is not allowed",
                "\"nickname\" is not allowed",
            ]
        );
    }

    #[test]
    fn lengths_count_unicode_scalar_values() {
        let mut body = patient();
        body["firstName"] = json!("é".repeat(64));
        body["postCode"] = json!("𝟙𝟚𝟛𝟜");
        let content = PatientContent::from_create(&object(body)).unwrap();
        assert_eq!(content.post_code, "𝟙𝟚𝟛𝟜");
    }

    #[test]
    fn an_update_needs_the_id_of_its_path_and_ignores_the_time() {
        let id: PatientId = "6f9619ff-8b86-d011-b42d-00cf4fc964ff".parse().unwrap();
        let mut body = patient();
        assert_eq!(
            complaints(PatientContent::from_update(&object(body.clone()), id)),
            ["\"id\" is required"]
        );
        body["id"] = json!("00000000-0000-0000-0000-000000000001");
        assert_eq!(
            complaints(PatientContent::from_update(&object(body.clone()), id)),
            ["Inconsistent registration IDs"]
        );
        body["id"] = json!("6F9619FF-8B86-D011-B42D-00CF4FC964FF");
        body["lastUpdated"] = json!("2026-11-23T08:15:30.123Z");
        assert!(PatientContent::from_update(&object(body), id).is_ok());
    }

    #[test]
    fn absent_fields_stay_absent() {
        let content = PatientContent::from_create(&object(patient())).unwrap();
        assert_eq!(serde_json::to_value(content).unwrap(), patient());
    }

    #[test]
    fn tests_are_checked_down_to_each_observation() {
        let good = json!({"id": "1", "code": "c", "measurement": "m", "interpretation": "i",
            "status": "final", "issued": "2002-02"});
        let body = object(json!({"patientId": "1", "performer": "p",
            "observations": [good, {"issued": "Feb 15 2002", "unit": 1}, 5]}));
        assert_eq!(
            complaints(TestContent::from_create(&body)),
            [
                "\"patientId\" must be a valid GUID",
                "\"orderReference\" is required",
                "\"observations[1].id\" is required",
                "\"observations[1].code\" is required",
                "\"observations[1].measurement\" is required",
                "\"observations[1].interpretation\" is required",
                "\"observations[1].status\" is required",
                "\"observations[1].issued\" must be a valid date",
                "\"observations[1].unit\" is not allowed",
                "\"observations[2]\" must be of type object",
            ]
        );
        let body = object(json!({"performer": "p", "orderReference": "o", "observations": []}));
        assert!(TestContent::from_create(&body).is_ok());
        let many = vec![good_observation(); MAX_OBSERVATIONS + 1];
        let body = object(json!({"performer": "p", "orderReference": "o", "observations": many}));
        assert_eq!(
            complaints(TestContent::from_create(&body)),
            ["\"observations\" must contain less than or equal to 500 items"]
        );
    }

    fn good_observation() -> Value {
        json!({"id": "1", "code": "c", "measurement": "m", "interpretation": "i",
            "status": "final", "issued": "2002-02-15T10:00:00Z"})
    }

    #[test]
    fn personal_data_has_no_debug_form() {
        let content = PatientContent::from_create(&object(patient())).unwrap();
        assert_eq!(format!("{content:?}"), "PatientContent(…)");
    }
}
