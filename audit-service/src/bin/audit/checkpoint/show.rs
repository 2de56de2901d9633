//! What a checkpoint in a file says.

use std::path::{Path, PathBuf};

use anyhow::Context;
use audit_verify::checkpoint::{TreeHead, read_unverified};
use clap::Args;
use domain::ids::Name;

use crate::{
    evidence::{
        Cosigned, Trust, VerifierKeyArgs, WitnessKeyArgs, demand_cosignatures, read_bytes, short,
    },
    output::{Failure, Outcome, Report},
};

/// Bytes of a checkpoint at most.
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;

/// Options of `checkpoint show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    file: PathBuf,
    #[command(flatten)]
    verifier_keys: VerifierKeyArgs,
    #[command(flatten)]
    witnesses: WitnessKeyArgs,
}

/// A checkpoint that was read from a file.
pub(super) struct Read {
    /// The signed note.
    pub(super) note: String,
    /// The ledger that it says that it is of.
    pub(super) origin: Name,
    /// Size and root.
    pub(super) head: TreeHead,
    /// By which key it is verified, in words.
    pub(super) signed: String,
}

/// Reads a checkpoint, and verifies it where keys are given.
pub(super) fn read(path: &Path, trust: Option<&Trust>) -> Result<Read, Failure> {
    let shown = path.display();
    let not_believed =
        |why: &dyn std::fmt::Display| Failure::tampered(None, format!("{shown}: {why}"));
    let note = read_bytes(path, MAX_CHECKPOINT_BYTES)?;
    let note = String::from_utf8(note).map_err(|_| not_believed(&"the checkpoint is not text"))?;
    let (origin, head) = read_unverified(&note).map_err(|error| not_believed(&error))?;
    let signed = match trust {
        None => "its signature was not verified: give --verifier-key".to_owned(),
        Some(trust) => {
            let verified = trust.open(&note).map_err(|error| not_believed(&error))?;
            format!("signed by the key {} ({})", short(&verified.key), trust.source())
        }
    };
    Ok(Read { note, origin, head, signed })
}

/// Shows a checkpoint.
pub(super) fn run(args: &ShowArgs) -> Outcome {
    let trust = args.verifier_keys.load().context("a verifier key cannot be used")?;
    let checkpoint = read(&args.file, trust.as_ref())?;
    let seen = demand_cosignatures(&args.witnesses, &checkpoint.note)?;
    let Read { origin, head, signed, .. } = checkpoint;
    let words = format!(
        "checkpoint of the ledger {origin}: {} records, Merkle root {}\n{signed}{}",
        head.size,
        head.root,
        Cosigned::words(&seen),
    );
    Ok(Report::new(words)
        .fact("ledger", origin.as_str())
        .fact("size", head.size)
        .fact("root", head.root.to_string())
        .fact("signatureVerified", trust.is_some())
        .fact("witnesses", Cosigned::json(&seen)))
}
