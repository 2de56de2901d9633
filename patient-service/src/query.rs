//! The query of a request, as pairs of names and values.

use axum::extract::Query;
use http::request::Parts;

use crate::error::Failure;

/// A query, decoded.
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl Pairs {
    /// What the query's parser says may repeat the query, and is dropped.
    pub(crate) fn of(parts: &Parts) -> Result<Self, Failure> {
        let Query(pairs) = Query::try_from_uri(&parts.uri).map_err(|_| Failure::MalformedQuery)?;
        Ok(Self(pairs))
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&str>, Failure> {
        let mut values = self.0.iter().filter(|(it, _)| it == name).map(|(_, value)| &**value);
        let value = values.next();
        if values.next().is_some() { Err(Failure::GivenTwice(name)) } else { Ok(value) }
    }
}

/// A whole number in digits alone: a sign is none of the document's.
pub(crate) fn whole_number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
