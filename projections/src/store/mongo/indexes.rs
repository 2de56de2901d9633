//! The indexes of a generation.

use std::time::Duration;

use mongodb::{
    IndexModel,
    bson::{Document, doc},
};

use super::{MongoStore, activity, failure, patients, tests};
use crate::{
    documents::Generation,
    store::{Generations, StoreError},
};

/// How long a generation's missing indexes may take to be built; the server goes on by itself
/// after that. A million patients take about a minute.
const BUILD_DEADLINE: Duration = Duration::from_mins(10);

/// Members that patients are searched by, one index each: one value leads to a page, and the
/// rest of the criteria is compared with its documents. With `_id` behind, equal values come in
/// the order of the pages. Neither sparse nor partial: Cosmos DB takes no such index.
const SEARCHED: [&str; 8] = [
    "insuranceNumber",
    "lastName",
    "fullName",
    "preferredContactNumber",
    "firstName",
    "birthDay",
    "postCode",
    // Of every active patient and of no tombstone: also the list of those that are active.
    "gender",
];

impl MongoStore {
    /// Makes a generation's indexes, and so its collections. No effect where they are there.
    pub(super) async fn make_indexes(&self, generation: Generation) -> Result<(), StoreError> {
        let searched = SEARCHED.map(|member| index(doc! { member: 1, "_id": 1 }));
        let looked_up = [
            index(doc! { "patients": 1, "_id": -1 }),
            index(doc! { "actor.id": 1, "_id": -1 }),
            // Finds where a time begins.
            index(doc! { "at": 1, "_id": 1 }),
        ];
        let plans = [
            (patients(generation), searched.to_vec()),
            (tests(generation), vec![index(doc! { "patientId": 1, "first": 1 })]),
            (activity(generation), looked_up.to_vec()),
        ];
        for (collection, indexes) in plans {
            let made = self.collection(&collection).create_indexes(indexes).await;
            made.map_err(|error| failure::unavailable(&error))?;
        }
        Ok(())
    }

    /// Makes the indexes that generations of an older version lack, while everything else goes
    /// on; until they are there, the searches that want them are slow and not wrong. Harmless
    /// where another process does the same.
    pub async fn complete_indexes(&self) {
        let complete = async {
            for generation in self.list().await? {
                self.make_indexes(generation).await?;
            }
            // A generation that was dropped meanwhile has empty collections again.
            self.sweep().await
        };
        match tokio::time::timeout(BUILD_DEADLINE, complete).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "indexes may be missing until the next start"),
            Err(_) => tracing::warn!("indexes are still being built"),
        }
    }
}

fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}
