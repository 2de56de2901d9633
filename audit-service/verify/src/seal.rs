//! The seal of a block: proof, to the holder of a key, that an appender made it.

use domain::{
    hash::Hash,
    ids::{Mac as MacBytes, Name},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Keys that the store's administrator does not hold: the first one seals, and a block is genuine
/// under each that counts at its place.
pub struct SealKeys {
    first: [u8; 32],
    others: Vec<Other>,
}

/// A key that is being rotated or was.
struct Other {
    key: [u8; 32],
    /// Records of the ledger at the end of the last block that it may have sealed, where that is known.
    until: Option<u64>,
}

impl SealKeys {
    /// One key of 32 random bytes.
    pub const fn new(first: [u8; 32]) -> Self {
        Self { first, others: Vec::new() }
    }

    /// And another one, which counts for blocks that end at `until` records or before.
    #[must_use]
    pub fn and(mut self, key: [u8; 32], until: Option<u64>) -> Self {
        self.others.push(Other { key, until });
        self
    }

    /// HMAC-SHA256 under the first key over origin LF size LF root.
    pub fn seal(&self, origin: &Name, size: u64, root: Hash) -> MacBytes {
        MacBytes::new(mac(&self.first, origin, size, root).finalize().into_bytes().into())
    }

    /// Whether a block that ends at `size` records has the seal of a key that counts there. Compares
    /// in constant time.
    pub fn verify(&self, origin: &Name, size: u64, root: Hash, seal: &MacBytes) -> bool {
        let others = self.others.iter();
        let others = others.filter(|other| other.until.is_none_or(|until| size <= until));
        std::iter::once(&self.first)
            .chain(others.map(|other| &other.key))
            .any(|key| mac(key, origin, size, root).verify_slice(seal.bytes()).is_ok())
    }
}

fn mac(key: &[u8; 32], origin: &Name, size: u64, root: Hash) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104 §2)");
    mac.update(format!("{origin}\n{size}\n").as_bytes());
    mac.update(&root.0);
    mac
}

impl std::fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKeys(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_seals_and_the_others_count_up_to_their_end() {
        let origin: Name = "ledger".parse().unwrap();
        let root = Hash([9; 32]);
        let sealed = |key: u8, size| SealKeys::new([key; 32]).seal(&origin, size, root);
        let keys = SealKeys::new([3; 32]).and([2; 32], None).and([1; 32], Some(10));
        assert_eq!(keys.seal(&origin, 10, root), sealed(3, 10));
        let counts = |key, size| keys.verify(&origin, size, root, &sealed(key, size));
        assert!(counts(3, 10) && counts(3, 11));
        assert!(counts(2, 10) && counts(2, 11));
        assert!(counts(1, 10) && !counts(1, 11));
        assert!(!counts(4, 10));
        // A seal is of its place.
        assert!(!keys.verify(&origin, 10, root, &sealed(3, 9)));
    }
}
