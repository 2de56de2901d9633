//! Subscription keys and what is kept of them.

use hmac::{Hmac, Mac};
use runtime::secrets::Secret;
use sha2::Sha256;

use super::SubscriptionsError;

/// The fewest bytes of a pepper: 128 bits when they are random.
pub const MIN_PEPPER_BYTES: usize = 16;

/// HMAC-SHA256 of a key under the pepper.
pub(crate) type Digest = [u8; 32];

/// HMAC-SHA256 under each pepper, the newest first, with the key schedule done once.
pub(super) struct KeyHasher(Vec<Hmac<Sha256>>);

impl KeyHasher {
    pub(super) fn new(peppers: &[Secret]) -> Result<Self, SubscriptionsError> {
        peppers.iter().try_for_each(check_pepper)?;
        Ok(Self(peppers.iter().map(keyed).collect()))
    }

    /// What may be stored for a key: its digest under the newest pepper, then those under older ones.
    pub(super) fn digests(&self, key: &[u8]) -> impl Iterator<Item = Digest> {
        self.0.iter().map(move |hmac| hmac.clone().chain_update(key).finalize().into_bytes().into())
    }
}

fn keyed(pepper: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(pepper.bytes()).expect("HMAC takes keys of any length")
}

/// Refuses a pepper that is shorter than [`MIN_PEPPER_BYTES`].
pub fn check_pepper(pepper: &Secret) -> Result<(), SubscriptionsError> {
    if pepper.bytes().len() < MIN_PEPPER_BYTES {
        return Err(SubscriptionsError::PepperTooShort);
    }
    Ok(())
}

/// What is stored for a key: hex of its HMAC-SHA256 under the pepper.
pub fn hash_key(pepper: &Secret, key: &str) -> String {
    hex::encode(keyed(pepper).chain_update(key).finalize().into_bytes())
}

/// A new random key: 32 hex digits, the form that clients of API Management know.
pub fn new_key() -> String {
    const DIGITS: usize = 32;
    let mut key = runtime::secrets::random_key_hex();
    key.truncate(DIGITS);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hashed_as_rfc_2104_says() {
        // printf %s key | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            hash_key(&Secret::new("0123456789abcdef"), "key"),
            "20a9171a03070f7952cd455b7cfec78cca1f46534443f8e79ce7a1d66deefc49"
        );
    }

    #[test]
    fn new_keys_are_128_random_bits() {
        let (one, other) = (new_key(), new_key());
        assert_ne!(one, other);
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
