//! The visible part of `data`: a compact JWE (RFC 7516 §7.1) with `dir` and `A256GCM`.
//!
//! Encryption itself is not here; the protected header is, because the ledger checks that it
//! belongs to its record, and that nothing but a JWE gets in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{KeyId, Stream},
    record::RecordType,
};

/// Protected header of a `data` member. The bytes of its JSON are authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JweHeader {
    /// Always `dir`.
    pub alg: Dir,
    /// Always `A256GCM`.
    pub enc: A256Gcm,
    /// The data key.
    pub kid: KeyId,
    /// The stream of the record; absent for searches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// The type of the record.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// The version of the record in its stream; absent for searches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
}

/// Key management algorithm `dir` (RFC 7518 §4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dir {
    /// The only one.
    #[serde(rename = "dir")]
    Dir,
}

/// Content encryption algorithm `A256GCM` (RFC 7518 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum A256Gcm {
    /// The only one.
    #[serde(rename = "A256GCM")]
    A256Gcm,
}

/// A text that is not a compact JWE of the only accepted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("data must be a compact JWE with alg dir, enc A256GCM and a header of this ledger's form")]
pub struct NotAJwe;

/// Bytes of a nonce (RFC 7518 §5.3).
pub const NONCE_BYTES: usize = 12;
/// Bytes of an authentication tag (RFC 7518 §5.3).
pub const TAG_BYTES: usize = 16;

/// A compact JWE taken apart, nothing decrypted.
#[derive(Debug, Clone)]
pub struct SealedParts<'a> {
    /// The decoded protected header.
    pub header: JweHeader,
    /// The encoded protected header: the additional authenticated data.
    pub aad: &'a str,
    /// The nonce.
    pub nonce: [u8; NONCE_BYTES],
    /// Ciphertext, as many bytes as the content.
    pub ciphertext: Vec<u8>,
    /// Authentication tag.
    pub tag: [u8; TAG_BYTES],
}

impl JweHeader {
    /// A header for the data of one record.
    pub fn new(
        kid: KeyId,
        stream: Option<Stream>,
        record_type: RecordType,
        version: Option<u64>,
    ) -> Self {
        Self { alg: Dir::Dir, enc: A256Gcm::A256Gcm, kid, stream, record_type, version }
    }

    /// base64url of the header's JSON: the first part of the compact form and the
    /// additional authenticated data.
    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("a header of words and numbers serialises");
        URL_SAFE_NO_PAD.encode(json)
    }
}

/// Takes a compact JWE apart.
pub fn parse_compact(data: &str) -> Result<SealedParts<'_>, NotAJwe> {
    let mut parts = data.split('.');
    let mut next = || parts.next().ok_or(NotAJwe);
    let (aad, key, nonce, ciphertext, tag) = (next()?, next()?, next()?, next()?, next()?);
    if parts.next().is_some() || !key.is_empty() {
        return Err(NotAJwe);
    }
    let header = decode(aad)?;
    Ok(SealedParts {
        header: serde_json::from_slice(&header).map_err(|_| NotAJwe)?,
        aad,
        nonce: decode(nonce)?.try_into().map_err(|_| NotAJwe)?,
        ciphertext: decode(ciphertext)?,
        tag: decode(tag)?.try_into().map_err(|_| NotAJwe)?,
    })
}

/// The compact form from its parts.
pub fn write_compact(
    aad: &str,
    nonce: &[u8; NONCE_BYTES],
    ciphertext: &[u8],
    tag: &[u8; TAG_BYTES],
) -> String {
    let mut data = String::with_capacity(aad.len() + ciphertext.len() * 4 / 3 + 64);
    data.push_str(aad);
    data.push_str("..");
    URL_SAFE_NO_PAD.encode_string(nonce, &mut data);
    data.push('.');
    URL_SAFE_NO_PAD.encode_string(ciphertext, &mut data);
    data.push('.');
    URL_SAFE_NO_PAD.encode_string(tag, &mut data);
    data
}

fn decode(part: &str) -> Result<Vec<u8>, NotAJwe> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| NotAJwe)
}
