//! The parameters of a query: each is known, valid, and given once.

use axum::extract::FromRequestParts;
use chrono::DateTime;
use domain::{
    ids::MAX_SAFE_INTEGER,
    time::Timestamp,
    validation::{FieldError, Invalid},
};
use http::request::Parts;

use crate::{
    error::Failure,
    query::{Pairs, whole_number},
};

/// Where the next page begins.
const CURSOR: &str = "cursor";

/// Entries of a page at most.
pub(crate) const MAX_LIMIT: usize = 1_000;

/// Entries of a page where nothing is said.
const DEFAULT_LIMIT: usize = 100;

/// Names that are longer are not repeated in an answer.
const MAX_NAME_BYTES: usize = 32;

/// What a client asked for, of which parameters are taken one by one.
pub(crate) struct Parameters {
    given: Vec<(String, String)>,
    taken: Vec<&'static str>,
}

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let Pairs(given) = Pairs::of(parts)?;
        Ok(Self { given, taken: Vec::new() })
    }
}

impl Parameters {
    /// A parameter that may be given once. `rule` says what `parse` takes.
    pub(crate) fn one<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let mut values = self.all(name, rule, parse)?;
        if values.len() > 1 {
            return Err(refused(name, "must be given at most once"));
        }
        Ok(values.pop())
    }

    /// A parameter that may be given several times.
    pub(crate) fn all<T>(
        &mut self,
        name: &'static str,
        rule: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        self.taken.push(name);
        let values = self.given.iter().filter(|(it, _)| it == name);
        values.map(|(_, value)| parse(value).ok_or_else(|| refused(name, rule))).collect()
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let known = |name: &str| self.taken.contains(&name);
        match self.given.iter().find(|(name, _)| !known(name)) {
            None => Ok(()),
            // The name of an unknown parameter is the client's text and may be personal.
            Some((name, _)) if is_plain(name) => Err(refused(name, "is not allowed")),
            Some(_) => Err(refused("<unknown>", "is not allowed")),
        }
    }

    /// The query again, as it was.
    pub(crate) fn query(&self) -> String {
        self.but_for("").join("&")
    }

    /// The query of the page that begins behind `seq`.
    pub(crate) fn link(&self, seq: u64) -> String {
        let mut pairs = self.but_for(CURSOR);
        pairs.push(format!("{CURSOR}={seq}"));
        pairs.join("&")
    }

    fn but_for(&self, left_out: &str) -> Vec<String> {
        let kept = self.given.iter().filter(|(name, _)| name != left_out);
        kept.map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect()
    }
}

/// A refusal that names the parameter.
pub(crate) fn refused(name: &str, rule: &str) -> Failure {
    let detail = format!("\"{name}\" {rule}");
    Failure::Invalid(Invalid(vec![FieldError { field: name.to_owned(), detail }]))
}

/// Entries of a page.
pub(crate) fn limit(parameters: &mut Parameters, name: &'static str) -> Result<usize, Failure> {
    let parse = |text: &str| {
        let limit = whole_number(text).and_then(|limit| usize::try_from(limit).ok());
        limit.filter(|it| (1..=MAX_LIMIT).contains(it))
    };
    let limit = parameters.one(name, "must be a number from 1 to 1000", parse)?;
    Ok(limit.unwrap_or(DEFAULT_LIMIT))
}

/// The record before which a page begins.
pub(crate) fn seq(parameters: &mut Parameters) -> Result<Option<u64>, Failure> {
    let parse = |text: &str| whole_number(text).filter(|it| *it <= MAX_SAFE_INTEGER);
    parameters.one(CURSOR, "must be taken from a link of an earlier page", parse)
}

/// The first instant of ours that is not before an RFC 3339 date-time.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    // chrono also takes a blank for the T.
    let time = text.as_bytes().get(10).filter(|byte| byte.eq_ignore_ascii_case(&b'T'));
    let time = time.and(DateTime::parse_from_rfc3339(text).ok())?;
    let cut_off = time.timestamp_subsec_nanos() % 1_000_000 != 0;
    Some(Timestamp::from_millis(time.timestamp_millis() + i64::from(cut_off)))
}

fn is_plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= MAX_NAME_BYTES
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-:".contains(&b))
}

/// Everything but what RFC 3986 leaves unreserved, and the colon, as `%XX`.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::Request;

    fn parameters(query: &str) -> Parameters {
        let request = Request::get(format!("/audit/activity?{query}")).body(()).unwrap();
        let Pairs(given) = Pairs::of(&request.into_parts().0).unwrap();
        Parameters { given, taken: Vec::new() }
    }

    #[track_caller]
    fn names(failure: &Failure, name: &str) {
        let Failure::Invalid(Invalid(errors)) = failure else { panic!("{failure:?}") };
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, name);
        assert!(errors[0].detail.starts_with(&format!("\"{name}\" ")), "{errors:?}");
    }

    #[test]
    fn what_is_unknown_repeated_or_invalid_is_refused_by_name() {
        let number = |text: &str| text.parse::<u8>().ok();
        names(&parameters("n=x").one("n", "must be a number", number).unwrap_err(), "n");
        names(&parameters("n=1&n=1").one("n", "must be a number", number).unwrap_err(), "n");
        names(&parameters("n=1&o=2").finish().unwrap_err(), "n");
        let mut known = parameters("n=1&other-name=2");
        assert_eq!(known.one("n", "must be a number", number).unwrap(), Some(1));
        names(&known.finish().unwrap_err(), "other-name");
        assert_eq!(known.all("other-name", "must be a number", number).unwrap(), [2]);
        known.finish().unwrap();
    }

    #[test]
    fn a_name_that_may_be_personal_is_not_repeated() {
        for query in ["JANE=1", "jane%20doe=1", "j%C3%A4ne=1", &format!("{}=1", "n".repeat(33))] {
            names(&parameters(query).finish().unwrap_err(), "<unknown>");
        }
    }

    #[test]
    fn a_link_keeps_everything_but_the_cursor() {
        let given = parameters("from=2026-11-23T08%3A00%3A00%2B02%3A00&cursor=9&agent=a%7Cb");
        let from = "from=2026-11-23T08:00:00%2B02:00";
        assert_eq!(given.link(5), format!("{from}&agent=a%7Cb&cursor=5"));
        assert_eq!(given.query(), format!("{from}&cursor=9&agent=a%7Cb"));
        assert_eq!(parameters("").link(5), "cursor=5");
    }

    #[test]
    fn pages_are_bounded() {
        assert_eq!(limit(&mut parameters(""), "limit").unwrap(), 100);
        assert_eq!(limit(&mut parameters("limit=1000"), "limit").unwrap(), 1_000);
        for text in ["0", "1001", "-1", "%2B1", "", "ten", "1e2"] {
            names(&limit(&mut parameters(&format!("limit={text}")), "limit").unwrap_err(), "limit");
        }
        assert_eq!(seq(&mut parameters("cursor=0")).unwrap(), Some(0));
        for text in ["", "x", "-1", "%2B1", "9007199254740992"] {
            names(&seq(&mut parameters(&format!("cursor={text}"))).unwrap_err(), "cursor");
        }
    }

    #[test]
    fn times_are_rfc_3339_and_rounded_up_to_milliseconds() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(instant(text).map(|it| it.to_string()).as_deref(), expected, "{text}");
        }
        check("2026-11-23T08:15:30Z", Some("2026-11-23T08:15:30.000Z"));
        check("2026-11-23T08:15:30.12+02:00", Some("2026-11-23T06:15:30.120Z"));
        check("2026-11-23T08:15:30.1230000Z", Some("2026-11-23T08:15:30.123Z"));
        check("2026-11-23T08:15:30.1230001Z", Some("2026-11-23T08:15:30.124Z"));
        check("1969-12-31T23:59:59.9999Z", Some("1970-01-01T00:00:00.000Z"));
        for bad in ["", "2026-11-23", "2026-11-23 08:15:30Z", "2026-11-23T08:15:30 02:00", "7"] {
            check(bad, None);
        }
    }

    #[tokio::test]
    async fn a_query_that_is_none_is_refused_without_being_repeated() {
        let (mut parts, ()) = Request::get("/x?a=%FF").body(()).unwrap().into_parts();
        if let Err(failure) = Parameters::from_request_parts(&mut parts, &()).await {
            assert!(!failure.to_string().contains("FF"));
        }
    }
}
