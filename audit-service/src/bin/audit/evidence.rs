//! Keys, checkpoints and other small files that a verdict rests on.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use audit_verify::{
    checkpoint::{CheckpointError, LedgerKey, TreeHead},
    cosignature::WitnessKey,
};
use clap::Args;
use domain::{ids::Name, time::Timestamp};
use runtime::files;
use serde_json::{Value, json};

use crate::output::Failure;

/// Bytes of a key, checkpoint or proof file at most.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// How far the clocks of a witness and of this machine may be apart.
const CLOCKS_DIFFER_MS: i64 = 5 * 60 * 1_000;

/// Options that say by which keys a ledger's checkpoints are verified.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifierKeyArgs {
    /// File with the ledger's verifier key (`ledger.pub`). Repeat it after the key was rotated;
    /// any of them counts.
    #[arg(long = "verifier-key", env = "VITALOG_LEDGER_PUB", value_name = "FILE")]
    pub(crate) verifier_keys: Vec<PathBuf>,
}

/// Options that say which witnesses must have cosigned.
#[derive(Debug, Clone, Args)]
pub(crate) struct WitnessKeyArgs {
    /// File with the verifier key of a witness that must have cosigned the checkpoint. Repeat it
    /// for several; all of them must.
    #[arg(long = "witness-key", value_name = "FILE")]
    pub(crate) witness_keys: Vec<PathBuf>,
}

/// The keys by which checkpoints are verified, and where they are from.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    /// Those given, or the one shown.
    keys: Vec<LedgerKey>,
    /// Those that these vouched for since.
    successors: Vec<LedgerKey>,
    shown_by_server: bool,
}

/// A checkpoint whose signature was verified.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    /// Size and root.
    pub(crate) head: TreeHead,
    /// The key that signed it.
    pub(crate) key: LedgerKey,
}

impl VerifierKeyArgs {
    /// The keys in the files, which must be of one ledger; `None` where no file is named.
    pub(crate) fn load(&self) -> anyhow::Result<Option<Trust>> {
        let mut keys: Vec<LedgerKey> = Vec::with_capacity(self.verifier_keys.len());
        for file in &self.verifier_keys {
            let text = read_text(file)?;
            // One key a line, as a witness takes them.
            for line in text.trim().lines() {
                let key: LedgerKey = line.parse().with_context(|| file.display().to_string())?;
                if keys.first().is_some_and(|first| first.origin() != key.origin()) {
                    bail!("the verifier keys are of different ledgers: give those of one");
                }
                keys.push(key);
            }
        }
        if keys.is_empty() && !self.verifier_keys.is_empty() {
            bail!("the files named as --verifier-key hold no key");
        }
        Ok((!keys.is_empty()).then_some(Trust {
            keys,
            successors: Vec::new(),
            shown_by_server: false,
        }))
    }

    /// The keys in the files, or else the one that a server shows.
    pub(crate) fn load_or(&self, shown: &LedgerKey) -> anyhow::Result<Trust> {
        let shown =
            || Trust { keys: vec![shown.clone()], successors: Vec::new(), shown_by_server: true };
        Ok(self.load()?.unwrap_or_else(shown))
    }
}

impl Trust {
    /// The ledger's name.
    pub(crate) fn origin(&self) -> &Name {
        self.keys[0].origin()
    }

    /// Believes a key that one of those believed vouched for.
    pub(crate) fn believe(&mut self, successor: LedgerKey) {
        self.successors.push(successor);
    }

    /// The keys given, or the one shown; never empty.
    pub(crate) fn keys(&self) -> &[LedgerKey] {
        &self.keys
    }

    /// Verifies a checkpoint: one of the keys must have signed it.
    pub(crate) fn open(&self, note: &str) -> Result<Verified, CheckpointError> {
        let mut error = CheckpointError::Signature;
        for key in self.keys.iter().chain(&self.successors) {
            match key.open(note) {
                Ok(head) => return Ok(Verified { head, key: key.clone() }),
                Err(found) => error = found,
            }
        }
        Err(error)
    }

    /// Whether nobody but the server vouches for the key.
    pub(crate) const fn is_shown_by_server(&self) -> bool {
        self.shown_by_server
    }

    /// Where the keys are from, to be said beside a verdict.
    pub(crate) const fn source(&self) -> &'static str {
        if self.shown_by_server {
            "shown by the server itself: give --verifier-key to check against one that you hold"
        } else {
            "given by you"
        }
    }
}

/// Name and id of a verifier key, without its bytes.
pub(crate) fn short(key: &LedgerKey) -> String {
    // The key's own digits may hold a plus as well.
    let text = key.to_string();
    text.splitn(3, '+').take(2).collect::<Vec<_>>().join("+")
}

/// Demands the cosignatures of these witnesses on a checkpoint; says who saw it when.
pub(crate) fn demand_cosignatures(
    witnesses: &WitnessKeyArgs,
    note: &str,
) -> Result<Vec<Cosigned>, Failure> {
    let mut seen = Vec::with_capacity(witnesses.witness_keys.len());
    for file in &witnesses.witness_keys {
        let text = read_text(file)?;
        let key: WitnessKey = text.parse().with_context(|| file.display().to_string())?;
        let name = key.name().to_owned();
        match key.cosigned_at(note) {
            Ok(Some(seconds)) => seen.push(Cosigned { name, at: at_second(seconds) }),
            Ok(None) => {
                // A witness may be gone. That is no evidence of anything.
                let words = format!("the witness {name} did not cosign the checkpoint");
                return Err(Failure::CouldNotTell(anyhow::anyhow!(words)));
            }
            Err(_) => {
                let words = format!("the cosignature of the witness {name} is not genuine");
                return Err(Failure::tampered(None, words));
            }
        }
    }
    Ok(seen)
}

/// A witness's word that it saw a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Cosigned {
    name: String,
    at: Timestamp,
}

impl Cosigned {
    /// The witness's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Seconds since then, by this machine's clock.
    pub(crate) fn age_seconds(&self) -> u64 {
        let now = (audit_service::service::system_clock())().millis();
        u64::try_from(now.saturating_sub(self.at.millis()) / 1_000).unwrap_or(0)
    }

    /// Whether it is dated further ahead than clocks differ.
    pub(crate) fn is_ahead(&self) -> bool {
        let now = (audit_service::service::system_clock())();
        self.at.millis().saturating_sub(now.millis()) > CLOCKS_DIFFER_MS
    }

    /// In words: one line for each, each with a newline before it.
    pub(crate) fn words(seen: &[Self]) -> String {
        let lines = seen.iter().map(|one| format!("\ncosigned by {} at {}", one.name, one.at));
        lines.collect::<Vec<_>>().concat()
    }

    /// As JSON.
    pub(crate) fn json(seen: &[Self]) -> Value {
        let one = |one: &Self| json!({ "name": one.name, "at": one.at.to_string() });
        seen.iter().map(one).collect()
    }
}

fn at_second(seconds: u64) -> Timestamp {
    let millis = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    Timestamp::from_millis(millis)
}

/// Reads a small text file.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    let bytes = read_bytes(path, MAX_FILE_BYTES)?;
    String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))
}

/// Reads a file of at most so many bytes.
pub(crate) fn read_bytes(path: &Path, bound: u64) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(cannot)?;
    file.take(bound + 1).read_to_end(&mut bytes).with_context(cannot)?;
    if bytes.len() as u64 > bound {
        bail!("{} is longer than {bound} bytes: it cannot be what it should be", path.display());
    }
    Ok(bytes)
}

/// Writes a file so that it is there whole or not at all; replaces one that is there.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = files::replace(path, bytes);
    written.with_context(|| format!("{} cannot be written", path.display()))
}
