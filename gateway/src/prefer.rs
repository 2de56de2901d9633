//! `Prefer: proof` (RFC 7240): where the proof of an answer's record is to be had.

use http::header::{HeaderMap, HeaderName, HeaderValue};

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RECEIPT: HeaderName = HeaderName::from_static("audit-receipt");
const PROOF: HeaderName = HeaderName::from_static("audit-proof");

/// Adds to an answer that shows a receipt where its proof is, if the client asked for that.
pub(crate) fn add_proof(asked: &HeaderMap, answer: &mut HeaderMap) {
    if !wants_proof(asked) {
        return;
    }
    let seq = answer.get(RECEIPT).and_then(|receipt| seq_of(receipt.to_str().ok()?));
    // Digits and fixed text make a header.
    let link = seq.map(|seq| {
        format!("</audit/records/{seq}/proof>; rel=\"describedby\"; type=\"text/plain\"")
    });
    if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
        answer.insert(PROOF, link);
        answer.append(APPLIED, HeaderValue::from_static("proof"));
    }
}

/// Whether a preference is called `proof`; its value and parameters have no meaning.
fn wants_proof(asked: &HeaderMap) -> bool {
    let values = asked.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    preferences.any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("proof")
    })
}

/// The position that a receipt names: `seq=<n>, hash="<hex>"`.
fn seq_of(receipt: &str) -> Option<u64> {
    receipt.strip_prefix("seq=")?.split(',').next()?.parse().ok()
}
