//! Letting a generation serve, so that no reader and no writer finds a gap.
//!
//! Commands are told of the new generation first and write to both. When all of them know, what
//! was appended before is brought in from the ledger, and from then on the new generation lacks
//! nothing. Then the pointer is moved; commands go on writing to both until no process goes by
//! the old pointer.

use std::time::Duration;

use super::{Build, is_cut, note::Stage};
use crate::{
    backoff::persist,
    compare::{Differing, differing},
    digest::{Digest, digest},
    documents::{Generation, Pointer},
    error::RebuildError,
    follower::Deps,
};

impl Build<'_> {
    /// Lets commands write to the generation, and waits until it lacks nothing.
    pub(crate) async fn join(&mut self) -> Result<(), RebuildError> {
        let Deps { store, .. } = self.deps;
        // Before the first command writes: cursors may be ahead of this build from now on.
        self.note.ahead_below = u64::MAX;
        self.save().await?;
        persist("letting commands write", || store.join(self.generation)).await?;
        let pause = self.pace.joined;
        let (generation, seconds) = (self.generation.0, pause.as_secs());
        tracing::info!(generation, seconds, "waiting until all commands write to it");
        self.following(wait(pause)).await?;
        self.catch_up_once().await?;
        Ok(())
    }

    /// Compares with another generation and names in the log what differs.
    pub(crate) async fn compare(
        &mut self,
        serving: Generation,
    ) -> Result<Vec<Differing>, RebuildError> {
        let Deps { store, .. } = self.deps;
        let (generation, pause) = (self.generation, self.pace.look);
        let compared = async {
            let comparing = || differing(store.as_ref(), serving, generation, pause);
            Ok(persist("comparing generations", comparing).await?)
        };
        let differences = self.following(compared).await?;
        for Differing { kind, patient, seq, test, serving, built } in &differences {
            let patient = patient.map(|patient| patient.to_string());
            let test = test.map(|test| test.to_string());
            tracing::warn!(?kind, patient, seq, test, serving, built, "a document differs");
        }
        if is_cut(&differences) {
            tracing::warn!(named = differences.len(), "comparing stopped here; more may differ");
        }
        Ok(differences)
    }

    /// Moves the pointer, where commands write to this generation and to the one that serves.
    pub(crate) async fn activate(&mut self, serving: Generation) -> Result<(), RebuildError> {
        let Deps { store, .. } = self.deps;
        let (before, generation) = (self.note.stage, self.generation);
        if before == Stage::Building {
            self.note.stage = Stage::Ready;
        }
        self.save().await?;
        let joined = Pointer { serving, also: Some(generation) };
        let moving = || store.activate(generation, joined);
        if !persist("letting the generation serve", moving).await? {
            // The next one goes on with it.
            self.note.stage = before;
            self.save().await?;
            return Err(RebuildError::Pointer);
        }
        let (generation, seconds) = (self.generation.0, self.pace.settled.as_secs());
        tracing::info!(generation, seconds, "serving; waiting until nobody reads the old one");
        Ok(())
    }

    /// Waits until nobody reads the generation that served before, and lets commands leave it.
    /// Returns the digest of this one.
    pub(crate) async fn settle(&mut self, before: Generation) -> Result<Digest, RebuildError> {
        let Deps { store, .. } = self.deps;
        let (generation, pause) = (self.generation, self.pace.settled);
        let settled = async {
            tokio::time::sleep(pause).await;
            persist("letting commands leave the old generation", || store.settle(before)).await?;
            let reading = || digest(store.as_ref(), generation);
            Ok(persist("reading for the digest", reading).await?)
        };
        let digest = self.following(settled).await?;
        self.note.stage = Stage::Served;
        self.save().await?;
        Ok(digest)
    }
}

async fn wait(pause: Duration) -> Result<(), RebuildError> {
    tokio::time::sleep(pause).await;
    Ok(())
}
