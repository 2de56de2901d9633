//! Who asks, from where, why, and in which trace: what every record says of its cause.

use std::{net::IpAddr, sync::Arc};

use axum::extract::{FromRequestParts, Request};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::TraceId,
    record::RecordType,
    wire::{Proposal, Receipt},
};
use http::{HeaderMap, HeaderName, request::Parts};
use runtime::{
    headers,
    trace_context::{Subscription, TraceContext},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::error::Failure;

/// The header by which a client says why it touches data.
pub(crate) const PURPOSE_OF_USE: HeaderName = HeaderName::from_static("purpose-of-use");

/// The cause of a request's records.
#[derive(Clone)]
pub(crate) struct Requester {
    pub(crate) actor: Actor,
    client: IpAddr,
    purpose: Purpose,
    trace: Option<TraceId>,
    /// The request's place among those under way. A command that outlives its connection
    /// takes the place along.
    _place: Option<Place>,
}

/// A place among the requests under way; free again when the last clone goes.
#[derive(Clone)]
pub(crate) struct Place(
    // Held, never read.
    #[allow(dead_code)] Arc<OwnedSemaphorePermit>,
);

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }
}

impl Requester {
    /// A record of this request, with no stream, version, object or data yet.
    pub(crate) fn proposal(&self, record_type: RecordType, outcome: Outcome) -> Proposal {
        Proposal {
            client: Some(self.client),
            trace: self.trace,
            ..Proposal::new(record_type, self.actor.clone(), self.purpose, outcome)
        }
    }

    /// Where in this request's trace a record of it was appended.
    pub(crate) fn appended(&self, receipt: &Receipt) -> Option<TraceContext> {
        Some(TraceContext::of(self.trace?, receipt.span?))
    }
}

/// Reads the actor of a request ahead of its handler, for the log of requests: its subscription,
/// never its user. What is malformed is left for the handler to refuse.
pub(crate) fn identify(request: &mut Request) -> Option<Subscription> {
    let actor: Actor = headers::decode_actor(request.headers()).ok()?;
    let is_subscription = actor.kind == ActorKind::Subscription;
    let subscription = is_subscription.then(|| Subscription(actor.id.as_str().to_owned()));
    request.extensions_mut().insert(actor);
    subscription
}

impl<S: Sync> FromRequestParts<S> for Requester {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let trace = parts.extensions.get::<TraceContext>().map(TraceContext::trace_id_hex);
        Ok(Self {
            actor: match parts.extensions.remove() {
                Some(actor) => actor,
                None => headers::decode_actor(&parts.headers)?,
            },
            client: headers::decode_client(&parts.headers)?,
            purpose: purpose(&parts.headers)?,
            trace: trace.and_then(|trace| trace.parse().ok()),
            _place: parts.extensions.get::<Place>().cloned(),
        })
    }
}

/// The purpose that the client gives, treatment where it gives none.
fn purpose(headers: &HeaderMap) -> Result<Purpose, Failure> {
    let mut values = headers.get_all(PURPOSE_OF_USE).iter();
    let Some(value) = values.next() else { return Ok(Purpose::Treatment) };
    if values.next().is_some() {
        return Err(Failure::Purpose);
    }
    value.to_str().ok().and_then(|text| text.parse().ok()).ok_or(Failure::Purpose)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_is_one_word_of_the_list() {
        #[track_caller]
        fn check(values: &[&str], expected: Option<Purpose>) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PURPOSE_OF_USE, value.parse().unwrap());
            }
            assert_eq!(purpose(&headers).ok(), expected, "{values:?}");
        }
        check(&[], Some(Purpose::Treatment));
        check(&["HRESCH"], Some(Purpose::Research));
        check(&["hresch"], None);
        check(&[""], None);
        check(&["TREAT", "TREAT"], None);
    }
}
