//! `tests/smoke [--internal PLACE]… URL`: whether a deployment serves, refuses and proves, and shows nothing else.

use std::process::ExitCode;

use anyhow::Context;
use audit_verify::checkpoint::LedgerKey;
use clap::Parser;
use reqwest::Url;
use runtime::secrets::SecretRef;
use tests::smoke::{Target, report, run};

/// Looks from outside whether a deployment serves, refuses and proves, and that nothing else of it is to be reached.
/// Creates one patient, named SMOKE TEST. Ends with 1 if anything is wrong.
#[derive(Debug, Parser)]
#[command(name = "smoke")]
struct Arguments {
    /// The gateway's address
    #[arg(value_name = "URL")]
    gateway: Url,
    /// A key with patient:read and patient:write: `env:NAME`, `file:/path` or `keyvault:https://…`
    #[arg(long, env = "VITALOG_SMOKE_KEY", value_name = "REF")]
    key: Option<SecretRef>,
    /// A key with audit:read, likewise
    #[arg(long, env = "VITALOG_SMOKE_AUDIT_KEY", value_name = "REF")]
    audit_key: Option<SecretRef>,
    /// A key with patient:erase, likewise; removes the patient again
    #[arg(long, env = "VITALOG_SMOKE_ERASE_KEY", value_name = "REF")]
    erase_key: Option<SecretRef>,
    /// The verifier key that compliance has been given; without it, the one that the gateway shows is used
    #[arg(long, env = "VITALOG_SMOKE_LEDGER_PUB", value_name = "VKEY")]
    ledger_pub: Option<String>,
    /// What must not be reached from here: `HOST:PORT`, `https://HOST` or `mongodb+srv://HOST`
    #[arg(long, value_name = "PLACE")]
    internal: Vec<String>,
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<ExitCode> {
    runtime::crypto::install_tls_provider();
    let arguments = Arguments::parse();
    let ledger_pub: Option<LedgerKey> =
        arguments.ledger_pub.map(|text| text.trim().parse()).transpose().context("--ledger-pub")?;
    let target = Target {
        gateway: arguments.gateway,
        key: loaded(arguments.key.as_ref())?,
        audit_key: loaded(arguments.audit_key.as_ref())?,
        erase_key: loaded(arguments.erase_key.as_ref())?,
        ledger_pub,
        internal: arguments.internal,
    };
    let (text, is_well) = report(&run(&target).await);
    print!("{text}");
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn loaded(reference: Option<&SecretRef>) -> anyhow::Result<Option<String>> {
    let text = |it: &SecretRef| anyhow::Ok(it.load()?.text()?.trim().to_owned());
    reference.map(text).transpose()
}
