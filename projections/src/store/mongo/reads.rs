//! Reading: single documents by id, pages by id, and the search.

use async_trait::async_trait;
use domain::{
    content::Gender,
    ids::{PatientId, TestId},
    search::SearchCriteria,
};
use futures::TryStreamExt;
use mongodb::bson::{Document, RawDocumentBuf, doc};

use super::{MongoStore, books, erasures, failure, patients, stored, tests, within};
use crate::{
    documents::{ActivityFilter, ActivityPage, Erasure, Generation, PatientDoc, TestDoc},
    store::{ReadModels, StoreError},
};

/// Documents in one answer of the server at most, where no page is asked for.
const MAX_BATCH: usize = 1_000;

impl MongoStore {
    /// The document that fits `filter`, which names its `_id`.
    pub(super) async fn one<T>(
        &self,
        collection: &str,
        filter: Document,
        read: fn(&RawDocumentBuf) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        within(async {
            let found = self.collection(collection).find_one(filter).await;
            let document = found.map_err(|error| failure::unavailable(&error))?;
            document.as_ref().map(read).transpose()
        })
        .await
    }

    /// At most `limit` documents in the order of `sort`.
    pub(super) async fn many<T>(
        &self,
        collection: &str,
        filter: Document,
        sort: Document,
        limit: Option<usize>,
        read: fn(&RawDocumentBuf) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        if limit == Some(0) {
            // To the server, 0 is no limit.
            return Ok(Vec::new());
        }
        within(async {
            let collection = self.collection(collection);
            let mut find = collection.find(filter).sort(sort);
            if let Some(limit) = limit {
                find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
            }
            let batch = limit.unwrap_or(MAX_BATCH).min(MAX_BATCH);
            let find = find.batch_size(u32::try_from(batch).unwrap_or(u32::MAX));
            let documents: Vec<RawDocumentBuf> = async { find.await?.try_collect().await }
                .await
                .map_err(|error| failure::unavailable(&error))?;
            documents.iter().map(read).collect()
        })
        .await
    }
}

/// Everything after an id.
pub(super) fn page<I: ToString>(after: Option<I>) -> Document {
    after.map_or_else(Document::new, |id| doc! { "_id": { "$gt": id.to_string() } })
}

/// Values stand under `$eq`, so that none is ever read as an operator.
///
/// Which index leads is the server's choice: it tries those that fit side by side. Where no value
/// leads, all genders are asked for, so that tombstones are passed over: their index holds
/// none, and the server merges what it holds of each. A range of birth dates is either read
/// from its index and sorted, or walked by id, whichever gives its first results sooner.
fn search_filter(criteria: &SearchCriteria, after: Option<PatientId>) -> Document {
    let texts = [
        ("firstName", criteria.first_name.as_deref()),
        ("lastName", criteria.last_name.as_deref()),
        ("fullName", criteria.full_name.as_deref()),
        ("gender", criteria.gender.map(Gender::as_str)),
        ("postCode", criteria.post_code.as_deref()),
        ("insuranceNumber", criteria.insurance_number.as_deref()),
        ("preferredContactNumber", criteria.preferred_contact_number.as_deref()),
    ];
    let mut filter = doc! { "status": { "$eq": "active" } };
    for (member, text) in texts {
        if let Some(text) = text {
            filter.insert(member, doc! { "$eq": text });
        }
    }
    let mut born = Document::new();
    if let Some(from) = criteria.date_of_birth_from {
        born.insert("$gte", from.to_string());
    }
    if let Some(to) = criteria.date_of_birth_to {
        born.insert("$lte", to.to_string());
    }
    if filter.len() == 1 && criteria.id.is_none() {
        let all: Vec<&str> = Gender::ALL.iter().map(|gender| gender.as_str()).collect();
        filter.insert("gender", doc! { "$in": all });
    }
    if !born.is_empty() {
        filter.insert("birthDay", born);
    }
    let mut id = Document::new();
    if let Some(asked) = criteria.id {
        id.insert("$eq", asked.to_string());
    }
    if let Some(after) = after {
        id.insert("$gt", after.to_string());
    }
    if !id.is_empty() {
        filter.insert("_id", id);
    }
    filter
}

#[async_trait]
impl ReadModels for MongoStore {
    async fn patient(
        &self,
        generation: Generation,
        id: PatientId,
    ) -> Result<Option<PatientDoc>, StoreError> {
        within(self.require(generation)).await?;
        self.one(&patients(generation), doc! { "_id": id.to_string() }, stored::patient).await
    }

    async fn test(
        &self,
        generation: Generation,
        patient: PatientId,
        id: TestId,
    ) -> Result<Option<TestDoc>, StoreError> {
        within(self.require(generation)).await?;
        let filter = doc! { "_id": id.to_string(), "patientId": patient.to_string() };
        self.one(&tests(generation), filter, stored::test).await
    }

    async fn tests(
        &self,
        generation: Generation,
        patient: PatientId,
    ) -> Result<Vec<TestDoc>, StoreError> {
        within(self.require(generation)).await?;
        let filter = doc! { "patientId": patient.to_string(), "status": "active" };
        self.many(&tests(generation), filter, doc! { "first": 1 }, None, stored::test).await
    }

    async fn search(
        &self,
        generation: Generation,
        criteria: &SearchCriteria,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        within(self.require(generation)).await?;
        let filter = search_filter(criteria, after);
        let sort = doc! { "_id": 1 };
        self.many(&patients(generation), filter, sort, Some(limit), stored::patient).await
    }

    async fn scan_patients(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<PatientDoc>, StoreError> {
        within(self.require(generation)).await?;
        let sort = doc! { "_id": 1 };
        self.many(&patients(generation), page(after), sort, Some(limit), stored::patient).await
    }

    async fn scan_tests(
        &self,
        generation: Generation,
        after: Option<TestId>,
        limit: usize,
    ) -> Result<Vec<TestDoc>, StoreError> {
        within(self.require(generation)).await?;
        let sort = doc! { "_id": 1 };
        self.many(&tests(generation), page(after), sort, Some(limit), stored::test).await
    }

    async fn erasures(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Erasure>, StoreError> {
        within(self.require(generation)).await?;
        let sort = doc! { "_id": 1 };
        self.many(&erasures(generation), page(after), sort, Some(limit), books::erasure).await
    }

    async fn activity(
        &self,
        generation: Generation,
        filter: &ActivityFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ActivityPage, StoreError> {
        within(self.require(generation)).await?;
        within(self.activity_page(generation, filter, before, limit)).await
    }

    async fn confirm(&self) -> Result<(), StoreError> {
        within(self.confirm_primary()).await
    }
}
