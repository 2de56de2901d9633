//! `audit`: what compliance staff do with a ledger, from a command line.
//!
//! In scope: exporting and verifying a ledger, proofs of single records, checkpoints that are
//! kept as trusted. Works over HTTP, without patient data and without trusting who serves it.
//!
//! Out of scope: the rules of what is intact (`audit_verify`, `domain`).

mod cli;
mod output;
mod progress;

mod evidence;
mod pin;
mod source;

mod check;
mod checkpoint;
mod export;
mod prove;
mod verify;

use std::process::ExitCode;

use cli::Cli;
use runtime::{crypto, settings};

#[tokio::main]
async fn main() -> ExitCode {
    let cli: Cli = settings::parse();
    crypto::install_tls_provider();
    let name = cli.command.name();
    let result = cli.command.run(&cli.overrides).await;
    output::print(cli.json, name, result)
}
