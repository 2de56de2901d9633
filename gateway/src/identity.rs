//! Who asks, once a key or a token has shown it, and what rules hold for them.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use domain::actor::{Actor, ActorKind};
use domain::ids::Name;
use http::HeaderValue;
use ipnet::IpNet;

use crate::error::Refusal;
use crate::routes::Access;
use crate::subscriptions::{Meter, Scope};

/// Somebody whom the gateway knows, as requests need it.
#[derive(Debug)]
pub(crate) struct Identity {
    name: Name,
    kind: ActorKind,
    scopes: Vec<Scope>,
    /// Made once: it is the same for every request.
    actor: HeaderValue,
    rules: Rules,
}

/// What holds for an identity besides its scopes; by default nothing.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Whether it is refused until it is resumed.
    pub(crate) suspended: bool,
    /// From when on it is refused.
    pub(crate) expires: Option<DateTime<Utc>>,
    /// From where it may come; from everywhere if there are none.
    pub(crate) networks: Vec<IpNet>,
    /// Counts its requests.
    pub(crate) meter: Meter,
}

impl Identity {
    /// `None` where the actor has no form as a header.
    pub(crate) fn new(actor: &Actor, scopes: Vec<Scope>) -> Option<Self> {
        let (name, kind) = (actor.id.clone(), actor.kind);
        let actor = runtime::headers::encode_actor(actor).ok()?;
        Some(Self { name, kind, scopes, actor, rules: Rules::default() })
    }

    /// The same with rules.
    pub(crate) fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Under which records name it. A user and a subscription may share one.
    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    /// The name of a subscription, which logs may say: unlike a user's it is no person's.
    pub(crate) fn subscription(&self) -> Option<&Name> {
        (self.kind == ActorKind::Subscription).then_some(&self.name)
    }

    /// The header that tells services who acts.
    pub(crate) fn actor(&self) -> &HeaderValue {
        &self.actor
    }

    /// Whether a request may pass, and counts it.
    ///
    /// The rate comes first, so that refusals are no way around it, and the quota last, so that
    /// only what passes is charged to it.
    pub(crate) fn admit(
        &self,
        access: Access,
        peer: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let rules = &self.rules;
        rules.meter.charge_rate().map_err(|seconds| Refusal::RateExceeded { seconds })?;
        if rules.suspended {
            return Err(Refusal::Suspended);
        }
        if rules.expires.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Expired);
        }
        // An IPv4 client of a listener for both shows as an IPv6 address.
        let peer = peer.to_canonical();
        if !rules.networks.is_empty() && !rules.networks.iter().any(|net| net.contains(&peer)) {
            return Err(Refusal::Network);
        }
        self.check(access)?;
        rules.meter.charge_quota(now).map_err(|seconds| Refusal::QuotaExceeded { seconds })
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
