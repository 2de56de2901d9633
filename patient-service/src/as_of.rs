//! Which moment of the past a client asks for.

use axum::extract::{FromRequestParts, Query};
use domain::{
    ids::MAX_SAFE_INTEGER,
    record::Record,
    time::{Timestamp, parse_rfc3339},
};
use http::request::Parts;
use serde::Deserialize;

use crate::{error::Failure, state::App};

/// How far the client's clock may be ahead of this one.
const CLOCK_SKEW_MS: i64 = 2_000;

/// A moment of the ledger; what was recorded at it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// After the record at this position.
    Seq(u64),
    /// After all records of this millisecond.
    Time(Timestamp),
}

/// Why a moment cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AsOfError {
    /// Neither of the forms, or sent several times.
    #[error(
        "asOf must be the position of a record, or an RFC 3339 time such as \
         2026-11-23T08:15:30.123Z (a + in it written as %2B), and be sent once"
    )]
    Form,
    /// A position behind the end of the ledger.
    #[error("asOf names a record that the ledger does not have yet")]
    NotRecorded,
    /// A time that has not come.
    #[error("asOf lies in the future")]
    Future,
}

impl AsOf {
    fn read(text: &str) -> Result<Self, AsOfError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let seq = text.parse().ok().filter(|seq| *seq <= MAX_SAFE_INTEGER);
            return seq.map(Self::Seq).ok_or(AsOfError::Form);
        }
        parse_rfc3339(text).map(Self::Time).ok_or(AsOfError::Form)
    }

    /// Whether a record had been made by then.
    pub(crate) fn includes(self, record: &Record) -> bool {
        match self {
            Self::Seq(seq) => record.seq <= seq,
            Self::Time(time) => record.recorded_at <= time,
        }
    }

    /// Refuses a moment that has not come: what it will show is not known.
    pub(crate) async fn check(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Seq(seq) => match app.audit.record(seq).await? {
                Some(_) => Ok(()),
                None => Err(AsOfError::NotRecorded.into()),
            },
            Self::Time(time) if time.millis() > (app.clock)().millis() + CLOCK_SKEW_MS => {
                Err(AsOfError::Future.into())
            }
            Self::Time(_) => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct RawAsOf {
    #[serde(rename = "asOf")]
    as_of: Option<String>,
}

/// The moment in a request's query; none is now.
pub(crate) struct Moment(pub(crate) Option<AsOf>);

impl<S: Sync> FromRequestParts<S> for Moment {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = Query::<RawAsOf>::try_from_uri(&parts.uri);
        // What the query's parser says may repeat the query, and is dropped.
        let Query(raw) = query.map_err(|_| AsOfError::Form)?;
        Ok(Self(raw.as_of.as_deref().map(AsOf::read).transpose()?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time_to_the_millisecond() {
        #[track_caller]
        fn check(text: &str, expected: Option<AsOf>) {
            assert_eq!(AsOf::read(text).ok(), expected, "{text}");
        }
        let time = |text: &str| Some(AsOf::Time(text.parse().unwrap()));
        check("0", Some(AsOf::Seq(0)));
        check("2026", Some(AsOf::Seq(2026)));
        check("9007199254740991", Some(AsOf::Seq(MAX_SAFE_INTEGER)));
        check("2026-11-23T08:15:30.123Z", time("2026-11-23T08:15:30.123Z"));
        check("2026-11-23T08:15:30Z", time("2026-11-23T08:15:30.000Z"));
        check("2026-11-23t08:15:30.123999z", time("2026-11-23T08:15:30.123Z"));
        check("2026-11-23T09:15:30+01:00", time("2026-11-23T08:15:30.000Z"));
        for bad in [
            "",
            "-1",
            "+1",
            "1.0",
            "9007199254740992",
            "99999999999999999999999",
            "2026-11-23",
            "2026-11-23T08:15:30",
            "2026-11-23 08:15:30Z",
            "2026-11-23T09:15:30 01:00",
            "now",
        ] {
            check(bad, None);
        }
    }

    async fn moment(query: &str) -> Option<Option<AsOf>> {
        let uri: http::Uri = format!("/patient/1{query}").parse().unwrap();
        let (mut parts, ()) = http::Request::builder().uri(uri).body(()).unwrap().into_parts();
        Moment::from_request_parts(&mut parts, &()).await.ok().map(|moment| moment.0)
    }

    #[tokio::test]
    async fn a_moment_is_sent_at_most_once_and_other_parameters_are_passed_over() {
        assert_eq!(moment("").await, Some(None));
        assert_eq!(moment("?name=x").await, Some(None));
        assert_eq!(moment("?name=x&asOf=7").await, Some(Some(AsOf::Seq(7))));
        let time = AsOf::Time("2026-11-23T08:15:30.000Z".parse().unwrap());
        assert_eq!(moment("?asOf=2026-11-23T09%3A15%3A30%2B01%3A00").await, Some(Some(time)));
        for bad in ["?asOf=", "?asOf", "?asOf=1&asOf=1", "?asOf=2026-11-23T09:15:30+01:00"] {
            assert_eq!(moment(bad).await, None, "{bad}");
        }
    }
}
