//! Reading a JSON object field by field, keeping every complaint.
//!
//! The wordings are those that existing clients know (contract, "The old wordings").

use serde_json::{Map, Value};

use crate::ids::IdError;

/// One complaint about one field. Never holds what the client sent.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldError {
    /// Path of the field, such as `observations[0].issued`; names of the contract only.
    pub field: String,
    /// The complaint, in full.
    pub detail: String,
}

/// Every complaint about one body, in the order of the fields; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.first().map_or("the content is not valid", |first| first.detail.as_str()))]
pub struct Invalid(pub Vec<FieldError>);

/// Complaints kept at most; a body of 1 MiB could hold a hundred thousand.
pub const MAX_ERRORS: usize = 100;

/// A reader of one JSON object.
///
/// Each field is asked for once; [`Fields::finish`] then refuses what nobody asked for.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    prefix: String,
    asked: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<'a> Fields<'a> {
    /// Reads `object`, whose fields are called `prefix` + name in complaints.
    pub fn new(object: &'a Map<String, Value>, prefix: impl Into<String>) -> Self {
        Self { object, prefix: prefix.into(), asked: Vec::new(), errors: Vec::new() }
    }

    /// The field's value, if present; marks the field as known.
    pub fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.object.get(name)
    }

    /// Adds a complaint: `"<field>" <what>`.
    pub fn complain(&mut self, name: &str, what: &str) {
        let field = format!("{}{name}", self.prefix);
        let detail = format!("\"{field}\" {what}");
        self.push(FieldError { field, detail });
    }

    /// Adds a complaint in its own words.
    pub fn complain_verbatim(&mut self, name: &str, detail: &str) {
        let field = format!("{}{name}", self.prefix);
        self.push(FieldError { field, detail: detail.to_owned() });
    }

    /// Takes over the complaints of a nested reader.
    pub fn absorb(&mut self, errors: Vec<FieldError>) {
        for error in errors {
            self.push(error);
        }
    }

    /// A string of 1 to `max` Unicode scalar values; a missing one is a complaint.
    pub fn required(&mut self, name: &'static str, max: usize) -> Option<String> {
        match self.take(name) {
            None => {
                self.complain(name, "is required");
                None
            }
            Some(value) => self.string(name, value, max),
        }
    }

    /// A string of 1 to `max` Unicode scalar values, if present.
    pub fn optional(&mut self, name: &'static str, max: usize) -> Option<String> {
        let value = self.take(name)?;
        self.string(name, value, max)
    }

    /// A required string that `parse` accepts; otherwise the complaint is `what`.
    pub fn required_parsed<T>(
        &mut self,
        name: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.required(name, usize::MAX)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.complain(name, what);
        }
        parsed
    }

    /// An optional string that `parse` accepts; otherwise the complaint is `what`.
    pub fn optional_parsed<T>(
        &mut self,
        name: &'static str,
        what: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        if self.object.contains_key(name) {
            self.required_parsed(name, what, parse)
        } else {
            self.asked.push(name);
            None
        }
    }

    /// A field that must not be there, with the wording for when it is.
    pub fn refused(&mut self, name: &'static str, detail: &str) {
        if self.take(name).is_some() {
            self.complain_verbatim(name, detail);
        }
    }

    /// Refuses unknown fields and hands over all complaints.
    ///
    /// The name of an unknown field is the client's text and may be personal (a patient's
    /// name as a member's name), so it is shown only where it looks like a name of a schema.
    pub fn finish(mut self) -> Vec<FieldError> {
        let unknown: Vec<&String> =
            self.object.keys().filter(|key| !self.asked.contains(&key.as_str())).collect();
        for key in unknown {
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            if is_schema_name(key) {
                self.complain(key, "is not allowed");
            } else {
                self.complain("<unknown>", "is not allowed");
            }
        }
        self.errors
    }

    fn string(&mut self, name: &str, value: &Value, max: usize) -> Option<String> {
        let Value::String(text) = value else {
            self.complain(name, "must be a string");
            return None;
        };
        if text.is_empty() {
            self.complain(name, "is not allowed to be empty");
            return None;
        }
        if max != usize::MAX && text.chars().count() > max {
            let what = format!("length must be less than or equal to {max} characters long");
            self.complain(name, &what);
            return None;
        }
        Some(text.clone())
    }

    fn push(&mut self, error: FieldError) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }
}

/// The value if there were no complaints; a reader that complained has no value.
pub fn valid_or<T>(value: Option<T>, errors: Vec<FieldError>) -> Result<T, Invalid> {
    match value {
        Some(value) if errors.is_empty() => Ok(value),
        _ => Err(Invalid(errors)),
    }
}

/// A wrong id in a path or body, in the old wording.
pub fn guid_error(field: &str, _: IdError) -> FieldError {
    FieldError { field: field.to_owned(), detail: format!("\"{field}\" must be a valid GUID") }
}

/// camelCase ASCII of at most 32 characters, the form of every name in the contract, or a
/// Mongo-like operator; longer or freer text is not echoed.
fn is_schema_name(key: &str) -> bool {
    let mut bytes = key.bytes();
    key.len() <= 32
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_' || b == b'$')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
