//! What can be wrong with a token.

use super::token::MAX_TOKEN_BYTES;

/// Why a token shows nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// The token is at fault.
    Invalid(TokenFault),
    /// Nobody can tell, because the issuer's keys are not at hand.
    NoKeys,
}

impl From<TokenFault> for Rejected {
    fn from(fault: TokenFault) -> Self {
        Self::Invalid(fault)
    }
}

/// What is wrong with a token. Clients read the texts, also in quotes, and none repeats a part of
/// the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFault {
    /// The header has something else after the scheme.
    #[error("the Authorization header does not hold one bearer token")]
    NoToken,
    /// Nobody could say which header counts.
    #[error("there is more than one Authorization header")]
    Repeated,
    /// Over [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Not three parts, not base64url, or not JSON.
    #[error("the token is not a signed JSON Web Token")]
    Malformed,
    /// RFC 7515, section 4.1.11: what is critical and not understood must be refused.
    #[error("the header of the token has critical extensions, which are not known here")]
    Critical,
    /// The header's `typ` is of another kind of token.
    #[error("the type of the token is not that of an access token")]
    Type,
    /// Not in the list of those allowed.
    #[error("the algorithm of the token is not one that is accepted here")]
    Algorithm,
    /// The header has no `kid`.
    #[error("the token does not name its key")]
    NoKeyId,
    /// The issuer does not publish a key of this `kid`.
    #[error("the issuer publishes no key as the token names it")]
    UnknownKey,
    /// An algorithm for another kind of key.
    #[error("the algorithm of the token does not fit its key")]
    OtherKey,
    /// Not made with the key, or not for this content.
    #[error("the signature of the token is not valid")]
    Signature,
    /// `iss` is missing or another one.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud` is missing or names none of ours.
    #[error("the token is for another audience")]
    Audience,
    /// There is no `exp`.
    #[error("the token has no time of expiry")]
    NoExpiry,
    /// `exp` is over.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYet,
    /// `iat` is to come.
    #[error("the token is from the future")]
    FromFuture,
    /// A claim is not of the form that it must have.
    #[error("a claim of the token is malformed")]
    Claim,
    /// Made for the client that signed the user in, not for an API.
    #[error("the token is not an access token: send that, not the ID token")]
    NotAccess,
    /// Only who proves to have a key may use it (RFC 7800), and that cannot be checked here.
    #[error("the token is bound to a key of its holder and no bearer token")]
    Bound,
    /// None of the claims that say who the user is.
    #[error("the token does not say who the user is")]
    NoSubject,
}
