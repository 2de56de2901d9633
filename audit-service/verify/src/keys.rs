//! Ed25519 keys in the text forms of C2SP signed-note: `<name>+<id>+<key>` and
//! `PRIVATE+KEY+<name>+<id>+<key>`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

/// What a key signs, which is part of its id: one key must not do both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Notes; type 0x01.
    Note,
    /// Checkpoints as a witness, with the time (C2SP tlog-cosignature); type 0x04.
    Cosignature,
}

impl Algorithm {
    const fn byte(self) -> u8 {
        match self {
            Self::Note => 1,
            Self::Cosignature => 4,
        }
    }
}

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the text form of a verifier key of this kind.
    #[error("not a verifier key: write <name>+<id>+<key>, one line, as it was given out")]
    Public,
    /// Not the text form of a signing key of this kind. Never shows it.
    #[error("not a signing key in the form PRIVATE+KEY+<name>+<id>+<key> with Ed25519")]
    Secret,
    /// The name cannot stand in a note, or cannot be a ledger's.
    #[error("the key's name cannot be used: a ledger's is made of [A-Za-z0-9._-]")]
    Name,
}

/// A public key with its name.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    algorithm: Algorithm,
    key: VerifyingKey,
}

impl NoteKey {
    /// Wraps a public key. One of low order, under which anybody can sign, is none.
    pub fn new(name: &str, algorithm: Algorithm, public: [u8; 32]) -> Result<Self, KeyError> {
        if !signed_note::is_key_name_valid(name) {
            return Err(KeyError::Name);
        }
        let key = VerifyingKey::from_bytes(&public).map_err(|_| KeyError::Public)?;
        if key.is_weak() {
            return Err(KeyError::Public);
        }
        Ok(Self { name: name.to_owned(), algorithm, key })
    }

    /// Reads the text form.
    pub fn parse(text: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let mut parts = text.trim().splitn(3, '+');
        let mut next = || parts.next().ok_or(KeyError::Public);
        let (name, id, key) = (next()?, next()?, next()?);
        let public = decode(key, algorithm).ok_or(KeyError::Public)?;
        let key = Self::new(name, algorithm, public)?;
        if format!("{:08x}", key.id()) == id { Ok(key) } else { Err(KeyError::Public) }
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The 32 bytes of the public key.
    pub fn public(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// The key's id in signature lines.
    pub fn id(&self) -> u32 {
        signed_note::key_id(&self.name, &self.encoded())
    }

    /// Whether this key made this Ed25519 signature of this message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
        self.key.verify_strict(message, &signature).is_ok()
    }

    fn encoded(&self) -> [u8; 33] {
        encode(self.algorithm, self.key.as_bytes())
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:08x}+{}", self.name, self.id(), STANDARD.encode(self.encoded()))
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A signing key with its name. Never shown by `Debug`.
#[derive(Clone)]
pub struct NoteSecret {
    name: String,
    algorithm: Algorithm,
    key: SigningKey,
}

impl NoteSecret {
    /// A key from 32 random bytes.
    pub fn new(name: &str, algorithm: Algorithm, seed: &[u8; 32]) -> Result<Self, KeyError> {
        if !signed_note::is_key_name_valid(name) {
            return Err(KeyError::Name);
        }
        Ok(Self { name: name.to_owned(), algorithm, key: SigningKey::from_bytes(seed) })
    }

    /// Reads the text form.
    pub fn parse(text: &str, algorithm: Algorithm) -> Result<Self, KeyError> {
        let rest = text.trim().strip_prefix("PRIVATE+KEY+").ok_or(KeyError::Secret)?;
        let mut parts = rest.splitn(3, '+');
        let mut next = || parts.next().ok_or(KeyError::Secret);
        let (name, id, key) = (next()?, next()?, next()?);
        let seed = Zeroizing::new(decode(key, algorithm).ok_or(KeyError::Secret)?);
        let key = Self::new(name, algorithm, &seed)?;
        if format!("{:08x}", key.public().id()) == id { Ok(key) } else { Err(KeyError::Secret) }
    }

    /// The text form: a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(encode(self.algorithm, self.key.as_bytes()));
        let encoded = Zeroizing::new(STANDARD.encode(*seed));
        let id = self.public().id();
        Zeroizing::new(format!("PRIVATE+KEY+{}+{id:08x}+{}", self.name, *encoded))
    }

    /// The public key.
    pub fn public(&self) -> NoteKey {
        let key = self.key.verifying_key();
        NoteKey { name: self.name.clone(), algorithm: self.algorithm, key }
    }

    /// The Ed25519 signature of a message; deterministic.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for NoteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoteSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

fn encode(algorithm: Algorithm, key: &[u8; 32]) -> [u8; 33] {
    let mut encoded = [algorithm.byte(); 33];
    encoded[1..].copy_from_slice(key);
    encoded
}

fn decode(text: &str, algorithm: Algorithm) -> Option<[u8; 32]> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    let (kind, key) = bytes.split_first()?;
    (*kind == algorithm.byte()).then(|| key.try_into().ok())?
}
