//! Making and choosing generations: one small document that is changed by compare-and-set.

use async_trait::async_trait;
use mongodb::bson::{self, Document, doc, rawdoc};
use serde::{Deserialize, Serialize};

use super::{
    META, MongoStore,
    books::{books_id, books_of},
    command::{Statement, encode},
    failure, stored, within,
};
use crate::{
    documents::{self, Generation},
    store::{Generations, StoreError},
};

/// `_id` of the document in `meta`.
pub(super) const POINTER: &str = "generations";

/// Times that a new generation's number is tried for; each failure is another's success.
const MAX_TRIES: usize = 5;

/// Which generations exist.
#[derive(Serialize, Deserialize)]
pub(super) struct Pointer {
    serving: u32,
    /// The highest number ever made; numbers are not used again.
    highest: u32,
    list: Vec<u32>,
    /// One more that commands write to; absent in what older versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    also: Option<u32>,
}

/// Kinds of collections that each generation has one of.
const KINDS: [&str; 5] = ["patients", "tests", "activity", "erasures", "parked"];

impl Pointer {
    pub(super) fn lists(&self, generation: Generation) -> bool {
        self.list.contains(&generation.0)
    }

    fn in_use(&self) -> documents::Pointer {
        let (serving, also) = (Generation(self.serving), self.also.map(Generation));
        documents::Pointer { serving, also }
    }
}

impl MongoStore {
    pub(super) async fn pointer(&self) -> Result<Option<Pointer>, StoreError> {
        let found = self.collection(META).find_one(doc! { "_id": POINTER }).await;
        let document = found.map_err(|error| failure::unavailable(&error))?;
        document.map(|document| stored::decode("meta", &document)).transpose()
    }

    /// The pointer; a new store gets generation 1 first. Of processes that do so at once, one
    /// inserts the document and all make the same collections.
    async fn pointer_or_first(&self) -> Result<Pointer, StoreError> {
        if let Some(pointer) = self.pointer().await? {
            return Ok(pointer);
        }
        self.make_indexes(Generation(1)).await?;
        let first = Pointer { serving: 1, highest: 1, list: vec![1], also: None };
        let insert = rawdoc! { "$setOnInsert": encode(&first)? };
        let q = rawdoc! { "_id": POINTER };
        self.update(META, &[Statement { q, u: insert, upsert: true, multi: false }]).await?;
        self.pointer().await?.ok_or_else(failure::driver)
    }

    /// Changes the pointer where it is as `filter` says; whether it was.
    async fn set_pointer(&self, mut filter: Document, set: Document) -> Result<bool, StoreError> {
        filter.insert("_id", POINTER);
        let convert = |document: &Document| {
            bson::RawDocumentBuf::try_from(document).map_err(|_| failure::driver())
        };
        let (q, u) = (convert(&filter)?, convert(&set)?);
        let statement = Statement { q, u, upsert: false, multi: false };
        Ok(self.update(META, &[statement]).await?.written > 0)
    }

    /// Drops what belongs to generations that are listed no more: to the one just dropped, and
    /// what a crash or a writer that came too late left of others.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let meta = self.collection(META);
        // The names first: whatever is made after that is not among them.
        let names = async {
            let collections = self.database.list_collection_names().await?;
            Ok((collections, meta.distinct("_id", doc! {}).await?))
        };
        let (collections, books) = names.await.map_err(|error| failure::unavailable(&error))?;
        let Some(pointer) = self.pointer().await? else { return Ok(()) };
        let dropped = |it: Generation| it.0 <= pointer.highest && !pointer.lists(it);
        let remove = async {
            for name in collections.iter().filter(|name| generation_of(name).is_some_and(dropped)) {
                self.collection(name).drop().await?;
            }
            let books = books.iter().filter_map(|id| books_of(id.as_str()?));
            for generation in books.filter(|it| dropped(*it)) {
                meta.delete_one(doc! { "_id": books_id(generation) }).await?;
            }
            Ok(())
        };
        remove.await.map_err(|error| failure::unavailable(&error))
    }
}

/// The generation that a collection belongs to.
fn generation_of(collection: &str) -> Option<Generation> {
    let (kind, number) = collection.rsplit_once("_g")?;
    let number = number.parse().ok()?;
    KINDS.contains(&kind).then_some(Generation(number))
}

#[async_trait]
impl Generations for MongoStore {
    async fn pointer(&self) -> Result<documents::Pointer, StoreError> {
        within(async { Ok(self.pointer_or_first().await?.in_use()) }).await
    }

    async fn list(&self) -> Result<Vec<Generation>, StoreError> {
        within(async {
            let mut list = self.pointer().await?.map(|pointer| pointer.list).unwrap_or_default();
            list.sort_unstable();
            Ok(list.into_iter().map(Generation).collect())
        })
        .await
    }

    async fn create(&self) -> Result<Generation, StoreError> {
        within(async {
            for _ in 0..MAX_TRIES {
                let highest = self.pointer_or_first().await?.highest;
                let next = Generation(highest + 1);
                // Before it is listed, so that a crash never leaves one without its indexes.
                self.make_indexes(next).await?;
                let set = doc! { "$set": { "highest": next.0 }, "$push": { "list": next.0 } };
                if self.set_pointer(doc! { "highest": highest }, set).await? {
                    self.sweep().await?;
                    return Ok(next);
                }
            }
            Err(failure::contention(MAX_TRIES))
        })
        .await
    }

    async fn join(&self, generation: Generation) -> Result<(), StoreError> {
        within(async {
            let Generation(number) = generation;
            let filter = doc! { "list": number, "serving": { "$ne": number } };
            let joined = self.set_pointer(filter, doc! { "$set": { "also": number } }).await?;
            if joined { Ok(()) } else { Err(StoreError::Generation(number)) }
        })
        .await
    }

    async fn activate(
        &self,
        generation: Generation,
        expected: documents::Pointer,
    ) -> Result<bool, StoreError> {
        within(async {
            let Generation(number) = generation;
            let moved = expected.moved_to(generation);
            // `null` also is where there is none.
            let also = |pointer: documents::Pointer| pointer.also.map(|also| also.0);
            let filter =
                doc! { "list": number, "serving": expected.serving.0, "also": also(expected) };
            let set = doc! { "$set": { "serving": number, "also": also(moved) } };
            if moved != expected && self.set_pointer(filter, set).await? {
                return Ok(true);
            }
            let found = self.pointer_or_first().await?;
            if found.lists(generation) {
                Ok(found.in_use() == moved)
            } else {
                Err(StoreError::Generation(number))
            }
        })
        .await
    }

    async fn settle(&self, also: Generation) -> Result<(), StoreError> {
        within(async {
            let unset = doc! { "$unset": { "also": "" } };
            self.set_pointer(doc! { "also": also.0 }, unset).await.map(|_| ())
        })
        .await
    }

    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError> {
        within(async {
            let Generation(number) = generation;
            let not = doc! { "$ne": number };
            let filter = doc! { "list": number, "serving": not.clone(), "also": not };
            if !self.set_pointer(filter, doc! { "$pull": { "list": number } }).await? {
                return Err(StoreError::Generation(number));
            }
            self.known_generations().remove(&number);
            self.sweep().await
        })
        .await
    }
}
