//! The command line: what can be asked for.

use audit_service::witness::args::WitnessArgs;
use clap::{Parser, Subcommand};
use runtime::{
    hardening::{Insecure, Overrides},
    shutdown, telemetry,
};

use crate::{
    check::{self, CheckArgs},
    checkpoint::{self, CheckpointArgs},
    export::{self, ExportArgs},
    output::{Outcome, Report},
    prove::{self, ProveArgs},
    verify::{self, VerifyArgs},
};

/// What exit codes mean, at the end of every help.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  intact: everything that was asked for was checked and is right, or was done
  1  tampered: something was changed, removed, inserted, reordered or cut off
  2  could not tell: wrong usage, or something cannot be reached or read

Results are written to standard output, everything else to standard error.";

/// Prove a ledger intact: verify, export, prove single records, keep checkpoints.
#[derive(Debug, Parser)]
#[command(name = "audit", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Print the result as one JSON object.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to accept though it is insecure.
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verify a whole ledger.
    #[command(after_help = EXIT_CODES)]
    Verify(Box<VerifyArgs>),
    /// Write a ledger's records to a file, exactly as they are, one a line; goes on where an
    /// earlier run was broken off.
    #[command(after_help = EXIT_CODES)]
    Export(Box<ExportArgs>),
    /// Fetch the proof that one record is in the ledger, and check it.
    #[command(after_help = EXIT_CODES)]
    Prove(Box<ProveArgs>),
    /// Check a proof of one record. Needs no network.
    #[command(after_help = EXIT_CODES)]
    Check(Box<CheckArgs>),
    /// Fetch, show, keep and compare signed checkpoints.
    #[command(after_help = EXIT_CODES)]
    Checkpoint(Box<CheckpointArgs>),
    /// Watch ledgers: cosign each checkpoint that extends the one before (C2SP tlog-witness).
    Witness(Box<WitnessArgs>),
}

impl Command {
    /// The command's name, as it is typed.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Verify(_) => "verify",
            Self::Export(_) => "export",
            Self::Prove(_) => "prove",
            Self::Check(_) => "check",
            Self::Checkpoint(_) => "checkpoint",
            Self::Witness(_) => "witness",
        }
    }

    /// Looks whether the settings are secure.
    fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        match self {
            Self::Verify(args) => args.harden(over),
            Self::Export(args) => args.harden(over),
            Self::Prove(args) => args.harden(over),
            Self::Check(_) => Ok(()),
            Self::Checkpoint(args) => args.harden(over),
            Self::Witness(args) => args.harden(over),
        }
    }

    /// Does it. Logs say on standard error what is accepted though it is insecure.
    pub(crate) async fn run(self, over: &Overrides) -> Outcome {
        telemetry::logs(if matches!(self, Self::Witness(_)) { "audit-witness" } else { "audit" });
        self.harden(over).map_err(anyhow::Error::from)?;
        match self {
            Self::Verify(args) => verify::run(*args).await,
            Self::Export(args) => export::run(*args).await,
            Self::Prove(args) => prove::run(*args).await,
            Self::Check(args) => check::run(&args),
            Self::Checkpoint(args) => checkpoint::run(*args).await,
            Self::Witness(args) => witness(*args).await,
        }
    }
}

/// A witness runs until it is told to stop, and says on standard error what it sees.
async fn witness(args: WitnessArgs) -> Outcome {
    args.run(shutdown::on_signals()).await.map_err(anyhow::Error::from)?;
    Ok(Report::nothing())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
