//! Who changed which of a patient's fields, when and why, page by page.

use std::mem;

use axum::extract::FromRequestParts;
use domain::{
    actor::{Actor, Outcome, Purpose},
    changes::{Change, between, fields},
    event::Recorded,
    hash::Hash,
    ids::{MAX_SAFE_INTEGER, Name, PatientId, Stream, TestId},
    patient::Patient,
    record::{Record, RecordType},
    time::Timestamp,
    wire::Proposal,
};
use http::{StatusCode, request::Parts};
use projections::history::Reading;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    answer::Answer,
    caller::Requester,
    error::{Failure, Missing},
    past::{self, Past},
    query::{Pairs, whole_number},
    reads::READ_TIMEOUT,
    state::App,
};

/// Entries of one page at most, and by default.
const MAX_ENTRIES: u64 = 200;

/// Bytes of names and values in one page's changes, about: the entry that passes it is the last.
const MAX_CHANGES_BYTES: usize = 4 * 1024 * 1024;

/// One event, with where its record stands and what it changed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    version: u64,
    seq: u64,
    hash: Hash,
    at: Timestamp,
    #[serde(rename = "type")]
    record_type: RecordType,
    actor: Actor,
    purpose: Purpose,
    source: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    test_id: Option<TestId>,
    changes: Vec<Change>,
}

/// Which page of a history, from the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    limit: u64,
    /// The version that the page before ended with.
    after: u64,
}

impl Page {
    fn read(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, Failure> {
        let number = |text: Option<&str>, absent| text.map_or(Some(absent), whole_number);
        let limit = number(limit, MAX_ENTRIES).filter(|limit| (1..=MAX_ENTRIES).contains(limit));
        let after = number(cursor, 0);
        Ok(Self {
            limit: limit.ok_or(Failure::Limit(MAX_ENTRIES))?,
            after: after.filter(|it| *it <= MAX_SAFE_INTEGER).ok_or(Failure::Cursor)?,
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let pairs = Pairs::of(parts)?;
        Self::read(pairs.one("limit")?, pairs.one("cursor")?)
    }
}

/// Reads a page of the history, and answers only when the access to it is in the ledger.
pub(crate) async fn run(
    app: &App,
    patient: PatientId,
    page: Page,
    requester: &Requester,
) -> Result<Answer, Failure> {
    let read = async {
        let _turn = app.past.take().await?;
        let mut told = Told::new(patient, page);
        let (receipt, version) = past::read(app, patient, &mut told, requester).await?;
        if version == 0 {
            return Err(Failure::NotFound(Missing::Patient, Some(Box::new(receipt))));
        }
        let answer = Answer::json(StatusCode::OK, &receipt, &told.entries);
        let end = told.state.version;
        Ok(if end < version {
            answer.link(&format!("<?limit={}&cursor={end}>; rel=\"next\"", page.limit))
        } else {
            answer
        })
    };
    timeout(READ_TIMEOUT, read).await.unwrap_or(Err(Failure::ReadTimedOut))
}

/// A page in the making.
struct Told {
    patient: PatientId,
    page: Page,
    /// After the last event that counted: of this page, or of those before.
    state: Patient,
    entries: Vec<Entry>,
    /// Of names and values in the changes.
    bytes: usize,
}

impl Told {
    fn new(patient: PatientId, page: Page) -> Self {
        Self { patient, page, state: Patient::default(), entries: Vec::new(), bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.bytes >= MAX_CHANGES_BYTES
    }
}

impl Reading for Told {
    fn wants(&self, record: &Record) -> bool {
        let last = self.page.after + self.page.limit;
        !self.is_full() && record.version.is_some_and(|version| version <= last)
    }

    fn take(&mut self, record: &Record, line: &str, recorded: Recorded) {
        if self.is_full() {
            return;
        }
        let test = recorded.event.test();
        let shown = recorded.version > self.page.after;
        let before = if shown { fields(&self.state, test) } else { Vec::new() };
        self.state = mem::take(&mut self.state).evolve(&recorded);
        if !shown {
            return;
        }
        let changes = between(&before, &fields(&self.state, test));
        let length = |text: &Option<String>| text.as_deref().map_or(0, str::len);
        let lengths = changes.iter().map(|it| it.field.len() + length(&it.from) + length(&it.to));
        self.bytes += lengths.sum::<usize>();
        self.entries.push(Entry {
            version: recorded.version,
            seq: record.seq,
            hash: Hash::of_line(line),
            at: recorded.at,
            record_type: record.record_type,
            actor: record.actor.clone(),
            purpose: record.purpose,
            source: record.source.clone(),
            test_id: test,
            changes,
        });
    }
}

impl Past for Told {
    fn shown(&self) -> u64 {
        self.state.version
    }

    fn access(&self, requester: &Requester) -> Proposal {
        let version = self.state.version;
        let outcome = if version == 0 { Outcome::NotFound } else { Outcome::Success };
        Proposal {
            stream: Some(Stream::Patient(self.patient)),
            version: (version > 0).then_some(version),
            ..requester.proposal(RecordType::HistoryRead, outcome)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::{
        actor::ActorKind,
        chain::Link,
        content::{Observation, TestContent},
        event::Event,
    };
    use uuid::Uuid;

    #[test]
    fn a_page_is_bounded_and_its_cursor_a_version() {
        #[track_caller]
        fn check(limit: Option<&str>, cursor: Option<&str>, expected: Option<(u64, u64)>) {
            let page = Page::read(limit, cursor).ok().map(|page| (page.limit, page.after));
            assert_eq!(page, expected, "{limit:?} {cursor:?}");
        }
        check(None, None, Some((MAX_ENTRIES, 0)));
        check(Some("1"), Some("0"), Some((1, 0)));
        check(Some("200"), Some("9007199254740991"), Some((200, MAX_SAFE_INTEGER)));
        for limit in ["0", "201", "-1", "", "ten", "1e2"] {
            check(Some(limit), None, None);
        }
        for cursor in ["", "-1", "+1", "x", "9007199254740992"] {
            check(None, Some(cursor), None);
        }
    }

    #[test]
    fn a_page_ends_where_its_changes_grow_large_and_the_next_goes_on_there() {
        const TEST: TestId = TestId::new(Uuid::nil());
        let patient = PatientId::new(Uuid::nil());
        let content = |fill: &str| {
            let text = fill.repeat(1_000);
            let observation = Observation {
                id: text.clone(),
                code: text.clone(),
                measurement: text.clone(),
                interpretation: text.clone(),
                status: text,
                issued: "2002".to_owned(),
            };
            let observations = vec![observation; 9];
            TestContent { performer: "p".into(), order_reference: "o".into(), observations }
        };
        let body = serde_json::json!({"firstName": "A", "gender": "other", "dateOfBirth": "1980",
            "postCode": "1234"});
        let mut events = vec![Event::PatientRegistered(serde_json::from_value(body).unwrap())];
        events.push(Event::TestRecorded { test: TEST, content: content("a") });
        let amended =
            ["b", "a"].map(|fill| Event::TestAmended { test: TEST, content: content(fill) });
        events.extend(amended.into_iter().cycle().take(150));
        let id: Name = "clinic".parse().unwrap();
        let actor = Actor { id: id.clone(), kind: ActorKind::Subscription, roles: vec![] };
        let mut after = 0;
        let mut versions = Vec::new();
        let mut pages = 0;
        loop {
            let mut told = Told::new(patient, Page { limit: MAX_ENTRIES, after });
            for (version, event) in (1..).zip(&events) {
                let proposal = Proposal {
                    version: Some(version),
                    ..Proposal::new(
                        event.record_type(),
                        actor.clone(),
                        Purpose::Treatment,
                        Outcome::Success,
                    )
                };
                let at = Timestamp::EPOCH;
                let record = proposal.into_record(id.clone(), id.clone(), &Link::genesis(), at);
                if !told.wants(&record) {
                    break;
                }
                told.take(&record, "", Recorded { version, at, event: event.clone() });
            }
            if told.entries.is_empty() {
                break;
            }
            assert!(told.bytes < MAX_CHANGES_BYTES + 200_000);
            versions.extend(told.entries.iter().map(|entry| entry.version));
            assert!(told.entries.iter().all(|entry| !entry.changes.is_empty()));
            after = told.shown();
            pages += 1;
        }
        assert!(pages > 2, "{pages}");
        assert!(versions.into_iter().eq(1..=events.len() as u64));
    }
}
