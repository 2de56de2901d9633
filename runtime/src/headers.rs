//! The headers by which the gateway tells services who acts, and from where.
//!
//! Only a service with a valid service key is believed, and the gateway removes what a client
//! sends under these names.

use std::fmt::Write;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::service_keys::SERVICE_KEY_HEADER;

/// What the names of all internal headers begin with.
pub const INTERNAL_PREFIX: &str = "x-vitalog-";

/// Who acts: `domain::actor::Actor` as JSON in ASCII.
pub const ACTOR_HEADER: &str = "x-vitalog-actor";

/// The client's IP address as the gateway saw it, as text.
pub const CLIENT_HEADER: &str = "x-vitalog-client";

/// The longest actor header, in bytes: an id and a few dozen roles.
pub const MAX_ACTOR_BYTES: usize = 4096;

/// Why an identity header cannot be made or read. The value is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The header is not there.
    #[error("{0} is missing: the gateway has to send it")]
    Missing(&'static str),
    /// The header is there more than once.
    #[error("{0} is there more than once: send it once")]
    Repeated(&'static str),
    /// The value is not of the form that this header has, or is too long.
    #[error("{0} is malformed or too long")]
    Malformed(&'static str),
}

/// The actor header's value.
///
/// # Errors
/// [`HeaderError::Malformed`] when the actor is no JSON or is over [`MAX_ACTOR_BYTES`].
pub fn encode_actor<T: Serialize>(actor: &T) -> Result<HeaderValue, HeaderError> {
    let malformed = HeaderError::Malformed(ACTOR_HEADER);
    let json = serde_json::to_string(actor).map_err(|_| malformed)?;
    let ascii = ascii_json(&json);
    if ascii.len() > MAX_ACTOR_BYTES {
        return Err(malformed);
    }
    HeaderValue::try_from(ascii).map_err(|_| malformed)
}

/// The actor of a request.
///
/// # Errors
/// [`HeaderError`] when there is not exactly one well-formed header.
pub fn decode_actor<T: DeserializeOwned>(headers: &HeaderMap) -> Result<T, HeaderError> {
    let value = single(headers, ACTOR_HEADER)?;
    if value.len() > MAX_ACTOR_BYTES {
        return Err(HeaderError::Malformed(ACTOR_HEADER));
    }
    serde_json::from_slice(value.as_bytes()).map_err(|_| HeaderError::Malformed(ACTOR_HEADER))
}

/// The client header's value.
///
/// # Panics
/// Never: the text of an address is a header value.
pub fn encode_client(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_canonical().to_string()).expect("an address is ASCII")
}

/// The client's address of a request.
///
/// # Errors
/// [`HeaderError`] when there is not exactly one well-formed header.
pub fn decode_client(headers: &HeaderMap) -> Result<IpAddr, HeaderError> {
    single(headers, CLIENT_HEADER)?
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(HeaderError::Malformed(CLIENT_HEADER))
}

/// Removes every `x-vitalog-*` header and the service key: what only services may say.
pub fn strip_internal(headers: &mut HeaderMap) {
    let internal: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
    for name in internal {
        headers.remove(name);
    }
    headers.remove(SERVICE_KEY_HEADER);
}

fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a HeaderValue, HeaderError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().ok_or(HeaderError::Missing(name))?;
    if values.next().is_some() {
        return Err(HeaderError::Repeated(name));
    }
    Ok(first)
}

/// JSON with everything outside printable ASCII escaped: it can only stand inside strings, and
/// header values are ASCII for every proxy on the way.
fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if matches!(character, ' '..='~') {
            ascii.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(ascii, "\\u{unit:04x}");
        }
    }
    ascii
}
