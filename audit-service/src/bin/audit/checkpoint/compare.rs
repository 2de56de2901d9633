//! Whether two checkpoints are of one history.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use audit_verify::checkpoint::TreeHead;
use clap::Args;
use runtime::hardening::{Insecure, Overrides};

use super::show::{Read, read};
use crate::{
    evidence::{Trust, VerifierKeyArgs, read_text},
    output::{Failure, Outcome, Report},
    pin::{ForkKind, Relation, compare, compare_alone, trust_in},
    source::{Consistency, HttpLedger, OptionalServerArgs},
};

/// Options of `checkpoint compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// One checkpoint.
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The other.
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Where the proof is asked for that one contains the other. It need not be believed.
    #[command(flatten)]
    server: OptionalServerArgs,
    /// File with that proof instead, as `/consistency` answers it.
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    #[command(flatten)]
    verifier_keys: VerifierKeyArgs,
}

impl CompareArgs {
    /// Looks whether the settings are secure.
    pub(super) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        self.server.harden(over)
    }
}

/// Compares.
pub(super) async fn run(args: CompareArgs) -> Outcome {
    let server = match args.server.get() {
        Some(server) if args.proof.is_none() => {
            Some(HttpLedger::connect(&server).await.map_err(anyhow::Error::from)?)
        }
        _ => None,
    };
    let trust = match &server {
        Some(ledger) => Some(trust_in(ledger, &args.verifier_keys).await?),
        None => args.verifier_keys.load()?,
    };
    let (a, b) = (read(&args.a, trust.as_ref())?, read(&args.b, trust.as_ref())?);
    if a.origin != b.origin {
        let words = format!("the checkpoints are of the ledgers {} and {}", a.origin, b.origin);
        return Err(anyhow!(words).into());
    }
    let (older, newer) = if a.head.size <= b.head.size { (&a, &b) } else { (&b, &a) };
    let relation = relate(&args, server.as_ref(), older.head, newer.head).await?;
    verdict(&a, &b, relation, trust.as_ref())
}

async fn relate(
    args: &CompareArgs,
    server: Option<&HttpLedger>,
    old: TreeHead,
    new: TreeHead,
) -> anyhow::Result<Relation> {
    if let Some(relation) = compare_alone(old, new) {
        return Ok(relation);
    }
    if let Some(path) = &args.proof {
        let proof = Consistency::parse(read_text(path)?.as_bytes());
        let proof = proof.with_context(|| format!("{} is no proof", path.display()))?;
        if proof.sizes() != (old.size, new.size) {
            let (from, to) = proof.sizes();
            return Err(anyhow!(
                "{} is a proof from size {from} to {to}; one from {} to {} is needed",
                path.display(),
                old.size,
                new.size
            ));
        }
        return Ok(match proof.check(old, new) {
            Ok(()) => Relation::Contains,
            Err(why) => Relation::Fork(ForkKind::NotProven(why)),
        });
    }
    let ledger = server.context(
        "the sizes differ, and only a proof tells whether one contains the other: give --url and \
         --key-file, or --proof",
    )?;
    compare(ledger, old, new).await
}

fn verdict(a: &Read, b: &Read, relation: Relation, trust: Option<&Trust>) -> Outcome {
    let sizes = format!("A has {} records, B has {}", a.head.size, b.head.size);
    let signed = if a.signed == b.signed {
        format!("both: {}", a.signed)
    } else {
        format!("A: {}; B: {}", a.signed, b.signed)
    };
    let (name, words) = match relation {
        Relation::Same => ("same", "the same".to_owned()),
        Relation::Contains if a.head.size < b.head.size => {
            ("older", "A is older than B, and B contains it".to_owned())
        }
        Relation::Contains => ("newer", "B is older than A, and A contains it".to_owned()),
        Relation::Fork(kind) => {
            let words = format!("fork: {}\n{sizes}\n{signed}", kind.words());
            return Err(Failure::tampered(None, words));
        }
    };
    Ok(Report::new(format!("{words}\n{sizes}\n{signed}"))
        .fact("relation", name)
        .fact("ledger", a.origin.as_str())
        .fact("sizeA", a.head.size)
        .fact("sizeB", b.head.size)
        .fact("signatureVerified", trust.is_some()))
}
