//! `park list` and `park retry`.

use std::{process::ExitCode, time::Duration};

use projections::{
    config::{ParkCommand, ParkRetryArgs},
    open::inspect_projection_store,
    park,
};

use super::show;

/// Exit code 1 where streams that were to be tried again are not followed.
pub(crate) async fn park(command: ParkCommand) -> anyhow::Result<ExitCode> {
    match command {
        ParkCommand::List(args) => {
            let store = inspect_projection_store(&args.store, &args.database_prefix).await?;
            park::list(store.as_ref()).await?.iter().try_for_each(show)?;
            Ok(ExitCode::SUCCESS)
        }
        ParkCommand::Retry(args) => retry(args).await,
    }
}

async fn retry(
    ParkRetryArgs { patients, wait, store: args }: ParkRetryArgs,
) -> anyhow::Result<ExitCode> {
    let store = inspect_projection_store(&args.store, &args.database_prefix).await?;
    let retried = park::retry(store.as_ref(), &patients, Duration::from_secs(wait)).await?;
    retried.iter().try_for_each(show)?;
    let all_good = retried.iter().all(|stream| stream.outcome.is_good());
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
