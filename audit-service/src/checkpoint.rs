//! Signed checkpoints (C2SP tlog-checkpoint in a C2SP signed note), and the file that
//! remembers the highest one outside the store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use audit_verify::checkpoint::TreeHead;
use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret},
    key_history::KeyHistory,
    keys::KeyError,
};
use domain::ids::Name;
use runtime::{files, secrets::Secret};
use zeroize::Zeroizing;

/// The ledger's signing keys that this process holds: the current one, and while it is rotated the
/// next. Their name is the ledger's origin.
#[derive(Debug)]
pub struct CheckpointSigner {
    /// 1 to [`MAX_SIGNING_KEYS`], of one origin.
    secrets: Vec<LedgerSecret>,
    first: LedgerKey,
}

/// Signing keys that one process holds at most.
pub const MAX_SIGNING_KEYS: usize = 2;

/// Why a signing key or a checkpoint cannot be used. Never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The signing key cannot be used.
    #[error("the ledger's signing key cannot be used")]
    Key(#[from] KeyError),
    /// None, or more than a rotation needs.
    #[error("give one signing key, or two while it is rotated: the current one and the next")]
    KeyCount,
    /// The keys name different ledgers.
    #[error("the signing keys are of different ledgers: {first} and {other}")]
    Origins {
        /// The first key's.
        first: Name,
        /// Another's.
        other: Name,
    },
    /// By the ledger's history another key signs checkpoints of this size.
    #[error("this process does not hold the key that signs checkpoints of {size} records: {key}")]
    KeyNotHeld {
        /// Records.
        size: u64,
        /// The verifier key of the one that is missing.
        key: String,
    },
    /// Not a checkpoint of this ledger signed by this key.
    #[error(transparent)]
    NotOurs(#[from] audit_verify::checkpoint::CheckpointError),
    /// The process went down before the checkpoint was remembered.
    #[error("the checkpoint was not remembered")]
    NotRemembered,
    /// The checkpoint file took too long.
    #[error("the checkpoint file does not answer")]
    Slow,
    /// The checkpoint file cannot be read or written.
    #[error("the checkpoint file {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CheckpointSigner {
    /// Reads a signing key in its text form (C2SP signed-note).
    pub fn from_secret(secret: &Secret) -> Result<Self, CheckpointError> {
        Self::from_secrets(std::slice::from_ref(secret))
    }

    /// Reads the current signing key and the next, which may be missing.
    pub fn from_secrets(secrets: &[Secret]) -> Result<Self, CheckpointError> {
        let secrets = secrets.iter().map(read_secret).collect::<Result<Vec<_>, _>>()?;
        let first = match secrets.first() {
            Some(first) if secrets.len() <= MAX_SIGNING_KEYS => first.public(),
            _ => return Err(CheckpointError::KeyCount),
        };
        if let Some(other) = secrets.iter().find(|secret| secret.origin() != first.origin()) {
            let (first, other) = (first.origin().clone(), other.origin().clone());
            return Err(CheckpointError::Origins { first, other });
        }
        Ok(Self { secrets, first })
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        self.first.origin()
    }

    /// The key that was named first: it signs where the ledger holds no rotation.
    pub fn first(&self) -> &LedgerKey {
        &self.first
    }

    /// The verifier key (C2SP vkey) of [`CheckpointSigner::first`].
    pub fn verifier_key(&self) -> String {
        self.first.to_string()
    }

    /// Whether this process can sign with a key.
    pub fn holds(&self, key: &LedgerKey) -> bool {
        self.secrets.iter().any(|secret| secret.public() == *key)
    }

    /// As [`CheckpointSigner::holds`], by the 32 bytes of the public key.
    pub fn holds_public(&self, public: &[u8; 32]) -> bool {
        self.secrets.iter().any(|secret| secret.public().public() == public)
    }

    /// The signed note for a tree head, under the key that the ledger's history names for its
    /// size. Ed25519 is deterministic: replicas sign alike.
    pub fn sign(&self, keys: &KeyHistory, head: TreeHead) -> Result<String, CheckpointError> {
        let key = keys.at(head.size);
        let secret = self.secrets.iter().find(|secret| secret.public() == *key);
        let missing = || CheckpointError::KeyNotHeld { size: head.size, key: key.to_string() };
        Ok(secret.ok_or_else(missing)?.sign(head))
    }

    /// Reads a note that one of these keys signed, whatever its size.
    pub fn open_any(&self, note: &str) -> Result<TreeHead, CheckpointError> {
        let mut opened = Err(audit_verify::checkpoint::CheckpointError::Signature);
        for secret in &self.secrets {
            opened = opened.or_else(|_| secret.public().open(note));
        }
        Ok(opened?)
    }
}

/// Reads one signing key in its text form.
pub fn read_secret(secret: &Secret) -> Result<LedgerSecret, CheckpointError> {
    let text = secret.text().map_err(|_| CheckpointError::Key(KeyError::Secret))?;
    Ok(LedgerSecret::parse(text)?)
}

/// A new signing key for a ledger, from 32 random bytes: its secret text form.
pub fn new_signing_key(origin: &Name, seed: [u8; 32]) -> Zeroizing<String> {
    LedgerSecret::new(origin.clone(), &seed).to_text()
}

/// Where the highest signed checkpoint is remembered outside the ledger's store.
#[derive(Debug, Clone)]
pub struct CheckpointFile(PathBuf);

impl CheckpointFile {
    /// A file that may not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The remembered checkpoint, verified by the key that signs those of its size; `None` where
    /// there is no file.
    pub fn load(&self, keys: &KeyHistory) -> Result<Option<TreeHead>, CheckpointError> {
        Ok(self.read()?.map(|note| keys.open(&note)).transpose()?)
    }

    /// The remembered note as it stands in the file.
    pub fn read(&self) -> Result<Option<String>, CheckpointError> {
        match fs::read_to_string(&self.0) {
            Ok(note) => Ok(Some(note)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Remembers the keys that the ledger was rotated to, and a checkpoint unless a higher one is
    /// remembered already, by whatever process: one that is ahead may have signed with a key that
    /// `keys` do not know yet and `signer` holds.
    pub fn raise(
        &self,
        signer: &CheckpointSigner,
        keys: &KeyHistory,
        size: u64,
        note: &str,
    ) -> Result<(), CheckpointError> {
        let lock = fs::File::create(self.beside(".lock").0).map_err(|source| self.error(source))?;
        lock.lock().map_err(|source| self.error(source))?;
        self.raise_keys(keys)?;
        let remembered = match self.read()? {
            Some(note) => Some(keys.open(&note).or_else(|_| signer.open_any(&note))?),
            None => None,
        };
        match remembered {
            Some(remembered) if remembered.size >= size => Ok(()),
            _ => self.save(note),
        }
    }

    /// Replaces the remembered checkpoint: old or new after a crash, never a mix.
    pub fn save(&self, note: &str) -> Result<(), CheckpointError> {
        files::replace(&self.0, note.as_bytes()).map_err(|source| self.error(source))
    }

    /// The file whose name is longer by this.
    pub(crate) fn beside(&self, suffix: &str) -> Self {
        let mut path = self.0.clone().into_os_string();
        path.push(suffix);
        Self(path.into())
    }

    pub(crate) fn error(&self, source: io::Error) -> CheckpointError {
        CheckpointError::File { path: self.0.clone(), source }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::hash::Hash;

    use super::*;

    fn key(seed: u8) -> Secret {
        Secret::new(new_signing_key(&"test-ledger".parse().unwrap(), [seed; 32]).as_bytes())
    }

    fn signer(seed: u8) -> CheckpointSigner {
        CheckpointSigner::from_secret(&key(seed)).unwrap()
    }

    fn keys(seed: u8) -> KeyHistory {
        KeyHistory::new(signer(seed).first().clone())
    }

    #[test]
    fn a_signed_checkpoint_opens_under_its_own_key_alone() {
        let head = TreeHead { size: 7, root: Hash::of_line("x") };
        let note = signer(1).sign(&keys(1), head).unwrap();
        assert!(note.starts_with("test-ledger\n7\n"), "{note}");
        assert_eq!(keys(1).open(&note).unwrap(), head);
        assert!(keys(2).open(&note).is_err());
        assert!(keys(1).open(&note.replace("\n7\n", "\n8\n")).is_err());
    }

    #[test]
    fn signing_is_deterministic() {
        let head = TreeHead { size: 7, root: Hash::of_line("x") };
        let sign = || signer(1).sign(&keys(1), head).unwrap();
        assert_eq!(sign(), sign());
    }

    #[test]
    fn nothing_is_signed_with_another_key_than_the_history_names() {
        let head = TreeHead { size: 7, root: Hash::of_line("x") };
        let error = signer(2).sign(&keys(1), head).unwrap_err();
        let named = error.to_string().contains(&signer(1).verifier_key());
        assert!(named && matches!(error, CheckpointError::KeyNotHeld { size: 7, .. }), "{error}");
        let both = CheckpointSigner::from_secrets(&[key(2), key(1)]).unwrap();
        let sign = |signer: CheckpointSigner| signer.sign(&keys(1), head).unwrap();
        assert_eq!(sign(both), sign(signer(1)));
    }

    #[test]
    fn one_key_or_two_of_one_ledger() {
        let other = new_signing_key(&"another-ledger".parse().unwrap(), [1; 32]);
        let signer = |keys: &[Secret]| CheckpointSigner::from_secrets(keys);
        assert!(matches!(signer(&[]), Err(CheckpointError::KeyCount)));
        assert!(matches!(signer(&[key(1), key(2), key(3)]), Err(CheckpointError::KeyCount)));
        let two = signer(&[key(1), Secret::new(other.as_bytes())]).unwrap_err();
        assert!(two.to_string().ends_with("different ledgers: test-ledger and another-ledger"));
    }

    #[test]
    fn the_file_remembers_the_last_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("checkpoint"));
        assert_eq!(file.load(&keys(1)).unwrap(), None);
        for size in [1, 2] {
            let head = TreeHead { size, root: Hash::ZERO };
            file.save(&signer(1).sign(&keys(1), head).unwrap()).unwrap();
            assert_eq!(file.load(&keys(1)).unwrap(), Some(head));
        }
        fs::write(file.path(), "rubbish").unwrap();
        assert!(file.load(&keys(1)).is_err());
    }

    #[test]
    fn keys_never_show() {
        let key = new_signing_key(&"test-ledger".parse().unwrap(), [3; 32]);
        let secret = key.rsplit('+').next().unwrap();
        assert!(!format!("{:?}", signer(3)).contains(secret));
        let broken = Secret::new(&key.as_bytes()[..key.len() - 4]);
        let error = CheckpointSigner::from_secret(&broken).unwrap_err();
        assert!(!format!("{error:?} {error}").contains(secret.get(..20).unwrap()));
    }
}
