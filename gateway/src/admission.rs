//! Who may pass, and with what.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use crate::error::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_URI_BYTES, Refusal};
use crate::identity::Identity;
use crate::query::{PresentedKey, Query};
use crate::routes::Route;
use crate::subscriptions::Subscriptions;

/// The header that carries a subscription key.
const KEY_HEADER: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");

/// Everybody whom the gateway knows.
pub(crate) struct Identities {
    pub(crate) subscriptions: Arc<Subscriptions>,
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
        headers: &HeaderMap,
        query: &Query<'_>,
    ) -> Result<Arc<Identity>, Denied> {
        let identity = self.identify(headers, query).await?;
        match identity.check(route.access) {
            Ok(()) => Ok(identity),
            Err(refusal) => Err(Denied { refusal, identity: Some(identity) }),
        }
    }

    /// The header wins over the query, as it does at API Management.
    async fn identify(
        &self,
        headers: &HeaderMap,
        query: &Query<'_>,
    ) -> Result<Arc<Identity>, Refusal> {
        let mut in_header = PresentedKey::Missing;
        for value in headers.get_all(KEY_HEADER) {
            in_header.add(value.as_bytes().into());
        }
        let presented = match &in_header {
            PresentedKey::Missing => &query.key,
            found => found,
        };
        match presented {
            PresentedKey::Missing => Err(Refusal::NoKey),
            PresentedKey::One(key) => self.subscriptions.find(key).ok_or(Refusal::WrongKey),
            PresentedKey::Ambiguous => Err(Refusal::WrongKey),
        }
    }
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
