//! What services say to each other about appending (JSON, camelCase).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    actor::{Actor, ErasureReason, Outcome, Purpose},
    chain::Link,
    hash::Hash,
    ids::{Name, ObjectRef, PatientId, SpanRef, Stream, TraceId},
    record::{CommandRef, External, FormatVersion, KeyRotation, Record, RecordType},
    subscription::SubscriptionChange,
    time::Timestamp,
};

/// Records in one append request at most; also the records of one block.
pub const MAX_APPEND_ITEMS: usize = 1_000;

/// Bytes of one append request's body at most: a little over a block's cap.
pub const MAX_APPEND_BYTES: usize = 2 * 1024 * 1024;

/// A record that a service asks for: all that the audit service does not know itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proposal {
    /// See [`Record::record_type`]; the kind follows from it.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// See [`Record::stream`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// Events and admin acts: the version that the new record takes, which must be the
    /// current one plus one. Accesses: the version that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// See [`Record::object`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    /// See [`Record::subjects`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<PatientId>,
    /// See [`Record::schema`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<u32>,
    /// See [`Record::actor`].
    pub actor: Actor,
    /// See [`Record::client`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// See [`Record::purpose`].
    pub purpose: Purpose,
    /// See [`Record::outcome`].
    pub outcome: Outcome,
    /// See [`Record::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErasureReason>,
    /// See [`Record::command`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRef>,
    /// The command id was made for this very request and was never sent before, so the
    /// ledger cannot hold it. Must be false when the request is sent again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// The receipt is to carry a proof; see [`Receipt::proof`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proof: bool,
    /// See [`Record::trace`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// Where in that trace it was proposed. Not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<SpanRef>,
    /// See [`Record::data`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// See [`Record::external`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// See [`Record::key`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyRotation>,
    /// See [`Record::subscription`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionChange>,
}

impl Proposal {
    /// A proposal with what every record has and nothing else.
    pub fn new(record_type: RecordType, actor: Actor, purpose: Purpose, outcome: Outcome) -> Self {
        Self {
            record_type,
            stream: None,
            version: None,
            object: None,
            subjects: Vec::new(),
            schema: None,
            actor,
            client: None,
            purpose,
            outcome,
            reason: None,
            command: None,
            fresh: false,
            proof: false,
            trace: None,
            span: None,
            data: None,
            external: None,
            key: None,
            subscription: None,
        }
    }

    /// The record for the next place of a chain.
    pub fn into_record(self, ledger: Name, source: Name, link: &Link, at: Timestamp) -> Record {
        Record {
            actor: self.actor,
            client: self.client,
            command: self.command,
            data: self.data,
            external: self.external,
            key: self.key,
            kind: self.record_type.kind(),
            ledger,
            object: self.object,
            outcome: self.outcome,
            prev: link.hash,
            purpose: self.purpose,
            reason: self.reason,
            recorded_at: at,
            schema: self.schema,
            seq: link.next_seq,
            source,
            stream: self.stream,
            subjects: self.subjects,
            subscription: self.subscription,
            trace: self.trace,
            record_type: self.record_type,
            v: FormatVersion,
            version: self.version,
        }
    }
}

/// What an append returns: where the record stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Position in the ledger.
    pub seq: u64,
    /// Hash of the record's line.
    pub hash: Hash,
    /// The record's stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// The record's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// For an access to a stream: the stream's version at this position of the ledger, 0 if
    /// it has no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// The command was recorded by an earlier request; this is that record's receipt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replayed: bool,
    /// Where the proposal asked for it: a C2SP tlog-proof file, which proves that the record is
    /// under the checkpoint that was signed right after its commit. Absent where the command was
    /// recorded before, and where no checkpoint can be remembered now: the record is durable all
    /// the same, and its proof can be read later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Where in the proposal's trace it was appended; absent where nobody records spans.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<SpanRef>,
}

impl Receipt {
    /// The value of the `Audit-Receipt` header: `seq=<n>, hash="<hex>"`.
    pub fn header_value(&self) -> String {
        format!("seq={}, hash=\"{}\"", self.seq, self.hash)
    }
}

/// That the tree of one size begins with that of another (RFC 6962 §2.1.2). Hashes are base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsistencyProof {
    /// The smaller tree.
    pub from: SizedRoot,
    /// The larger tree.
    pub to: SizedRoot,
    /// The proof.
    pub hashes: Vec<String>,
}

/// A tree by its size and root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SizedRoot {
    /// Records in the tree.
    pub size: u64,
    /// The Merkle root, base64.
    pub root: String,
}

/// The answer to one proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "status")]
pub enum AppendResult {
    /// It is durable.
    Appended(Receipt),
    /// The stream is at another version; nothing was stored.
    Conflict {
        /// The stream.
        stream: Stream,
        /// The version that the proposal expected the stream to have.
        expected: u64,
        /// The version that it has.
        actual: u64,
    },
    /// The command id is in the ledger with another digest; nothing was stored.
    CommandReused,
    /// The proposal breaks a rule; nothing was stored and sending it again is no use.
    Refused {
        /// Which rule; never content.
        reason: String,
    },
    /// The ledger cannot take it now.
    Unavailable {
        /// Whether something may have been stored.
        stored: Stored,
    },
}

/// What a failure left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stored {
    /// Certainly nothing.
    NothingStored,
    /// It may be in the ledger, now or a little later; the same command id may be sent again.
    Unknown,
}

/// Body of an append of many.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppendRequest {
    /// 1 to [`MAX_APPEND_ITEMS`] proposals; those of one request keep their order.
    pub items: Vec<Proposal>,
}

/// Answer to an append of many: one result a proposal, in the same order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppendResponse {
    /// The results.
    pub results: Vec<AppendResult>,
}
