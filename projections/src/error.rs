//! What can go wrong while reading the ledger and writing the read models.
//!
//! No variant shows content. What may go away by itself is told from what may not by
//! `Transient`.

use std::sync::Arc;

use audit_client::ReadError;
use audit_verify::{checkpoint::CheckpointError, key_history::NotVouchedFor, keys::KeyError};
use domain::{chain::ChainError, ids::PatientId};

use crate::{
    backoff::Transient,
    erasure::{EraseError, ReapplyError},
    history::HistoryError,
    key_ring::KeyRingError,
    sealing::OpenError,
    store::StoreError,
};

/// Why the ledger could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The audit service gave no answer.
    #[error(transparent)]
    Audit(#[from] ReadError),
    /// A record does not follow from those before it. Names the first bad one.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The record last followed is another one now.
    #[error("record {seq} is not the one that was followed before")]
    Rewritten {
        /// Its position.
        seq: u64,
    },
    /// The record last followed is not there any more.
    #[error("record {seq} was followed before and is gone: the ledger was cut off")]
    CutOff {
        /// Its position.
        seq: u64,
    },
}

impl TailError {
    /// The first bad record; `None` where nothing is known to be bad.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Audit(_) => None,
            Self::Chain(error) => Some(error.seq()),
            Self::Rewritten { seq } | Self::CutOff { seq } => Some(*seq),
        }
    }
}

/// Why a change was not applied now. It is in the ledger, and the follower applies it.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Too many changes wait already.
    #[error("too many changes wait to be applied")]
    Busy,
    /// The store took longer than a caller waits.
    #[error("applying the change takes too long")]
    TimedOut,
    /// The store failed; shared by all whose changes travelled together.
    #[error("the change could not be written")]
    Store(#[source] Arc<StoreError>),
    /// Events before the change are missing and could not be had.
    #[error("the events before the change could not be applied")]
    Repair(#[source] RepairError),
    /// The process is shutting down.
    #[error("changes are not applied any more")]
    Stopped,
}

/// Why a stream could not be made whole from the ledger.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Its events could not be had.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// They could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They erase the patient, and that could not be completed.
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// The ledger has no event after the cursor, though one was seen.
    #[error("the ledger serves no event after version {at} of a stream that has one")]
    NothingToLoad {
        /// The cursor.
        at: u64,
    },
    /// The stream was behind again after each try.
    #[error("the stream is still behind at version {at}")]
    StillBehind {
        /// The cursor.
        at: u64,
    },
}

impl From<OpenError> for RepairError {
    fn from(error: OpenError) -> Self {
        Self::History(HistoryError::Open(error))
    }
}

/// An event that cannot be applied, and will not by trying again.
#[derive(Debug, thiserror::Error)]
#[error("record {seq} cannot be applied")]
pub struct NotApplicable {
    /// Whose event it is.
    pub patient: PatientId,
    /// Position of the record.
    pub seq: u64,
    /// Why.
    #[source]
    pub reason: NotApplicableReason,
}

/// Why an event cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum NotApplicableReason {
    /// It cannot be decrypted or is no event of its type.
    #[error(transparent)]
    Open(OpenError),
    /// Its key is gone and the ledger does not excuse that by an erasure.
    #[error(transparent)]
    KeyGone(Box<RepairError>),
    /// What the erasure leaves cannot be told from the patient's stream.
    #[error(transparent)]
    Erasure(Box<RepairError>),
    /// It is sealed under another key than the events before it: destroying one key would not
    /// erase the patient.
    #[error("it is sealed under another key than the events before it in its stream")]
    KeyChanged,
    /// Its version does not follow from the stream's event before it.
    #[error("its version does not follow from the event before it in its stream")]
    Version,
}

/// Why following the ledger failed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The ledger could not be read on.
    #[error(transparent)]
    Tail(#[from] TailError),
    /// The read models gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit service shows something that is no verifier key.
    #[error("the audit service shows no verifier key")]
    LedgerKey(#[from] KeyError),
    /// Events could not be read.
    #[error(transparent)]
    Decode(RepairError),
    /// An erasure could not be completed.
    #[error(transparent)]
    Erase(#[from] EraseError),
    /// Erasures could not be re-applied.
    #[error(transparent)]
    Reapply(ReapplyError),
    /// An event cannot be applied.
    #[error(transparent)]
    NotApplicable(#[from] NotApplicable),
    /// So many streams are parked that no other can be: it is not the streams that are wrong.
    #[error(
        "record {seq} cannot be applied, and too many streams are parked already; \
         mend what they need, such as the key ring, and run park retry"
    )]
    TooManyParked {
        /// The event that would have parked one more.
        seq: u64,
    },
    /// A stream was behind and could not be made whole.
    #[error("the stream of record {seq} could not be repaired")]
    Repair {
        /// The event that showed the gap.
        seq: u64,
        /// Why.
        source: RepairError,
    },
}

impl From<ReadError> for FollowError {
    fn from(error: ReadError) -> Self {
        Self::Tail(TailError::Audit(error))
    }
}

impl From<ReapplyError> for FollowError {
    fn from(error: ReapplyError) -> Self {
        match error {
            ReapplyError::Ledger(error) => Self::Tail(error),
            other => Self::Reapply(other),
        }
    }
}

impl FollowError {
    /// The record at which nothing goes on; `None` where trying again may help. The follower
    /// parks the stream of an event that cannot be applied before it comes to this.
    pub fn stops_at(&self) -> Option<u64> {
        match self {
            Self::Tail(error) => error.seq(),
            Self::NotApplicable(error) => Some(error.seq),
            Self::Repair { seq, source } if !source.is_transient() => Some(*seq),
            Self::Store(_)
            | Self::LedgerKey(_)
            | Self::Decode(_)
            | Self::Erase(_)
            | Self::Reapply(_)
            | Self::TooManyParked { .. }
            | Self::Repair { .. } => None,
        }
    }
}

/// Why a rebuild was given up. The generation that served before still serves.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Following the ledger into the new generation failed.
    #[error(transparent)]
    Follow(#[from] FollowError),
    /// The checkpoint is not believed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The ledger's key was handed on by somebody who does not hold it.
    #[error(transparent)]
    Rotation(#[from] NotVouchedFor),
    /// The records that were read are not those of the signed checkpoint.
    #[error("the records up to {size} do not have the root that the checkpoint signs")]
    Root {
        /// Records under the checkpoint.
        size: u64,
    },
    /// The checkpoint covers records that the ledger does not serve, or fewer than it served.
    #[error("the ledger serves {read} records and its checkpoint covers {size}")]
    Size {
        /// Records read.
        read: u64,
        /// Records under the checkpoint.
        size: u64,
    },
    /// The process that builds a generation, or follows into it, is alive.
    #[error("another process builds generation {generation}")]
    Busy {
        /// The generation.
        generation: u32,
    },
    /// The note of an unfinished generation is none, or does not fit the ledger.
    #[error("the note of generation {generation} cannot be used; begin anew with --fresh")]
    Note {
        /// The generation.
        generation: u32,
    },
    /// Another process let another generation serve meanwhile.
    #[error("the pointer to the generations in use was moved meanwhile; try again")]
    Pointer,
    /// Records come faster than they are applied.
    #[error("the rebuild did not catch up with the ledger; run it when fewer records come")]
    NotCaughtUp,
    /// Reading ended without a reason, such as a shutdown.
    #[error("interrupted before the end; do it again")]
    Interrupted,
}

impl From<StoreError> for RebuildError {
    fn from(error: StoreError) -> Self {
        Self::Follow(FollowError::Store(error))
    }
}

impl RebuildError {
    /// Whether going on with the unfinished generation is no use: the ledger does not verify, or
    /// holds an event that cannot be applied.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Follow(error) => error.stops_at().is_some(),
            Self::Checkpoint(_) | Self::Rotation(_) | Self::Root { .. } => true,
            Self::Size { .. }
            | Self::Busy { .. }
            | Self::Note { .. }
            | Self::Pointer
            | Self::NotCaughtUp
            | Self::Interrupted => false,
        }
    }
}

/// An error with its sources, whose texts hold no content.
pub(crate) fn reasons(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

impl Transient for StoreError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl Transient for KeyRingError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(error) if error.is_transient())
    }
}

impl Transient for HistoryError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Audit(_) => true,
            Self::Open(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl Transient for RepairError {
    fn is_transient(&self) -> bool {
        match self {
            Self::History(error) => error.is_transient(),
            Self::Store(error) => error.is_transient(),
            Self::Erase(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl Transient for FollowError {
    fn is_transient(&self) -> bool {
        self.stops_at().is_none()
    }
}
