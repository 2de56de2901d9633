//! Why the appender stops, for one round or for good.

use domain::wire::Stored;
use runtime::health::Component;

use crate::{ledger::FoldError, store::StoreError};

/// What readiness and log say after a rotation that this process was not made ready for.
const KEY_MISSING: &str = "this replica does not hold the ledger's current signing key";

/// Why nothing can be appended or read further now.
pub(crate) enum Stop {
    /// The store did not answer; nothing was stored by this round.
    Store(StoreError),
    /// For good.
    Final(Final),
}

/// Why nothing will be appended any more.
pub(crate) enum Final {
    /// The stored ledger is not ours.
    Forged(FoldError),
    /// The signing key was rotated to this one, by its verifier key, and the process does not
    /// hold it.
    KeyMissing(String),
    /// The process is going down with an append whose outcome is unknown. Another block may not
    /// be formed beside it.
    Abandoned,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Malformed { first, reason } => {
                FoldError::Malformed { first, reason }.into()
            }
            StoreError::Unavailable(_) => Self::Store(error),
        }
    }
}

impl From<FoldError> for Stop {
    fn from(error: FoldError) -> Self {
        Self::Final(Final::Forged(error))
    }
}

impl Final {
    /// Every word of [`Final::as_str`].
    pub(crate) const REASONS: [&str; 3] = ["verification_failed", "key_missing", "abandoned"];

    /// The reason in a word.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Forged(_) => "verification_failed",
            Self::KeyMissing(_) => "key_missing",
            Self::Abandoned => "abandoned",
        }
    }

    /// What the round left behind whose end this is.
    pub(crate) fn stored(&self) -> Stored {
        match self {
            // Our block, or something that was put in its place.
            Self::Abandoned | Self::Forged(FoldError::Malformed { .. }) => Stored::Unknown,
            // Another block stands where ours would.
            Self::Forged(_) | Self::KeyMissing(_) => Stored::NothingStored,
        }
    }

    /// Says so in the log and in readiness.
    pub(crate) fn report(&self, component: &Component) {
        match self {
            Self::Forged(error) => {
                tracing::error!(
                    seq = error.seq(),
                    error = error as &dyn std::error::Error,
                    "the stored ledger does not verify; nothing will be appended"
                );
                component.not_ready("the stored ledger does not verify");
            }
            Self::KeyMissing(key) => {
                tracing::error!(%key, "{KEY_MISSING}; nothing will be appended");
                component.not_ready(KEY_MISSING);
            }
            Self::Abandoned => {}
        }
    }
}
