//! The key-encryption keys of a ring: one that wraps, and those before it while a rotation lasts.

use runtime::secrets::{Secret, SecretError, SecretRef};

use super::{
    DataKey, KeyRingError,
    kek::{Kek, KekId, WrappedKey},
};

/// Key-encryption keys: the first wraps new data keys, all of them unwrap.
///
/// So processes can be restarted one after the other, first with `old,new` and then with
/// `new,old`: whichever wraps, every process can unwrap.
#[derive(Debug)]
pub struct Keks {
    first: Kek,
    others: Vec<Kek>,
}

impl From<Kek> for Keks {
    fn from(first: Kek) -> Self {
        Self { first, others: Vec::new() }
    }
}

impl Keks {
    /// The key that wraps, and others that only unwrap.
    pub fn new(first: Kek, others: Vec<Kek>) -> Self {
        Self { first, others }
    }

    /// As [`Keks::new`], of secrets: 64 hexadecimal digits or the base64 of 32 bytes each.
    pub fn from_secrets(first: &Secret, others: &[Secret]) -> Result<Self, SecretError> {
        let kek = |secret: &Secret| secret.key32().map(Kek::new);
        Ok(Self::new(kek(first)?, others.iter().map(kek).collect::<Result<_, _>>()?))
    }

    /// Loads the secrets that settings name, in their order. [`SecretError::NotAReference`] where
    /// they name none.
    pub fn load(references: &[SecretRef]) -> Result<Self, SecretError> {
        let secrets = references.iter().map(SecretRef::load).collect::<Result<Vec<_>, _>>()?;
        let (first, others) = secrets.split_first().ok_or(SecretError::NotAReference)?;
        Self::from_secrets(first, others)
    }

    /// The id of the key that wraps.
    pub fn first(&self) -> KekId {
        self.first.id()
    }

    /// The ids of all, the first first.
    pub fn ids(&self) -> Vec<KekId> {
        self.all().map(Kek::id).collect()
    }

    /// Wraps a data key under the first.
    pub fn wrap(&self, key: &DataKey) -> WrappedKey {
        self.first.wrap(key)
    }

    /// Unwraps a stored key under whichever wrapped it; errors as [`Kek::unwrap`].
    pub fn unwrap(&self, key: &WrappedKey) -> Result<DataKey, KeyRingError> {
        match self.all().find(|kek| kek.id() == key.kek) {
            Some(kek) => kek.unwrap(key),
            None => Err(KeyRingError::WrongKek { needed: key.kek, given: self.ids() }),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Kek> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// Ids for a message.
pub(super) fn listed(ids: &[KekId]) -> String {
    ids.iter().map(KekId::to_string).collect::<Vec<_>>().join(", ")
}
