//! The seal of a block: proof, to the holder of a key, that an appender made it.

use domain::{
    hash::Hash,
    ids::{Mac as MacBytes, Name},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A key that the store's administrator does not hold.
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Wraps 32 random bytes.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// HMAC-SHA256 over origin LF size LF root.
    pub fn seal(&self, origin: &Name, size: u64, root: Hash) -> MacBytes {
        MacBytes::new(self.mac(origin, size, root).finalize().into_bytes().into())
    }

    /// Compares in constant time.
    pub fn verify(&self, origin: &Name, size: u64, root: Hash, seal: &MacBytes) -> bool {
        self.mac(origin, size, root).verify_slice(seal.bytes()).is_ok()
    }

    fn mac(&self, origin: &Name, size: u64, root: Hash) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .expect("HMAC takes a key of any length (RFC 2104 §2)");
        mac.update(format!("{origin}\n{size}\n").as_bytes());
        mac.update(&root.0);
        mac
    }
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}
