//! Searching patients, page by page.

use axum::extract::{FromRequestParts, Query};
use domain::{
    actor::Outcome,
    content::PatientView,
    ids::PatientId,
    record::RecordType,
    search::{MAX_PAGE, SearchCriteria},
    strict_json::parse_object,
    wire::Proposal,
};
use http::{StatusCode, request::Parts};
use projections::{
    documents::{PatientDoc, PatientState},
    sealing::seal_search,
};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    answer::Answer,
    caller::Requester,
    error::{Failure, Missing},
    reads::READ_TIMEOUT,
    state::App,
};

/// Which page of the results, from the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    limit: usize,
    after: Option<PatientId>,
}

#[derive(Deserialize)]
struct RawPage {
    limit: Option<String>,
    cursor: Option<String>,
}

impl Page {
    fn read(raw: &RawPage) -> Result<Self, Failure> {
        let limit = match raw.limit.as_deref() {
            None => MAX_PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_PAGE).contains(limit))
                .ok_or(Failure::Query("limit"))?,
        };
        let after = raw.cursor.as_deref().map(str::parse).transpose();
        Ok(Self { limit, after: after.map_err(|_| Failure::Query("cursor"))? })
    }

    /// Where the page behind `last` is, relative to this one.
    fn next(self, last: PatientId) -> String {
        format!("<?limit={}&cursor={last}>; rel=\"next\"", self.limit)
    }
}

impl<S: Sync> FromRequestParts<S> for Page {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // What the query's parser says may repeat the query, and is dropped.
        let Query(raw) =
            Query::try_from_uri(&parts.uri).map_err(|_| Failure::Query("the query"))?;
        Self::read(&raw)
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
    // One more than asked for says whether there is a next page.
    let mut found = app.store.search(generation, criteria, page.after, page.limit + 1).await?;
    let more = found.len() > page.limit;
    found.truncate(page.limit);
    let views: Vec<PatientView> = found.into_iter().filter_map(view).collect();

    let key = app.ring.epoch_key((app.clock)()).await?;
    let outcome = if views.is_empty() { Outcome::NotFound } else { Outcome::Success };
    let access = Proposal {
        subjects: views.iter().map(|view| view.id).collect(),
        data: Some(seal_search(&key, criteria)),
        ..requester.proposal(RecordType::PatientsSearched, outcome)
    };
    let receipt = app.audit.append(access).await.map_err(Failure::of_access)?;
    let Some(last) = views.last() else {
        return Err(Failure::NotFound(Missing::Matches, Some(Box::new(receipt))));
    };
    let answer = Answer::json(StatusCode::OK, &receipt, &views);
    Ok(if more { answer.link(&page.next(last.id)) } else { answer })
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
            let raw =
                RawPage { limit: limit.map(str::to_owned), cursor: cursor.map(str::to_owned) };
            assert_eq!(Page::read(&raw).is_ok(), accepted, "{limit:?} {cursor:?}");
        }
        check(None, None, true);
        check(Some("1"), None, true);
        check(Some("1000"), Some("6f9619ff-8b86-d011-b42d-00cf4fc964ff"), true);
        for limit in ["0", "1001", "-1", "", "ten", "1e2"] {
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
            data: Some(seal_search(&key, &criteria)),
            external: None,
            key: None,
        }
        .into_record(name.clone(), name, &Link::genesis(), Timestamp::from_millis(0));
        assert!(record.to_line().len() <= MAX_LINE_BYTES, "{}", record.to_line().len());
    }
}
