//! `audit verify`.

use clap::Args;

use crate::output::{Failure, Outcome};

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {}

/// Says that it cannot tell: the engine is not in this branch.
#[allow(clippy::unused_async)]
pub(crate) async fn run(_args: VerifyArgs) -> Outcome {
    Err(Failure::CouldNotTell(anyhow::anyhow!("not built into this branch")))
}
