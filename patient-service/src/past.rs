//! What a patient's stream in the ledger shows, and when it may leave.
//!
//! As with every read, the access is recorded first, and its acknowledgement says how far the
//! stream has come. What came since is read as well: only an erasure, or what belongs to the
//! answer, changes anything. So nothing of an erased patient leaves, whatever was read before.

use domain::{
    actor::Outcome,
    ids::PatientId,
    wire::{Proposal, Receipt},
};
use projections::history::{Reader, Reading};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{caller::Requester, error::Failure, state::App};

/// Accesses recorded for one request at most; before every one but the last, the stream had
/// changed in what is shown.
const MAX_ACCESSES: u32 = 8;

/// Requests that read whole streams at once. Each may hold what
/// [`MAX_BYTES`](projections::history::MAX_BYTES) allow; others wait for their turn.
const MAX_AT_ONCE: usize = 16;

/// Requests that wait for their turn. What is beyond is answered 503 at once, so that a ledger
/// that is slow does not let pasts take the places of all other requests.
const MAX_WAITING: usize = 48;

/// Who reads whole streams, and who waits for that.
pub(crate) struct Turns {
    turns: Semaphore,
    places: Semaphore,
}

/// Dropped, it is another's turn.
pub(crate) struct Turn<'a> {
    _place: SemaphorePermit<'a>,
    _turn: SemaphorePermit<'a>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let places = Semaphore::new(MAX_AT_ONCE + MAX_WAITING);
        Self { turns: Semaphore::new(MAX_AT_ONCE), places }
    }

    /// Waits for a turn, where not too many do.
    pub(crate) async fn take(&self) -> Result<Turn<'_>, Failure> {
        let place = self.places.try_acquire().map_err(|_| Failure::TooManyPasts)?;
        // Nobody closes it.
        let turn = self.turns.acquire().await.map_err(|_| Failure::TooManyPasts)?;
        Ok(Turn { _place: place, _turn: turn })
    }
}

/// Something made of a patient's stream, to be shown.
pub(crate) trait Past: Reading {
    /// Version of the last event that counted; 0 before the first.
    fn shown(&self) -> u64;

    /// The record of the access to what is shown now.
    fn access(&self, requester: &Requester) -> Proposal;
}

/// Reads a patient's stream into `past` and records the access. With the receipt, what is shown
/// may leave; gives the stream's version too.
pub(crate) async fn read(
    app: &App,
    patient: PatientId,
    past: &mut (impl Past + Send),
    requester: &Requester,
) -> Result<(Receipt, u64), Failure> {
    let mut reader = Reader::new(app.audit.clone(), app.ring.clone(), patient);
    reader.read_on(past).await?;
    for _ in 0..MAX_ACCESSES {
        let shown = past.shown();
        let mut access = past.access(requester);
        if reader.is_erased() {
            access.outcome = Outcome::NotFound;
            access.version = Some(reader.version());
        }
        let receipt = app.audit.append(access).await.map_err(Failure::of_access)?;
        if reader.is_erased() {
            return Err(Failure::PatientErased(Box::new(receipt)));
        }
        let current = receipt.current_version.unwrap_or(0);
        if reader.version() < current {
            reader.read_on(past).await?;
        }
        let settled = reader.version() >= current && !reader.is_erased();
        if settled && past.shown() == shown {
            return Ok((receipt, reader.version()));
        }
    }
    Err(Failure::StillChanging)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use projections::history::HistoryError;
    use runtime::problem::Problem;

    use super::*;

    #[test]
    fn a_past_that_is_too_long_is_refused_with_the_bounds() {
        let problem = Problem::from(Failure::History(HistoryError::TooLong));
        assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem.detail().contains("20000"), "{}", problem.detail());
    }
}
