//! What servers answer, read within bounds.

use std::time::Duration;

use audit_verify::{
    checkpoint::TreeHead,
    proof_file::{MAX_HASHES, hash_from_base64},
};
use domain::{
    hash::Hash,
    merkle::{ProofError, check_consistency},
};
use http::{HeaderMap, header::RETRY_AFTER};
use serde::Deserialize;

use super::error::SourceError;

/// What a server says about its own error is cut to this many characters.
const MAX_DETAIL: usize = 200;

/// Hashes of a consistency proof at most: one more than those of an inclusion proof.
const MAX_CONSISTENCY_HASHES: usize = MAX_HASHES + 1;

/// A proof that a larger ledger begins with a smaller one, as `/consistency` serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Consistency {
    from: u64,
    to: u64,
    hashes: Vec<Hash>,
}

#[derive(Deserialize)]
struct ConsistencyJson {
    from: SizeJson,
    to: SizeJson,
    hashes: Vec<String>,
}

/// What it says itself about the roots would prove nothing, and is not read.
#[derive(Deserialize)]
struct SizeJson {
    size: u64,
}

impl Consistency {
    /// Reads the JSON form; `None` if it is none.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        let json: ConsistencyJson = serde_json::from_slice(json).ok()?;
        if json.hashes.len() > MAX_CONSISTENCY_HASHES {
            return None;
        }
        let hashes: Option<Vec<Hash>> =
            json.hashes.iter().map(|hash| hash_from_base64(hash)).collect();
        Some(Self { from: json.from.size, to: json.to.size, hashes: hashes? })
    }

    /// Checks that it proves that the tree `to` begins with the tree `from`.
    pub(crate) fn check(&self, from: TreeHead, to: TreeHead) -> Result<(), ProofError> {
        if self.sizes() != (from.size, to.size) {
            return Err(ProofError::Range);
        }
        check_consistency((from.size, from.root), (to.size, to.root), &self.hashes)
    }

    /// The sizes that it is about.
    pub(crate) const fn sizes(&self) -> (u64, u64) {
        (self.from, self.to)
    }
}

/// Reads a body to its end, or to one byte beyond the bound.
pub(super) async fn read_body(
    mut response: reqwest::Response,
    url: &str,
    bound: usize,
) -> Result<Vec<u8>, SourceError> {
    let too_long = || SourceError::TooLong { url: url.to_owned(), bound };
    if response.content_length().is_some_and(|length| length > bound as u64) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| SourceError::BrokenOff {
            url: url.to_owned(),
            source: error.without_url(),
        })?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if bytes.len() + chunk.len() > bound {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// What a problem document says, without anything that could disturb a terminal.
pub(super) fn detail_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let text = problem.and_then(|problem| problem.detail.or(problem.title)).unwrap_or_default();
    text.chars().filter(|character| !character.is_control()).take(MAX_DETAIL).collect()
}

/// `Retry-After` in seconds; its other form, a date, is taken for none.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_consistency_proof_is_about_the_sizes_that_were_asked_for() {
        let leaf = Hash::of_line("a");
        let (old, new) = (TreeHead { size: 1, root: leaf }, TreeHead { size: 1, root: leaf });
        let json = |from: u64| {
            format!(
                r#"{{"from":{{"size":{from},"root":"{leaf}"}},"to":{{"size":1,"root":"{leaf}"}},"hashes":[]}}"#
            )
        };
        assert_eq!(Consistency::parse(json(1).as_bytes()).unwrap().check(old, new), Ok(()));
        let other = Consistency::parse(json(0).as_bytes()).unwrap();
        assert_eq!(other.check(old, new), Err(ProofError::Range));
        assert_eq!(Consistency::parse(b"{}"), None);
        assert_eq!(Consistency::parse(json(1).replace("[]", "[\"x\"]").as_bytes()), None);
        let many = format!("[{}]", vec!["\"\""; 65].join(","));
        assert_eq!(Consistency::parse(json(1).replace("[]", &many).as_bytes()), None);
    }

    #[test]
    fn details_are_short_and_printable() {
        assert_eq!(detail_of(br#"{"title":"t","detail":"a\u001b[31mb"}"#), "a[31mb");
        assert_eq!(detail_of(b"<html>"), "");
        let long = format!(r#"{{"detail":"{}"}}"#, "x".repeat(1_000));
        assert_eq!(detail_of(long.as_bytes()).len(), MAX_DETAIL);
    }
}
