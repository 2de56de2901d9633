//! The ledger store on MongoDB: one document is one block, stored by one insert.
//!
//! In scope: replica sets, sharded clusters (shard key `segment`) and Azure Cosmos DB for
//! MongoDB. Which deployments are refused, and why, stands in [`open`].
//!
//! Every operation runs in a causally consistent session of its own that starts at the latest
//! operation time that any earlier operation of the same [`MongoLedger`] reported. A read
//! therefore waits for what was seen before it, also after a failover, and any number of reads
//! run beside an append.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use domain::{
    ids::{Mac, Stream},
    time::Timestamp,
};
use mongodb::{
    Client, ClientSession, Collection, Database, SessionCursor,
    bson::{Document, RawDocumentBuf, Timestamp as OperationTime, doc},
    error::Error,
    options::{FindOneOptions, FindOptions},
};

use super::{AppendError, LedgerStore, StoreError, StoredTile, Stray};
use crate::{
    block::Block,
    tiles::{Tile, TileId},
};

mod document;
mod error;
mod indexes;
mod lookup;
pub mod open;
mod pool;
mod tiles;

pub use open::{CosmosConsistency, MongoOptions, OpenError};

/// How long one call waits at most. Longer than `wtimeout` and server selection, so that the
/// server's own answer comes first; short enough that a frozen server does not hold a caller
/// until its own deadline.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Bytes of documents that one page of blocks holds at most, give or take one document: the
/// caller asks for the next page, and a page of large blocks must not fill the memory.
const MAX_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// A ledger in a MongoDB collection.
#[derive(Debug)]
pub struct MongoLedger {
    client: Client,
    blocks: Collection<RawDocumentBuf>,
    tiles: Collection<RawDocumentBuf>,
    /// The latest operation time that any operation reported; see the module's doc.
    seen: Mutex<Option<OperationTime>>,
}

impl MongoLedger {
    /// Connects to the ledger in `database`, after the checks of [`OpenError`].
    pub async fn connect(
        uri: &str,
        database: &str,
        options: MongoOptions,
    ) -> Result<Self, OpenError> {
        let (client, blocks, tiles) = open::open(uri, database, options).await?;
        Ok(Self { client, blocks, tiles, seen: Mutex::new(None) })
    }

    /// As [`MongoLedger::connect`], to read alone: makes no index.
    pub async fn connect_to_read(
        uri: &str,
        database: &str,
        options: MongoOptions,
    ) -> Result<Self, OpenError> {
        let (client, blocks, tiles) = open::open_to_read(uri, database, options).await?;
        Ok(Self { client, blocks, tiles, seen: Mutex::new(None) })
    }

    /// A session that sees everything that this value saw or stored. Its cluster time need not
    /// be carried over: the driver sends the highest that its client saw.
    async fn session(&self) -> Result<ClientSession, Error> {
        let mut session = self.client.start_session().causal_consistency(true).await?;
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(time) = seen {
            session.advance_operation_time(time);
        }
        Ok(session)
    }

    /// Remembers how far a session came, whether its operation succeeded or not: an insert that
    /// was refused as a duplicate reports a time that covers the block in its way.
    fn saw(&self, session: &ClientSession) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = (*seen).max(session.operation_time());
    }

    async fn find_one(
        &self,
        filter: Document,
        options: FindOneOptions,
    ) -> Result<Option<RawDocumentBuf>, StoreError> {
        bounded(Box::pin(async {
            let mut session = self.session().await?;
            let find = self.blocks.find_one(filter).with_options(options);
            let result = find.session(&mut session).await;
            self.saw(&session);
            result
        }))
        .await
    }

    /// The documents that match, up to `max_bytes`, give or take one document.
    async fn find(
        &self,
        filter: Document,
        options: FindOptions,
        max_bytes: usize,
    ) -> Result<Vec<RawDocumentBuf>, StoreError> {
        bounded(Box::pin(async {
            let mut session = self.session().await?;
            let find = self.blocks.find(filter).with_options(options);
            let result = match find.session(&mut session).await {
                Ok(cursor) => collect(cursor, &mut session, max_bytes).await,
                Err(error) => Err(error),
            };
            self.saw(&session);
            result
        }))
        .await
    }

    async fn insert(&self, document: &RawDocumentBuf) -> Result<(), Error> {
        let mut session = self.session().await?;
        let result = self.blocks.insert_one(document).session(&mut session).await;
        self.saw(&session);
        result.map(drop)
    }

    /// The block that holds `seq` but does not begin there. Its lines are fetched only once it
    /// is known that it is there, because a reader that waits at the end of the ledger asks
    /// this again and again.
    async fn block_around(&self, seq: i64) -> Result<Option<Block>, StoreError> {
        let before = doc! { "_id": { "$lt": seq } };
        let options = FindOneOptions::builder()
            .sort(doc! { "_id": -1 })
            .projection(doc! { "count": 1 })
            .build();
        let Some(found) = self.find_one(before, options).await? else { return Ok(None) };
        let extent = document::decode_extent(&found)?;
        if extent.end <= seq {
            return Ok(None);
        }
        self.block_at(extent.first).await
    }
}

#[async_trait]
impl LedgerStore for MongoLedger {
    async fn head(&self) -> Result<Option<Block>, StoreError> {
        let options = FindOneOptions::builder().sort(doc! { "_id": -1 }).build();
        let found = self.find_one(doc! {}, options).await?;
        found.map(|document| document::decode(&document, 0)).transpose()
    }

    async fn append(&self, block: &Block) -> Result<(), AppendError> {
        let first = block.first;
        let document = document::encode(block).map_err(AppendError::Refused)?;
        match tokio::time::timeout(CALL_TIMEOUT, self.insert(&document)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error::append_error(first, error)),
            Err(elapsed) => Err(AppendError::Ambiguous(Box::new(elapsed))),
        }
    }

    async fn block_at(&self, first: u64) -> Result<Option<Block>, StoreError> {
        let Ok(id) = i64::try_from(first) else { return Ok(None) };
        // Without the shard key, which would keep this off other shards: a block whose `segment`
        // was changed must be found and reported, not be absent.
        let filter = doc! { "_id": id };
        let found = self.find_one(filter, FindOneOptions::default()).await?;
        found.map(|document| document::decode(&document, first)).transpose()
    }

    async fn blocks_from(&self, seq: u64, max: usize) -> Result<Vec<Block>, StoreError> {
        let Ok(from) = i64::try_from(seq) else { return Ok(Vec::new()) };
        let max = max.max(1);
        let options = FindOptions::builder()
            .sort(doc! { "_id": 1 })
            .limit(i64::try_from(max).unwrap_or(i64::MAX))
            .build();
        let found = self.find(doc! { "_id": { "$gte": from } }, options, MAX_PAGE_BYTES).await?;
        let mut blocks = Vec::with_capacity(found.len() + 1);
        for document in &found {
            blocks.push(document::decode(document, seq)?);
        }
        if blocks.first().is_none_or(|block| block.first != seq)
            && let Some(around) = self.block_around(from).await?
        {
            blocks.insert(0, around);
            blocks.truncate(max);
        }
        Ok(blocks)
    }

    async fn stream_versions(
        &self,
        streams: &[Stream],
    ) -> Result<HashMap<Stream, u64>, StoreError> {
        bounded_read(lookup::stream_versions(self, streams)).await
    }

    async fn find_commands(&self, ids: &[Mac]) -> Result<HashMap<Mac, u64>, StoreError> {
        bounded_read(lookup::find_commands(self, ids)).await
    }

    async fn stream_lines(
        &self,
        stream: Stream,
        from_version: u64,
        max: usize,
    ) -> Result<Vec<String>, StoreError> {
        bounded_read(lookup::stream_lines(self, stream, from_version, max)).await
    }

    async fn stray(&self) -> Result<Option<Stray>, StoreError> {
        // Blocks are read by position; lookups by stream and command find any document.
        let no_position = doc! { "$or": [
            { "_id": { "$not": { "$type": "long" } } },
            { "_id": { "$lt": 0 } },
        ] };
        let options = FindOneOptions::builder().projection(doc! { "_id": 1 }).build();
        let found = self.find_one(no_position, options).await?;
        let reason = "a document whose _id is no position";
        Ok(found.map(|_| Stray { first: 0, reason: reason.to_owned() }))
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        let admin: Database = self.client.database("admin");
        let hello = bounded(async { admin.run_command(doc! { "hello": 1 }).await }).await?;
        let time = hello.get_datetime("localTime");
        let time = time.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(Timestamp::from_millis(time.timestamp_millis()))
    }

    async fn put_tiles(&self, tiles: &[Tile]) -> Result<(), StoreError> {
        tiles::put(self, tiles).await
    }

    async fn tiles(&self, ids: &[TileId]) -> Result<HashMap<TileId, StoredTile>, StoreError> {
        tiles::read(self, ids).await
    }

    async fn repair_tile(&self, good: &Tile, bad: &StoredTile) -> Result<(), StoreError> {
        tiles::repair(self, good, bad).await
    }
}

async fn collect(
    mut cursor: SessionCursor<RawDocumentBuf>,
    session: &mut ClientSession,
    max_bytes: usize,
) -> Result<Vec<RawDocumentBuf>, Error> {
    let (mut documents, mut bytes) = (Vec::new(), 0);
    while bytes < max_bytes && cursor.advance(session).await? {
        let document = cursor.current().to_owned();
        bytes += document.as_bytes().len();
        documents.push(document);
    }
    Ok(documents)
}

async fn bounded<T>(operation: impl Future<Output = Result<T, Error>>) -> Result<T, StoreError> {
    bounded_read(async { operation.await.map_err(error::read_error) }).await
}

async fn bounded_read<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(CALL_TIMEOUT, operation)
        .await
        .unwrap_or_else(|elapsed| Err(StoreError::Unavailable(Box::new(elapsed))))
}
