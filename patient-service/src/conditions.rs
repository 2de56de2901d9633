//! `If-Match` and `If-None-Match` (RFC 9110 §13.1) over revisions.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::Failure;

/// Entity tags in one condition at most; a client holds one or two.
pub(crate) const MAX_TAGS: usize = 64;

/// A revision that no resource ever has: a condition on it never holds.
const NEVER: u64 = 0;

/// The value of an `If-Match` or `If-None-Match` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// `*`: any revision.
    Any,
    /// A list of entity tags.
    Tags(Vec<Tag>),
}

/// One entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    weak: bool,
    /// The revision; `None` where the tag is none of this service's.
    revision: Option<u64>,
}

impl Condition {
    /// Reads the header, all its lines as one list; `None` where it is absent.
    pub(crate) fn from_headers(
        headers: &HeaderMap,
        name: &HeaderName,
    ) -> Result<Option<Self>, Failure> {
        let malformed = || Failure::Condition(name.clone());
        let mut tags = Vec::new();
        let mut any = false;
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| malformed())?;
            if text.trim() == "*" {
                any = true;
            } else {
                parse_tags(text, &mut tags).ok_or_else(malformed)?;
            }
        }
        match (any, tags.is_empty()) {
            (true, true) => Ok(Some(Self::Any)),
            (true, false) => Err(malformed()),
            (false, true) if headers.contains_key(name) => Err(malformed()),
            (false, true) => Ok(None),
            (false, false) => Ok(Some(Self::Tags(tags))),
        }
    }

    /// What `If-Match` means for a resource at this revision: the revision to insist on.
    /// Comparison is strong (§8.8.3.2), so a weak tag never matches.
    pub(crate) fn insisted(&self, current: Option<u64>) -> Option<u64> {
        match self {
            Self::Any => None,
            Self::Tags(tags) => {
                let strong = |tag: &Tag| !tag.weak && tag.revision == current;
                current.filter(|_| tags.iter().any(strong)).or(Some(NEVER))
            }
        }
    }

    /// Whether an `If-None-Match` finds the client up to date. Comparison is weak.
    pub(crate) fn is_current(&self, revision: u64) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag.revision == Some(revision)),
        }
    }
}

/// The `ETag` of a revision.
pub(crate) fn etag(revision: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("digits and quotes are ASCII")
}

/// Adds the tags of one header line; `None` where it is no list of tags or there are too many.
fn parse_tags(text: &str, tags: &mut Vec<Tag>) -> Option<()> {
    let mut rest = text.trim();
    loop {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if !opaque.bytes().all(|b| b.is_ascii_graphic()) || tags.len() == MAX_TAGS {
            return None;
        }
        tags.push(Tag { weak, revision: revision(opaque) });
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(());
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// The revision that a tag names, in its one form.
fn revision(opaque: &str) -> Option<u64> {
    let revision: u64 = opaque.parse().ok()?;
    (revision.to_string() == opaque).then_some(revision)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::header::IF_MATCH;

    fn read(lines: &[&str]) -> Result<Option<Condition>, Failure> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(IF_MATCH, line.parse().unwrap());
        }
        Condition::from_headers(&headers, &IF_MATCH)
    }

    #[test]
    fn a_condition_insists_on_the_current_revision_or_never_holds() {
        #[track_caller]
        fn check(lines: &[&str], insisted: Option<u64>) {
            assert_eq!(read(lines).unwrap().unwrap().insisted(Some(3)), insisted, "{lines:?}");
        }
        check(&["*"], None);
        check(&["\"3\""], Some(3));
        check(&["\"1\", \"3\""], Some(3));
        check(&["\"1\"", " \"3\" "], Some(3));
        check(&["\"2\""], Some(NEVER));
        check(&["W/\"3\""], Some(NEVER));
        check(&["\"03\""], Some(NEVER));
        check(&["\"abc,def\""], Some(NEVER));
        check(&["\"\""], Some(NEVER));
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for line in ["", "3", "\"3", "\"3\",", ",\"3\"", "\"3\" \"4\"", "w/\"3\"", "\"a b\"", "**"]
        {
            assert!(read(&[line]).is_err(), "{line}");
        }
        assert!(read(&["*", "\"3\""]).is_err());
        assert!(read(&[&vec!["\"1\""; MAX_TAGS].join(",")]).is_ok());
        assert!(read(&[&vec!["\"1\""; MAX_TAGS + 1].join(",")]).is_err());
        assert_eq!(read(&[]).unwrap(), None);
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let condition = read(&["W/\"3\", \"5\""]).unwrap().unwrap();
        assert!(condition.is_current(3) && condition.is_current(5) && !condition.is_current(4));
        assert!(Condition::Any.is_current(1));
    }
}
