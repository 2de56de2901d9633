//! The key-encryption key, and data keys wrapped by it.

use std::{fmt, str::FromStr};

use aws_lc_rs::hmac;
use domain::{
    ids::KeyId,
    sealed::{NONCE_BYTES, TAG_BYTES},
};
use zeroize::Zeroizing;

use crate::gcm;

use super::{DataKey, KeyRingError};

/// Bytes of a data key and of a key-encryption key: AES-256.
pub const KEY_BYTES: usize = 32;

/// Bytes of a wrapped key: nonce, ciphertext, tag.
pub const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;

/// Names a key-encryption key without saying anything of it: eight lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KekId(u32);

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a [`KekId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 8 lower-case hexadecimal digits")]
pub struct KekIdError;

impl FromStr for KekId {
    type Err = KekIdError;

    fn from_str(text: &str) -> Result<Self, KekIdError> {
        let id = u32::from_str_radix(text, 16).map(Self).map_err(|_| KekIdError)?;
        if id.to_string() == text { Ok(id) } else { Err(KekIdError) }
    }
}

/// The key that wraps every data key of a ring; it comes from a secret outside the ring's store.
pub struct Kek {
    id: KekId,
    secret: Zeroizing<[u8; KEY_BYTES]>,
}

impl Kek {
    /// Takes the key over. Its id is derived from it, so that the same key has one id everywhere.
    pub fn new(secret: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        const LABEL: &[u8] = b"vitalog key-encryption key id v1";
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
        let tag = hmac::sign(&key, LABEL);
        let mut id = [0; 4];
        id.copy_from_slice(&tag.as_ref()[..4]);
        Self { id: KekId(u32::from_be_bytes(id)), secret }
    }

    /// The key's id.
    pub fn id(&self) -> KekId {
        self.id
    }

    /// Wraps a data key for its store.
    pub fn wrap(&self, key: &DataKey) -> WrappedKey {
        let sealed = gcm::seal(&self.secret, &aad(key.kid(), self.id), key.secret());
        let mut wrapped = Vec::with_capacity(WRAPPED_BYTES);
        wrapped.extend_from_slice(&sealed.nonce);
        wrapped.extend_from_slice(&sealed.ciphertext);
        wrapped.extend_from_slice(&sealed.tag);
        WrappedKey { kid: key.kid(), kek: self.id, wrapped }
    }

    /// Unwraps a stored key. [`KeyRingError::WrongKek`] where another key wrapped it,
    /// [`KeyRingError::Corrupt`] where it was changed since.
    pub fn unwrap(&self, key: &WrappedKey) -> Result<DataKey, KeyRingError> {
        if key.kek != self.id {
            return Err(KeyRingError::WrongKek { needed: key.kek, given: vec![self.id] });
        }
        let corrupt = || KeyRingError::Corrupt(key.kid);
        if key.wrapped.len() != WRAPPED_BYTES {
            return Err(corrupt());
        }
        let (nonce, rest) = key.wrapped.split_first_chunk().ok_or_else(corrupt)?;
        let (ciphertext, tag) = rest.split_at(KEY_BYTES);
        let opened = gcm::open(&self.secret, *nonce, &aad(key.kid, self.id), ciphertext, tag)
            .ok_or_else(corrupt)?;
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        secret.copy_from_slice(&opened);
        Ok(DataKey::from_parts(key.kid, secret))
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({}, …)", self.id)
    }
}

/// A data key as its store holds it: useless without the key-encryption key that it names.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The data key's id.
    pub kid: KeyId,
    /// The key that wrapped it.
    pub kek: KekId,
    /// Nonce, ciphertext and tag; [`WRAPPED_BYTES`] in all.
    pub wrapped: Vec<u8>,
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrappedKey({} under {}, …)", self.kid, self.kek)
    }
}

/// Binds a wrapped key to its names, both of fixed length: keys cannot be swapped in the store.
fn aad(kid: KeyId, kek: KekId) -> Vec<u8> {
    format!("{kid}{kek}").into_bytes()
}
