//! Writing. Three rules keep any interleaving of writers harmless without a transaction:
//!
//! 1. Tests are written before the patient's document, the cursor: where the cursor stands at
//!    k, every test that the events up to k recorded has a document, and documents are never
//!    deleted. So no late writer can insert a test again that has become a tombstone.
//! 2. A change that touches tests recorded before it looks at the cursor first. Otherwise the
//!    earlier events could be applied between its tests, which would miss those, and its
//!    patient, whose condition would then hold.
//! 3. Every write is conditional: on no document at all, or on a lower stored version, in its
//!    own query.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use domain::ids::{PatientId, TestId};
use futures::TryStreamExt;
use mongodb::bson::{RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use serde::Deserialize;

use super::{
    MongoStore, activity,
    books::StoredErasure,
    command::{Statement, encode},
    erasures, failure, patients,
    stored::{self, StoredActivity, StoredPatient, StoredTest, TestData, int},
    tests, within,
};
use crate::{
    change::{StreamChange, TestChange},
    documents::{ActivityDoc, Generation},
    store::{Applied, StoreError, WriteModels},
};

/// Times that patients are tried to be written. The second is needed where another writer came
/// between: it closed a gap after the try.
const MAX_ROUNDS: usize = 5;

/// Ids named in one query at most.
pub(super) const MAX_IDS: usize = 1_000;

/// Members of a test that a tombstone has not.
const TEST_CONTENT: [&str; 5] =
    ["revision", "lastUpdated", "performer", "orderReference", "observations"];

#[async_trait]
impl WriteModels for MongoStore {
    async fn cursors(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<HashMap<PatientId, u64>, StoreError> {
        let cursors = within(self.read_cursors(generation, patients)).await?;
        Ok(cursors.into_iter().map(|(patient, (version, _))| (patient, version)).collect())
    }

    async fn apply(
        &self,
        generation: Generation,
        changes: &[StreamChange],
    ) -> Result<Vec<Applied>, StoreError> {
        within(async {
            self.require(generation).await?;
            self.write_erasures(generation, changes).await?;
            let mut batch = Batch::new(self, generation, changes);
            batch.look_first().await?;
            batch.write_tests().await?;
            let results = batch.write_patients().await?;
            if changes.iter().any(|change| change.erased.is_some()) {
                // A crash in the midst of dropping a generation may have left her content there,
                // where no list leads to it.
                self.sweep().await?;
            }
            Ok(results)
        })
        .await
    }

    async fn write_activity(
        &self,
        generation: Generation,
        documents: &[ActivityDoc],
    ) -> Result<(), StoreError> {
        within(async {
            self.require(generation).await?;
            let stored: Vec<RawDocumentBuf> = documents
                .iter()
                .map(|document| encode(&StoredActivity::from(document)))
                .collect::<Result<_, _>>()?;
            self.insert(&activity(generation), &stored).await.map(|_| ())
        })
        .await
    }
}

#[derive(Deserialize)]
struct Cursor {
    #[serde(rename = "_id")]
    id: PatientId,
    version: i64,
    write: ObjectId,
}

impl MongoStore {
    /// Before everything else, and wherever the cursors are: an erasure that is applied in part
    /// may be found applied, but never without its entry.
    async fn write_erasures(
        &self,
        generation: Generation,
        changes: &[StreamChange],
    ) -> Result<(), StoreError> {
        let erased = changes.iter().filter_map(|change| Some((change.patient, change.erased?)));
        let stored = erased.map(|(patient, kid)| encode(&StoredErasure { patient, kid }));
        let stored: Vec<RawDocumentBuf> = stored.collect::<Result<_, _>>()?;
        self.insert(&erasures(generation), &stored).await.map(|_| ())
    }

    /// Each patient's version and the call that wrote it.
    async fn read_cursors(
        &self,
        generation: Generation,
        ids: &[PatientId],
    ) -> Result<HashMap<PatientId, (u64, ObjectId)>, StoreError> {
        self.require(generation).await?;
        let collection = self.collection(&patients(generation));
        let mut cursors = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(MAX_IDS) {
            let ids: Vec<String> = ids.iter().map(PatientId::to_string).collect();
            let documents: Vec<RawDocumentBuf> = async {
                collection
                    .find(doc! { "_id": { "$in": ids } })
                    .projection(doc! { "version": 1, "write": 1 })
                    .batch_size(u32::try_from(MAX_IDS).unwrap_or(u32::MAX))
                    .await?
                    .try_collect()
                    .await
            }
            .await
            .map_err(|error| failure::unavailable(&error))?;
            for document in documents {
                let cursor: Cursor = stored::decode("patients", &document)?;
                let version = stored::uint(cursor.version)
                    .ok_or(StoreError::Malformed { collection: "patients" })?;
                cursors.insert(cursor.id, (version, cursor.write));
            }
        }
        Ok(cursors)
    }
}

/// One call of `apply`.
struct Batch<'a> {
    store: &'a MongoStore,
    generation: Generation,
    changes: &'a [StreamChange],
    results: Vec<Option<Applied>>,
    /// Marks the documents that this call writes.
    write: ObjectId,
}

impl<'a> Batch<'a> {
    fn new(store: &'a MongoStore, generation: Generation, changes: &'a [StreamChange]) -> Self {
        let results = vec![None; changes.len()];
        Self { store, generation, changes, results, write: ObjectId::new() }
    }

    /// Changes without a result yet, by their index.
    fn open(&self) -> Vec<usize> {
        (0..self.changes.len()).filter(|index| self.results[*index].is_none()).collect()
    }

    /// Rule 2.
    async fn look_first(&mut self) -> Result<(), StoreError> {
        let mut looked = self.open();
        looked.retain(|index| touches_earlier_tests(&self.changes[*index]));
        self.settle(&looked).await
    }

    async fn write_tests(&self) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        for change in self.open().into_iter().map(|index| &self.changes[index]) {
            for (id, test) in &change.tests {
                statements.push(test_statement(change.patient, *id, test)?);
            }
            if let Some(version) = change.tests_gone_at {
                statements.push(gone_statement(change.patient, version)?);
            }
        }
        self.store.update_if_newer(&tests(self.generation), statements).await
    }

    async fn write_patients(mut self) -> Result<Vec<Applied>, StoreError> {
        self.insert_patients().await?;
        for _ in 0..MAX_ROUNDS {
            let open = self.open();
            if open.is_empty() {
                break;
            }
            let changes = open.iter().map(|index| &self.changes[*index]);
            let statements: Vec<Statement> =
                changes.map(|change| self.patient_statement(change)).collect::<Result<_, _>>()?;
            let outcome = self.store.update(&patients(self.generation), &statements).await?;
            // Where every condition held, no cursor need be read.
            if outcome.written == open.len() {
                for index in open {
                    self.results[index] = Some(Applied::Done);
                }
            } else {
                self.settle(&open).await?;
            }
        }
        let results: Option<Vec<Applied>> = self.results.into_iter().collect();
        results.ok_or_else(|| failure::contention(MAX_ROUNDS))
    }

    /// Streams that begin here are mostly new.
    async fn insert_patients(&mut self) -> Result<(), StoreError> {
        let (mut indexes, mut documents) = (Vec::new(), Vec::new());
        for index in self.open() {
            let change = &self.changes[index];
            let document = StoredPatient::new(change, self.write).filter(|_| change.from == 0);
            if let Some(document) = document {
                indexes.push(index);
                documents.push(encode(&document)?);
            }
        }
        let taken = self.store.insert(&patients(self.generation), &documents).await?;
        for (place, index) in indexes.into_iter().enumerate() {
            if !taken.contains(&place) {
                self.results[index] = Some(Applied::Done);
            }
        }
        Ok(())
    }

    /// Gives those changes their result whose cursor tells it; the others may be written.
    async fn settle(&mut self, indexes: &[usize]) -> Result<(), StoreError> {
        if indexes.is_empty() {
            return Ok(());
        }
        let ids: Vec<PatientId> = indexes.iter().map(|i| self.changes[*i].patient).collect();
        let cursors = self.store.read_cursors(self.generation, &ids).await?;
        for index in indexes {
            let change = &self.changes[*index];
            let cursor = cursors.get(&change.patient);
            let ours = cursor == Some(&(change.to, self.write));
            let at = cursor.map_or(0, |(version, _)| *version);
            self.results[*index] = if ours {
                Some(Applied::Done)
            } else if at >= change.to {
                Some(Applied::Already)
            } else if at < change.from || (at == 0 && change.state.is_none()) {
                Some(Applied::Gap { at })
            } else {
                None
            };
        }
        Ok(())
    }

    fn patient_statement(&self, change: &StreamChange) -> Result<Statement, StoreError> {
        let (from, to) = (int(change.from), int(change.to));
        let id = change.patient.to_string();
        let q = rawdoc! { "_id": id, "version": { "$gte": from, "$lt": to } };
        let u = if let Some(document) = StoredPatient::new(change, self.write) {
            encode(&document)?
        } else {
            rawdoc! { "$set": { "version": to, "write": self.write } }
        };
        Ok(Statement { q, u, upsert: false, multi: false })
    }
}

/// Whether a change writes to tests that an event before it recorded.
fn touches_earlier_tests(change: &StreamChange) -> bool {
    change.from > 0
        && (change.tests_gone_at.is_some() || change.tests.values().any(|it| it.first.is_none()))
}

fn test_statement(
    patient: PatientId,
    id: TestId,
    change: &TestChange,
) -> Result<Statement, StoreError> {
    let q = rawdoc! { "_id": id.to_string(), "version": { "$lt": int(change.version) } };
    Ok(match StoredTest::new(patient, id, change) {
        Some(document) => Statement { q, u: encode(&document)?, upsert: true, multi: false },
        None => Statement { q, u: set_test(&change.into())?, upsert: false, multi: false },
    })
}

fn gone_statement(patient: PatientId, version: u64) -> Result<Statement, StoreError> {
    let q = rawdoc! { "patientId": patient.to_string(), "version": { "$lt": int(version) } };
    Ok(Statement { q, u: set_test(&TestData::gone(version))?, upsert: false, multi: true })
}

/// Changes a test's data and keeps the rest.
fn set_test(data: &TestData) -> Result<RawDocumentBuf, StoreError> {
    let set = encode(data)?;
    Ok(if data.is_gone() {
        let content = TEST_CONTENT.map(|member| (member, 1));
        rawdoc! { "$set": set, "$unset": encode(&BTreeMap::from(content))? }
    } else {
        rawdoc! { "$set": set }
    })
}
