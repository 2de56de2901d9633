//! The query of a request: what is for the gateway is taken out, the rest passes as it is.

use std::borrow::Cow;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// The parameter that carries a subscription key.
pub(crate) const KEY_PARAMETER: &str = "subscription-key";

/// The parameter by which a reader of the ledger waits for a record, in whole seconds.
const WAIT_PARAMETER: &str = "wait";

/// The longest wait of a long poll, which the audit service also keeps to: proxies on the way cut
/// connections that are silent for longer.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Where a request may carry its key, and whether it does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum PresentedKey<'a> {
    /// Nowhere.
    #[default]
    Missing,
    /// Once.
    One(Cow<'a, [u8]>),
    /// Several times, so that nobody can say which one counts.
    Ambiguous,
}

impl<'a> PresentedKey<'a> {
    /// Takes one more value into account; an empty one is as good as none.
    pub(crate) fn add(&mut self, value: Cow<'a, [u8]>) {
        if value.is_empty() {
            return;
        }
        *self = match self {
            Self::Missing => Self::One(value),
            _ => Self::Ambiguous,
        };
    }
}

/// A query taken apart.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    /// The key that it carried.
    pub(crate) key: PresentedKey<'a>,
    /// What goes on to the upstream.
    pub(crate) forwarded: Cow<'a, str>,
    /// How long the upstream may wait before it answers, at most [`MAX_WAIT`].
    pub(crate) wait: Duration,
}

impl<'a> Query<'a> {
    /// Takes a raw query apart. `long_poll` says whether the route knows a wait.
    pub(crate) fn parse(raw: Option<&'a str>, long_poll: bool) -> Self {
        let Some(raw) = raw.filter(|raw| !raw.is_empty()) else {
            return Self::default();
        };
        let mut query = Self { forwarded: Cow::Borrowed(raw), ..Self::default() };
        let mut rest = String::new();
        let mut has_key = false;
        for pair in raw.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            if name.eq_ignore_ascii_case(KEY_PARAMETER) {
                query.key.add(percent_decode_str(value).into());
                has_key = true;
                continue;
            }
            if long_poll
                && name == WAIT_PARAMETER
                && let Ok(seconds) = value.parse()
            {
                query.wait = Duration::from_secs(seconds).min(MAX_WAIT);
            }
            if !rest.is_empty() {
                rest.push('&');
            }
            rest.push_str(pair);
        }
        if has_key {
            query.forwarded = Cow::Owned(rest);
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, key: &PresentedKey<'_>, forwarded: &str, wait: u64) {
        let query = Query::parse(Some(raw), true);
        assert_eq!(query.key, *key, "{raw}");
        assert_eq!(query.forwarded, forwarded, "{raw}");
        assert_eq!(query.wait.as_secs(), wait, "{raw}");
    }

    #[test]
    fn the_key_is_taken_out_however_it_is_written() {
        use PresentedKey::{Ambiguous, Missing, One};
        let one = |key: &'static str| One(key.as_bytes().into());
        check("", &Missing, "", 0);
        check("limit=5&cursor=a%20b", &Missing, "limit=5&cursor=a%20b", 0);
        check("subscription-key=abc", &one("abc"), "", 0);
        check("a=1&subscription-key=abc&b=2", &one("abc"), "a=1&b=2", 0);
        check("Subscription-Key=abc&a", &one("abc"), "a", 0);
        check("subscription%2Dkey=%61bc&a=1", &one("abc"), "a=1", 0);
        check("subscription-key=&a=1", &Missing, "a=1", 0);
        check("subscription-key=a&subscription-key=b", &Ambiguous, "", 0);
    }

    #[test]
    fn a_wait_is_known_and_capped() {
        check("from=1&wait=5", &PresentedKey::Missing, "from=1&wait=5", 5);
        check("wait=31&from=1", &PresentedKey::Missing, "wait=31&from=1", 30);
        // What is no number is the upstream's to refuse.
        check("wait=x", &PresentedKey::Missing, "wait=x", 0);
        assert_eq!(Query::parse(Some("wait=5"), false).wait, Duration::ZERO);
    }
}
