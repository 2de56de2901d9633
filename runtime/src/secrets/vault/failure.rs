//! Why a vault has not given a secret.

/// Why a vault has not given a secret. Holds nothing of what was sent or received but a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultFailure {
    /// The token of this identity was not taken.
    #[error(
        "the vault does not take the token of this identity (401): see that both are of one tenant"
    )]
    Token,
    /// The identity may not read the secret, or the secret is disabled.
    #[error(
        "the vault refuses (403): let this identity get secrets, and see that the secret is enabled"
    )]
    Forbidden,
    /// There is no such secret, or it was deleted.
    #[error("the vault has no such secret (404)")]
    Missing,
    /// The vault has too much to do.
    #[error("the vault asks to slow down (429)")]
    Throttled,
    /// Any other status.
    #[error("the vault answers {0}")]
    Status(u16),
    /// No connection, or one that broke off.
    #[error("the vault cannot be reached")]
    Unreachable,
    /// The identity endpoint gave no token.
    #[error(
        "there is no token of a managed identity: assign one, and name it in AZURE_CLIENT_ID where there are several"
    )]
    Identity,
    /// Neither vault nor identity endpoint answered in time.
    #[error("the vault or the identity endpoint took too long")]
    TooSlow,
    /// The answer is none of a vault.
    #[error("the vault's answer has no value")]
    Answer,
    /// The process cannot ask vaults at all.
    #[error("vaults cannot be asked by this process")]
    Setup,
    /// The setting of the interval cannot be used.
    #[error("VITALOG_KEYVAULT_REFRESH is not a number of seconds from 1 to 86400")]
    Refresh,
}

impl VaultFailure {
    /// Whether it may pass by itself within seconds.
    pub(super) const fn is_transient(self) -> bool {
        match self {
            Self::Throttled | Self::Unreachable | Self::Identity | Self::TooSlow => true,
            Self::Status(status) => status >= 500 || status == 408,
            _ => false,
        }
    }
}
