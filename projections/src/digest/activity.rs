//! Digests and comparisons of activity: of the records below a position, which no follower
//! changes any more.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::{Name, PatientId, TestId, TraceId},
    record::RecordType,
    time::Timestamp,
};
use serde::Serialize;
use uuid::Uuid;

use super::{Difference, Document, Kind, Scan, compare_scans, finish, line::Entry};
use crate::{
    documents::{ActivityDoc, ActivityFilter, Generation},
    store::{ReadModels, StoreError},
};

/// One hash over the activity of a generation, and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivityDigest {
    /// Documents, one a record.
    pub records: u64,
    /// SHA-256 over one line of canonical JSON (RFC 8785) for each document, each ended by a
    /// line feed: newest first.
    pub hash: Hash,
    /// `seq` of the first record that is not covered.
    pub up_to: u64,
}

/// The digest of the activity below `up_to`.
pub async fn activity_digest(
    store: &dyn ReadModels,
    generation: Generation,
    up_to: u64,
) -> Result<ActivityDigest, StoreError> {
    let mut context = Context::new(&SHA256);
    let scan = Scan::new(store, generation, Kind::Activity { up_to });
    let records = scan.add_to(&mut context).await?;
    Ok(ActivityDigest { records, hash: finish(context), up_to })
}

/// The activity documents below `up_to` that differ between two generations, newest first, at
/// most `limit`.
pub async fn compare_activity(
    store: &dyn ReadModels,
    first: Generation,
    second: Generation,
    up_to: u64,
    limit: usize,
) -> Result<Vec<Difference>, StoreError> {
    let scan = |generation| Scan::new(store, generation, Kind::Activity { up_to });
    let mut differences = Vec::new();
    compare_scans(scan(first), scan(second), limit, &mut differences).await?;
    Ok(differences)
}

/// The entry of one record.
pub(super) async fn entry(
    store: &dyn ReadModels,
    generation: Generation,
    seq: u64,
) -> Result<Option<Entry>, StoreError> {
    let (all, before) = (ActivityFilter::default(), Some(seq.saturating_add(1)));
    let page = store.activity(generation, &all, before, 1).await?;
    Ok(page.documents.first().filter(|document| document.seq == seq).map(Entry::from))
}

/// Ascending ids are newest first.
fn id(seq: u64) -> Uuid {
    Uuid::from_u64_pair(0, u64::MAX - seq)
}

/// The seq of an entry's id.
pub(super) fn seq(id: Uuid) -> u64 {
    u64::MAX - id.as_u64_pair().1
}

/// Members in sorted order, so that serialising is canonicalising; absent ones are left out.
#[derive(Serialize)]
struct Line<'a> {
    actor: ActorMembers<'a>,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    outcome: Outcome,
    patients: &'a [PatientId],
    purpose: Purpose,
    seq: u64,
    source: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<TestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceId>,
    r#type: RecordType,
}

#[derive(Serialize)]
struct ActorMembers<'a> {
    id: &'a Name,
    kind: ActorKind,
    roles: &'a [Name],
}

impl From<&ActivityDoc> for Entry {
    fn from(document: &ActivityDoc) -> Self {
        let ActivityDoc { seq, at, record_type, outcome, purpose, actor, source, .. } = document;
        let ActivityDoc { client, trace, test, patients, .. } = document;
        let Actor { id: name, kind, roles } = actor;
        let line = Line {
            actor: ActorMembers { id: name, kind: *kind, roles },
            at: *at,
            client: *client,
            outcome: *outcome,
            patients,
            purpose: *purpose,
            seq: *seq,
            source,
            test: *test,
            trace: *trace,
            r#type: *record_type,
        };
        let line = serde_json::to_string(&line).expect("strings and integers always serialise");
        Self { id: id(*seq), document: Document::Activity(*seq), version: 0, line }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_canonical_json_of_all_members() {
        #[track_caller]
        fn check(document: &ActivityDoc, members: usize) {
            let line = Entry::from(document).line;
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line, serde_jcs::to_string(&value).unwrap());
            assert_eq!(value.as_object().unwrap().len(), members);
        }
        let id = Uuid::from_u128(7);
        let name = |text: &str| text.parse::<Name>().unwrap();
        let bare = ActivityDoc {
            seq: 3,
            at: Timestamp::from_millis(1_700_000_000_123),
            record_type: RecordType::PatientsSearched,
            outcome: Outcome::NotFound,
            purpose: Purpose::BreakTheGlass,
            actor: Actor { id: name("clinic"), kind: ActorKind::Subscription, roles: vec![] },
            source: name("patient-service"),
            client: None,
            trace: None,
            test: None,
            patients: vec![],
        };
        check(&bare, 8);
        let full = ActivityDoc {
            client: Some("2001:db8::7".parse().unwrap()),
            trace: TraceId::new([7; 16]),
            test: Some(TestId::new(id)),
            patients: vec![PatientId::new(id)],
            actor: Actor { roles: vec![name("nurse")], ..bare.actor.clone() },
            ..bare
        };
        check(&full, 11);
    }
}
