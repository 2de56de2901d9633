//! Pinning: the checkpoint of a live ledger that a piece of work is about.

use std::time::Duration;

use anyhow::anyhow;
use audit_verify::{
    checkpoint::{CheckpointError, TreeHead},
    key_history::KeyHistory,
};
use domain::{merkle::ProofError, record::Record};

use crate::{
    evidence::{Trust, Verified, VerifierKeyArgs},
    output::Failure,
    source::{HttpLedger, Page, SourceError},
};

/// Pauses while a replica may be behind another one, which takes a fraction of a second.
const LAG_PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
];

/// Why there is nothing to fetch.
pub(crate) const NOT_WITNESSED: &str =
    "the server has no checkpoint that a witness cosigned: is a witness configured?";

/// A checkpoint of a live ledger.
#[derive(Debug, Clone)]
pub(crate) struct Pinned {
    /// The signed note.
    pub(crate) note: String,
    /// What it says, and by which key.
    pub(crate) verified: Verified,
}

impl Pinned {
    /// Size and root.
    pub(crate) const fn head(&self) -> TreeHead {
        self.verified.head
    }
}

/// Which of a ledger's checkpoints is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The newest.
    Newest,
    /// The newest that witnesses cosigned.
    Witnessed,
}

/// Fetches a checkpoint and verifies its signature. `at_least` is a size that the ledger is known
/// to have had: one that is shorter was cut back.
pub(crate) async fn pin(
    ledger: &HttpLedger,
    trust: &Trust,
    which: Which,
    at_least: u64,
) -> Result<Pinned, Failure> {
    let mut pauses = LAG_PAUSES.into_iter();
    loop {
        let note = match which {
            Which::Newest => ledger.checkpoint().await,
            Which::Witnessed => ledger.witnessed_checkpoint().await,
        };
        let note = note.map_err(|error| no_checkpoint(error, which))?;
        let verified = trust.open(&note).map_err(|error| not_believed(ledger, trust, error))?;
        let size = verified.head.size;
        if size >= at_least {
            return Ok(Pinned { note, verified });
        }
        let Some(pause) = pauses.next() else {
            // Witnesses may be behind what was fetched without them.
            if which == Which::Witnessed {
                let error = anyhow!(
                    "the newest checkpoint that witnesses cosigned has {size} records, fewer than \
                     the {at_least} of the one that is kept: ask again when they have caught up"
                );
                return Err(error.into());
            }
            let words = format!(
                "the ledger is cut back: it had {at_least} records, and its checkpoint has {size}"
            );
            return Err(Failure::tampered(size, words));
        };
        tokio::time::sleep(pause).await;
    }
}

fn no_checkpoint(error: SourceError, which: Which) -> anyhow::Error {
    let none_witnessed = which == Which::Witnessed && error.status() == Some(404);
    let error = anyhow::Error::from(error);
    if none_witnessed { error.context(NOT_WITNESSED) } else { error }
}

/// The next records, from a position below a signed size: they exist, so a replica that has none
/// yet is asked again. `None` if there are none all the same.
pub(crate) async fn next_page(
    ledger: &HttpLedger,
    from: u64,
    limit: u64,
) -> anyhow::Result<Option<Page>> {
    let mut pauses = LAG_PAUSES.into_iter();
    loop {
        let page = ledger.records(from, limit).await?;
        if !page.bytes().is_empty() {
            return Ok(Some(page));
        }
        let Some(pause) = pauses.next() else { return Ok(None) };
        tokio::time::sleep(pause).await;
    }
}

/// The keys by which a live ledger's checkpoints are verified: those in files, with those that they
/// vouched for in the ledger since, or else the one that the server shows.
pub(crate) async fn trust_in(ledger: &HttpLedger, args: &VerifierKeyArgs) -> anyhow::Result<Trust> {
    let mut trust = args.load_or(ledger.key())?;
    if trust.is_shown_by_server() || trust.keys().contains(ledger.key()) {
        return Ok(trust);
    }
    // What the server lists is a hint where the rotations are; the vouchers in these are believed.
    let given = trust.keys().to_vec();
    // From the newest one given on.
    let all = ledger.keys().await?;
    let newest = all.iter().rposition(|(_, key)| given.contains(key));
    let mut listed = all.into_iter().skip(newest.unwrap_or(usize::MAX));
    let Some((_, current)) = listed.next() else { return Ok(trust) };
    let mut history = KeyHistory::within(current);
    for (size, _) in listed {
        let Some(seq) = size.checked_sub(1) else { break };
        let line = ledger.record(seq).await?.and_then(|line| String::from_utf8(line).ok());
        let Some(record) = line.and_then(|line| Record::parse(&line).ok()) else { break };
        if history.follow(&record).is_err() {
            break;
        }
        trust.believe(history.newest().clone());
    }
    Ok(trust)
}

fn not_believed(ledger: &HttpLedger, trust: &Trust, error: CheckpointError) -> Failure {
    let words = format!("{} shows a checkpoint that is not believed: {error}", ledger.url());
    let hint = "no key given has vouched for the one that signed it";
    let words = if trust.is_shown_by_server() { words } else { format!("{words}; {hint}") };
    Failure::tampered(None, words)
}

/// How two checkpoints of one ledger stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Size and root are the same.
    Same,
    /// The newer one contains the older.
    Contains,
    /// They are of two histories.
    Fork(ForkKind),
}

/// How it is known that two checkpoints are of two histories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForkKind {
    /// The same size, and different roots.
    SameSize,
    /// No proof leads from the one to the other.
    NotProven(ProofError),
}

impl ForkKind {
    /// In words.
    pub(crate) fn words(self) -> String {
        match self {
            Self::SameSize => "the same size, and different roots".to_owned(),
            Self::NotProven(why) => {
                format!(
                    "the newer does not contain the older, as far as its ledger can prove: {why}"
                )
            }
        }
    }
}

/// Compares two checkpoints where that needs no proof: of the same size, or one of them empty.
pub(crate) fn compare_alone(old: TreeHead, new: TreeHead) -> Option<Relation> {
    if old.size == new.size {
        let same = old.root == new.root;
        return Some(if same { Relation::Same } else { Relation::Fork(ForkKind::SameSize) });
    }
    (old.size == 0).then(|| {
        let proof = domain::merkle::check_consistency((0, old.root), (new.size, new.root), &[]);
        proof.map_or_else(|why| Relation::Fork(ForkKind::NotProven(why)), |()| Relation::Contains)
    })
}

/// Whether a live ledger proves that `new` contains `old`, which is not larger.
pub(crate) async fn compare(
    ledger: &HttpLedger,
    old: TreeHead,
    new: TreeHead,
) -> anyhow::Result<Relation> {
    if let Some(relation) = compare_alone(old, new) {
        return Ok(relation);
    }
    let proof = ledger.consistency(old.size, new.size).await?;
    Ok(match proof.check(old, new) {
        Ok(()) => Relation::Contains,
        Err(why) => Relation::Fork(ForkKind::NotProven(why)),
    })
}
