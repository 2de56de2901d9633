//! What a search asks for (contract, "Search").

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    content::{DATE_PATTERN, Gender, PatientContent, hidden_debug},
    ids::PatientId,
    time::first_day,
    validation::{Fields, Invalid, valid_or},
};

use std::fmt;

/// Patients in one page of answers, by default and at most.
pub const MAX_PAGE: usize = 1_000;

/// Criteria combined with AND; all equal and case-sensitive but the range of birth dates.
/// Personal data: recorded encrypted.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)]
pub struct SearchCriteria {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<PatientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gender: Option<Gender>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insurance_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_contact_number: Option<String>,
    /// Inclusive; a year or month stands for its first day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_of_birth_from: Option<NaiveDate>,
    /// Inclusive; a year or month stands for its first day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date_of_birth_to: Option<NaiveDate>,
}

hidden_debug!(SearchCriteria);

impl SearchCriteria {
    /// Reads the body of `POST /patient/search`.
    pub fn from_body(body: &Map<String, Value>) -> Result<Self, Invalid> {
        let mut fields = Fields::new(body, "");
        let criteria = Self {
            id: fields.optional_parsed("id", "must be a valid GUID", |text| text.parse().ok()),
            first_name: fields.optional("firstName", 64),
            last_name: fields.optional("lastName", 64),
            full_name: fields.optional("fullName", 128),
            gender: fields.optional_parsed(
                "gender",
                "must be one of [male, female, other, unknown]",
                |text| text.parse().ok(),
            ),
            post_code: fields.optional("postCode", 64),
            insurance_number: fields.optional("insuranceNumber", 64),
            preferred_contact_number: fields.optional("preferredContactNumber", 64),
            date_of_birth_from: fields.optional_parsed("dateOfBirthFrom", DATE_PATTERN, first_day),
            date_of_birth_to: fields.optional_parsed("dateOfBirthTo", DATE_PATTERN, first_day),
        };
        valid_or(Some(criteria), fields.finish())
    }

    /// Whether a patient is asked for. The stores answer the same with their own indexes;
    /// their conformance suite compares them with this.
    pub fn matches(&self, id: PatientId, patient: &PatientContent) -> bool {
        fn equal<T: PartialEq>(asked: Option<&T>, value: Option<&T>) -> bool {
            asked.is_none() || asked == value
        }
        let born = first_day(&patient.date_of_birth);
        equal(self.id.as_ref(), Some(&id))
            && equal(self.first_name.as_ref(), Some(&patient.first_name))
            && equal(self.last_name.as_ref(), patient.last_name.as_ref())
            && equal(self.full_name.as_ref(), patient.full_name.as_ref())
            && equal(self.gender.as_ref(), Some(&patient.gender))
            && equal(self.post_code.as_ref(), Some(&patient.post_code))
            && equal(self.insurance_number.as_ref(), patient.insurance_number.as_ref())
            && equal(
                self.preferred_contact_number.as_ref(),
                patient.preferred_contact_number.as_ref(),
            )
            && self.date_of_birth_from.is_none_or(|from| born.is_some_and(|born| from <= born))
            && self.date_of_birth_to.is_none_or(|to| born.is_some_and(|born| born <= to))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn criteria(value: &Value) -> Result<SearchCriteria, Invalid> {
        SearchCriteria::from_body(value.as_object().unwrap())
    }

    #[test]
    fn operators_null_and_empty_strings_are_refused() {
        for body in [
            json!({"firstName": {"$ne": ""}}),
            json!({"firstName": null}),
            json!({"firstName": ""}),
            json!({"$where": "1"}),
            json!({"tests": "1"}),
            json!({"dateOfBirthFrom": "2001-02-29"}),
        ] {
            assert_eq!(criteria(&body).unwrap_err().0.len(), 1, "{body}");
        }
        assert_eq!(criteria(&json!({})).unwrap(), SearchCriteria::default());
    }

    #[test]
    fn a_birth_year_matches_as_its_first_day() {
        let patient: PatientContent = serde_json::from_value(json!(
            {"firstName": "A", "gender": "other", "dateOfBirth": "1980", "postCode": "1234"}
        ))
        .unwrap();
        let id = "6f9619ff-8b86-d011-b42d-00cf4fc964ff".parse().unwrap();
        let check = |body: Value, expected: bool| {
            assert_eq!(criteria(&body).unwrap().matches(id, &patient), expected, "{body}");
        };
        check(json!({"dateOfBirthFrom": "1980-01-01", "dateOfBirthTo": "1980-01-01"}), true);
        check(json!({"dateOfBirthFrom": "1980-01-02"}), false);
        check(json!({"dateOfBirthTo": "1979"}), false);
        check(json!({"firstName": "a"}), false);
        check(json!({"lastName": "A"}), false);
        check(json!({"id": "6F9619FF-8B86-D011-B42D-00CF4FC964FF", "gender": "other"}), true);
    }
}
