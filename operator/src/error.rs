//! Why a job has stopped. What was done until then stays, and the same job goes on from there.

use crate::names::NameError;

/// Why a job has stopped. No text of an answer is in here but a short code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be used.
    #[error("{setting}: {reason}")]
    Setting {
        /// The variable.
        setting: &'static str,
        /// What it should be.
        reason: &'static str,
    },
    /// A name that stands for no secret that may be made or rotated.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No token of the managed identity.
    #[error(
        "there is no token of a managed identity: assign one, and name it in AZURE_CLIENT_ID where there are several"
    )]
    Identity,
    /// Vault or resource manager cannot be reached.
    #[error("{0} cannot be reached")]
    Unreachable(String),
    /// Vault or resource manager refused.
    #[error("{what} is answered {status} {code}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The service's code for the reason.
        code: String,
    },
    /// An answer that is none of the service's.
    #[error("{0}: the answer cannot be read")]
    Answer(String),
    /// A change that the resource manager took on, and that did not succeed in time.
    #[error("{what} ended as {outcome}")]
    Unfinished {
        /// What was asked for.
        what: String,
        /// Failed, Canceled, or that it took too long.
        outcome: String,
    },
    /// There already is a secret of this name.
    #[error("there is a secret {0} already")]
    Exists(String),
    /// There is no secret of this name.
    #[error("there is no secret {0}: `azure-secrets ensure` makes it")]
    Missing(String),
    /// A secret is not what its name says.
    #[error("the secret {name} is {reason}")]
    Unusable {
        /// The secret.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another program failed; what it said stands above.
    #[error("`{0}` failed")]
    Program(String),
}
