//! JSON of clients: one meaning for every accepted body.
//!
//! RFC 8259 leaves duplicate members to the reader; two readers that choose differently
//! see two different patients, so they are refused (RFC 7493 §2.3).

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Levels of nesting accepted. Content of the API needs three.
pub const MAX_DEPTH: usize = 16;

/// Why a body is not acceptable JSON. Names a place, never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// There is no body.
    #[error("the body is empty; a JSON object is required")]
    Empty,
    /// Not JSON as RFC 8259 defines it.
    #[error("the body is not valid JSON (line {line}, column {column})")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A member's name stands twice in one object.
    #[error("the body has an object with a duplicate member (line {line}, column {column})")]
    DuplicateMember {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Nested more than [`MAX_DEPTH`] levels.
    #[error("the body is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    /// Valid JSON, but not an object.
    #[error("\"value\" must be of type object")]
    NotAnObject,
}

const DUPLICATE: &str = "duplicate member";
const TOO_DEEP: &str = "nested too deep";

/// Parses a body that must be one JSON object.
pub fn parse_object(body: &[u8]) -> Result<Map<String, Value>, JsonError> {
    match parse(body)? {
        Value::Object(object) => Ok(object),
        _ => Err(JsonError::NotAnObject),
    }
}

/// Parses any JSON value without duplicate members, at most [`MAX_DEPTH`] levels deep.
pub fn parse(body: &[u8]) -> Result<Value, JsonError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(JsonError::Empty);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer);
    value.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        if text.starts_with(DUPLICATE) {
            JsonError::DuplicateMember { line, column }
        } else if text.starts_with(TOO_DEEP) {
            JsonError::TooDeep
        } else {
            JsonError::Malformed { line, column }
        }
    })
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_serde_json_accepts() {
        let text = r#"{"a":[1,-2,3.5,"x",null,true],"b":{"c":"\u00e9"}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn names_what_is_wrong_and_never_the_content() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(parse_object(text.as_bytes()).unwrap_err().to_string(), expected);
        }
        check("", "the body is empty; a JSON object is required");
        check(" \n", "the body is empty; a JSON object is required");
        check("[]", "\"value\" must be of type object");
        check("\"Jane\"", "\"value\" must be of type object");
        check("{\"a\":Jane}", "the body is not valid JSON (line 1, column 6)");
        check("{} {}", "the body is not valid JSON (line 1, column 4)");
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
        check(&deep, "the body is nested more than 16 levels deep");
        let very_deep = "[".repeat(500_000);
        check(&very_deep, "the body is nested more than 16 levels deep");
    }

    #[test]
    fn duplicate_members_are_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#] {
            assert!(matches!(parse(text.as_bytes()), Err(JsonError::DuplicateMember { .. })));
        }
    }
}
