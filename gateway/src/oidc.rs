//! Bearer tokens: JSON Web Tokens (RFC 7519) of one configured issuer, checked here against the
//! keys that it publishes (`OpenID` Connect Discovery 1.0, RFC 7517).
//!
//! Nothing that a token says decides about an address: only the configured issuer is ever asked.

mod bearer;
mod claims;
mod discovery;
mod fault;
mod issuer;
mod keys;
mod refresh;
mod token;

use std::sync::Arc;
use std::time::Duration;

use domain::ids::Name;
use moka::sync::Cache;
use runtime::health::Component;
use sha2::{Digest, Sha256};

use crate::config::OidcSettings;
use crate::identity::Identity;
use crate::rates::Rates;

pub(crate) use bearer::bearer;
pub use discovery::IssuerClientError;
pub(crate) use fault::{Rejected, TokenFault};
pub use issuer::{Issuer, IssuerError};

use claims::Reader;
use keys::Key;
use refresh::Keyring;

/// Clocks differ by so much, in seconds, without a token being refused for it.
const LEEWAY_S: u64 = 60;

/// Tokens that were verified, kept for the requests that follow. Each takes a few hundred bytes.
const MAX_CACHED: u64 = 8_192;

/// How long a verified token is kept at most, whatever its own end.
const CACHE_TIME: Duration = Duration::from_hours(1);

/// Whose tokens are taken, and those that were.
pub(crate) struct Tokens {
    reader: Reader,
    keyring: Arc<Keyring>,
    /// By digest, so that no token is kept. Only genuine ones are, so nobody can crowd them out.
    verified: Cache<[u8; 32], Verified>,
    /// Of users, whichever of their tokens they send.
    rates: Rates<Name>,
}

/// What is known of a token that was checked in full.
#[derive(Clone)]
struct Verified {
    identity: Arc<Identity>,
    /// In seconds since 1970.
    expires: u64,
    key: Arc<Key>,
}

impl Tokens {
    pub(crate) fn new(settings: OidcSettings) -> Result<Self, IssuerClientError> {
        let keyring = Arc::new(Keyring::new(&settings)?);
        let verified = Cache::builder().max_capacity(MAX_CACHED).time_to_live(CACHE_TIME).build();
        let rates = Rates::new(settings.rate);
        Ok(Self { reader: Reader::new(settings), keyring, verified, rates })
    }

    /// Keeps the issuer's keys fresh; `component` becomes ready with the first ones.
    pub(crate) fn watch(&self, component: Component) -> impl Future<Output = ()> + 'static {
        Arc::clone(&self.keyring).watch(component)
    }

    /// Charges one request to a user's rate; else the whole seconds until the next.
    pub(crate) fn charge_rate(&self, user: &Identity) -> Result<(), u32> {
        self.rates.charge(user.name())
    }

    /// Whom a token shows.
    pub(crate) async fn identify(&self, token: &str) -> Result<Arc<Identity>, Rejected> {
        if token.len() > token::MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLong.into());
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(verified) = self.verified.get(&digest)
            && self.keyring.still_has(&verified.key)
        {
            return if verified.expires.saturating_add(LEEWAY_S)
                < jsonwebtoken::get_current_timestamp()
            {
                Err(TokenFault::Expired.into())
            } else {
                Ok(verified.identity)
            };
        }
        let head = token::Head::read(token, self.reader.algorithms())?;
        let key = self.keyring.find(&head).await?;
        let claims = self.reader.verify(token, &head, &key)?;
        let expires = claims.expires;
        let identity = Arc::new(self.reader.identity(&claims)?);
        let verified = Verified { identity: Arc::clone(&identity), expires, key };
        self.verified.insert(digest, verified);
        Ok(identity)
    }
}
