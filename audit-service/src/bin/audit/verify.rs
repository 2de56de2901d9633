//! `audit verify`: a live ledger, an export or a store, in full or from a trusted checkpoint on.

mod anchored;
mod args;
mod export;
mod live;
mod stored;
mod verdict;

pub(crate) use args::VerifyArgs;

use std::path::Path;

use anyhow::Context;
use audit_verify::{
    checkpoint::read_unverified,
    report::Report,
    verifier::{self, Expected, Options, Read, VerifyError},
};

use domain::ids::Name;

use crate::{
    evidence::{Cosigned, demand_cosignatures, read_text, short, write_whole},
    output::{Failure, Outcome},
    progress::Progress,
};

/// What was verified, beside what the engine itself reports.
struct Verified {
    /// The engine's report.
    report: Report,
    /// What was read, in words: `the export ledger.ndjson`.
    what: String,
    /// The checkpoint that covers it.
    checkpoint: Option<String>,
    /// Who cosigned that checkpoint.
    cosigned: Vec<Cosigned>,
    /// What else was compared, in words.
    compared: Vec<String>,
    /// What was not checked, and why, in words.
    unchecked: Vec<String>,
}

/// Verifies what was asked for.
pub(crate) async fn run(args: VerifyArgs) -> Outcome {
    let verified = match args.source()? {
        args::Source::Export(path) => export::verify(&args, path).await?,
        args::Source::Live(server) => live::verify(&args, &server).await?,
        args::Source::Store(location) => stored::verify(&args, location).await?,
    };
    if let Some(absent) = verified.report.absent.first().filter(|_| verified.report.is_intact()) {
        let words = format!(
            "the key {} that you gave does not come up in the records read, so they may be another \
             history than the one that you believe: give only the keys that were this ledger's up to \
             its checkpoint",
            short(absent)
        );
        return Err(Failure::CouldNotTell(anyhow::anyhow!(words)));
    }
    if verified.report.is_intact()
        && let Some(path) = &args.save
    {
        let note = verified.checkpoint.as_ref();
        let note = note.context("there is no checkpoint to save: give --checkpoint")?;
        save(path, note)?;
    }
    verdict::of(verified)
}

/// Keeps a checkpoint as trusted; never in place of a newer one.
fn save(path: &Path, note: &str) -> anyhow::Result<()> {
    let (origin, head) = read_unverified(note).context("the checkpoint cannot be saved")?;
    if path.exists() {
        // Whose it is was compared with the records.
        let saved = expected_of("the saved checkpoint", path, &origin)?.head;
        if saved.size > head.size {
            let shown = path.display();
            anyhow::bail!(
                "{shown} is a newer checkpoint, of {} records: it is not replaced",
                saved.size
            );
        }
    }
    write_whole(path, note.as_bytes())
}

/// A checkpoint in a file, as something that the records of this ledger must agree with. Whose it
/// is it says itself: the signature is checked with the records.
fn expected_of(name: &str, path: &Path, origin: &Name) -> anyhow::Result<Expected> {
    let note = read_text(path)?;
    let shown = path.display();
    let (of, head) = read_unverified(&note).with_context(|| shown.to_string())?;
    anyhow::ensure!(of == *origin, "{shown} is a checkpoint of the ledger {of}, not of {origin}");
    Ok(Expected { name: name.to_owned(), head, note: Some(note) })
}

/// What the checkpoint that covers the records must have: cosignatures, and not too old ones.
fn check_checkpoint(args: &VerifyArgs, note: &str) -> Result<Vec<Cosigned>, Failure> {
    let cosigned = demand_cosignatures(&args.witnesses, note)?;
    args.check_age(&cosigned)?;
    Ok(cosigned)
}

/// Runs the engine on threads of its own, with a progress bar up to `total` records.
async fn engine<S>(
    options: Options,
    source: S,
    threads: usize,
    total: u64,
) -> anyhow::Result<Report>
where
    S: Iterator<Item = anyhow::Result<Read>> + Send + 'static,
{
    let work = move || {
        let mut progress = Progress::new("verifying", total);
        let mut last = verifier::Progress::default();
        // One thread reads, joins and, where it is the only one, checks as well.
        let workers = if threads <= 1 { 0 } else { threads };
        let report = verifier::verify(options, source, workers, |now| {
            progress.advance(now.size.saturating_sub(last.size), now.bytes - last.bytes);
            last = now;
        });
        progress.finish();
        report
    };
    let report = tokio::task::spawn_blocking(work).await.context("the verification broke off")?;
    report.map_err(|error| match error {
        VerifyError::Source(error) => error,
        VerifyError::TemporaryFile(error) => {
            anyhow::Error::new(error).context("a temporary file could not be used")
        }
    })
}
