//! The one hash of the ledger: SHA-256 as RFC 6962 uses it.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::ids::{IdError, lower_hex, text_serde};

/// A SHA-256 hash, shown as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// `prev` of the first record.
    pub const ZERO: Self = Self([0; 32]);

    /// Hash of a record: SHA-256(0x00 ‖ line), both the chain link and the leaf hash
    /// (RFC 6962 §2.1).
    pub fn of_line(line: &str) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(line).finalize().into())
    }

    /// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right) (RFC 6962 §2.1).
    pub fn of_node(left: Self, right: Self) -> Self {
        let hash = Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0);
        Self(hash.finalize().into())
    }

    /// Root of the empty tree: the hash of nothing (RFC 6962 §2.1).
    pub fn of_nothing() -> Self {
        Self(Sha256::new().finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::ids::write_hex(f, &self.0)
    }
}

impl FromStr for Hash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        lower_hex::<32>(text).map(Self).ok_or(IdError::Hex64)
    }
}

text_serde!(Hash);
