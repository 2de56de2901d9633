//! The search parameters of R4's `AuditEvent` that the read model can answer, and nothing else:
//! `patient`, `agent:identifier`, `date`, `type`, `subtype`, `action`, `outcome`, `_tag`,
//! `_count`, `_sort`, `_format`.

use domain::{
    actor::Outcome,
    ids::{Name, PatientId},
    record::RecordType,
};
use projections::documents::ActivityFilter;

use super::{
    date::{Span, span},
    pattern::{self, Code, OUTCOME, RECORD_TYPE},
};
use crate::{
    activity::{Parameters, Query, limit, seq},
    error::Failure,
};

/// A word, and the system that it must be of where one is named: `code`, `|code`, `system|code`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    system: Option<String>,
    code: String,
}

impl Token {
    const RULE: &'static str = "must be one code, or its system, | and the code";

    fn parse(text: &str) -> Option<Self> {
        // A comma would be an alternative, and a backslash an escape.
        let plain = |part: &str| !part.contains([',', '|', '\\']);
        let (system, code) = match text.split_once('|') {
            Some((system, code)) => (Some(system.to_owned()), code),
            None => (None, text),
        };
        let whole = !code.is_empty() && plain(code) && system.as_deref().is_none_or(plain);
        whole.then(|| Self { system, code: code.to_owned() })
    }

    fn is(&self, code: Code) -> bool {
        self.code == code.code && self.system.as_deref().is_none_or(|it| it == code.system)
    }
}

/// Takes the parameters.
pub(super) fn read(parameters: &mut Parameters) -> Result<Query, Failure> {
    let types = types(parameters)?;
    let span = parameters
        .all("date", "must be a date or instant with eq, ge, gt, le or lt before it", span)?
        .into_iter()
        .fold(Span::default(), Span::and);
    let filter = ActivityFilter {
        patient: parameters.one("patient", "must be a UUID or Patient/ and one", patient)?,
        actor: parameters.one("agent:identifier", "must be a name of the ledger", actor)?,
        record_type: types.as_deref().and_then(only),
        purpose: None,
        outcome: parameters.one("outcome", "must be 0, 4, 8 or 12", outcome)?,
        from: span.from,
        until: span.until,
    };
    let newest_first = |text: &str| (text == "-date").then_some(());
    parameters.one("_sort", "must be -date", newest_first)?;
    parameters.one("_format", "must be json", |text| {
        let known = ["json", "application/json", "application/fhir+json"];
        known.contains(&text).then_some(())
    })?;
    let (limit, before) = (limit(parameters, "_count")?, seq(parameters)?);
    Ok(Query { filter, alone: false, types, limit, before })
}

/// The types of record that fit; `None` where nothing is said about them.
fn types(parameters: &mut Parameters) -> Result<Option<Vec<RecordType>>, Failure> {
    let kind = parameters.one("type", Token::RULE, Token::parse)?;
    let subtype = parameters.one("subtype", Token::RULE, Token::parse)?;
    let action = parameters.one("action", "must be C, R, U, D or E", |text| {
        ["C", "R", "U", "D", "E"].into_iter().find(|it| *it == text)
    })?;
    let tag = parameters.one("_tag", Token::RULE, Token::parse)?;
    if kind.is_none() && subtype.is_none() && action.is_none() && tag.is_none() {
        return Ok(None);
    }
    let fits = |record_type: &RecordType| {
        let pattern = pattern::of(*record_type);
        let own = Code { system: RECORD_TYPE, code: record_type.as_str() };
        kind.as_ref().is_none_or(|it| it.is(pattern.kind))
            && subtype.as_ref().is_none_or(|it| pattern.subtype.is_some_and(|code| it.is(code)))
            && action.is_none_or(|it| it == pattern.action)
            && tag.as_ref().is_none_or(|it| it.is(own))
    };
    Ok(Some(RecordType::ALL.iter().copied().filter(fits).collect()))
}

/// The one type, which an index finds.
fn only(types: &[RecordType]) -> Option<RecordType> {
    match types {
        [one] => Some(*one),
        _ => None,
    }
}

fn patient(text: &str) -> Option<PatientId> {
    text.strip_prefix("Patient/").unwrap_or(text).parse().ok()
}

/// The identifiers of agents have no system.
fn actor(text: &str) -> Option<Name> {
    text.strip_prefix('|').unwrap_or(text).parse().ok()
}

fn outcome(text: &str) -> Option<Outcome> {
    let token = Token::parse(text)?;
    let code = |it: Outcome| Code { system: OUTCOME, code: pattern::outcome(it) };
    Outcome::ALL.iter().copied().find(|it| token.is(code(*it)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use axum::extract::FromRequestParts;
    use http::Request;

    async fn query(text: &str) -> Result<Query, Failure> {
        let request = Request::get(format!("/audit/fhir/AuditEvent?{text}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        let mut parameters = Parameters::from_request_parts(&mut parts, &()).await?;
        let query = read(&mut parameters)?;
        parameters.finish().map(|()| query)
    }

    #[tokio::test]
    async fn codes_stand_for_the_types_that_have_them() {
        use RecordType as T;
        async fn check(text: &str, expected: &[RecordType]) {
            let query = query(text).await.unwrap();
            assert_eq!(query.types.as_deref(), Some(expected), "{text}");
            assert_eq!(query.filter.record_type, only(expected), "{text}");
        }
        check("action=C", &[T::PatientRegistered, T::TestRecorded]).await;
        check("subtype=read", &[T::PatientRead, T::TestRead]).await;
        check("subtype=http://hl7.org/fhir/restful-interaction%7Cread&action=C", &[]).await;
        check("subtype=http://example.org%7Cread", &[]).await;
        check("type=110101", &[T::ActivityRead, T::LedgerRead]).await;
        check("_tag=urn:vitalog:record-type%7CTestRead", &[T::TestRead]).await;
        check("_tag=KeyRotated&type=110113", &[T::KeyRotated]).await;
        assert_eq!(query("").await.unwrap().types, None);
    }

    #[tokio::test]
    async fn what_the_read_model_knows_goes_into_the_filter() {
        let id = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
        let text = format!(
            "patient=Patient/{id}&agent:identifier=clinic&outcome=8&date=ge2026&date=lt2026-02\
             &_count=5&_sort=-date&_format=json&cursor=9"
        );
        let found = query(&text).await.unwrap();
        let time = |text: &str| text.parse().ok();
        let filter = ActivityFilter {
            patient: id.parse().ok(),
            actor: "clinic".parse().ok(),
            record_type: None,
            purpose: None,
            outcome: Some(Outcome::Denied),
            from: time("2026-01-01T00:00:00.000Z"),
            until: time("2026-02-01T00:00:00.000Z"),
        };
        assert_eq!((found.filter, found.limit, found.before), (filter, 5, Some(9)));
        let same = query(&format!("patient={id}")).await.unwrap();
        assert_eq!(same.filter.patient, id.parse().ok());
    }

    #[tokio::test]
    async fn what_it_does_not_know_is_refused() {
        for text in [
            "entity=x",
            "patient=Group/1",
            "patient:missing=true",
            "agent=clinic",
            "agent-name=clinic",
            "agent:identifier=a%20b",
            "date=ap2026",
            "type=rest,110101",
            "subtype=",
            "action=read",
            "outcome=1",
            "_count=0",
            "_sort=date",
            "_format=xml",
            "_count=1&_count=2",
            "action=C&action=R",
        ] {
            assert!(matches!(query(text).await, Err(Failure::Invalid(_))), "{text}");
        }
    }
}
