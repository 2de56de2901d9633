//! Commands of one stream take turns inside a process, so that they do not conflict with
//! each other; across processes the ledger decides.

use std::time::Duration;

use domain::ids::PatientId;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

/// Queues. With a thousand commands under way, few share one by chance; each takes 40 bytes.
const STRIPES: usize = 4_096;

/// How long a command waits for its turn before it gives up, having done nothing.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// The queues, by a part of the patient's id.
pub(crate) struct Streams {
    stripes: Box<[Mutex<()>]>,
}

/// A command's turn did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream's queue did not move in time")]
pub(crate) struct NoTurn;

impl Streams {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::new(())).collect() }
    }

    /// Waits, first come first served, until no other command of this patient is under way;
    /// the turn lasts until the guard is dropped.
    pub(crate) async fn turn(&self, patient: PatientId) -> Result<MutexGuard<'_, ()>, NoTurn> {
        let stripe = &self.stripes[stripe(patient)];
        timeout(TURN_TIMEOUT, stripe.lock()).await.map_err(|_| NoTurn)
    }
}

/// Ids are random, made here; their last bytes spread them evenly.
fn stripe(patient: PatientId) -> usize {
    let [.., high, low] = *patient.uuid().as_bytes();
    usize::from(u16::from_be_bytes([high, low])) % STRIPES
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_patient_waits_for_her_turn_and_another_does_not() {
        let streams = Streams::new();
        let one = "6f9619ff-8b86-d011-b42d-00cf4fc964ff".parse().unwrap();
        let other = "6f9619ff-8b86-d011-b42d-00cf4fc964fe".parse().unwrap();
        let turn = streams.turn(one).await.unwrap();
        assert!(streams.turn(other).await.is_ok());
        assert_eq!(streams.turn(one).await.map(|_| ()), Err(NoTurn));
        drop(turn);
        assert!(streams.turn(one).await.is_ok());
    }
}
