//! Lines as an answer: how many were asked for, and how many fit.

use std::time::Duration;

use axum::{
    http::{HeaderName, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use domain::ids::MAX_SAFE_INTEGER;
use runtime::problem::Problem;

use crate::block::Block;

/// Lines of one answer at most, and by default.
const MAX_LIMIT: usize = 10_000;
const DEFAULT_LIMIT: usize = 1_000;

/// Bytes of one answer, about: the line that passes it is the last.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Longest wait for a record that is not there yet.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Set where there are more lines than the answer has.
const MORE: HeaderName = HeaderName::from_static("x-vitalog-more");

/// The query of a request for lines.
pub(crate) struct LinesQuery {
    /// Position or version to begin at.
    pub(crate) from: u64,
    /// Lines at most.
    pub(crate) limit: usize,
    /// How long to wait for the first of them.
    pub(crate) wait: Duration,
}

impl LinesQuery {
    /// Reads a query that may have these members, each at most once.
    pub(crate) fn parse(query: Option<&str>, allowed: &[&str]) -> Result<Self, Problem> {
        let mut parsed = Self { from: 0, limit: DEFAULT_LIMIT, wait: Duration::ZERO };
        let mut given = Vec::with_capacity(allowed.len());
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !allowed.contains(&name) {
                let detail = format!("the query takes {} only", allowed.join(", "));
                return Err(Problem::bad_request(detail));
            }
            if given.contains(&name) {
                return Err(Problem::bad_request(format!("{name} must be given at most once")));
            }
            given.push(name);
            match name {
                "from" => parsed.from = number("from", value)?,
                "limit" => {
                    let limit = number("limit", value)?;
                    if limit == 0 {
                        return Err(Problem::bad_request("limit must be at least 1"));
                    }
                    parsed.limit = usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT);
                }
                _ => parsed.wait = Duration::from_secs(number("wait", value)?).min(MAX_WAIT),
            }
        }
        Ok(parsed)
    }
}

/// A whole number of a path or query.
pub(crate) fn number(name: &str, text: &str) -> Result<u64, Problem> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().ok() } else { None };
    value.filter(|value| *value <= MAX_SAFE_INTEGER).ok_or_else(|| {
        Problem::bad_request(format!("{name} must be a whole number from 0 to {MAX_SAFE_INTEGER}"))
    })
}

/// NDJSON in the making.
pub(crate) struct Lines {
    text: String,
    left: usize,
}

impl Lines {
    pub(crate) fn new(limit: usize) -> Self {
        Self { text: String::new(), left: limit }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.left == 0 || self.text.len() >= MAX_ANSWER_BYTES
    }

    pub(crate) fn push(&mut self, line: &str) -> bool {
        if self.is_full() {
            return false;
        }
        self.text.push_str(line);
        self.text.push('\n');
        self.left -= 1;
        true
    }

    /// Adds a block's lines from `from` on; returns the position after the last one added.
    pub(crate) fn add(&mut self, block: &Block, from: u64) -> u64 {
        let skip = usize::try_from(from - block.first).unwrap_or(usize::MAX);
        let added = block.lines.iter().skip(skip).take_while(|line| self.push(line)).count();
        from + added as u64
    }

    pub(crate) fn into_response(self, more: bool) -> Response {
        let mut response = ndjson(self.text);
        if more {
            response.headers_mut().insert(MORE, "true".parse().expect("ASCII"));
        }
        response
    }
}

/// Lines as they are.
pub(crate) fn ndjson(text: String) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], text).into_response()
}
