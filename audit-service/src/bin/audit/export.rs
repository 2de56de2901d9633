//! `audit export`: a ledger's records in a file, exactly as they are, checked as they come.

mod chain;
mod file;
mod plain;
mod zstd_frames;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use audit_verify::checkpoint::{TreeHead, read_unverified};
use clap::Args;
use runtime::hardening::{Insecure, Overrides};

use self::{chain::Chain, file::ExportFile};
use crate::{
    evidence::{Trust, VerifierKeyArgs, read_text, short, write_whole},
    output::{self, Failure, Outcome, Report},
    pin::{Pinned, Which, next_page, pin, trust_in},
    progress::Progress,
    source::{HttpLedger, MAX_LIMIT, Page, ServerArgs},
};
pub(crate) use file::{ZSTD_MAGIC, magic};

/// Options of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    verifier_keys: VerifierKeyArgs,
    /// File for the records, one a line. If it holds records of this ledger, the export goes on
    /// after them.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Compress the file (Zstandard).
    #[arg(long)]
    zstd: bool,
    /// File for the signed checkpoint that the export ends at.
    #[arg(long, value_name = "FILE")]
    checkpoint_out: Option<PathBuf>,
}

impl ExportArgs {
    /// Looks whether the settings are secure.
    pub(crate) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        self.server.harden(over)
    }
}

/// Exports up to the checkpoint that the ledger has now.
pub(crate) async fn run(args: ExportArgs) -> Outcome {
    if args.checkpoint_out.as_ref() == Some(&args.out) {
        return Err(anyhow!("--out and --checkpoint-out are the same file: give two").into());
    }
    let ledger = HttpLedger::connect(&args.server).await.map_err(anyhow::Error::from)?;
    let trust = trust_in(&ledger, &args.verifier_keys).await?;
    let before = earlier_checkpoint(args.checkpoint_out.as_deref(), &trust)?;
    let known_size = before.map_or(0, |head| head.size);
    let mut pinned = pin(&ledger, &trust, Which::Newest, known_size).await?;

    let mut chain = Chain::new(trust.origin().clone(), before);
    let mut file = ExportFile::open(&args.out, args.zstd)?;
    let cut = file.resume(&mut chain, Progress::new("reading again", pinned.head().size))?;
    if cut > 0 {
        output::note(&format!(
            "{}: took away {cut} bytes that a broken-off run left unfinished",
            args.out.display()
        ));
    }
    chain.leave_file(args.out.display().to_string());
    let resumed_at = chain.size();
    if resumed_at > pinned.head().size {
        pinned = pin(&ledger, &trust, Which::Newest, resumed_at).await?;
    }

    download(&ledger, pinned.head(), &mut chain, &mut file).await?;
    check_root(&chain, pinned.head())?;
    file.complete()?;
    if let Some(path) = &args.checkpoint_out {
        write_whole(path, pinned.note.as_bytes())?;
    }
    Ok(report(&args, &trust, &pinned, resumed_at))
}

/// The checkpoint that an earlier run left: what is exported now must contain it.
fn earlier_checkpoint(path: Option<&Path>, trust: &Trust) -> anyhow::Result<Option<TreeHead>> {
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
    let shown = path.display();
    let refusal = || format!("{shown} is there and is no checkpoint: it is not replaced");
    let (origin, head) = read_unverified(&read_text(path)?).with_context(refusal)?;
    if origin != *trust.origin() {
        bail!("{shown} is a checkpoint of the ledger {origin}: it is not replaced");
    }
    Ok(Some(head))
}

/// Fetches and writes what is missing up to the pinned size.
async fn download(
    ledger: &HttpLedger,
    pinned: TreeHead,
    chain: &mut Chain,
    file: &mut ExportFile,
) -> Result<(), Failure> {
    let mut progress = Progress::new("exporting", pinned.size - chain.size());
    while chain.size() < pinned.size {
        let (from, size) = (chain.size(), pinned.size);
        let Some(page) = next_page(ledger, from, MAX_LIMIT.min(size - from)).await? else {
            let words = format!(
                "record {from} is missing: the signed checkpoint covers {size} records, and the \
                 server has none from {from} on"
            );
            return Err(Failure::tampered(from, words));
        };
        let before = chain.size();
        let (taken, bad) = take(&page, pinned.size, chain);
        // Lines that are right are kept even where the one after them is not.
        file.append(&page.bytes()[..taken])?;
        if let Some(failure) = bad {
            return Err(failure);
        }
        progress.advance(chain.size() - before, taken as u64);
    }
    Ok(())
}

/// Follows the lines of a page up to a size. Returns the bytes of those that follow, and what is
/// wrong with the first that does not.
fn take(page: &Page, size: u64, chain: &mut Chain) -> (usize, Option<Failure>) {
    let mut taken = 0;
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if chain.size() == size {
            break;
        }
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                let words = format!("as the server has it, {error}");
                return (taken, Some(Failure::tampered(error.seq(), words)));
            }
        };
        let next = lines.peek().and_then(|next| next.ok());
        if let Err(failure) = chain.follow(line, next, "as the server has it") {
            return (taken, Some(failure));
        }
        taken += line.len() + 1;
    }
    (taken, None)
}

fn check_root(chain: &Chain, pinned: TreeHead) -> Result<(), Failure> {
    if chain.root() == pinned.root {
        return Ok(());
    }
    let words = format!(
        "the {} records are one chain, but not the one that the checkpoint signs: their Merkle \
         root is {}, the checkpoint's is {}",
        pinned.size,
        chain.root(),
        pinned.root
    );
    Err(Failure::tampered(None, words))
}

fn report(args: &ExportArgs, trust: &Trust, pinned: &Pinned, resumed_at: u64) -> Report {
    let (head, key) = (pinned.head(), &pinned.verified.key);
    let out = args.out.display();
    let resumed = if resumed_at > 0 {
        format!(", {resumed_at} of them were there before")
    } else {
        String::new()
    };
    let words = format!(
        "complete: {out} has all {} records of the ledger {}{resumed}\n\
         hash chain checked, Merkle root as in the checkpoint of {} records\n\
         checkpoint signed by the key {} ({})",
        head.size,
        trust.origin(),
        head.size,
        short(key),
        trust.source(),
    );
    Report::new(words)
        .fact("ledger", trust.origin().as_str())
        .fact("size", head.size)
        .fact("root", head.root.to_string())
        .fact("resumedAt", resumed_at)
        .fact("key", key.to_string())
        .fact("out", out.to_string())
}
