//! What `meta` holds of a generation, its erasures and its parked streams, as MongoDB has them.
//! Members are absent until they are first written; older versions wrote the position alone.

use domain::{
    hash::Hash,
    ids::{KeyId, PatientId},
    time::Timestamp,
};
use mongodb::bson::{DateTime, RawDocumentBuf};
use serde::{Deserialize, Serialize};

use super::stored::{date, decode, int, time, uint};
use crate::{
    documents::{Erasure, Generation, Office, Parked, Position},
    store::StoreError,
};

/// `_id` of a generation's books in `meta`. The name is of the time when they held the position
/// alone.
pub(super) fn books_id(generation: Generation) -> String {
    format!("{BOOKS}{}", generation.0)
}

const BOOKS: &str = "position_g";

/// The generation whose books have this `_id`.
pub(super) fn books_of(id: &str) -> Option<Generation> {
    id.strip_prefix(BOOKS)?.parse().ok().map(Generation)
}

/// The books of a generation.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Books {
    next_seq: Option<i64>,
    hash: Option<Hash>,
    at: Option<DateTime>,
    term: Option<i64>,
    holder: Option<String>,
    beat: Option<i64>,
    note: Option<String>,
}

impl Books {
    pub(super) fn position(&self) -> Result<Option<Position>, StoreError> {
        let Some(next_seq) = self.next_seq else { return Ok(None) };
        let position =
            || Some(Position { next_seq: uint(next_seq)?, hash: self.hash?, at: time(self.at?) });
        position().ok_or(MALFORMED).map(Some)
    }

    pub(super) fn office(&self) -> Result<Option<Office>, StoreError> {
        let Some(term) = self.term else { return Ok(None) };
        let holder = self.holder.as_ref().map(|holder| holder.parse()).transpose();
        let holder = holder.map_err(|_| MALFORMED)?;
        let office = || Some(Office { holder, term: uint(term)?, beat: uint(self.beat?)? });
        office().ok_or(MALFORMED).map(Some)
    }

    pub(super) fn note(self) -> Option<String> {
        self.note
    }
}

const MALFORMED: StoreError = StoreError::Malformed { collection: "meta" };

pub(super) fn books(document: &RawDocumentBuf) -> Result<Books, StoreError> {
    decode("meta", document)
}

/// The members of a position.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredPosition {
    pub(super) next_seq: i64,
    hash: Hash,
    at: DateTime,
}

impl From<&Position> for StoredPosition {
    fn from(position: &Position) -> Self {
        let Position { next_seq, hash, at } = *position;
        Self { next_seq: int(next_seq), hash, at: date(at) }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredErasure {
    #[serde(rename = "_id")]
    pub(super) patient: PatientId,
    pub(super) kid: KeyId,
}

pub(super) fn erasure(document: &RawDocumentBuf) -> Result<Erasure, StoreError> {
    let StoredErasure { patient, kid } = decode("erasures", document)?;
    Ok(Erasure { patient, kid })
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredParked {
    #[serde(rename = "_id")]
    patient: PatientId,
    seq: i64,
    reason: String,
    at: DateTime,
    retry: bool,
}

impl From<&Parked> for StoredParked {
    fn from(parked: &Parked) -> Self {
        let Parked { patient, seq, reason, at, retry } = parked.clone();
        Self { patient, seq: int(seq), reason, at: date(at), retry }
    }
}

pub(super) fn parked(document: &RawDocumentBuf) -> Result<Parked, StoreError> {
    let StoredParked { patient, seq, reason, at, retry } = decode("parked", document)?;
    let seq = uint(seq).ok_or(StoreError::Malformed { collection: "parked" })?;
    let at: Timestamp = time(at);
    Ok(Parked { patient, seq, reason, at, retry })
}
