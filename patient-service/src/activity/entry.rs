//! Activity as JSON.

use std::net::IpAddr;

use domain::{
    actor::{Actor, Outcome, Purpose},
    ids::{Name, PatientId, TestId, TraceId},
    record::RecordType,
    time::Timestamp,
};
use projections::documents::ActivityDoc;
use serde::Serialize;

/// A page of an accounting.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entries<'a> {
    /// Everything that fits, up to and including this record, is in this page or behind it.
    complete_to: u64,
    entries: Vec<Entry<'a>>,
}

/// What one record says.
#[derive(Serialize)]
struct Entry<'a> {
    seq: u64,
    at: Timestamp,
    #[serde(rename = "type")]
    record_type: RecordType,
    outcome: Outcome,
    purpose: Purpose,
    actor: &'a Actor,
    source: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<TestId>,
    patients: &'a [PatientId],
}

impl<'a> Entries<'a> {
    pub(super) fn of(complete_to: u64, documents: &'a [ActivityDoc]) -> Self {
        Self { complete_to, entries: documents.iter().map(Entry::of).collect() }
    }
}

impl<'a> Entry<'a> {
    fn of(document: &'a ActivityDoc) -> Self {
        Self {
            seq: document.seq,
            at: document.at,
            record_type: document.record_type,
            outcome: document.outcome,
            purpose: document.purpose,
            actor: &document.actor,
            source: &document.source,
            client: document.client,
            trace: document.trace,
            test: document.test,
            patients: &document.patients,
        }
    }
}
