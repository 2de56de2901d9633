//! What an event changed, field by field. Pure.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::Value;

use crate::{
    content::hidden_debug,
    ids::TestId,
    patient::{Lifecycle, Patient, Test},
};

/// One field that has another value than before.
///
/// A field's name is its path in the JSON that clients see: `lastName`, `performer`,
/// `observations[2].measurement`. Observations are counted from 0, as they stand in the test:
/// their ids are the laboratory's and need not differ.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The field.
    pub field: String,
    /// Its value before; absent where it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its value after; absent where it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

hidden_debug!(Change);

/// The fields of a patient or a test, by their names: all that there is in it.
pub type Fields = Vec<(String, String)>;

/// The fields of a patient, or of one of her tests, as a state has them; none where she or it is
/// not there to see.
pub fn fields(state: &Patient, test: Option<TestId>) -> Fields {
    match (&state.lifecycle, test.map(|test| state.tests.get(&test))) {
        (Lifecycle::Active(current), None) => fields_of(&current.content),
        (Lifecycle::Active(_), Some(Some(Test::Active { current, .. }))) => {
            fields_of(&current.content)
        }
        _ => Fields::new(),
    }
}

/// What changed from one to the other: what was there before comes first, then what is new.
pub fn between(before: &Fields, after: &Fields) -> Vec<Change> {
    let (known, there) = (by_name(before), by_name(after));
    let change = |field: &str, from: Option<&str>, to: Option<&str>| Change {
        field: field.to_owned(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let changed = before
        .iter()
        .map(|(field, from)| (field, Some(from.as_str()), there.get(field.as_str()).copied()))
        .filter(|(_, from, to)| from != to)
        .map(|(field, from, to)| change(field, from, to));
    let added = after
        .iter()
        .filter(|(field, _)| !known.contains_key(field.as_str()))
        .map(|(field, to)| change(field, None, Some(to)));
    changed.chain(added).collect()
}

fn by_name(fields: &Fields) -> BTreeMap<&str, &str> {
    fields.iter().map(|(field, value)| (field.as_str(), value.as_str())).collect()
}

fn fields_of(content: &impl Serialize) -> Fields {
    let content = serde_json::to_value(content).expect("content is strings and arrays");
    let mut fields = Fields::new();
    collect(content, String::new(), &mut fields);
    fields
}

fn collect(value: Value, path: String, fields: &mut Fields) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let dot = if path.is_empty() { "" } else { "." };
                collect(value, format!("{path}{dot}{name}"), fields);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.into_iter().enumerate() {
                collect(item, format!("{path}[{index}]"), fields);
            }
        }
        Value::String(text) => fields.push((path, text)),
        other => fields.push((path, other.to_string())),
    }
}
