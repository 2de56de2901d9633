//! `park list` and `park retry`.

use std::time::Duration;

use projections::{
    config::{ParkCommand, ParkRetryArgs},
    open::open_projection_store,
    park,
};

use super::show;

pub(crate) async fn park(command: ParkCommand) -> anyhow::Result<()> {
    match command {
        ParkCommand::List(args) => {
            let store = open_projection_store(&args.store, &args.database_prefix).await?;
            park::list(store.as_ref()).await?.iter().try_for_each(show)
        }
        ParkCommand::Retry(args) => retry(args).await,
    }
}

async fn retry(ParkRetryArgs { patients, wait, store: args }: ParkRetryArgs) -> anyhow::Result<()> {
    let store = open_projection_store(&args.store, &args.database_prefix).await?;
    let retried = park::retry(store.as_ref(), &patients, Duration::from_secs(wait)).await?;
    retried.iter().try_for_each(show)?;
    let left = retried.iter().filter(|stream| !stream.outcome.is_good()).count();
    anyhow::ensure!(left == 0, "streams that are not followed: {left}");
    Ok(())
}
