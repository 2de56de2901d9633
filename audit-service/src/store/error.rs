//! Why a store did not do what it was asked.

/// A read that gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer, or not in time; ask again.
    #[error("the ledger store is not available")]
    Unavailable(#[source] BoxError),
    /// The store answered with something that is no block. The first bad block is named.
    #[error("the ledger store holds something that is not a block at {first}")]
    Malformed {
        /// `first` of the block as far as it can be told.
        first: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// An append that did not plainly succeed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// A block with this `first` exists, or is on its way; it may not be visible yet.
    #[error("a block at {first} exists already")]
    Occupied {
        /// The `first` that is taken.
        first: u64,
    },
    /// Nothing is known: the block may be stored, now or later.
    #[error("the outcome of storing a block is unknown")]
    Ambiguous(#[source] BoxError),
    /// Certainly not stored, now or later.
    #[error("the ledger store refused a block")]
    Refused(#[source] BoxError),
}

/// The adapter's own error, for the log.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
