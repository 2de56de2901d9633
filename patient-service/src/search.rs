//! Searching patients, page by page.

use axum::extract::FromRequestParts;
use domain::{
    actor::Outcome,
    content::PatientView,
    ids::PatientId,
    record::RecordType,
    search::{MAX_PAGE, SearchCriteria},
    strict_json::parse_object,
    wire::{Proposal, Receipt},
};
use http::{StatusCode, request::Parts};
use projections::{
    documents::{Generation, PatientDoc, PatientState},
    sealing::seal_search,
    store::StoreError,
};
use tokio::time::timeout;

use crate::{
    answer::Answer,
    caller::Requester,
    error::{Failure, Missing},
    query::{Pairs, whole_number},
    reads::READ_TIMEOUT,
    state::App,
};

/// Searches of one request at most; every one but the last showed somebody who was removed or
/// erased before the search was recorded.
const MAX_SEARCHES: u32 = 4;

/// Which page of the results, from the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    limit: usize,
    after: Option<PatientId>,
}

impl Page {
    fn read(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, Failure> {
        let limit = match limit {
            None => MAX_PAGE,
            Some(text) => whole_number(text)
                .and_then(|limit| usize::try_from(limit).ok())
                .filter(|limit| (1..=MAX_PAGE).contains(limit))
                .ok_or(Failure::Limit(MAX_PAGE as u64))?,
        };
        let after = cursor.map(str::parse).transpose();
        Ok(Self { limit, after: after.map_err(|_| Failure::Cursor)? })
    }

    /// Where the page behind `last` is, relative to this one.
    fn next(self, last: PatientId) -> String {
        format!("<?limit={}&cursor={last}>; rel=\"next\"", self.limit)
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let pairs = Pairs::of(parts)?;
        Self::read(pairs.one("limit")?, pairs.one("cursor")?)
    }
}

/// Searches, and answers only when the search and whom it showed are in the ledger.
pub(crate) async fn run(
    app: &App,
    page: Page,
    requester: &Requester,
    body: &[u8],
) -> Result<Answer, Failure> {
    let criteria = SearchCriteria::from_body(&parse_object(body)?)?;
    timeout(READ_TIMEOUT, search(app, page, requester, &criteria))
        .await
        .unwrap_or(Err(Failure::ReadTimedOut))
}

async fn search(
    app: &App,
    page: Page,
    requester: &Requester,
    criteria: &SearchCriteria,
) -> Result<Answer, Failure> {
    let generation = app.generation()?;
    for _ in 0..MAX_SEARCHES {
        let found = Found::search(app, generation, page, criteria).await?;
        let receipt = record(app, requester, criteria, &found).await?;
        let Some(last) = found.documents.last() else {
            return Err(Failure::NotFound(Missing::Matches, Some(Box::new(receipt))));
        };
        if gone_since(app, generation, &found.documents).await? {
            continue;
        }
        app.store.confirm().await?;
        let next = found.more.then(|| page.next(last.id));
        let views: Vec<PatientView> = found.documents.into_iter().filter_map(view).collect();
        let answer = Answer::json(StatusCode::OK, &receipt, &views);
        return Ok(match next {
            Some(next) => answer.link(&next),
            None => answer,
        });
    }
    Err(Failure::StillChanging)
}

/// A page of what was found.
struct Found {
    /// Active patients.
    documents: Vec<PatientDoc>,
    /// There is a next page.
    more: bool,
}

impl Found {
    async fn search(
        app: &App,
        generation: Generation,
        page: Page,
        criteria: &SearchCriteria,
    ) -> Result<Self, StoreError> {
        // One more than asked for says whether there is a next page.
        let limit = page.limit + 1;
        let mut documents = app.store.search(generation, criteria, page.after, limit).await?;
        let more = documents.len() > page.limit;
        documents.truncate(page.limit);
        Ok(Self { documents, more })
    }
}

async fn record(
    app: &App,
    requester: &Requester,
    criteria: &SearchCriteria,
    found: &Found,
) -> Result<Receipt, Failure> {
    let key = app.ring.epoch_key((app.clock)()).await?;
    let subjects: Vec<_> = found.documents.iter().map(|document| document.id).collect();
    let outcome = if subjects.is_empty() { Outcome::NotFound } else { Outcome::Success };
    let access = Proposal {
        subjects,
        data: Some(seal_search(&key, criteria)),
        ..requester.proposal(RecordType::PatientsSearched, outcome)
    };
    app.audit.append(access).await.map_err(Failure::of_access)
}

/// Whether a patient who was found was removed or erased before the search was in the ledger:
/// on another replica that may be answered already, so nothing of hers is shown any more.
async fn gone_since(
    app: &App,
    generation: Generation,
    found: &[PatientDoc],
) -> Result<bool, StoreError> {
    let ids: Vec<PatientId> = found.iter().map(|document| document.id).collect();
    let cursors = app.store.cursors(generation, &ids).await?;
    for document in found {
        if cursors.get(&document.id) == Some(&document.version) {
            continue;
        }
        match app.store.patient(generation, document.id).await? {
            Some(PatientDoc { state: PatientState::Active { .. }, .. }) => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}

fn view(document: PatientDoc) -> Option<PatientView> {
    match document.state {
        PatientState::Active { current, .. } => Some(PatientView {
            id: document.id,
            last_updated: current.last_updated,
            content: current.content,
        }),
        PatientState::Removed | PatientState::Erased => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::{
        actor::{Actor, ActorKind, Purpose},
        chain::Link,
        ids::{KeyId, Name},
        record::{MAX_LINE_BYTES, MAX_SUBJECTS},
        time::Timestamp,
    };
    use projections::key_ring::DataKey;
    use serde_json::json;
    use uuid::Uuid;

    #[test]
    fn a_page_is_bounded_and_its_cursor_an_id() {
        #[track_caller]
        fn check(limit: Option<&str>, cursor: Option<&str>, accepted: bool) {
            assert_eq!(Page::read(limit, cursor).is_ok(), accepted, "{limit:?} {cursor:?}");
        }
        check(None, None, true);
        check(Some("1"), None, true);
        check(Some("1000"), Some("6f9619ff-8b86-d011-b42d-00cf4fc964ff"), true);
        for limit in ["0", "1001", "-1", "+1", "", "ten", "1e2"] {
            check(Some(limit), None, false);
        }
        for cursor in ["", "1", "{6f9619ff-8b86-d011-b42d-00cf4fc964ff}"] {
            check(None, Some(cursor), false);
        }
    }

    #[test]
    fn the_next_page_begins_behind_the_last_patient() {
        let last: PatientId = "6f9619ff-8b86-d011-b42d-00cf4fc964ff".parse().unwrap();
        let page = Page { limit: 10, after: None };
        assert_eq!(page.next(last), format!("<?limit=10&cursor={last}>; rel=\"next\""));
    }

    const _: () = assert!(MAX_PAGE <= MAX_SUBJECTS);

    #[test]
    fn the_largest_page_and_the_longest_criteria_fit_a_line() {
        // Control characters take six bytes each as JSON, more than any other character.
        let long = |characters: usize| "\u{1}".repeat(characters);
        let criteria = SearchCriteria::from_body(
            json!({
                "id": Uuid::max(), "firstName": long(64), "lastName": long(64),
                "fullName": long(128), "gender": "unknown", "postCode": long(64),
                "insuranceNumber": long(64), "preferredContactNumber": long(64),
                "dateOfBirthFrom": "1900-01-01", "dateOfBirthTo": "2100-01-01",
            })
            .as_object()
            .unwrap(),
        )
        .unwrap();
        let key = DataKey::from_parts(KeyId::new(Uuid::max()), [7; 32].into());
        let name: Name = "n".repeat(64).parse().unwrap();
        let record = Proposal {
            record_type: RecordType::PatientsSearched,
            stream: None,
            version: None,
            object: None,
            reason: None,
            subjects: vec![PatientId::new(Uuid::max()); MAX_SUBJECTS],
            schema: None,
            actor: Actor {
                id: name.clone(),
                kind: ActorKind::Subscription,
                roles: vec![name.clone(); runtime::headers::MAX_ACTOR_BYTES / 64],
            },
            client: Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()),
            purpose: Purpose::SystemAdministration,
            outcome: Outcome::Success,
            command: None,
            fresh: false,
            proof: false,
            trace: Some("f".repeat(32).parse().unwrap()),
            span: None,
            data: Some(seal_search(&key, &criteria)),
            external: None,
            subscription: None,
            key: None,
        }
        .into_record(name.clone(), name, &Link::genesis(), Timestamp::from_millis(0));
        assert!(record.to_line().len() <= MAX_LINE_BYTES, "{}", record.to_line().len());
    }
}
