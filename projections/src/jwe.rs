//! Compact JWE (RFC 7516) with `dir` and `A256GCM`: the `data` of a record.
//!
//! The form is in [`domain::sealed`]; here it is encrypted and decrypted. Any JOSE library that
//! has the data key opens it.

use domain::{
    ids::{KeyId, Stream},
    record::RecordType,
    sealed::{JweHeader, NotAJwe, SealedParts, parse_compact, write_compact},
};
use zeroize::Zeroizing;

use crate::{gcm, key_ring::DataKey};

/// Why data could not be opened. Never shows any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JweError {
    /// The text has another form.
    #[error(transparent)]
    Form(#[from] NotAJwe),
    /// The header names a key that is not the one given.
    #[error("the data is sealed under the key {0}, which is not the one at hand")]
    OtherKey(KeyId),
    /// Header, nonce, ciphertext or tag were changed, or the key has other bytes than its id
    /// promises.
    #[error("the data does not authenticate under the key that it names")]
    Unauthentic,
}

/// Encrypts content under a fresh random nonce; sealing the same content again gives other bytes.
///
/// Stream, type and version are authenticated with it, so that data cannot be moved to another
/// record: searches have neither stream nor version.
pub fn seal(
    key: &DataKey,
    stream: Option<Stream>,
    record_type: RecordType,
    version: Option<u64>,
    content: &[u8],
) -> String {
    let aad = JweHeader::new(key.kid(), stream, record_type, version).encode();
    // RFC 7516 §5.1 step 14: the additional authenticated data is the encoded header's ASCII.
    let sealed = gcm::seal(key.secret(), aad.as_bytes(), content);
    write_compact(&aad, &sealed.nonce, &sealed.ciphertext, &sealed.tag)
}

/// Decrypts a compact JWE. That its header belongs to its record is for the caller to check;
/// [`domain::record::Record::parse`] does.
pub fn open(key: &DataKey, data: &str) -> Result<Zeroizing<Vec<u8>>, JweError> {
    open_parts(key, &parse_compact(data)?)
}

/// Decrypts a JWE that was taken apart before.
pub(crate) fn open_parts(
    key: &DataKey,
    parts: &SealedParts<'_>,
) -> Result<Zeroizing<Vec<u8>>, JweError> {
    if parts.header.kid != key.kid() {
        return Err(JweError::OtherKey(parts.header.kid));
    }
    gcm::open(key.secret(), parts.nonce, parts.aad.as_bytes(), &parts.ciphertext, &parts.tag)
        .ok_or(JweError::Unauthentic)
}
