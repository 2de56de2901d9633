//! `audit prove`: the proof that one record is in the ledger, checked before it is written.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use audit_verify::proof_file::ProofFile;
use clap::Args;
use runtime::hardening::{Insecure, Overrides};

use crate::{
    check::{Proven, prove_line},
    evidence::{Trust, VerifierKeyArgs, write_whole},
    output::{Failure, Outcome},
    pin::trust_in,
    source::{HttpLedger, ProofSize, ServerArgs},
};

/// Options of `prove`.
#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// Position of the record, from 0.
    seq: u64,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    verifier_keys: VerifierKeyArgs,
    /// File for the proof (C2SP tlog-proof).
    #[arg(long, value_name = "PROOF")]
    out: PathBuf,
    /// Prove it to be among so many first records; `latest` takes the newest checkpoint.
    #[arg(long, default_value = "latest", value_parser = parse_size)]
    size: ProofSize,
    /// File for the record's line, which `audit check` needs.
    #[arg(long, value_name = "FILE")]
    line_out: Option<PathBuf>,
}

impl ProveArgs {
    /// Looks whether the settings are secure.
    pub(crate) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        self.server.harden(over)
    }
}

fn parse_size(text: &str) -> Result<ProofSize, &'static str> {
    match text {
        "latest" => Ok(ProofSize::Latest),
        number => number.parse().map(ProofSize::At).map_err(|_| "write a number or `latest`"),
    }
}

/// Fetches the record and its proof, checks them and writes them.
pub(crate) async fn run(args: ProveArgs) -> Outcome {
    if args.line_out.as_ref() == Some(&args.out) {
        return Err(anyhow!("--out and --line-out are the same file: give two").into());
    }
    let ledger = HttpLedger::connect(&args.server).await.map_err(anyhow::Error::from)?;
    let trust = trust_in(&ledger, &args.verifier_keys).await?;
    let (line, proof) = fetch(&ledger, &args).await?;
    let proven = check(&proof, &line, &trust, &args)?;
    if let Some(file) = &args.line_out {
        write_whole(file, &[line.as_slice(), b"\n"].concat())?;
    }
    write_whole(&args.out, proof.as_bytes())?;
    let words = format!("\nproof written to {}", args.out.display());
    Ok(proven.report(&words).fact("out", args.out.display().to_string()))
}

async fn fetch(ledger: &HttpLedger, args: &ProveArgs) -> anyhow::Result<(Vec<u8>, String)> {
    let no_record = || anyhow!("the ledger has no record {}", args.seq);
    let line = ledger.record(args.seq).await?.ok_or_else(no_record)?;
    let proof = ledger.proof(args.seq, args.size).await;
    let proof = proof.with_context(|| format!("record {} cannot be proven", args.seq))?;
    Ok((line, proof))
}

fn check(proof: &str, line: &[u8], trust: &Trust, args: &ProveArgs) -> Result<Proven, Failure> {
    let file = ProofFile::parse(proof)
        .map_err(|error| Failure::tampered(args.seq, format!("the server's proof is {error}")))?;
    if file.index != args.seq {
        let words = format!("asked for record {}, the server proves {}", args.seq, file.index);
        return Err(Failure::tampered(args.seq, words));
    }
    let proven = prove_line(&file, line, trust)?;
    if let ProofSize::At(size) = args.size
        && proven.head.size != size
    {
        let words = format!(
            "asked for a proof to the checkpoint of size {size}, the server's is of size {}",
            proven.head.size
        );
        return Err(Failure::CouldNotTell(anyhow!(words)));
    }
    Ok(proven)
}
