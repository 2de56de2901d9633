//! `audit check`: whether a proof file proves that a record is in the ledger. Needs no network.

use std::path::PathBuf;

use anyhow::Context;
use audit_verify::{
    checkpoint::{LedgerKey, TreeHead},
    proof_file::{NotProven, ProofFile},
};
use clap::Args;
use domain::{
    hash::Hash,
    record::{MAX_LINE_BYTES, Record},
};

use crate::{
    evidence::{
        Cosigned, Trust, VerifierKeyArgs, WitnessKeyArgs, demand_cosignatures, read_bytes, short,
    },
    output::{Failure, Outcome, Report},
};

/// Bytes of a proof file at most; one with every hash and several witnesses has a few thousand.
const MAX_PROOF_BYTES: u64 = 64 * 1024;

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The proof file (C2SP tlog-proof).
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    #[command(flatten)]
    record: RecordArgs,
    #[command(flatten)]
    verifier_keys: VerifierKeyArgs,
    #[command(flatten)]
    witnesses: WitnessKeyArgs,
}

/// The record that is to be proven.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RecordArgs {
    /// File with the record's line; a newline at its end does not count.
    #[arg(long, value_name = "FILE")]
    line: Option<PathBuf>,
    /// The record's hash instead: SHA-256 of a zero byte and the line, in lower-case hexadecimal.
    #[arg(long, value_name = "HEX")]
    hash: Option<Hash>,
}

/// A record that was proven to be in the ledger.
#[derive(Debug)]
pub(crate) struct Proven {
    /// Size and root of the checkpoint.
    pub(crate) head: TreeHead,
    seq: u64,
    hash: Hash,
    key: LedgerKey,
    key_source: &'static str,
    /// Absent where only the hash is known.
    record: Option<Record>,
}

/// Checks a proof file.
pub(crate) fn run(args: &CheckArgs) -> Outcome {
    let trust = args.verifier_keys.load()?;
    let trust = trust.context("give the ledger's verifier key: --verifier-key ledger.pub")?;
    let text = read_bytes(&args.proof, MAX_PROOF_BYTES)?;
    let text = String::from_utf8(text)
        .map_err(|_| Failure::tampered(None, "the proof file is not text: it proves nothing"))?;
    let file = ProofFile::parse(&text)
        .map_err(|error| Failure::tampered(None, format!("this is {error}: it proves nothing")))?;
    let proven = match (&args.record.line, args.record.hash) {
        (Some(path), _) => {
            let mut line = read_bytes(path, MAX_LINE_BYTES as u64 + 1)?;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            prove_line(&file, &line, &trust)?
        }
        (None, Some(hash)) => prove_hash(&file, hash, None, &trust)?,
        (None, None) => return Err(anyhow::anyhow!("give --line or --hash").into()),
    };
    let seen = demand_cosignatures(&args.witnesses, &file.checkpoint)?;
    Ok(proven.report(&Cosigned::words(&seen)).fact("witnesses", Cosigned::json(&seen)))
}

/// Checks that a proof file proves this line.
pub(crate) fn prove_line(file: &ProofFile, line: &[u8], trust: &Trust) -> Result<Proven, Failure> {
    let seq = file.index;
    let line = std::str::from_utf8(line)
        .map_err(|_| Failure::tampered(seq, format!("the line of record {seq} is not text")))?;
    let record = Record::parse(line).map_err(|error| {
        Failure::tampered(seq, format!("the line of record {seq} is no record: {error}"))
    })?;
    if record.seq != seq {
        let words = format!("the line is of record {}, the proof is of record {seq}", record.seq);
        return Err(Failure::tampered(seq, words));
    }
    if record.ledger != *trust.origin() {
        let words = format!(
            "the line is of the ledger {}, the verifier key is of {}",
            record.ledger,
            trust.origin()
        );
        return Err(Failure::tampered(seq, words));
    }
    prove_hash(file, Hash::of_line(line), Some(record), trust)
}

fn prove_hash(
    file: &ProofFile,
    hash: Hash,
    record: Option<Record>,
    trust: &Trust,
) -> Result<Proven, Failure> {
    let seq = file.index;
    let mut refusal = None;
    for key in trust.keys() {
        match file.check(key, hash) {
            Ok(head) => {
                let (key, key_source) = (key.clone(), trust.source());
                return Ok(Proven { head, seq, hash, key, key_source, record });
            }
            // A wrong inclusion says more than that another key did not sign.
            Err(found @ NotProven::Inclusion(_)) => refusal = Some(found),
            Err(found) => refusal = refusal.or(Some(found)),
        }
    }
    let why = refusal.map(not_proven).unwrap_or_default();
    Err(Failure::tampered(seq, format!("record {seq} is not proven: {why}")))
}

/// Why a proof does not prove, in words.
fn not_proven(error: NotProven) -> String {
    match error {
        NotProven::Checkpoint(why) => why.to_string(),
        NotProven::Inclusion(why) => format!("{error}: {why}"),
    }
}

impl Proven {
    /// The verdict, with more words after it.
    pub(crate) fn report(&self, more: &str) -> Report {
        let origin = self.key.origin();
        let what = self.record.as_ref().map_or_else(String::new, |record| {
            format!(", a {} recorded at {},", record.record_type, record.recorded_at)
        });
        let words = format!(
            "record {}{what} is in the ledger {origin} as of its checkpoint of {} records\n\
             checkpoint signed by the key {} ({}){more}",
            self.seq,
            self.head.size,
            short(&self.key),
            self.key_source,
        );
        Report::new(words)
            .fact("ledger", origin.as_str())
            .fact("seq", self.seq)
            .fact("hash", self.hash.to_string())
            .fact("size", self.head.size)
            .fact("root", self.head.root.to_string())
            .fact("key", self.key.to_string())
    }
}
