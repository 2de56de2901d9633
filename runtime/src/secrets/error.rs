//! Why a secret could not be had.

use std::io;

use super::{MAX_SECRET_BYTES, SecretRef, vault::VaultFailure};

/// Why a secret could not be had. No variant contains any part of a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The text is no reference. It is not repeated: it may be a secret pasted by mistake.
    #[error(
        "not a secret reference: write env:NAME, file:/path or keyvault:https://VAULT/secrets/NAME (the value is not shown)"
    )]
    NotAReference,
    /// The environment variable is not set.
    #[error("{0} is not set, or is not UTF-8: set it to the secret")]
    Unset(SecretRef),
    /// The file could not be read.
    #[error("{reference} cannot be read")]
    Unreadable {
        /// The reference that was followed.
        reference: SecretRef,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The vault has not given the secret.
    #[error("{reference} cannot be had")]
    Vault {
        /// The reference that was followed.
        reference: SecretRef,
        /// The reason.
        #[source]
        source: VaultFailure,
    },
    /// The secret has no content.
    #[error("{0} is empty")]
    Empty(SecretRef),
    /// The secret is longer than [`MAX_SECRET_BYTES`].
    #[error("{0} is longer than {MAX_SECRET_BYTES} bytes: it should name a secret")]
    TooLong(SecretRef),
    /// The secret is used as text and is not UTF-8.
    #[error("the secret is not UTF-8 text")]
    NotText,
    /// The secret is used as a 256-bit key and is none.
    #[error("the secret is not a key: write 64 hex digits or the base64 of 32 bytes")]
    NotAKey,
    /// The secret is to be a MongoDB URI and is none.
    #[error("{0} holds no MongoDB URI: it should begin with mongodb:// or mongodb+srv://")]
    NotAMongoUri(SecretRef),
    /// A caller specification is malformed. It is not repeated, for the same reason.
    #[error(
        "not a caller: write NAME=REF or NAME=REF,NEXT_REF, where NAME has 1 to 64 letters, digits, dots, dashes or underscores and REF is env:NAME, file:/path or keyvault:https://VAULT/secrets/NAME (the value is not shown)"
    )]
    NotACaller,
    /// A service key is too short to resist guessing.
    #[error("the service key of {caller} is shorter than {min} bytes: make a longer one")]
    KeyTooShort {
        /// The caller's name.
        caller: String,
        /// The fewest bytes that are accepted.
        min: usize,
    },
    /// Two callers would be told apart by the same key.
    #[error("{first} and {second} have the same service key: give each its own")]
    SharedKey {
        /// The caller that was named first.
        first: String,
        /// The caller that was named later.
        second: String,
    },
}
