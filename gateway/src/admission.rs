//! Who may pass, and with what.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use runtime::problem::Outcome;

use crate::config::Clock;
use crate::error::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_URI_BYTES, Refusal};
use crate::identity::Identity;
use crate::oidc::{self, Rejected, TokenFault, Tokens};
use crate::query::{PresentedKey, Query};
use crate::routes::Route;
use crate::subscriptions::Subscriptions;

/// The header that carries a subscription key.
const KEY_HEADER: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");

/// Everybody whom the gateway knows.
pub(crate) struct Identities {
    pub(crate) subscriptions: Arc<Subscriptions>,
    /// Users with a token of an issuer, if one is configured.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) clock: Clock,
}

/// A request that may not pass.
pub(crate) struct Denied {
    pub(crate) refusal: Refusal,
    /// Who asked, where that is known.
    pub(crate) identity: Option<Arc<Identity>>,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, identity: None }
    }
}

impl Identities {
    /// Whom a request acts for, when they may use the route.
    pub(crate) async fn admit(
        &self,
        route: &Route,
        peer: IpAddr,
        headers: &HeaderMap,
        query: &Query<'_>,
    ) -> Result<Arc<Identity>, Denied> {
        let token = self.tokens.as_ref().and_then(|tokens| Some((tokens, oidc::bearer(headers)?)));
        let has_token = token.is_some();
        let identity = match token {
            Some((tokens, token)) => {
                let user = by_token(tokens, token, route, headers, query).await?;
                // First, as a subscription's rate is.
                if let Err(seconds) = tokens.charge_rate(&user) {
                    return Err(Refusal::RateExceeded { seconds }.into());
                }
                user
            }
            None => self.identify(headers, query)?,
        };
        match identity.admit(route.access, peer, (self.clock)()) {
            Ok(()) => Ok(identity),
            Err(refusal) => {
                let refusal = if has_token { refusal.of_token() } else { refusal };
                Err(Denied { refusal, identity: Some(identity) })
            }
        }
    }

    /// The header wins over the query, as it does at API Management.
    fn identify(&self, headers: &HeaderMap, query: &Query<'_>) -> Result<Arc<Identity>, Refusal> {
        let in_header = presented_in(headers);
        let presented = match &in_header {
            PresentedKey::Missing => &query.key,
            found => found,
        };
        match presented {
            PresentedKey::Missing if self.tokens.is_some() => Err(Refusal::NoCredential),
            PresentedKey::Missing => Err(Refusal::NoKey),
            PresentedKey::One(key) => self.subscriptions.find(key).ok_or(Refusal::WrongKey),
            PresentedKey::Ambiguous => Err(Refusal::WrongKey),
        }
    }
}

/// Whom a token shows. A key beside it could show somebody else, and which of the two counts would
/// be a guess.
async fn by_token(
    tokens: &Tokens,
    token: Result<&str, TokenFault>,
    route: &Route,
    headers: &HeaderMap,
    query: &Query<'_>,
) -> Result<Arc<Identity>, Refusal> {
    if presented_in(headers) != PresentedKey::Missing || query.key != PresentedKey::Missing {
        return Err(Refusal::TwoCredentials);
    }
    let token = token.map_err(Refusal::Token)?;
    tokens.identify(token).await.map_err(|rejected| match rejected {
        Rejected::Invalid(fault) => Refusal::Token(fault),
        Rejected::NoKeys => {
            Refusal::NoTokenKeys(route.is_command().then_some(Outcome::NothingStored))
        }
    })
}

fn presented_in(headers: &HeaderMap) -> PresentedKey<'_> {
    let mut key = PresentedKey::Missing;
    for value in headers.get_all(KEY_HEADER) {
        key.add(value.as_bytes().into());
    }
    key
}

/// Refuses what no upstream needs to see, as far as that shows before the body is read.
pub(crate) fn check_head(route: &Route, parts: &Parts) -> Result<(), Refusal> {
    if route.has_body() && parts.headers.get_all(CONTENT_TYPE).iter().any(is_not_read) {
        return Err(Refusal::MediaType);
    }
    if parts.uri.path_and_query().is_some_and(|text| text.as_str().len() > MAX_URI_BYTES) {
        return Err(Refusal::UriTooLong);
    }
    let bytes: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > MAX_HEADER_BYTES || parts.headers.len() > MAX_HEADERS {
        return Err(Refusal::HeadersTooLarge);
    }
    Ok(())
}

/// Every other media type is read as JSON, whatever it says (contract, "Requests").
fn is_not_read(content_type: &http::HeaderValue) -> bool {
    let bytes = content_type.as_bytes();
    let end = bytes.iter().position(|b| matches!(b, b';' | b',')).unwrap_or(bytes.len());
    let essence = bytes[..end].trim_ascii();
    let multipart = b"multipart/";
    essence.eq_ignore_ascii_case(b"application/octet-stream")
        || essence.get(..multipart.len()).is_some_and(|start| start.eq_ignore_ascii_case(multipart))
}
