//! Pages of activity. Documents come in the order of an index, until the page is full.

use domain::time::Timestamp;
use futures::TryStreamExt;
use mongodb::{
    bson::{Document, RawDocumentBuf, doc},
    error::Error,
};
use serde::Deserialize;

use super::{
    MongoStore, activity, failure,
    stored::{self, date, int},
};
use crate::{
    documents::{ActivityFilter, ActivityPage, Generation},
    store::{StoreError, page::PageBuilder},
};

/// Documents in one answer of the server at most.
const MAX_BATCH: usize = 1_000;

#[derive(Deserialize)]
struct Seq {
    #[serde(rename = "_id")]
    seq: i64,
}

impl MongoStore {
    pub(super) async fn activity_page(
        &self,
        generation: Generation,
        filter: &ActivityFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<ActivityPage, StoreError> {
        let mut page = PageBuilder::new(filter, limit);
        let mut seqs = doc! {};
        if let Some(from) = filter.from {
            // Nothing is that new where there is none.
            let Some(from) = self.first_seq(generation, from).await? else {
                return Ok(page.finish());
            };
            seqs.insert("$gte", from);
        }
        let until = match filter.until {
            Some(until) => self.first_seq(generation, until).await?,
            None => None,
        };
        if let Some(before) = before.map(int).into_iter().chain(until).min() {
            seqs.insert("$lt", before);
        }
        let most = page.most();
        let collection = self.collection(&activity(generation));
        let documents = collection
            .find(indexed(filter, seqs))
            .sort(doc! { "_id": -1 })
            .limit(i64::try_from(most).unwrap_or(i64::MAX))
            .batch_size(u32::try_from(most.min(MAX_BATCH)).unwrap_or(u32::MAX))
            .await;
        let unavailable = |error: Error| failure::unavailable(&error);
        let mut documents = documents.map_err(unavailable)?;
        while let Some(document) = documents.try_next().await.map_err(unavailable)?
            && page.add(stored::activity(&document)?)
        {}
        Ok(page.finish())
    }

    /// Position of the first record of a time or later: times never decrease.
    async fn first_seq(
        &self,
        generation: Generation,
        time: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        let collection = self.collection(&activity(generation));
        let found = collection
            .find_one(doc! { "at": { "$gte": date(time) } })
            .sort(doc! { "at": 1, "_id": 1 })
            .projection(doc! { "_id": 1 })
            .await;
        let document: Option<RawDocumentBuf> =
            found.map_err(|error| failure::unavailable(&error))?;
        let seq = document.map(|document| stored::decode::<Seq>("activity", &document));
        Ok(seq.transpose()?.map(|Seq { seq }| seq))
    }
}

/// The documents to look at: one index alone can give them in their order. Values stand under
/// `$eq`, so that none is ever read as an operator.
fn indexed(filter: &ActivityFilter, seqs: Document) -> Document {
    let mut query = match (filter.patient, &filter.actor) {
        (Some(patient), _) => doc! { "patients": { "$eq": patient.to_string() } },
        (None, Some(actor)) => doc! { "actor.id": { "$eq": actor.to_string() } },
        (None, None) => doc! {},
    };
    if !seqs.is_empty() {
        query.insert("_id", seqs);
    }
    query
}
