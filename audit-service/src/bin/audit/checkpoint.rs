//! `audit checkpoint`: signed checkpoints, fetched, shown, kept as trusted and compared.

mod compare;
mod fetch;
mod show;

use clap::{Args, Subcommand};
use runtime::hardening::{Insecure, Overrides};

use self::{compare::CompareArgs, fetch::FetchArgs, show::ShowArgs};
use crate::{cli::EXIT_CODES, output::Outcome};

/// Options of `checkpoint`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CheckpointArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    fetch: FetchArgs,
}

/// What else can be done with checkpoints.
#[derive(Debug, Subcommand)]
enum Action {
    /// Show what a checkpoint in a file says, and who signed it.
    #[command(after_help = EXIT_CODES)]
    Show(ShowArgs),
    /// Compare two checkpoints in files: the same, one contains the other, or a fork.
    #[command(after_help = EXIT_CODES)]
    Compare(CompareArgs),
}

impl CheckpointArgs {
    /// Looks whether the settings are secure.
    pub(crate) fn harden(&self, over: &Overrides) -> Result<(), Insecure> {
        match &self.action {
            Some(Action::Show(_)) => Ok(()),
            Some(Action::Compare(args)) => args.harden(over),
            None => self.fetch.harden(over),
        }
    }
}

/// Does what was asked for.
pub(crate) async fn run(args: CheckpointArgs) -> Outcome {
    match args.action {
        Some(Action::Show(args)) => show::run(&args),
        Some(Action::Compare(args)) => compare::run(args).await,
        None => fetch::run(args.fetch).await,
    }
}
