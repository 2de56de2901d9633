//! Comparing builds of the read models by what they say, never by how a store holds it.
//!
//! Pages are read one after another without a snapshot: of a store that is written to
//! meanwhile, the result is of no single moment. Documents that differ are named with their
//! versions, so that a caller can look again at those that were only ahead.

mod activity;
mod line;

use std::{cmp::Ordering, collections::VecDeque};

use aws_lc_rs::digest::{Context, SHA256};
use domain::{
    hash::Hash,
    ids::{PatientId, TestId},
};
use uuid::Uuid;

pub use self::activity::{ActivityDigest, activity_digest, compare_activity};
use self::line::Entry;
use crate::{
    documents::{ActivityFilter, Generation},
    store::{ReadModels, StoreError},
};

/// Documents read at once; tests are at most some fifty kilobytes each.
const PAGE: usize = 200;

/// Differences named at most: whoever has that many does not repair them one by one.
pub const MAX_DIFFERENCES: usize = 1_000;

/// One hash over a generation but for its activity, which has an [`ActivityDigest`] of its own,
/// and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// SHA-256 over one line of canonical JSON (RFC 8785) for each document, each ended by a
    /// line feed: patients by id, then tests by id, then erasures by patient.
    pub hash: Hash,
    /// Patients, tombstones included.
    pub patients: u64,
    /// Tests, tombstones included.
    pub tests: u64,
    /// Erasures.
    pub erasures: u64,
}

/// A document of the read models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Document {
    /// A patient.
    Patient(PatientId),
    /// A test, and whose it is.
    Test(PatientId, TestId),
    /// The entry of a patient's erasure.
    Erasure(PatientId),
    /// The activity of the record with this `seq`.
    Activity(u64),
}

/// A document that two generations do not agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub document: Document,
    /// Its version in the first generation, 0 of an erasure or activity; `None` where it is missing.
    pub first: Option<u64>,
    /// Its version in the second generation, 0 of an erasure or activity; `None` where it is missing.
    pub second: Option<u64>,
}

/// The digest of one generation.
pub async fn digest(store: &dyn ReadModels, generation: Generation) -> Result<Digest, StoreError> {
    let mut context = Context::new(&SHA256);
    let mut counts = [0, 0, 0];
    for (kind, count) in KINDS.into_iter().zip(&mut counts) {
        *count = Scan::new(store, generation, kind).add_to(&mut context).await?;
    }
    let [patients, tests, erasures] = counts;
    Ok(Digest { hash: finish(context), patients, tests, erasures })
}

fn finish(context: Context) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Hash(hash)
}

/// The documents but for activity that differ between two generations, at most
/// [`MAX_DIFFERENCES`].
pub async fn compare(
    store: &dyn ReadModels,
    first: Generation,
    second: Generation,
) -> Result<Vec<Difference>, StoreError> {
    let mut differences = Vec::new();
    for kind in KINDS {
        let (left, right) = (Scan::new(store, first, kind), Scan::new(store, second, kind));
        compare_scans(left, right, MAX_DIFFERENCES, &mut differences).await?;
    }
    Ok(differences)
}

async fn compare_scans(
    mut left: Scan<'_>,
    mut right: Scan<'_>,
    limit: usize,
    differences: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    while differences.len() < limit {
        let order = match (left.peek().await?, right.peek().await?) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.id.cmp(&right.id),
        };
        let first = if order.is_le() { left.next().await? } else { None };
        let second = if order.is_ge() { right.next().await? } else { None };
        differences.extend(difference(first.as_ref(), second.as_ref()));
    }
    Ok(())
}

/// As [`compare`] and [`compare_activity`], of one document.
pub async fn compare_one(
    store: &dyn ReadModels,
    first: Generation,
    second: Generation,
    document: Document,
) -> Result<Option<Difference>, StoreError> {
    let read = async |generation| {
        Ok::<_, StoreError>(match document {
            Document::Patient(id) => store.patient(generation, id).await?.as_ref().map(Entry::from),
            Document::Test(patient, id) => {
                store.test(generation, patient, id).await?.as_ref().map(Entry::from)
            }
            Document::Erasure(patient) => {
                let before = patient.uuid().as_u128().checked_sub(1).map(Uuid::from_u128);
                let next = store.erasures(generation, before.map(PatientId::new), 1).await?;
                next.first().filter(|erasure| erasure.patient == patient).map(Entry::from)
            }
            Document::Activity(seq) => activity::entry(store, generation, seq).await?,
        })
    };
    Ok(difference(read(first).await?.as_ref(), read(second).await?.as_ref()))
}

fn difference(first: Option<&Entry>, second: Option<&Entry>) -> Option<Difference> {
    let document = first.or(second)?.document;
    if first.map(|it| &it.line) == second.map(|it| &it.line) {
        return None;
    }
    let (first, second) = (first.map(|it| it.version), second.map(|it| it.version));
    Some(Difference { document, first, second })
}

#[derive(Clone, Copy)]
enum Kind {
    Patients,
    Tests,
    Erasures,
    /// Newest first.
    Activity {
        up_to: u64,
    },
}

const KINDS: [Kind; 3] = [Kind::Patients, Kind::Tests, Kind::Erasures];

/// All documents of one kind, page by page.
struct Scan<'a> {
    store: &'a dyn ReadModels,
    generation: Generation,
    kind: Kind,
    page: VecDeque<Entry>,
    last: Option<Uuid>,
    ended: bool,
}

impl<'a> Scan<'a> {
    fn new(store: &'a dyn ReadModels, generation: Generation, kind: Kind) -> Self {
        Self { store, generation, kind, page: VecDeque::new(), last: None, ended: false }
    }

    async fn peek(&mut self) -> Result<Option<&Entry>, StoreError> {
        if self.page.is_empty() && !self.ended {
            self.page = self.read().await?;
            match self.page.back() {
                Some(entry) => self.last = Some(entry.id),
                None => self.ended = true,
            }
        }
        Ok(self.page.front())
    }

    /// Adds all lines, and returns how many.
    async fn add_to(mut self, context: &mut Context) -> Result<u64, StoreError> {
        let mut count = 0;
        while let Some(entry) = self.next().await? {
            context.update(entry.line.as_bytes());
            context.update(b"\n");
            count += 1;
        }
        Ok(count)
    }

    async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        self.peek().await?;
        Ok(self.page.pop_front())
    }

    async fn read(&self) -> Result<VecDeque<Entry>, StoreError> {
        let (store, generation) = (self.store, self.generation);
        Ok(match self.kind {
            Kind::Patients => {
                let after = self.last.map(PatientId::new);
                let page = store.scan_patients(generation, after, PAGE).await?;
                page.iter().map(Entry::from).collect()
            }
            Kind::Tests => {
                let after = self.last.map(TestId::new);
                let page = store.scan_tests(generation, after, PAGE).await?;
                page.iter().map(Entry::from).collect()
            }
            Kind::Erasures => {
                let after = self.last.map(PatientId::new);
                let page = store.erasures(generation, after, PAGE).await?;
                page.iter().map(Entry::from).collect()
            }
            Kind::Activity { up_to } => {
                let before = self.last.map_or(up_to, activity::seq);
                let page = store
                    .activity(generation, &ActivityFilter::default(), Some(before), PAGE)
                    .await?;
                page.documents.iter().map(Entry::from).collect()
            }
        })
    }
}
