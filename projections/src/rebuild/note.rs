//! What the builder of a generation leaves for whoever goes on building it.

use domain::{hash::Hash, time::Timestamp};
use serde::{Deserialize, Serialize};

use super::Until;
use crate::{
    documents::{Generation, Office, Position},
    error::RebuildError,
    store::Upkeep,
};

/// How far a generation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Records of the ledger are missing, or were not compared with a signed checkpoint.
    Building,
    /// It is verified and may serve, or is kept beside the one that does.
    Ready,
    /// It has served, or was asked to.
    Served,
}

/// The note, as JSON in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// How far it has come.
    pub stage: Stage,
    /// The state that it is to show; `None` for all of the ledger.
    pub until: Option<Until>,
    /// When its first build began.
    pub started_at: Timestamp,
    /// The term of office of whoever wrote this.
    pub term: u64,
    /// After the last record that is verified and applied; `None` before the first.
    pub place: Option<Place>,
    /// The Merkle tree over the records up to `place`: roots of its full subtrees, largest first.
    pub frontier: Vec<Hash>,
    /// The ledger's keys up to `place`, as `KeyHistory` shows them; empty without a rotation.
    pub keys: String,
    /// Events of records below this may be applied though they stand after `place`, because
    /// whoever wrote this went on, or commands write to the generation, too.
    pub ahead_below: u64,
    /// Events of patients up to `place`.
    pub events: u64,
}

/// A [`Position`] as the note has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// `seq` of the next record.
    pub next_seq: u64,
    /// Hash of the last record.
    pub hash: Hash,
    /// When that was recorded.
    pub at: Timestamp,
}

impl From<Position> for Place {
    fn from(Position { next_seq, hash, at }: Position) -> Self {
        Self { next_seq, hash, at }
    }
}

impl From<Place> for Position {
    fn from(Place { next_seq, hash, at }: Place) -> Self {
        Self { next_seq, hash, at }
    }
}

impl Note {
    /// The note of a generation of which nothing is built.
    pub(crate) fn new(until: Option<Until>, started_at: Timestamp) -> Self {
        Self {
            stage: Stage::Building,
            until,
            started_at,
            term: 0,
            place: None,
            frontier: Vec::new(),
            keys: String::new(),
            ahead_below: 0,
            events: 0,
        }
    }

    /// Records up to the note's place.
    pub fn size(&self) -> u64 {
        self.place.map_or(0, |place| place.next_seq)
    }

    /// Whether a build was ended before its generation was put to use. One that is ready is in
    /// use as soon as somebody other than its builder has been in office.
    pub fn is_unfinished(&self, office: Option<Office>) -> bool {
        match self.stage {
            Stage::Building => true,
            Stage::Ready => office.is_none_or(|office| office.term == self.term),
            Stage::Served => false,
        }
    }
}

/// The note of a generation; `None` where nobody left one.
pub async fn note_of(
    store: &dyn Upkeep,
    generation: Generation,
) -> Result<Option<Note>, RebuildError> {
    let Some(text) = store.note(generation).await? else { return Ok(None) };
    let unreadable = |_| RebuildError::Note { generation: generation.0 };
    serde_json::from_str(&text).map(Some).map_err(unreadable)
}
