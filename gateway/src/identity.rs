//! Who asks, once a key or a token has shown it.

use domain::actor::Actor;
use http::HeaderValue;

use crate::error::Refusal;
use crate::routes::Access;
use crate::subscriptions::Scope;

/// Somebody whom the gateway knows, as requests need it.
#[derive(Debug)]
pub(crate) struct Identity {
    scopes: Vec<Scope>,
    /// Made once: it is the same for every request.
    actor: HeaderValue,
}

impl Identity {
    /// `None` where the actor has no form as a header.
    pub(crate) fn new(actor: &Actor, scopes: Vec<Scope>) -> Option<Self> {
        let actor = runtime::headers::encode_actor(actor).ok()?;
        Some(Self { scopes, actor })
    }

    /// The header that tells services who acts.
    pub(crate) fn actor(&self) -> &HeaderValue {
        &self.actor
    }

    /// Whether the scopes are enough for a route.
    pub(crate) fn check(&self, access: Access) -> Result<(), Refusal> {
        match access {
            Access::Scope(scope) if !self.scopes.contains(&scope) => Err(Refusal::NoScope(scope)),
            Access::AnyScope if self.scopes.is_empty() => Err(Refusal::NoScopes),
            _ => Ok(()),
        }
    }
}
