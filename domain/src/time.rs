//! The one form of time in records and answers: RFC 3339, UTC, milliseconds.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Timelike, Utc};

use crate::ids::text_serde;

/// Milliseconds since the Unix epoch, UTC. Shown as `2026-11-23T08:15:30.123Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is not a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a time like 2026-11-23T08:15:30.123Z")]
pub struct TimestampError;

impl Timestamp {
    /// The first and last instants that the form can show: years 0001 to 9999.
    const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch, clamped to the years 0001 to 9999.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(*Self::RANGE.start(), *Self::RANGE.end()))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::from_millis(time.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        let Ok(year @ 0..=9_999) = u32::try_from(time.year()) else {
            return f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true));
        };
        // A verifier writes one for each of millions of records, so no general formatter.
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let millis = u32::try_from(self.0.rem_euclid(1_000)).unwrap_or_default();
        for (place, number) in [
            (0..4, year),
            (5..7, time.month()),
            (8..10, time.day()),
            (11..13, time.hour()),
            (14..16, time.minute()),
            (17..19, time.second()),
            (20..23, millis),
        ] {
            write_digits(&mut text[place], number);
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        // One instant has one form: no leap seconds, no signs, no short fields.
        parse_millis(text.as_bytes()).map(Self::from).ok_or(TimestampError)
    }
}

fn write_digits(place: &mut [u8], mut number: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// `YYYY-MM-DDThh:mm:ss.mmmZ` and nothing else.
fn parse_millis(text: &[u8]) -> Option<DateTime<Utc>> {
    let text: &[u8; 24] = text.try_into().ok()?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')];
    if separators.into_iter().chain([(23, b'Z')]).any(|(place, byte)| text[place] != byte) {
        return None;
    }
    let number = |place: std::ops::Range<usize>| {
        text[place].iter().try_fold(0, |all, byte| {
            byte.is_ascii_digit().then(|| all * 10 + u32::from(byte - b'0'))
        })
    };
    let year = i32::try_from(number(0..4)?).ok()?;
    let day = NaiveDate::from_ymd_opt(year, number(5..7)?, number(8..10)?)?;
    let (second, millis) = (number(17..19)?, number(20..23)?);
    let time = day.and_hms_milli_opt(number(11..13)?, number(14..16)?, second, millis)?;
    Some(time.and_utc())
}

text_serde!(Timestamp);

/// The first day of `YYYY`, `YYYY-MM` or `YYYY-MM-DD`, years 0001 to 9999; `None` where
/// the text has another form or the day does not exist.
pub fn first_day(text: &str) -> Option<NaiveDate> {
    let digits = |range: std::ops::Range<usize>| -> Option<u32> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let dash = |at: usize| text.as_bytes().get(at) == Some(&b'-');
    let (month, day) = match text.len() {
        4 => (1, 1),
        7 if dash(4) => (digits(5..7)?, 1),
        10 if dash(4) && dash(7) => (digits(5..7)?, digits(8..10)?),
        _ => return None,
    };
    let year = digits(0..4).filter(|year| *year >= 1)?;
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

/// Whether a text is an RFC 3339 date-time.
pub fn is_rfc3339(text: &str) -> bool {
    parse_rfc3339(text).is_some()
}

/// An RFC 3339 date-time with any offset and any number of digits, cut to the millisecond it is
/// in; `None` where the text has another form.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    // chrono also takes a blank between date and time, which RFC 3339 leaves to applications.
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
        return None;
    }
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc().into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_instant_has_one_form() {
        let text = "2026-11-23T08:15:30.120Z";
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        for other in [
            "2026-11-23T08:15:30.12Z",
            "2026-11-23T08:15:30Z",
            "2026-11-23t08:15:30.120Z",
            "2026-11-23T08:15:30.120+00:00",
            "2026-11-23T08:15:60.120Z",
            "2026-02-30T08:15:30.120Z",
            "+2026-11-23T08:15:30.120Z",
        ] {
            assert_eq!(other.parse::<Timestamp>(), Err(TimestampError), "{other}");
        }
    }

    #[test]
    fn partial_dates_stand_for_their_first_day() {
        #[track_caller]
        fn check(text: &str, day: Option<&str>) {
            assert_eq!(first_day(text).map(|d| d.to_string()).as_deref(), day, "{text}");
        }
        check("1980", Some("1980-01-01"));
        check("1980-07", Some("1980-07-01"));
        check("2000-02-29", Some("2000-02-29"));
        check("0001", Some("0001-01-01"));
        for bad in [
            "",
            "0000",
            "198",
            "1980-13",
            "1980-7",
            "2001-02-29",
            "1980-07-1",
            "1980/07/01",
            "1980-07-01T00:00:00Z",
            "+980",
            "１９８０",
            "1980-+7",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn rfc3339_is_told_from_free_forms() {
        assert!(is_rfc3339("2002-02-15T10:00:00+02:00"));
        assert!(is_rfc3339("2002-02-15T10:00:00.5Z"));
        for bad in ["Feb 15 2002", "2002-02-15 10:00:00Z", "2002-02-15T10:00:00", "1013767200"] {
            assert!(!is_rfc3339(bad), "{bad}");
        }
        let time = parse_rfc3339("2002-02-15T10:00:00.1239+02:00").unwrap();
        assert_eq!(time.to_string(), "2002-02-15T08:00:00.123Z");
    }
}
