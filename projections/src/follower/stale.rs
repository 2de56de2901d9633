//! Commands need not write to a second generation for ever because its builder died.

use crate::{documents::Generation, error::FollowError, store::StoreError};

use super::session::Session;

impl Session<'_> {
    /// Takes a look at the other generation that commands write to. One whose office has shown
    /// no life for long enough is settled: its builder died before or after it moved the pointer.
    ///
    /// The follower takes that office first. A builder that was only slow finds itself replaced
    /// there and lets nothing serve that commands did not write to.
    pub(super) async fn settle_stale(
        &mut self,
        also: Option<Generation>,
    ) -> Result<(), FollowError> {
        let Some(also) = also else {
            self.also.reset();
            return Ok(());
        };
        let store = &self.deps.store;
        let office = store.office(also).await?;
        if self.also.look((also, office)) < self.options.settle_after {
            return Ok(());
        }
        let holder = self.office.holder.ok_or(StoreError::Fenced)?;
        let Some(taken) = store.take_office(also, office, holder).await? else { return Ok(()) };
        store.settle(also).await?;
        store.leave_office(also, &taken).await?;
        tracing::warn!(generation = also.0, "nobody builds a generation any more, it is settled");
        Ok(())
    }
}
