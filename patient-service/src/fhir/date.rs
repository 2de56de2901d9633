//! Dates of FHIR searches: a prefix and a date that stands for a span of time. Pure.

use chrono::{Days, Months, NaiveDate};
use domain::time::{Timestamp, first_day};

use crate::activity::instant;

/// Times from the first, inclusive, to the second, exclusive; each where it is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl Span {
    /// What is in both.
    pub(super) fn and(self, other: Self) -> Self {
        let until = match (self.until, other.until) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        Self { from: self.from.max(other.from), until }
    }
}

/// Reads `[prefix]date`: eq (also without a word), ge, gt, le, lt; a year, month, day (of UTC) or
/// an instant with its zone.
pub(super) fn span(text: &str) -> Option<Span> {
    let prefixed = text.get(..2).filter(|it| it.bytes().all(|byte| byte.is_ascii_lowercase()));
    let (prefix, date) = match prefixed {
        Some(prefix) => (prefix, &text[2..]),
        None => ("eq", text),
    };
    let (start, end) = bounds(date)?;
    let (from, until) = match prefix {
        "eq" => (Some(start), Some(end)),
        "ge" => (Some(start), None),
        "gt" => (Some(end), None),
        "le" => (None, Some(end)),
        "lt" => (None, Some(start)),
        _ => return None,
    };
    Some(Span { from, until })
}

/// Where a date begins, and where it has ended.
fn bounds(text: &str) -> Option<(Timestamp, Timestamp)> {
    const LONGEST_DAY: usize = "YYYY-MM-DD".len();
    if text.len() > LONGEST_DAY {
        let start = instant(text)?;
        let whole_second = text.as_bytes().get("YYYY-MM-DDThh:mm:ss".len()) != Some(&b'.');
        // No time of ours lies in an instant that is finer than they are.
        let length = if whole_second { 1_000 } else { i64::from(is_exact(text)) };
        return Some((start, Timestamp::from_millis(start.millis() + length)));
    }
    let day = first_day(text)?;
    let next = match text.len() {
        4 => day.checked_add_months(Months::new(12)),
        7 => day.checked_add_months(Months::new(1)),
        _ => day.checked_add_days(Days::new(1)),
    };
    Some((midnight(day), midnight(next?)))
}

/// Whether the fraction of a second is one of milliseconds.
fn is_exact(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, rest)| rest);
    let digits = fraction.bytes().take_while(u8::is_ascii_digit);
    digits.skip(3).all(|digit| digit == b'0')
}

fn midnight(day: NaiveDate) -> Timestamp {
    Timestamp::from(day.and_time(chrono::NaiveTime::MIN).and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_stands_for_all_of_its_time() {
        #[track_caller]
        fn check(text: &str, from: Option<&str>, until: Option<&str>) {
            let found = span(text).map(|it| (it.from, it.until));
            let time = |text: Option<&str>| text.map(|text| instant(text).expect("a time"));
            assert_eq!(found, Some((time(from), time(until))), "{text}");
        }
        let (day, next) = ("2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z");
        check("2026-11-23", Some(day), Some(next));
        check("eq2026-11-23", Some(day), Some(next));
        check("ge2026-11-23", Some(day), None);
        check("gt2026-11-23", Some(next), None);
        check("le2026-11-23", None, Some(next));
        check("lt2026-11-23", None, Some(day));
        check("2026-12", Some("2026-12-01T00:00:00Z"), Some("2027-01-01T00:00:00Z"));
        check("2026", Some("2026-01-01T00:00:00Z"), Some("2027-01-01T00:00:00Z"));
        let second = "2026-11-23T10:00:00+02:00";
        check(second, Some("2026-11-23T08:00:00Z"), Some("2026-11-23T08:00:01Z"));
        check("gt2026-11-23T08:00:00.5Z", Some("2026-11-23T08:00:00.501Z"), None);
        let finer = Some("2026-11-23T08:00:00.002Z");
        check("2026-11-23T08:00:00.0011Z", finer, finer);
        check("le2026-11-23T08:00:00.0011Z", None, finer);
    }

    #[test]
    fn other_words_and_forms_are_refused() {
        for text in ["", "ge", "ne2026", "ap2026", "sa2026", "2026-13", "26", "ge2026-11-23T08:00Z"]
        {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn spans_narrow_each_other() {
        let both = |one: &str, two: &str| span(one).map(|it| it.and(span(two).unwrap_or_default()));
        assert_eq!(both("ge2026", "lt2027"), span("2026"));
        assert_eq!(both("2026", "2026-02"), span("2026-02"));
        assert_eq!(both("ge2026", "ge2025"), span("ge2026"));
    }
}
