//! The patient and her tests as the ledger had them at an earlier moment.

use std::mem;

use domain::{event::Recorded, patient::Patient, record::Record, wire::Proposal};
use projections::history::Reading;
use tokio::time::timeout;

use crate::{
    answer::Answer,
    as_of::AsOf,
    caller::Requester,
    conditions::Condition,
    error::Failure,
    past::{self, Past},
    reads::{READ_TIMEOUT, Target},
    state::App,
};

/// Reads from the ledger alone, and answers as a read of the present does.
pub(crate) async fn run(
    app: &App,
    target: Target,
    as_of: AsOf,
    requester: &Requester,
    if_none_match: Option<&Condition>,
) -> Result<Answer, Failure> {
    let read = async {
        let _turn = app.past.take().await?;
        as_of.check(app).await?;
        let mut then = Then { target, as_of, state: Patient::default(), seq: 0 };
        let (receipt, _) = past::read(app, target.patient(), &mut then, requester).await?;
        let Then { state, seq, .. } = then;
        let version = state.version;
        match target.find(state) {
            Ok(found) => Ok(found.answer(&receipt, if_none_match).up_to(seq, version)),
            Err(missing) => Err(Failure::NotFound(missing, Some(Box::new(receipt)))),
        }
    };
    timeout(READ_TIMEOUT, read).await.unwrap_or(Err(Failure::ReadTimedOut))
}

/// The state at a moment, as far as the target needs it.
struct Then {
    target: Target,
    as_of: AsOf,
    state: Patient,
    /// Position of the last event that counted.
    seq: u64,
}

impl Reading for Then {
    fn wants(&self, record: &Record) -> bool {
        self.as_of.includes(record)
    }

    fn take(&mut self, record: &Record, _: &str, recorded: Recorded) {
        self.seq = record.seq;
        if recorded.event.test().is_none_or(|test| self.target.needs(test)) {
            self.state = mem::take(&mut self.state).evolve(&recorded);
        }
        self.state.version = recorded.version;
    }
}

impl Past for Then {
    fn shown(&self) -> u64 {
        self.state.version
    }

    fn access(&self, requester: &Requester) -> Proposal {
        let found = self.target.missing(&self.state).is_none();
        self.target.access(requester, self.state.version, found)
    }
}
