//! What is asked for, and reading a page of it in bounded pieces.

use domain::{actor::Outcome, record::RecordType};
use projections::{
    documents::{ActivityFilter, ActivityPage, Generation},
    store::{ReadModels, StoreError},
};

use super::parameters::{Parameters, instant, limit, seq};
use crate::error::Failure;

/// Documents read at once. A search may name a thousand patients, so a page is read in pieces.
const PIECE: usize = 100;

/// Pieces of a page at most, whatever they hold; the page is short then, and not the last.
const MAX_PIECES: usize = 20;

/// Patients named in a page at most, but for one record alone: they make most of its size.
const MAX_PATIENTS: usize = 20_000;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) filter: ActivityFilter,
    /// The filter's patient is shown without those who were concerned together with her.
    pub(crate) alone: bool,
    /// Only these types, besides the filter's; `None` is any.
    pub(crate) types: Option<Vec<RecordType>>,
    /// Records of the page at most.
    pub(crate) limit: usize,
    /// Only records before this one.
    pub(crate) before: Option<u64>,
}

impl Query {
    /// Takes every parameter but `patient`.
    pub(crate) fn of_all_but_patient(parameters: &mut Parameters) -> Result<Self, Failure> {
        const TIME: &str = "must be an RFC 3339 date-time such as 2026-11-23T08:15:30Z, with a + \
                            sent as %2B";
        const NAME: &str = "must match [A-Za-z0-9._-]{1,64}";
        let purpose = format!("{}", domain::actor::UnknownPurpose);
        let outcome = format!("must be one of {}", words(Outcome::ALL, Outcome::as_str));
        let types = format!("must be one of {}", words(RecordType::ALL, RecordType::as_str));
        let filter = ActivityFilter {
            patient: None,
            actor: parameters.one("actor", NAME, |text| text.parse().ok())?,
            record_type: parameters.one("type", &types, |text| text.parse().ok())?,
            purpose: parameters.one("purpose", &purpose, |text| text.parse().ok())?,
            outcome: parameters.one("outcome", &outcome, |text| text.parse().ok())?,
            from: parameters.one("from", TIME, instant)?,
            until: parameters.one("until", TIME, instant)?,
        };
        let (limit, before) = (limit(parameters, "limit")?, seq(parameters)?);
        Ok(Self { filter, alone: false, types: None, limit, before })
    }

    fn fits(&self, record_type: RecordType) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&record_type))
    }
}

fn words<T: Copy>(all: &[T], word: fn(T) -> &'static str) -> String {
    all.iter().map(|it| word(*it)).collect::<Vec<_>>().join(", ")
}

/// Reads a page, newest first. It may be short, even empty, and not the last.
pub(super) async fn read(
    store: &(impl ReadModels + ?Sized),
    generation: Generation,
    query: &Query,
) -> Result<ActivityPage, StoreError> {
    let mut documents = Vec::new();
    if query.types.as_ref().is_some_and(Vec::is_empty) {
        return Ok(ActivityPage { documents, next: None });
    }
    let mut patients = 0;
    let mut before = query.before;
    for _ in 0..MAX_PIECES {
        let missing = query.limit - documents.len();
        // Where types are picked here, nobody knows how many records it takes.
        let wanted = if query.types.is_some() { PIECE } else { missing.min(PIECE) };
        let piece = store.activity(generation, &query.filter, before, wanted).await?;
        for mut document in piece.documents {
            let seq = document.seq;
            if query.alone {
                document.patients.retain(|it| Some(*it) == query.filter.patient);
            }
            if query.fits(document.record_type) {
                patients += document.patients.len();
                let full = patients > MAX_PATIENTS && !documents.is_empty();
                if full || documents.len() == query.limit {
                    return Ok(ActivityPage { documents, next: before });
                }
                documents.push(document);
            }
            before = Some(seq);
        }
        let Some(next) = piece.next else {
            return Ok(ActivityPage { documents, next: None });
        };
        before = Some(next);
        if documents.len() >= query.limit {
            break;
        }
    }
    Ok(ActivityPage { documents, next: before })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use domain::{
        actor::{Actor, ActorKind, Purpose},
        ids::PatientId,
        record::MAX_SUBJECTS,
        time::Timestamp,
    };
    use projections::{
        documents::ActivityDoc,
        store::{Generations, WriteModels, memory::MemoryStore},
    };
    use uuid::Uuid;

    fn document(seq: u64, record_type: RecordType, patients: usize) -> ActivityDoc {
        let name = || "clinic".parse().unwrap();
        ActivityDoc {
            seq,
            at: Timestamp::from_millis(0),
            record_type,
            outcome: Outcome::Success,
            purpose: Purpose::Treatment,
            actor: Actor { id: name(), kind: ActorKind::Subscription, roles: Vec::new() },
            source: name(),
            client: None,
            trace: None,
            test: None,
            patients: vec![PatientId::new(Uuid::nil()); patients],
        }
    }

    async fn store(documents: &[ActivityDoc]) -> (MemoryStore, Generation) {
        let store = MemoryStore::default();
        let generation = store.serving().await.unwrap();
        store.write_activity(generation, documents).await.unwrap();
        (store, generation)
    }

    /// Reads all pages; gives the seqs, newest first, and how many records each page had.
    async fn pages(documents: &[ActivityDoc], query: Query) -> (Vec<u64>, Vec<usize>) {
        let (store, generation) = store(documents).await;
        let (mut seqs, mut sizes, mut query) = (Vec::new(), Vec::new(), query);
        loop {
            let page = read(&store, generation, &query).await.unwrap();
            sizes.push(page.documents.len());
            seqs.extend(page.documents.iter().map(|document| document.seq));
            let Some(next) = page.next else { return (seqs, sizes) };
            assert!(query.before.is_none_or(|before| next < before), "it goes on");
            query.before = Some(next);
        }
    }

    #[tokio::test]
    async fn a_page_of_searches_that_showed_thousands_is_cut() {
        let documents: Vec<_> =
            (0..50).map(|seq| document(seq, RecordType::PatientsSearched, MAX_SUBJECTS)).collect();
        let query = Query { limit: 1_000, ..Query::default() };
        let (seqs, sizes) = pages(&documents, query).await;
        assert_eq!(seqs, (0..50).rev().collect::<Vec<_>>());
        assert_eq!(sizes, [20, 20, 10]);
    }

    #[tokio::test]
    async fn one_patient_is_shown_alone_and_her_page_is_whole() {
        let one = PatientId::new(Uuid::max());
        let documents: Vec<_> = (0..50)
            .map(|seq| {
                let mut document = document(seq, RecordType::PatientsSearched, MAX_SUBJECTS - 1);
                document.patients.push(one);
                document
            })
            .collect();
        let (store, generation) = store(&documents).await;
        let filter = ActivityFilter { patient: Some(one), ..ActivityFilter::default() };
        let query = Query { filter, alone: true, limit: 1_000, ..Query::default() };
        let page = read(&store, generation, &query).await.unwrap();
        assert_eq!((page.documents.len(), page.next), (50, None));
        assert!(page.documents.iter().all(|document| document.patients == [one]));
    }

    #[tokio::test]
    async fn types_are_picked_from_a_bounded_number_of_records() {
        let rare = |seq: u64| seq.is_multiple_of(1_000);
        let documents: Vec<_> = (0..5_000)
            .map(|seq| {
                let other = RecordType::PatientRead;
                document(seq, if rare(seq) { RecordType::TestRead } else { other }, 1)
            })
            .collect();
        let types = Some(vec![RecordType::TestRead, RecordType::TestsListed]);
        let (seqs, sizes) = pages(&documents, Query { types, limit: 3, ..Query::default() }).await;
        assert_eq!(seqs, [4_000, 3_000, 2_000, 1_000, 0]);
        assert_eq!(sizes, [2, 2, 1]);
    }

    #[tokio::test]
    async fn where_no_type_fits_nothing_is_read() {
        let documents = [document(0, RecordType::PatientRead, 1)];
        let query = Query { types: Some(Vec::new()), limit: 2, ..Query::default() };
        assert_eq!(pages(&documents, query).await, (vec![], vec![0]));
    }

    #[tokio::test]
    async fn a_page_has_as_many_records_as_were_asked_for() {
        let documents: Vec<_> =
            (0..250).map(|seq| document(seq, RecordType::PatientRead, 1)).collect();
        let query = Query { limit: 120, ..Query::default() };
        assert_eq!(pages(&documents, query).await.1, [120, 120, 10]);
    }
}
