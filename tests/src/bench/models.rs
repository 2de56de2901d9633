//! Read models of a size: filled as a rebuild writes them, and read by id.

use std::time::Instant;

use anyhow::{Context, ensure};
use projections::{change::StreamChange, documents::Generation, store::ProjectionStore};
use rand::Rng;

use super::{
    growth::{Round, Times, figures},
    lives::{self, Lives},
};

/// Patients of one write.
const BATCH: u64 = 200;

/// Writes patients `from..to` of [`Lives`], with their tests and the activity of their records.
pub async fn fill(
    store: &dyn ProjectionStore,
    generation: Generation,
    lives: &Lives,
    from: u64,
    to: u64,
) -> anyhow::Result<()> {
    for first in (from..to).step_by(usize::try_from(BATCH)?) {
        let (mut changes, mut activity) = (Vec::new(), Vec::new());
        for number in first..to.min(first + BATCH) {
            let kid = Some(lives::key_of(number));
            let change = StreamChange::fold(lives::patient(number), kid, &lives.events(number));
            changes.push(change.context("events with content")?);
            activity.extend(lives.activity(number)?);
        }
        store.apply(generation, &changes).await?;
        activity.sort_by_key(|document| document.seq);
        store.write_activity(generation, &activity).await?;
    }
    Ok(())
}

/// One round of reads of random ones of so many patients.
pub async fn round(
    store: &dyn ProjectionStore,
    generation: Generation,
    patients: u64,
    samples: usize,
) -> anyhow::Result<Round> {
    let mut times = Times::new();
    for _ in 0..samples {
        let id = lives::patient(rand::rng().random_range(0..patients));
        let begun = Instant::now();
        ensure!(store.patient(generation, id).await?.is_some(), "a patient");
        times.entry("read models: a patient by id").or_default().push(begun.elapsed());
        let begun = Instant::now();
        ensure!(store.tests(generation, id).await?.len() == 2, "two tests");
        times.entry("read models: a patient's tests").or_default().push(begun.elapsed());
    }
    Ok(times.into_iter().map(|(kind, times)| (kind, figures(times))).collect())
}
