//! Verifying an export.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use anyhow::Context;
use audit_verify::verifier::{Options, Start, TextChunks};

use super::{Verified, VerifyArgs, anchored::Anchored, check_checkpoint, engine, expected_of};
use crate::{
    export::{ZSTD_MAGIC, magic},
    output::Failure,
};

/// Verifies every record of an export against its checkpoint.
pub(super) async fn verify(args: &VerifyArgs, path: &Path) -> Result<Verified, Failure> {
    let trust = args.verifier_keys.load()?;
    let trust =
        trust.context("give the ledger's --verifier-key: an export proves nothing alone")?;
    let checkpoint = args.checkpoint.as_deref();
    let checkpoint = checkpoint.context("give the --checkpoint that covers the export")?;
    let checkpoint = expected_of("the checkpoint", checkpoint, trust.origin())?;
    let note = checkpoint.note.clone().unwrap_or_default();
    let cosigned = check_checkpoint(args, &note)?;
    let size = checkpoint.head.size;
    let mut expected = vec![checkpoint];
    expected.extend(args.trusted(trust.origin())?);
    // An export ends where its checkpoint does, whatever came after.
    let (anchored, compared, newer) = Anchored::read(args, trust.origin()).await?.within(0, size);
    if let Some(newer) = newer {
        // Whether the export leads there, nothing here can tell.
        let words = format!(
            "the export is older than {} of {} records: export again, and verify that",
            newer.name, newer.head.size
        );
        return Err(anyhow::anyhow!(words).into());
    }
    expected.extend(anchored);
    let options = Options {
        origin: trust.origin().clone(),
        keys: trust.keys().to_vec(),
        start: Start::Genesis,
        expected,
        covers: Some(size),
        seal_keys: None,
    };
    let shown = path.display().to_string();
    let reader = open(path).with_context(|| format!("{shown} cannot be read"))?;
    let unreadable = shown.clone();
    let source = TextChunks::new(reader)
        .map(move |read| read.with_context(|| format!("{unreadable} cannot be read on")));
    let report = engine(options, source, args.threads(), size).await?;
    Ok(Verified {
        report,
        what: format!("the export {shown}"),
        checkpoint: Some(note),
        cosigned,
        compared,
        unchecked: Vec::new(),
    })
}

/// Opens an export, compressed or not.
fn open(path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
    let file = File::open(path)?;
    if magic(&file)? == ZSTD_MAGIC {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::new(file))?))
    } else {
        Ok(Box::new(file))
    }
}
