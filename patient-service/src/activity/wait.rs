//! Waiting until the follower has passed a record.

use std::time::Duration;

use domain::wire::Receipt;
use projections::documents::Generation;
use tokio::time::{Instant, sleep};

use crate::{error::Failure, state::App};

/// How long a request waits for the follower, which is mostly some tens of milliseconds behind.
const PATIENCE: Duration = Duration::from_secs(3);

/// The first pause between two looks; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause, so that an answer is not much later than it could be.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Waits until everything up to and including the record is in `activity`. Returns the generation
/// that has it: where another began to serve meanwhile, nobody moves the position of the one
/// before any more, and the new one is waited for and read.
pub(super) async fn until_followed(
    app: &App,
    mut generation: Generation,
    receipt: &Receipt,
) -> Result<Generation, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        let position = app.store.position(generation).await?;
        let next_seq = position.map_or(0, |position| position.next_seq);
        if next_seq > receipt.seq {
            return Ok(generation);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let receipt = Box::new(receipt.clone());
            return Err(Failure::FollowerBehind { receipt, next_seq });
        }
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // A pointer that is not known now is perhaps known before the deadline.
        generation = app.pointer().map_or(generation, |pointer| pointer.serving);
    }
}
