//! One type per identifier, parsed at the edge and trusted afterwards.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Positions and versions stay below 2^53 so that every JSON reader keeps them exact.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Why a text is not the identifier it should be. Never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not a UUID in the hyphenated form of RFC 9562.
    #[error("must be a UUID in the hyphenated form")]
    Uuid,
    /// Not `[A-Za-z0-9._-]{1,64}`.
    #[error("must match [A-Za-z0-9._-]{{1,64}}")]
    Name,
    /// Not one of the ledger's streams.
    #[error("must be patient/<uuid>, ledger/keys or gateway/subscriptions")]
    Stream,
    /// Not `test/<uuid>`.
    #[error("must be test/<uuid>")]
    Object,
    /// Not 32 lower-case hexadecimal digits, or all zero.
    #[error("must be 32 lower-case hexadecimal digits, not all zero")]
    Trace,
    /// Not 64 lower-case hexadecimal digits.
    #[error("must be 64 lower-case hexadecimal digits")]
    Hex64,
}

/// Parses the hyphenated form alone, without regard to case; braces, URNs and bare
/// digits are refused (contract, "Statuses").
fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    const HYPHENATED_LENGTH: usize = 36;
    if text.len() != HYPHENATED_LENGTH {
        return Err(IdError::Uuid);
    }
    Uuid::try_parse(text).map_err(|_| IdError::Uuid)
}

/// Serde through `Display` and `FromStr`.
macro_rules! text_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text =
                    <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use text_serde;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID made elsewhere.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_uuid(text).map(Self)
            }
        }

        text_serde!($name);
    };
}

uuid_id!(
    /// A patient. Displayed in lower case.
    PatientId
);
uuid_id!(
    /// A test of a patient. Displayed in lower case.
    TestId
);
uuid_id!(
    /// A data key of the key ring (`kid`).
    KeyId
);

/// A name that may stand in the clear in a record: `[A-Za-z0-9._-]{1,64}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Name)
        }
    }
}

text_serde!(Name);

/// A sequence of events with versions 1, 2, 3 ….
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// `patient/<uuid>`
    Patient(PatientId),
    /// `ledger/keys`
    LedgerKeys,
    /// `gateway/subscriptions`
    GatewaySubscriptions,
}

impl Stream {
    /// The patient whose stream this is.
    pub fn patient(self) -> Option<PatientId> {
        match self {
            Self::Patient(id) => Some(id),
            Self::LedgerKeys | Self::GatewaySubscriptions => None,
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Patient(id) => write!(f, "patient/{id}"),
            Self::LedgerKeys => f.write_str("ledger/keys"),
            Self::GatewaySubscriptions => f.write_str("gateway/subscriptions"),
        }
    }
}

impl FromStr for Stream {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "ledger/keys" => Ok(Self::LedgerKeys),
            "gateway/subscriptions" => Ok(Self::GatewaySubscriptions),
            _ => {
                let id = text.strip_prefix("patient/").ok_or(IdError::Stream)?;
                id.parse().map(Self::Patient).map_err(|_| IdError::Stream)
            }
        }
    }
}

text_serde!(Stream);

/// What an event or access touched inside a stream: `test/<uuid>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectRef(pub TestId);

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "test/{}", self.0)
    }
}

impl FromStr for ObjectRef {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let id = text.strip_prefix("test/").ok_or(IdError::Object)?;
        id.parse().map(Self).map_err(|_| IdError::Object)
    }
}

text_serde!(ObjectRef);

/// A W3C trace id: 32 lower-case hexadecimal digits, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

impl TraceId {
    /// Wraps the sixteen bytes of a trace id; all zero is no trace id.
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The sixteen bytes.
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for TraceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = lower_hex::<16>(text).ok_or(IdError::Trace)?;
        Self::new(bytes).ok_or(IdError::Trace)
    }
}

text_serde!(TraceId);

/// A span within a trace, and whether the trace is kept: the last two parts of a W3C `traceparent`,
/// such as `00f067aa0ba902b7-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanRef {
    id: [u8; 8],
    sampled: bool,
}

impl SpanRef {
    /// A span by its id; all zero is no id.
    pub fn new(id: [u8; 8], sampled: bool) -> Option<Self> {
        (id != [0; 8]).then_some(Self { id, sampled })
    }

    /// The span's id.
    pub const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// Whether the trace is kept.
    pub const fn is_sampled(&self) -> bool {
        self.sampled
    }
}

impl fmt::Display for SpanRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.id)?;
        f.write_str(if self.sampled { "-01" } else { "-00" })
    }
}

impl FromStr for SpanRef {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (id, flags) = text.split_once('-').ok_or(IdError::Trace)?;
        let sampled = match flags {
            "00" => false,
            "01" => true,
            _ => return Err(IdError::Trace),
        };
        lower_hex::<8>(id).and_then(|id| Self::new(id, sampled)).ok_or(IdError::Trace)
    }
}

text_serde!(SpanRef);

/// A command's identity or a body's digest: an HMAC-SHA256, shown as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 32]);

impl Mac {
    /// Wraps the 32 bytes of an HMAC-SHA256.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for Mac {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        lower_hex::<32>(text).map(Self).ok_or(IdError::Hex64)
    }
}

text_serde!(Mac);

/// Lower-case hexadecimal digits of at most 64 bytes, without allocating.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    let mut digits = [0; 128];
    let digits = digits.get_mut(..2 * bytes.len()).ok_or(fmt::Error)?;
    hex::encode_to_slice(bytes, digits).map_err(|_| fmt::Error)?;
    f.write_str(std::str::from_utf8(digits).map_err(|_| fmt::Error)?)
}

fn lower_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Exactly `2 * N` lower-case hexadecimal digits.
pub(crate) fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = lower_digit(*high)? << 4 | lower_digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_compared_without_case_and_shown_in_lower_case() {
        let id: PatientId = "6F9619FF-8B86-D011-B42D-00CF4FC964FF".parse().unwrap();
        assert_eq!(id.to_string(), "6f9619ff-8b86-d011-b42d-00cf4fc964ff");
    }

    #[test]
    fn other_forms_of_uuid_are_refused() {
        for text in [
            "",
            "1",
            "6f9619ff8b86d011b42d00cf4fc964ff",
            "{6f9619ff-8b86-d011-b42d-00cf4fc964ff}",
            "urn:uuid:6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            "6f9619ff-8b86-d011-b42d-00cf4fc964fg",
            "6f9619ff-8b86-d011-b42d00-cf4fc964ff",
        ] {
            assert_eq!(text.parse::<PatientId>(), Err(IdError::Uuid), "{text}");
        }
    }

    #[test]
    fn names_take_no_free_text() {
        assert!("clinic-1.A_b".parse::<Name>().is_ok());
        for text in ["", "a b", "é", "a/b", &"x".repeat(65)] {
            assert_eq!(text.parse::<Name>(), Err(IdError::Name), "{text}");
        }
    }

    #[test]
    fn streams_round_trip() {
        for text in
            ["patient/6f9619ff-8b86-d011-b42d-00cf4fc964ff", "ledger/keys", "gateway/subscriptions"]
        {
            assert_eq!(text.parse::<Stream>().unwrap().to_string(), text);
        }
        assert!("patient/1".parse::<Stream>().is_err());
        assert!("test/6f9619ff-8b86-d011-b42d-00cf4fc964ff".parse::<Stream>().is_err());
    }

    #[test]
    fn trace_ids_are_lower_case_and_not_zero() {
        assert!("4bf92f3577b34da6a3ce929d0e0e4736".parse::<TraceId>().is_ok());
        assert!("4BF92F3577B34DA6A3CE929D0E0E4736".parse::<TraceId>().is_err());
        assert!("0".repeat(32).parse::<TraceId>().is_err());
        for text in ["00f067aa0ba902b7-00", "00f067aa0ba902b7-01"] {
            let span: SpanRef = text.parse().unwrap();
            assert_eq!((span.to_string().as_str(), span.is_sampled()), (text, text.ends_with('1')));
        }
        for text in ["00f067aa0ba902b7", "00f067aa0ba902b7-02", "00F067aa0ba902b7-01", "0-01"] {
            assert!(text.parse::<SpanRef>().is_err(), "{text}");
        }
        assert!(format!("{}-01", "0".repeat(16)).parse::<SpanRef>().is_err());
    }
}
