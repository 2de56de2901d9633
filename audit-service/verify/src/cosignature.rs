//! Cosignatures of witnesses on checkpoints: C2SP tlog-cosignature, Ed25519 (`cosignature/v1`).

use std::{fmt, str::FromStr};

use zeroize::Zeroizing;

use crate::{
    checkpoint::{CheckpointError, read_note, read_text, signature_line},
    keys::{Algorithm, KeyError, NoteKey, NoteSecret},
};

/// The key that verifies a witness's cosignatures.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey(NoteKey);

/// The key with which a witness cosigns.
#[derive(Debug, Clone)]
pub struct WitnessSecret(NoteSecret);

impl WitnessKey {
    /// The witness's name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// When the witness says that it saw the checkpoint, in seconds since 1970, and the last time
    /// if it says so several times; `None` if it did not cosign it. A cosignature that is not
    /// genuine is an error. The note's other signatures are not looked at.
    pub fn cosigned_at(&self, note: &str) -> Result<Option<u64>, CheckpointError> {
        let note = read_note(note)?;
        let verified = |timestamped: &[u8]| {
            let (time, signature) = split(timestamped)?;
            self.0.verifies(&message(time, note.text()), signature).then_some(time)
        };
        Ok(note.signatures_of(&self.0, verified)?.into_iter().max())
    }
}

impl FromStr for WitnessKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        NoteKey::parse(text, Algorithm::Cosignature).map(Self)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WitnessKey").field(&self.0).finish()
    }
}

impl WitnessSecret {
    /// A new key from 32 random bytes.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        NoteSecret::new(name, Algorithm::Cosignature, seed).map(Self)
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        NoteSecret::parse(text, Algorithm::Cosignature).map(Self)
    }

    /// The text form: a secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        self.0.to_text()
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> WitnessKey {
        WitnessKey(self.0.public())
    }

    /// The signature line for a checkpoint's note, at a time in seconds since 1970. Cosigns
    /// nothing but checkpoints. Whether this one is genuine is the caller's to know.
    pub fn cosign(&self, note: &str, time: u64) -> Result<String, CheckpointError> {
        let note = read_note(note)?;
        read_text(&note)?;
        // The format's last second.
        let time = time.min(i64::MAX.unsigned_abs());
        let signature = self.0.sign(&message(time, note.text()));
        let timestamped = [time.to_be_bytes().as_slice(), &signature].concat();
        Ok(signature_line(&self.0.public(), &timestamped))
    }
}

fn message(time: u64, text: &[u8]) -> Vec<u8> {
    [format!("cosignature/v1\ntime {time}\n").as_bytes(), text].concat()
}

fn split(timestamped: &[u8]) -> Option<(u64, &[u8])> {
    let (time, signature) = timestamped.split_first_chunk::<8>()?;
    let time = u64::from_be_bytes(*time);
    i64::try_from(time).is_ok().then_some((time, signature))
}
