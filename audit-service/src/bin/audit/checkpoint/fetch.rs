//! Fetching a checkpoint, and keeping it as trusted.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use audit_verify::checkpoint::{TreeHead, read_unverified};
use clap::Args;
use runtime::hardening::{Insecure, Overrides};

use crate::{
    evidence::{
        Cosigned, Trust, VerifierKeyArgs, WitnessKeyArgs, demand_cosignatures, read_text, short,
        write_whole,
    },
    output::{Failure, Outcome, Report},
    pin::{NOT_WITNESSED, Pinned, Relation, Which, compare, pin, trust_in},
    source::{HttpLedger, OptionalServerArgs},
};

/// Options of `checkpoint` without anything else: fetch it.
#[derive(Debug, Args)]
pub(super) struct FetchArgs {
    #[command(flatten)]
    server: OptionalServerArgs,
    #[command(flatten)]
    verifier_keys: VerifierKeyArgs,
    #[command(flatten)]
    witnesses: WitnessKeyArgs,
    /// File to keep the checkpoint in as trusted. One that is there is only replaced by one that
    /// contains it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Fetch the newest checkpoint that witnesses cosigned.
    #[arg(long)]
    witnessed: bool,
}

impl FetchArgs {
    /// Looks whether the settings are secure.
    pub(super) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        self.server.harden(over)
    }
}

/// What became of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nowhere,
    New,
    Unchanged,
    Replaced { old_size: u64 },
}

/// Fetches, verifies and keeps.
pub(super) async fn run(args: FetchArgs) -> Outcome {
    let server = args.server.get().context("say where the ledger is: --url and --key-file")?;
    let ledger = HttpLedger::connect(&server).await.map_err(anyhow::Error::from)?;
    let trust = trust_in(&ledger, &args.verifier_keys).await?;
    let trusted = args.out.as_deref().map(|path| trusted(path, &trust)).transpose()?.flatten();
    let wants_witnesses = args.witnessed || !args.witnesses.witness_keys.is_empty();
    let which = if wants_witnesses { Which::Witnessed } else { Which::Newest };
    let at_least = trusted.as_ref().map_or(0, |(_, head)| head.size);
    let pinned = pin(&ledger, &trust, which, at_least).await?;
    if wants_witnesses && signatures(&pinned.note) < 2 {
        return Err(anyhow!(NOT_WITNESSED).into());
    }
    let seen = demand_cosignatures(&args.witnesses, &pinned.note)?;
    let kept = keep(&args, &ledger, trusted, &pinned).await?;
    Ok(report(&args, &trust, &pinned, &seen, kept))
}

/// The checkpoint that is kept already, as a note and as what it says.
fn trusted(path: &Path, trust: &Trust) -> anyhow::Result<Option<(String, TreeHead)>> {
    if !path.exists() {
        return Ok(None);
    }
    let shown = path.display();
    let refusal = || format!("{shown} is there and is no checkpoint: it is not replaced");
    let note = read_text(path)?;
    let (origin, head) = read_unverified(&note).with_context(refusal)?;
    if origin != *trust.origin() {
        bail!("{shown} is a checkpoint of the ledger {origin}: it is not replaced");
    }
    Ok(Some((note, head)))
}

/// Writes the file, unless what is in it is not contained in the new checkpoint.
async fn keep(
    args: &FetchArgs,
    ledger: &HttpLedger,
    trusted: Option<(String, TreeHead)>,
    pinned: &Pinned,
) -> Result<Kept, Failure> {
    let Some(path) = &args.out else { return Ok(Kept::Nowhere) };
    let kept = match trusted {
        None => Kept::New,
        Some((note, old)) => match compare(ledger, old, pinned.head()).await? {
            // More signatures on the same text are worth keeping, fewer are not.
            Relation::Same if signatures(&note) >= signatures(&pinned.note) => Kept::Unchanged,
            Relation::Same | Relation::Contains => Kept::Replaced { old_size: old.size },
            Relation::Fork(kind) => {
                let words = format!(
                    "fork: the ledger's checkpoint of {} records does not go with the trusted \
                     one of {} records in {}, which is left as it is: {}",
                    pinned.head().size,
                    old.size,
                    path.display(),
                    kind.words()
                );
                return Err(Failure::tampered(None, words));
            }
        },
    };
    if kept != Kept::Unchanged {
        write_whole(path, pinned.note.as_bytes())?;
    }
    Ok(kept)
}

/// Signature lines of a note.
fn signatures(note: &str) -> usize {
    note.rsplit("\n\n").next().map_or(0, |lines| lines.lines().count())
}

fn report(
    args: &FetchArgs,
    trust: &Trust,
    pinned: &Pinned,
    seen: &[Cosigned],
    kept: Kept,
) -> Report {
    let (head, key) = (pinned.head(), &pinned.verified.key);
    let file = args.out.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
    let kept_words = match kept {
        Kept::Nowhere => String::new(),
        Kept::New => format!("\nkept in {file}"),
        Kept::Unchanged => format!("\n{file} has it already"),
        Kept::Replaced { old_size } => {
            format!("\nkept in {file}; it contains the one of {old_size} records that was there")
        }
    };
    let words = format!(
        "checkpoint of the ledger {}: {} records, Merkle root {}\n\
         signed by the key {} ({}){}{kept_words}",
        trust.origin(),
        head.size,
        head.root,
        short(key),
        trust.source(),
        Cosigned::words(seen),
    );
    Report::new(words)
        .fact("ledger", trust.origin().as_str())
        .fact("size", head.size)
        .fact("root", head.root.to_string())
        .fact("key", key.to_string())
        .fact("witnesses", Cosigned::json(seen))
        .fact("checkpoint", pinned.note.as_str())
}
