//! Which documents two generations do not agree on, though both may be written to meanwhile.

use std::time::Duration;

use domain::ids::{PatientId, TestId};
use serde::Serialize;

use crate::{
    digest::{Difference, Document, MAX_DIFFERENCES, compare, compare_activity, compare_one},
    documents::Generation,
    store::{ProjectionStore, ReadModels, StoreError},
};

/// Looks at a document that is at another version in each generation, before that counts as a
/// difference. With the pauses in between far longer than a command or a follower needs.
const MAX_LOOKS: u32 = 100;

/// Comparisons of everything at most, where one found so many documents on their way that it
/// did not come to an end.
const MAX_COMPARISONS: u32 = 5;

/// Which read model a document is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// A patient.
    Patient,
    /// A test.
    Test,
    /// The entry of an erasure.
    Erasure,
    /// The activity of one record.
    Activity,
}

/// A document that differs. Never shows its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Differing {
    /// What it is.
    pub kind: Kind,
    /// The patient; `None` of activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patient: Option<PatientId>,
    /// The record, if it is activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The test, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<TestId>,
    /// Its version in the generation that serves, 0 of an erasure or activity;
    /// `None` where it is missing.
    pub serving: Option<u64>,
    /// Its version in the other generation; `None` where it is missing.
    pub built: Option<u64>,
}

impl From<Difference> for Differing {
    fn from(difference: Difference) -> Self {
        let Difference { document, first: serving, second: built } = difference;
        let (kind, patient, seq, test) = match document {
            Document::Patient(patient) => (Kind::Patient, Some(patient), None, None),
            Document::Test(patient, test) => (Kind::Test, Some(patient), None, Some(test)),
            Document::Erasure(patient) => (Kind::Erasure, Some(patient), None, None),
            Document::Activity(seq) => (Kind::Activity, None, Some(seq), None),
        };
        Self { kind, patient, seq, test, serving, built }
    }
}

/// Compares document by document at equal version, at most [`MAX_DIFFERENCES`] of which are
/// named: those that are only ahead are looked at again, with a `pause` between, until they are
/// equal, differ at the same version, or have stayed apart for too long. Of activity, which
/// comes from the ledger alone, what both generations have followed is compared.
pub async fn differing(
    store: &dyn ProjectionStore,
    serving: Generation,
    built: Generation,
    pause: Duration,
) -> Result<Vec<Differing>, StoreError> {
    let up_to = followed(store, serving).await?.min(followed(store, built).await?);
    let mut settled = Vec::new();
    for _ in 0..MAX_COMPARISONS {
        let found = compare(store, serving, built).await?;
        let whole = found.len() < MAX_DIFFERENCES;
        settled = settle(store, serving, built, found, pause).await?;
        if whole || settled.len() >= MAX_DIFFERENCES {
            break;
        }
    }
    let left = MAX_DIFFERENCES.saturating_sub(settled.len());
    settled.extend(compare_activity(store, serving, built, up_to, left).await?);
    Ok(settled.into_iter().map(Differing::from).collect())
}

async fn followed(store: &dyn ProjectionStore, generation: Generation) -> Result<u64, StoreError> {
    Ok(store.position(generation).await?.map_or(0, |position| position.next_seq))
}

async fn settle(
    store: &dyn ReadModels,
    serving: Generation,
    built: Generation,
    found: Vec<Difference>,
    pause: Duration,
) -> Result<Vec<Difference>, StoreError> {
    let (mut ahead, mut settled): (Vec<_>, Vec<_>) = found.into_iter().partition(is_ahead);
    for _ in 0..MAX_LOOKS {
        if ahead.is_empty() {
            break;
        }
        tokio::time::sleep(pause).await;
        let mut still = Vec::with_capacity(ahead.len());
        for Difference { document, .. } in ahead {
            match compare_one(store, serving, built, document).await? {
                Some(difference) if is_ahead(&difference) => still.push(difference),
                difference => settled.extend(difference),
            }
        }
        ahead = still;
    }
    settled.extend(ahead);
    Ok(settled)
}

fn is_ahead(difference: &Difference) -> bool {
    difference.first != difference.second
}
