//! Signed checkpoints (C2SP tlog-checkpoint in a C2SP signed note), and the file that
//! remembers the highest one outside the store.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

pub use audit_verify::checkpoint::TreeHead;
use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret},
    keys::KeyError,
};
use domain::ids::Name;
use runtime::secrets::Secret;
use zeroize::Zeroizing;

/// The ledger's signing key. Its name is the ledger's origin.
#[derive(Debug)]
pub struct CheckpointSigner {
    secret: LedgerSecret,
    public: LedgerKey,
    verifier_key: String,
}

/// Why a signing key or a checkpoint cannot be used. Never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The signing key cannot be used.
    #[error("the ledger's signing key cannot be used")]
    Key(#[from] KeyError),
    /// Not a checkpoint of this ledger signed by this key.
    #[error(transparent)]
    NotOurs(#[from] audit_verify::checkpoint::CheckpointError),
    /// The process went down before the checkpoint was remembered.
    #[error("the checkpoint was not remembered")]
    NotRemembered,
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
        let text = secret.text().map_err(|_| CheckpointError::Key(KeyError::Secret))?;
        let secret = LedgerSecret::parse(text)?;
        let public = secret.public();
        Ok(Self { verifier_key: public.to_string(), public, secret })
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        self.secret.origin()
    }

    /// The verifier key (C2SP vkey).
    pub fn verifier_key(&self) -> &str {
        &self.verifier_key
    }

    /// The signed note for a tree head. Ed25519 is deterministic: replicas sign alike.
    pub fn sign(&self, head: TreeHead) -> String {
        self.secret.sign(head)
    }

    /// Reads a note and verifies that this key signed it.
    pub fn open(&self, note: &str) -> Result<TreeHead, CheckpointError> {
        Ok(self.public.open(note)?)
    }
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

    /// The remembered checkpoint, verified; `None` where there is no file.
    pub fn load(&self, signer: &CheckpointSigner) -> Result<Option<TreeHead>, CheckpointError> {
        match fs::read_to_string(&self.0) {
            Ok(note) => signer.open(&note).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }

    /// Remembers a checkpoint unless a higher one is remembered already, by whatever process.
    pub fn raise(
        &self,
        signer: &CheckpointSigner,
        size: u64,
        note: &str,
    ) -> Result<(), CheckpointError> {
        let mut beside = self.0.clone().into_os_string();
        beside.push(".lock");
        let lock = fs::File::create(&beside).map_err(|source| self.error(source))?;
        lock.lock().map_err(|source| self.error(source))?;
        match self.load(signer)? {
            Some(remembered) if remembered.size >= size => Ok(()),
            _ => self.save(note),
        }
    }

    /// Replaces the remembered checkpoint: old or new after a crash, never a mix.
    pub fn save(&self, note: &str) -> Result<(), CheckpointError> {
        self.replace(note).map_err(|source| self.error(source))
    }

    fn replace(&self, note: &str) -> io::Result<()> {
        let mut beside = self.0.clone().into_os_string();
        beside.push(format!(".{}.new", std::process::id()));
        let mut file = fs::File::create(&beside)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.0)?;
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn error(&self, source: io::Error) -> CheckpointError {
        CheckpointError::File { path: self.0.clone(), source }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::hash::Hash;

    use super::*;

    fn signer(seed: u8) -> CheckpointSigner {
        let key = new_signing_key(&"test-ledger".parse().unwrap(), [seed; 32]);
        CheckpointSigner::from_secret(&Secret::new(key.as_bytes())).unwrap()
    }

    #[test]
    fn a_signed_checkpoint_opens_under_its_own_key_alone() {
        let head = TreeHead { size: 7, root: Hash::of_line("x") };
        let note = signer(1).sign(head);
        assert!(note.starts_with("test-ledger\n7\n"), "{note}");
        assert_eq!(signer(1).open(&note).unwrap(), head);
        assert!(signer(2).open(&note).is_err());
        assert!(signer(1).open(&note.replace("\n7\n", "\n8\n")).is_err());
    }

    #[test]
    fn signing_is_deterministic() {
        let head = TreeHead { size: 7, root: Hash::of_line("x") };
        assert_eq!(signer(1).sign(head), signer(1).sign(head));
    }

    #[test]
    fn the_file_remembers_the_last_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("checkpoint"));
        let signer = signer(1);
        assert_eq!(file.load(&signer).unwrap(), None);
        for size in [1, 2] {
            let head = TreeHead { size, root: Hash::ZERO };
            file.save(&signer.sign(head)).unwrap();
            assert_eq!(file.load(&signer).unwrap(), Some(head));
        }
        fs::write(file.path(), "rubbish").unwrap();
        assert!(file.load(&signer).is_err());
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
