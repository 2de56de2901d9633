//! The record, version 1 (design §3): its members, rules and one canonical form.
//!
//! The line is the record: canonical JSON (RFC 8785), serialised once, stored and served as
//! those bytes. Members are declared in sorted order, so that serialising is canonicalising.

use std::{fmt, io, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    actor::{Actor, ErasureReason, Outcome, Purpose, closed_list},
    hash::Hash,
    ids::{
        IdError, MAX_SAFE_INTEGER, Mac, Name, ObjectRef, PatientId, Stream, TraceId, text_serde,
    },
    sealed::{NotAJwe, parse_compact},
    subscription::SubscriptionChange,
    time::Timestamp,
};

/// Bytes of a line at most.
pub const MAX_LINE_BYTES: usize = 65_535;

/// Patients named in one search at most; one page of results.
pub const MAX_SUBJECTS: usize = 1_000;

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// Who caused it.
    pub actor: Actor,
    /// Network address of the caller as the gateway saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The command, for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRef>,
    /// Compact JWE of the content; see [`crate::sealed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What another system says that it did; `ExternalAccess` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// The ledger's next signing key; `KeyRotated` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyRotation>,
    /// The kind, which follows from the type.
    pub kind: Kind,
    /// The ledger's origin.
    pub ledger: Name,
    /// The test touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// What came of it.
    pub outcome: Outcome,
    /// Hash of the record before; [`Hash::ZERO`] for the first.
    pub prev: Hash,
    /// Why.
    pub purpose: Purpose,
    /// Why the patient was erased; `PatientErased` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErasureReason>,
    /// When the audit service recorded it; never earlier than the record before.
    pub recorded_at: Timestamp,
    /// Version of the content's schema, for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// Position in the ledger, from 0.
    pub seq: u64,
    /// The service that asked for the record.
    pub source: Name,
    /// The stream touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Patients that a search returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<PatientId>,
    /// What an operator does to a subscription; `SubscriptionChanged` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionChange>,
    /// W3C trace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// What happened.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// Always 1.
    pub v: FormatVersion,
    /// Place in the stream, for events and admin acts; for an access, the version read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// A command's identity, all of it keyed: a plain hash of personal data could be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRef {
    /// HMAC-SHA256 of the body.
    pub digest: Mac,
    /// HMAC-SHA256 of actor, method, path and the client's key.
    pub id: Mac,
    /// The HMAC key.
    pub kid: KeyName,
}

/// The ledger's next signing key, vouched for by the one before. All of it public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// Ed25519 public key that signs checkpoints from here on.
    pub next: PublicKeyHex,
    /// Ed25519 public key that signed until here.
    pub previous: PublicKeyHex,
    /// Ed25519 signature of [`KeyRotation::statement`] under the previous key.
    pub voucher: SignatureHex,
}

impl KeyRotation {
    /// What the previous key signs: ledger, version in `ledger/keys` and both keys, a line each.
    pub fn statement(
        ledger: &Name,
        version: u64,
        previous: PublicKeyHex,
        next: PublicKeyHex,
    ) -> String {
        format!("vitalog key rotation v1\n{ledger}\n{version}\n{previous}\n{next}\n")
    }
}

/// Bytes shown as lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HexBytes<const N: usize>(pub [u8; N]);

/// An Ed25519 public key.
pub type PublicKeyHex = HexBytes<32>;

/// An Ed25519 signature.
pub type SignatureHex = HexBytes<64>;

impl<const N: usize> fmt::Display for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::ids::write_hex(f, &self.0)
    }
}

impl<const N: usize> FromStr for HexBytes<N> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        crate::ids::lower_hex::<N>(text).map(Self).ok_or(IdError::Hex64)
    }
}

impl<const N: usize> Serialize for HexBytes<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for HexBytes<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Name of an HMAC key: 8 to 16 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyName([u8; 4]);

impl KeyName {
    /// Wraps four bytes.
    pub const fn new(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::ids::write_hex(f, &self.0)
    }
}

impl FromStr for KeyName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        crate::ids::lower_hex::<4>(text).map(Self).ok_or(IdError::Name)
    }
}

text_serde!(KeyName);

/// An access that another system reports (contract, `POST /api/auditrecord`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct External {
    /// The resource's id in that system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ExternalName>,
    /// What was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<ExternalName>,
    /// The system that reports.
    pub system: ExternalName,
    /// The resource's type in that system.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<ExternalName>,
}

/// A name of another system: `[A-Za-z0-9._:-]{1,128}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalName(String);

impl fmt::Display for ExternalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ExternalName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Name)
        }
    }
}

text_serde!(ExternalName);

/// The three kinds of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something that changed a patient.
    Event,
    /// A read, a search, a refusal.
    Access,
    /// An administrative act.
    Admin,
}

/// The number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatVersion;

impl Serialize for FormatVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(1)
    }
}

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self),
            _ => Err(serde::de::Error::custom("only records of version 1 are known")),
        }
    }
}

closed_list!(
    /// What a record says happened.
    RecordType, UnknownRecordType, "must be a record type of format version 1" {
        /// See [`crate::event::Event::PatientRegistered`].
        PatientRegistered = "PatientRegistered",
        /// See [`crate::event::Event::PatientAmended`].
        PatientAmended = "PatientAmended",
        /// See [`crate::event::Event::PatientRemoved`].
        PatientRemoved = "PatientRemoved",
        /// See [`crate::event::Event::PatientErased`].
        PatientErased = "PatientErased",
        /// See [`crate::event::Event::TestRecorded`].
        TestRecorded = "TestRecorded",
        /// See [`crate::event::Event::TestAmended`].
        TestAmended = "TestAmended",
        /// See [`crate::event::Event::TestRemoved`].
        TestRemoved = "TestRemoved",
        /// A patient was read.
        PatientRead = "PatientRead",
        /// Patients were searched.
        PatientsSearched = "PatientsSearched",
        /// A test was read.
        TestRead = "TestRead",
        /// A patient's tests were listed.
        TestsListed = "TestsListed",
        /// A patient's history was read.
        HistoryRead = "HistoryRead",
        /// It was read who touched which patients.
        ActivityRead = "ActivityRead",
        /// The ledger was read.
        LedgerRead = "LedgerRead",
        /// An authenticated caller was refused.
        AccessRefused = "AccessRefused",
        /// Another system reports an access.
        ExternalAccess = "ExternalAccess",
        /// A key was rotated.
        KeyRotated = "KeyRotated",
        /// A subscription was changed.
        SubscriptionChanged = "SubscriptionChanged",
    }
);

impl RecordType {
    /// The kind of records of this type.
    pub const fn kind(self) -> Kind {
        match self {
            Self::PatientRegistered
            | Self::PatientAmended
            | Self::PatientRemoved
            | Self::PatientErased
            | Self::TestRecorded
            | Self::TestAmended
            | Self::TestRemoved => Kind::Event,
            Self::PatientRead
            | Self::PatientsSearched
            | Self::TestRead
            | Self::TestsListed
            | Self::HistoryRead
            | Self::ActivityRead
            | Self::LedgerRead
            | Self::AccessRefused
            | Self::ExternalAccess => Kind::Access,
            Self::KeyRotated | Self::SubscriptionChanged => Kind::Admin,
        }
    }

    /// Whether records of this type name a test.
    const fn object(self) -> Presence {
        match self {
            Self::TestRecorded | Self::TestAmended | Self::TestRemoved | Self::TestRead => {
                Presence::Required
            }
            Self::AccessRefused | Self::ExternalAccess => Presence::Optional,
            _ => Presence::Refused,
        }
    }

    /// Whether records of this type have encrypted content.
    const fn data(self) -> Presence {
        match self {
            Self::PatientRegistered
            | Self::PatientAmended
            | Self::TestRecorded
            | Self::TestAmended
            | Self::PatientsSearched => Presence::Required,
            _ => Presence::Refused,
        }
    }

    /// Whether records of this type name a stream.
    const fn stream(self) -> Presence {
        match self {
            Self::PatientsSearched | Self::LedgerRead => Presence::Refused,
            Self::AccessRefused | Self::ExternalAccess | Self::ActivityRead => Presence::Optional,
            _ => Presence::Required,
        }
    }
}

#[derive(Clone, Copy)]
enum Presence {
    Required,
    Optional,
    Refused,
}

impl Presence {
    fn check(self, member: &'static str, present: bool) -> Result<(), RuleError> {
        match (self, present) {
            (Self::Required, false) => Err(RuleError::Missing(member)),
            (Self::Refused, true) => Err(RuleError::Unexpected(member)),
            _ => Ok(()),
        }
    }
}

/// A rule of design §3 that a record breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The member must be there for records of this type.
    #[error("member {0} is missing for a record of this type")]
    Missing(&'static str),
    /// The member must not be there for records of this type.
    #[error("member {0} is not for records of this type")]
    Unexpected(&'static str),
    /// The kind is not the one that the type belongs to.
    #[error("kind does not belong to type")]
    Kind,
    /// The stream is not of the sort that the type belongs to.
    #[error("stream does not belong to type")]
    Stream,
    /// A number is 2^53 or more, or a version of an event is 0.
    #[error("member {0} is out of range")]
    Range(&'static str),
    /// More than [`MAX_SUBJECTS`].
    #[error("more than {MAX_SUBJECTS} subjects")]
    Subjects,
    /// `data` is not a compact JWE.
    #[error(transparent)]
    Data(#[from] NotAJwe),
    /// The JWE's header names another stream, version or type.
    #[error("data was sealed for another stream, version or type")]
    DataHeader,
}

/// Why a line is not a record.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Over [`MAX_LINE_BYTES`].
    #[error("a line of {0} bytes is longer than {MAX_LINE_BYTES}")]
    TooLong(usize),
    /// Not JSON, or not the members of a record. The position is where reading stopped.
    #[error("not a record of version 1 (column {column})")]
    Malformed {
        /// Byte position in the line, from 1.
        column: usize,
    },
    /// Parsed, but the same record has another, canonical line.
    #[error("not in canonical form")]
    NotCanonical,
    /// The members do not fit together.
    #[error("breaks a rule of the record format")]
    Rule(#[from] RuleError),
}

/// Takes what is written only as long as it is what is expected: no second copy of the line.
struct Expecting<'a>(&'a [u8]);

impl io::Write for Expecting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.strip_prefix(bytes).ok_or(io::ErrorKind::InvalidData)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Record {
    /// The canonical line.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a record of strings and numbers serialises")
    }

    /// Reads a line and refuses what is not the canonical form of a valid record.
    pub fn parse(line: &str) -> Result<Self, ParseError> {
        if line.len() > MAX_LINE_BYTES {
            return Err(ParseError::TooLong(line.len()));
        }
        let record: Self = serde_json::from_str(line)
            .map_err(|error| ParseError::Malformed { column: error.column() })?;
        let mut rest = Expecting(line.as_bytes());
        if serde_json::to_writer(&mut rest, &record).is_err() || !rest.0.is_empty() {
            return Err(ParseError::NotCanonical);
        }
        record.check()?;
        Ok(record)
    }

    /// The test touched.
    pub fn test(&self) -> Option<crate::ids::TestId> {
        self.object.map(|ObjectRef(test)| test)
    }

    /// The patient whose stream it touches.
    pub fn patient(&self) -> Option<PatientId> {
        self.stream.and_then(Stream::patient)
    }

    /// The stream and the version that an event or admin act takes in it.
    pub fn stream_version(&self) -> Option<(Stream, u64)> {
        if self.kind == Kind::Access {
            return None;
        }
        Some((self.stream?, self.version?))
    }

    /// Checks that the members fit together.
    pub fn check(&self) -> Result<(), RuleError> {
        let record_type = self.record_type;
        if self.kind != record_type.kind() {
            return Err(RuleError::Kind);
        }
        record_type.stream().check("stream", self.stream.is_some())?;
        record_type.object().check("object", self.object.is_some())?;
        record_type.data().check("data", self.data.is_some())?;
        let external = if record_type == RecordType::ExternalAccess {
            Presence::Required
        } else {
            Presence::Refused
        };
        external.check("external", self.external.is_some())?;
        let erasure = record_type == RecordType::PatientErased;
        let reason = if erasure { Presence::Required } else { Presence::Refused };
        reason.check("reason", self.reason.is_some())?;
        let rotation = record_type == RecordType::KeyRotated;
        let key = if rotation { Presence::Required } else { Presence::Refused };
        key.check("key", self.key.is_some())?;
        let change = record_type == RecordType::SubscriptionChanged;
        let subscription = if change { Presence::Required } else { Presence::Refused };
        subscription.check("subscription", self.subscription.is_some())?;
        self.subscription.as_ref().map_or(Ok(()), SubscriptionChange::check)?;
        if rotation != (self.stream == Some(Stream::LedgerKeys)) {
            return Err(RuleError::Stream);
        }
        let of_a_patient = self.stream.is_none_or(|stream| stream.patient().is_some());
        if of_a_patient == (self.kind == Kind::Admin) {
            return Err(RuleError::Stream);
        }
        self.check_numbers()?;
        if record_type != RecordType::PatientsSearched && !self.subjects.is_empty() {
            return Err(RuleError::Unexpected("subjects"));
        }
        if self.subjects.len() > MAX_SUBJECTS {
            return Err(RuleError::Subjects);
        }
        self.check_data()
    }

    fn check_numbers(&self) -> Result<(), RuleError> {
        if self.seq > MAX_SAFE_INTEGER {
            return Err(RuleError::Range("seq"));
        }
        let event = self.kind == Kind::Event;
        let schema = if event { Presence::Required } else { Presence::Refused };
        schema.check("schema", self.schema.is_some())?;
        if self.kind != Kind::Access {
            Presence::Required.check("version", self.version.is_some())?;
        }
        match self.version {
            Some(0) => Err(RuleError::Range("version")),
            Some(version) if version > MAX_SAFE_INTEGER => Err(RuleError::Range("version")),
            Some(_) if self.stream.is_none() => Err(RuleError::Unexpected("version")),
            _ => Ok(()),
        }
    }

    fn check_data(&self) -> Result<(), RuleError> {
        let Some(data) = &self.data else { return Ok(()) };
        let header = parse_compact(data)?.header;
        let fits = header.record_type == self.record_type
            && header.stream == self.stream
            && header.version == self.version;
        if fits { Ok(()) } else { Err(RuleError::DataHeader) }
    }
}
