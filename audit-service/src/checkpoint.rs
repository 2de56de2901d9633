//! Signed checkpoints (C2SP tlog-checkpoint in a C2SP signed note), and the file that
//! remembers the highest one outside the store.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use domain::{hash::Hash, ids::Name};
use ed25519_dalek::SigningKey;
use runtime::secrets::Secret;
use signed_note::{Note, Signer, StandardSigner, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::Checkpoint;

/// The ledger's signing key. Its name is the ledger's origin.
pub struct CheckpointSigner {
    signer: StandardSigner,
    verifier_key: String,
    origin: Name,
}

/// Size and root of a ledger, as a checkpoint whose signature was verified states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Records in the ledger.
    pub size: u64,
    /// Merkle root over them.
    pub root: Hash,
}

/// Why a signing key or a checkpoint cannot be used. Never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not the text form `PRIVATE+KEY+<origin>+<id>+<key>`.
    #[error("the signing key is not in the form PRIVATE+KEY+<origin>+<id>+<key> with Ed25519")]
    Key,
    /// The key's name cannot be an origin.
    #[error("the signing key's name cannot be the name of a ledger")]
    Origin(#[source] domain::ids::IdError),
    /// Not a checkpoint of this ledger signed by this key.
    #[error("the checkpoint is not a checkpoint of this ledger signed by its key")]
    NotOurs,
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
    /// Reads a signing key in its text form (`golang.org/x/mod/sumdb/note`).
    pub fn from_secret(secret: &Secret) -> Result<Self, CheckpointError> {
        let text = secret.text().map_err(|_| CheckpointError::Key)?.trim();
        let signer = StandardSigner::new(text).map_err(|_| CheckpointError::Key)?;
        let origin = signer.name().parse().map_err(CheckpointError::Origin)?;
        Ok(Self { verifier_key: verifier_key(text).ok_or(CheckpointError::Key)?, signer, origin })
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The verifier key (C2SP vkey).
    pub fn verifier_key(&self) -> &str {
        &self.verifier_key
    }

    /// The signed note for a tree head. Ed25519 is deterministic: replicas sign alike.
    pub fn sign(&self, head: TreeHead) -> Result<String, CheckpointError> {
        let text =
            Checkpoint::new(self.origin.as_str(), head.size, tlog_tiles::Hash(head.root.0), "")
                .map_err(|_| CheckpointError::NotOurs)?
                .to_bytes();
        let mut note = Note::new(&text, &[]).map_err(|_| CheckpointError::NotOurs)?;
        note.add_sigs(&[&self.signer]).map_err(|_| CheckpointError::NotOurs)?;
        String::from_utf8(note.to_bytes()).map_err(|_| CheckpointError::NotOurs)
    }

    /// Reads a note and verifies that this key signed it.
    pub fn open(&self, note: &str) -> Result<TreeHead, CheckpointError> {
        let not_ours = || CheckpointError::NotOurs;
        let verifier: Box<dyn Verifier> =
            Box::new(StandardVerifier::new(&self.verifier_key).map_err(|_| not_ours())?);
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| not_ours())?;
        note.verify(&VerifierList::new(vec![verifier])).map_err(|_| not_ours())?;
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| not_ours())?;
        if checkpoint.origin() != self.origin.as_str() {
            return Err(CheckpointError::NotOurs);
        }
        Ok(TreeHead { size: checkpoint.size(), root: Hash(checkpoint.hash().0) })
    }
}

impl std::fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointSigner").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A new signing key for a ledger, from 32 random bytes: its secret text form.
pub fn new_signing_key(origin: &Name, seed: [u8; 32]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    const ALG_ED25519: u8 = 1;
    let key = SigningKey::from_bytes(&seed);
    let public = [&[ALG_ED25519], key.verifying_key().as_bytes().as_slice()].concat();
    let private = [&[ALG_ED25519], key.as_bytes().as_slice()].concat();
    let id = signed_note::key_id(origin.as_str(), &public);
    format!("PRIVATE+KEY+{origin}+{id:08x}+{}", STANDARD.encode(private))
}

/// The verifier key that belongs to a signing key's text form.
fn verifier_key(signing_key: &str) -> Option<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut parts = signing_key.splitn(5, '+').skip(2);
    let (name, _, key) = (parts.next()?, parts.next()?, parts.next()?);
    let seed: [u8; 32] = STANDARD.decode(key).ok()?.get(1..)?.try_into().ok()?;
    let public = SigningKey::from_bytes(&seed).verifying_key();
    Some(signed_note::new_ed25519_verifier_key(name, &public))
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
    use super::*;

    fn signer(seed: u8) -> CheckpointSigner {
        let key = new_signing_key(&"test-ledger".parse().unwrap(), [seed; 32]);
        CheckpointSigner::from_secret(&Secret::new(key.into_bytes())).unwrap()
    }

    #[test]
    fn a_signed_checkpoint_opens_under_its_own_key_alone() {
        let head = TreeHead { size: 7, root: Hash::of_line("x") };
        let note = signer(1).sign(head).unwrap();
        assert!(note.starts_with("test-ledger\n7\n"), "{note}");
        assert_eq!(signer(1).open(&note).unwrap(), head);
        assert!(signer(2).open(&note).is_err());
        assert!(signer(1).open(&note.replace("\n7\n", "\n8\n")).is_err());
    }

    #[test]
    fn signing_is_deterministic() {
        let head = TreeHead { size: 7, root: Hash::of_line("x") };
        assert_eq!(signer(1).sign(head).unwrap(), signer(1).sign(head).unwrap());
    }

    #[test]
    fn the_file_remembers_the_last_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(folder.path().join("checkpoint"));
        let signer = signer(1);
        assert_eq!(file.load(&signer).unwrap(), None);
        for size in [1, 2] {
            let head = TreeHead { size, root: Hash::ZERO };
            file.save(&signer.sign(head).unwrap()).unwrap();
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
