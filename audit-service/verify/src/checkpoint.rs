//! Signed checkpoints: C2SP tlog-checkpoint in a C2SP signed note.

use std::{fmt, str::FromStr};

use domain::{hash::Hash, ids::Name};
use signed_note::{Note, Signature};
use tlog_tiles::Checkpoint;

use crate::keys::{Algorithm, KeyError, NoteKey, NoteSecret};

/// Size and root of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Records in the ledger.
    pub size: u64,
    /// Merkle root over them.
    pub root: Hash,
}

/// The key that verifies a ledger's checkpoints; its name is the ledger's origin.
#[derive(Clone, PartialEq, Eq)]
pub struct LedgerKey {
    origin: Name,
    key: NoteKey,
}

/// The key that signs a ledger's checkpoints.
#[derive(Debug, Clone)]
pub struct LedgerSecret {
    origin: Name,
    secret: NoteSecret,
}

/// Why a checkpoint is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note with a checkpoint in it.
    #[error("the checkpoint cannot be read")]
    Malformed,
    /// Not signed by the ledger's key.
    #[error("the checkpoint is not signed by the ledger's key")]
    Signature,
    /// About another ledger.
    #[error("the checkpoint is of another ledger")]
    Origin,
}

impl LedgerKey {
    /// The key of a ledger from the 32 bytes of the public key.
    pub fn new(origin: Name, public: [u8; 32]) -> Result<Self, KeyError> {
        let key = NoteKey::new(origin.as_str(), Algorithm::Note, public)?;
        Ok(Self { origin, key })
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The 32 bytes of the public key.
    pub fn public(&self) -> &[u8; 32] {
        self.key.public()
    }

    /// Whether this key made this Ed25519 signature of this message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verifies(message, signature)
    }

    /// Verifies a checkpoint and reads it. Signatures of unknown keys are passed over, as the
    /// format wants it; each of this key must be genuine.
    pub fn open(&self, note: &str) -> Result<TreeHead, CheckpointError> {
        let note = read_note(note)?;
        let (origin, head) = read_text(&note)?;
        if origin != self.origin.as_str() {
            return Err(CheckpointError::Origin);
        }
        let verified = |signature: &[u8]| self.key.verifies(note.text(), signature).then_some(());
        if note.signatures_of(&self.key, verified)?.is_empty() {
            return Err(CheckpointError::Signature);
        }
        Ok(head)
    }
}

impl FromStr for LedgerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let key = NoteKey::parse(text, Algorithm::Note)?;
        let origin = key.name().parse().map_err(|_| KeyError::Name)?;
        Ok(Self { origin, key })
    }
}

impl fmt::Display for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LedgerKey").field(&self.key).finish()
    }
}

impl LedgerSecret {
    /// A new key of a ledger from 32 random bytes.
    pub fn new(origin: Name, seed: &[u8; 32]) -> Self {
        let secret = NoteSecret::new(origin.as_str(), Algorithm::Note, seed)
            .expect("a name of a ledger has neither a space nor a plus");
        Self { origin, secret }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let secret = NoteSecret::parse(text, Algorithm::Note)?;
        let origin = secret.public().name().parse().map_err(|_| KeyError::Name)?;
        Ok(Self { origin, secret })
    }

    /// The text form: a secret.
    pub fn to_text(&self) -> zeroize::Zeroizing<String> {
        self.secret.to_text()
    }

    /// The ledger's origin.
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> LedgerKey {
        LedgerKey { origin: self.origin.clone(), key: self.secret.public() }
    }

    /// The Ed25519 signature of a message.
    pub fn sign_message(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message)
    }

    /// The signed note for a tree head. Ed25519 is deterministic: replicas sign alike.
    pub fn sign(&self, head: TreeHead) -> String {
        let text = text(&self.origin, head);
        let signature = self.secret.sign(text.as_bytes());
        let line = signature_line(&self.secret.public(), &signature);
        format!("{text}\n{line}")
    }
}

/// Reads origin and tree head of a checkpoint *without* verifying it.
pub fn read_unverified(note: &str) -> Result<(Name, TreeHead), CheckpointError> {
    let (origin, head) = read_text(&read_note(note)?)?;
    Ok((origin.parse().map_err(|_| CheckpointError::Origin)?, head))
}

/// The text of a checkpoint's note: origin, size and root, a line each.
pub fn text(origin: &Name, head: TreeHead) -> String {
    let root = tlog_tiles::Hash(head.root.0);
    format!("{origin}\n{}\n{root}\n", head.size)
}

pub(crate) fn signature_line(key: &NoteKey, signature: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bytes = [&key.id().to_be_bytes(), signature].concat();
    format!("— {} {}\n", key.name(), STANDARD.encode(bytes))
}

/// A note whose form was checked, and nothing else.
pub(crate) struct SignedNote<'a> {
    text: &'a str,
    signatures: Vec<Signature>,
}

impl SignedNote<'_> {
    /// What is signed: the text with its final newline.
    pub(crate) fn text(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// What `verify` makes of each signature of this key. One that is not genuine spoils the note,
    /// wherever it stands: what a reader believes must not depend on the order of the lines.
    pub(crate) fn signatures_of<T>(
        &self,
        key: &NoteKey,
        verify: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, CheckpointError> {
        let id = key.id();
        let mine = |line: &&Signature| line.id() == id && line.name() == key.name();
        let verified =
            |line: &Signature| verify(line.signature()).ok_or(CheckpointError::Signature);
        self.signatures.iter().filter(mine).map(verified).collect()
    }
}

pub(crate) fn read_note(note: &str) -> Result<SignedNote<'_>, CheckpointError> {
    // Size, characters, and number and form of the signature lines.
    Note::from_bytes(note.as_bytes()).map_err(|_| CheckpointError::Malformed)?;
    let blank = note.rfind("\n\n").ok_or(CheckpointError::Malformed)?;
    let (text, lines) = (&note[..=blank], &note[blank + 2..]);
    let signature = |line: &str| Signature::from_bytes(line.as_bytes());
    let signatures = lines.lines().map(signature).collect::<Result<_, _>>();
    let signatures = signatures.map_err(|_| CheckpointError::Malformed)?;
    Ok(SignedNote { text, signatures })
}

pub(crate) fn read_text(note: &SignedNote<'_>) -> Result<(String, TreeHead), CheckpointError> {
    let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| CheckpointError::Malformed)?;
    let head = TreeHead { size: checkpoint.size(), root: Hash(checkpoint.hash().0) };
    Ok((checkpoint.origin().to_owned(), head))
}
