//! The `Bundle` that answers a search. Pure.

use projections::documents::{ActivityDoc, ActivityPage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::audit_event;
use crate::activity::Parameters;

/// A page of resources with where it is and where the next one is.
pub(super) fn searchset(page: &ActivityPage, parameters: &Parameters) -> Value {
    let link = |relation: &str, query: String| {
        // Relative to the base, because the address that clients use is not known here.
        let mark = if query.is_empty() { "" } else { "?" };
        json!({"relation": relation, "url": format!("AuditEvent{mark}{query}")})
    };
    let mut links = vec![link("self", parameters.query())];
    links.extend(page.next.map(|seq| link("next", parameters.link(seq))));
    let mut bundle = json!({"resourceType": "Bundle", "type": "searchset", "link": links});
    let entries: Vec<Value> = page.documents.iter().map(entry).collect();
    // FHIR knows no empty array.
    if !entries.is_empty() {
        bundle["entry"] = entries.into();
    }
    bundle
}

fn entry(document: &ActivityDoc) -> Value {
    json!({
        "fullUrl": format!("urn:uuid:{}", uuid(document)),
        "resource": audit_event::of(document),
        "search": {"mode": "match"},
    })
}

/// A name of the record that is the same in every answer and no other record's.
fn uuid(document: &ActivityDoc) -> Uuid {
    let ActivityDoc { seq, at, record_type, actor, source, trace, .. } = document;
    let text = format!("{seq} {at} {record_type} {} {source} {trace:?}", actor.id);
    let hash = Sha256::digest(text);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}
