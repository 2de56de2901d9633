//! Random patients and tests as the older system's load test made them.

use rand::{Rng, seq::IndexedRandom};

/// What a laboratory measures: code, lowest and highest value in tenths, unit.
const ANALYTES: [(&str, u32, u32, &str); 5] = [
    ("2951-2", 1280, 1480, "mmol/L"),
    ("2823-3", 33, 55, "mmol/L"),
    ("718-7", 110, 180, "g/dL"),
    ("2345-7", 650, 1400, "mg/dL"),
    ("2160-0", 5, 14, "mg/dL"),
];

/// A patient of random content, as JSON.
pub fn patient() -> String {
    let mut random = rand::rng();
    let (first, last) = (name(&mut random), name(&mut random));
    let gender = ["male", "female", "other", "unknown"].choose(&mut random).unwrap_or(&"unknown");
    let (year, month, day) =
        (random.random_range(1920..2020), random.random_range(1..13), random.random_range(1..29));
    let post_code = random.random_range(0..10_000);
    let insurance = random.random_range(100_000_000..1_000_000_000);
    let phone = random.random_range(10_000_000..100_000_000);
    format!(
        r#"{{"firstName":"{first}","lastName":"{last}","fullName":"{first} {last}","gender":"{gender}","dateOfBirth":"{year}-{month:02}-{day:02}","postCode":"{post_code:04}","insuranceNumber":"{insurance}","preferredContactNumber":"+49{phone}"}}"#
    )
}

/// A patient without a first name, which must have one.
pub fn invalid_patient() -> String {
    let (last, year) = (name(&mut rand::rng()), rand::random_range(1920..2020));
    format!(r#"{{"lastName":"{last}","gender":"female","dateOfBirth":"{year}","postCode":"0815"}}"#)
}

/// A test of one random observation, as JSON.
pub fn test() -> String {
    let mut random = rand::rng();
    let (code, low, high, unit) = ANALYTES.choose(&mut random).unwrap_or(&ANALYTES[0]);
    let value = random.random_range(*low..*high);
    let (whole, tenth) = (value / 10, value % 10);
    let (laboratory, order) = (random.random_range(1..10), random.random_range(1..1_000_000));
    let (hour, minute) = (random.random_range(6..20), random.random_range(0..60));
    format!(
        r#"{{"performer":"Laboratory {laboratory}","orderReference":"ORDER-{order}","observations":[{{"id":"1","code":"{code}","measurement":"{whole}.{tenth} {unit}","interpretation":"normal","status":"final","issued":"2026-01-01T{hour:02}:{minute:02}:00Z"}}]}}"#
    )
}

/// Six upper-case letters.
fn name(random: &mut impl Rng) -> String {
    (0..6).map(|_| char::from(random.random_range(b'A'..=b'Z'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn patients_are_as_the_older_test_made_them() {
        for _ in 0..1_000 {
            let patient: Value = serde_json::from_str(&patient()).expect("JSON");
            let text = |member: &str| patient[member].as_str().expect("a text").to_owned();
            for name in [text("firstName"), text("lastName")] {
                assert!(name.len() == 6 && name.bytes().all(|b| b.is_ascii_uppercase()), "{name}");
            }
            assert!(("1920".."2020").contains(&&text("dateOfBirth")[..4]), "{patient}");
            let code = text("postCode");
            assert!(code.len() == 4 && code.bytes().all(|b| b.is_ascii_digit()), "{code}");
        }
    }

    #[test]
    fn other_bodies_are_json_too() {
        let invalid: Value = serde_json::from_str(&invalid_patient()).expect("JSON");
        assert!(invalid["firstName"].is_null() && invalid["lastName"].is_string());
        let test: Value = serde_json::from_str(&test()).expect("JSON");
        assert!(test["observations"][0]["measurement"].is_string(), "{test}");
    }
}
