//! Verifying a live ledger over HTTP.

use std::io::Cursor;

use anyhow::Context;
use audit_verify::{
    checkpoint::LedgerKey,
    proof_file::ProofFile,
    verifier::{Expected, Options, Read, Start, TextChunks},
};
use domain::{chain::Link, hash::Hash, merkle::Frontier, record::Record};
use tokio::runtime::Handle;

use super::{Verified, VerifyArgs, anchored::Anchored, check_checkpoint, engine, expected_of};
use crate::{
    evidence::{Trust, short},
    output::Failure,
    pin::{Relation, Which, compare, next_page, pin, trust_in},
    source::{HttpLedger, MAX_LIMIT, ProofSize, ServerArgs},
};

/// Verifies what a live ledger has, up to the checkpoint that it shows at the beginning.
pub(super) async fn verify(args: &VerifyArgs, server: &ServerArgs) -> Result<Verified, Failure> {
    let ledger = HttpLedger::connect(server).await.map_err(anyhow::Error::from)?;
    let trust = trust_in(&ledger, &args.verifier_keys).await?;
    let trusted = args.trusted(trust.origin())?;
    let at_least = trusted.iter().map(|trusted| trusted.head.size).max().unwrap_or(0);
    // Before the checkpoint: whatever is anchored by now, the ledger must have by then.
    let anchored = Anchored::read(args, trust.origin()).await?;
    let which =
        if args.witnesses.witness_keys.is_empty() { Which::Newest } else { Which::Witnessed };
    let (note, head) = if let Some(path) = &args.checkpoint {
        let given = expected_of("the checkpoint", path, trust.origin())?;
        if given.head.size < at_least {
            let error = "the --checkpoint is older than the one that is trusted";
            return Err(anyhow::anyhow!(error).into());
        }
        (given.note.unwrap_or_default(), given.head)
    } else {
        let pinned = pin(&ledger, &trust, which, at_least).await?;
        let head = pinned.head();
        (pinned.note, head)
    };
    let cosigned = check_checkpoint(args, &note)?;
    let mut unchecked = Vec::new();
    if trust.is_shown_by_server() {
        unchecked.push(format!(
            "whose ledger it is: the key {} was shown by the server itself; give --verifier-key",
            short(&trust.keys()[0])
        ));
    }
    let resumed = trusted.first().filter(|_| args.trusted.is_some() && !args.full);
    let (start, keys) = match resumed {
        Some(trusted) if trusted.head.size > 0 => {
            unchecked.push(format!(
                "records before {}, which the trusted checkpoint covers, were not read again, and \
                 the first new version of each stream is taken as it stands: --full reads \
                 everything",
                trusted.head.size
            ));
            resume(&ledger, &trust, trusted).await?
        }
        _ => (Start::Genesis, trust.keys().to_vec()),
    };
    let from = match &start {
        Start::Genesis => 0,
        Start::After { link, .. } => link.next_seq,
    };
    let size = head.size;
    let mut expected =
        vec![Expected { name: "the checkpoint".to_owned(), head, note: Some(note.clone()) }];
    expected.extend(trusted);
    let (anchored, compared, newer) = anchored.within(from, size);
    if let Some(newer) = newer {
        check_newer(&ledger, &trust, &newer).await?;
    } else if anchored.is_empty() && !args.anchors.anchors.is_empty() {
        let error = "no anchored checkpoint is of the records that are new: verify with --full";
        return Err(anyhow::anyhow!(error).into());
    }
    expected.extend(anchored);
    let options = Options {
        origin: trust.origin().clone(),
        keys,
        start,
        expected,
        covers: Some(size),
        seal_keys: None,
    };
    let what = format!("the ledger at {}", ledger.url());
    let pages = Pages { ledger, next: from, size, handle: Handle::current(), page: None };
    let report = engine(options, pages, args.threads(), size.saturating_sub(from)).await?;
    Ok(Verified { report, what, checkpoint: Some(note), cosigned, compared, unchecked })
}

/// An anchored checkpoint that is newer than the one verified against: of an older, cosigned one, or
/// one in a file. The ledger must have got there, without a break.
async fn check_newer(
    ledger: &HttpLedger,
    trust: &Trust,
    anchored: &Expected,
) -> Result<(), Failure> {
    let (name, size) = (&anchored.name, anchored.head.size);
    let note = anchored.note.as_deref().unwrap_or_default();
    if let Err(error) = trust.open(note) {
        return Err(Failure::tampered(None, format!("{name}: {error}")));
    }
    let newest = pin(ledger, trust, Which::Newest, size).await?;
    match compare(ledger, anchored.head, newest.head()).await? {
        Relation::Same | Relation::Contains => Ok(()),
        Relation::Fork(kind) => {
            let words = format!("{name} of {size} records is of another history: {}", kind.words());
            Err(Failure::tampered(None, words))
        }
    }
}

/// The place after a trusted checkpoint. The last record that it covers, with its inclusion proof,
/// is the right edge of the trusted tree; the server need not be believed.
async fn resume(
    ledger: &HttpLedger,
    trust: &Trust,
    trusted: &Expected,
) -> Result<(Start, Vec<LedgerKey>), Failure> {
    let head = trusted.head;
    let note = trusted.note.as_deref().unwrap_or_default();
    let opened = trust.open(note).map_err(|error| {
        let hint = "if the signing key was rotated, give --verifier-key for the newer one too";
        anyhow::anyhow!("the trusted checkpoint: {error}; {hint}")
    })?;
    let seq = head.size - 1;
    let line = ledger.record(seq).await.map_err(anyhow::Error::from)?;
    let Some(line) = line else {
        let words = format!(
            "the ledger was cut off: record {seq}, which the trusted checkpoint covers, is gone"
        );
        return Err(Failure::tampered(seq, words));
    };
    let proof = ledger.proof(seq, ProofSize::At(head.size)).await.map_err(anyhow::Error::from)?;
    let proof = ProofFile::parse(&proof).context("the server's proof cannot be read")?;
    let changed = || {
        let words = format!(
            "the records up to {seq} are not those of the trusted checkpoint, as far as the ledger can \
             prove; verify with --full to find the first bad one"
        );
        Failure::tampered(None, words)
    };
    let line = String::from_utf8(line).map_err(|_| changed())?;
    let frontier = Frontier::of_last(Hash::of_line(&line), head.size, &proof.hashes);
    let frontier = frontier.filter(|tree| tree.root() == head.root).ok_or_else(changed)?;
    let record = Record::parse(&line).map_err(|_| changed())?;
    let end = Link { next_seq: head.size, hash: Hash::of_line(&line), at: record.recorded_at };
    // A key that was retired before must not sign what is new.
    Ok((Start::After { link: end, frontier }, vec![opened.key]))
}

/// The records in order, fetched while those before them are checked.
struct Pages {
    ledger: HttpLedger,
    next: u64,
    size: u64,
    handle: Handle,
    page: Option<TextChunks<Cursor<Vec<u8>>>>,
}

impl Pages {
    fn fetch(&mut self) -> anyhow::Result<bool> {
        if self.next >= self.size {
            return Ok(false);
        }
        let limit = MAX_LIMIT.min(self.size - self.next);
        let page = self.handle.block_on(next_page(&self.ledger, self.next, limit));
        let Some(page) = page? else { return Ok(false) };
        self.next += page.lines().count().max(1) as u64;
        self.page = Some(TextChunks::new(Cursor::new(page.into_bytes())));
        Ok(true)
    }
}

impl Iterator for Pages {
    type Item = anyhow::Result<Read>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(read) = self.page.as_mut().and_then(Iterator::next) {
                return Some(read.map_err(anyhow::Error::from));
            }
            match self.fetch() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.next = self.size;
                    return Some(Err(error));
                }
            }
        }
    }
}
