//! What the builder of a generation leaves for whoever goes on building it.

use domain::{hash::Hash, time::Timestamp};
use serde::{Deserialize, Serialize};

use super::Until;
use crate::{
    documents::{Generation, Position},
    error::RebuildError,
    store::Upkeep,
};

/// How far a generation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Records of the ledger are missing, or were not compared with a signed checkpoint.
    Building,
    /// It is verified and may serve, or is kept beside the one that does. Nobody goes on with it.
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
}

/// How far the build of a generation has come.
#[derive(Debug)]
pub enum Standing {
    /// It was ended early, or goes on; with its note, where there is one yet.
    Unfinished(Option<Note>),
    /// It was ended early, and nobody can go on with it: its note cannot be read.
    Unreadable,
    /// It came to its end, or it is of a time when builders left no notes.
    Complete(Option<Note>),
}

impl Standing {
    /// Whether its generation may serve.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Complete(_))
    }

    /// The note, where it can be read.
    pub fn note(&self) -> Option<&Note> {
        match self {
            Self::Unfinished(note) | Self::Complete(note) => note.as_ref(),
            Self::Unreadable => None,
        }
    }
}

/// How far the build of a generation has come. The only answer to whether it is finished: only
/// what is not may be gone on with or dropped by a rebuild, and only what is may serve.
pub async fn standing(
    store: &dyn Upkeep,
    generation: Generation,
    serving: Generation,
) -> Result<Standing, RebuildError> {
    Ok(match note_of(store, generation).await {
        Ok(note) if generation == serving => Standing::Complete(note),
        Ok(Some(note)) if note.stage == Stage::Building => Standing::Unfinished(Some(note)),
        Ok(Some(note)) => Standing::Complete(Some(note)),
        // Made by a builder who ended before it could say so. Older ones have served.
        Ok(None) if generation > serving && store.position(generation).await?.is_none() => {
            Standing::Unfinished(None)
        }
        Ok(None) => Standing::Complete(None),
        Err(RebuildError::Note { .. }) if generation == serving => Standing::Complete(None),
        Err(RebuildError::Note { .. }) => Standing::Unreadable,
        Err(error) => return Err(error),
    })
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
