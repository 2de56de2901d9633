//! Connecting, and refusing deployments that cannot keep the promises of the port.

use std::{net::IpAddr, time::Duration};

use mongodb::{
    Client, Collection, IndexModel,
    bson::{Bson, Document, RawDocumentBuf, doc},
    error::{Error, ErrorKind},
    options::{
        Acknowledgment, ClientOptions, CollectionOptions, IndexOptions, ReadConcern,
        ReadPreference, SelectionCriteria, ServerAddress, WriteConcern,
    },
};

/// The collection of blocks.
const COLLECTION: &str = "blocks";

/// How long to look for a primary. Elections take a second or two; a caller is waiting.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a new connection may take, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the server waits for a majority before it answers with a write concern error.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections at most: the lookups of one append, some readers and the append itself.
const MAX_CONNECTIONS: u32 = 32;

/// How often to look whether another process has made the indexes; half a minute in all.
const INDEX_POLLS: u32 = 30;

/// The pause between two of these looks.
const INDEX_POLL_PAUSE: Duration = Duration::from_secs(1);

/// `CommandNotFound` and its older kin: the server is not MongoDB itself.
const COMMAND_UNKNOWN: [i32; 3] = [59, 115, 303];

/// `Unauthorized`.
const UNAUTHORIZED: i32 = 13;

/// What cannot be seen over the wire and must be declared.
#[derive(Debug, Clone, Copy, Default)]
pub struct MongoOptions {
    /// The account's consistency, for Azure Cosmos DB for MongoDB (RU) alone.
    pub cosmos_consistency: Option<CosmosConsistency>,
}

/// A default consistency of an Azure Cosmos DB account that a ledger can be kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CosmosConsistency {
    /// Reads return what a majority of the regions' replicas committed last.
    Strong,
}

/// Why a ledger could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URI is not one, or asks for what the driver cannot do.
    #[error("the ledger's MongoDB URI cannot be used; correct it")]
    Uri(#[source] Error),
    /// The deployment did not answer, or refused; it may later.
    #[error("the ledger's MongoDB cannot be reached ({doing})")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// The driver's error.
        source: Error,
    },
    /// A single mongod has no majority: what it acknowledged is lost with it.
    #[error(
        "the ledger's mongod is not a replica set, so it cannot promise that records survive: \
         start it with --replSet and run rs.initiate(), also when it is a single one"
    )]
    Standalone,
    /// Majority commits could be lost by a majority losing power.
    #[error(
        "the ledger's replica set has writeConcernMajorityJournalDefault: false, so acknowledged \
         records can be lost: set it to true with rs.reconfig()"
    )]
    MajorityNotJournaled,
    /// Only strong consistency makes reads see what was acknowledged.
    #[error(
        "the ledger is on Azure Cosmos DB for MongoDB (RU), whose consistency cannot be seen over \
         the wire: set the account to strong consistency and declare --cosmos-consistency=strong"
    )]
    CosmosConsistency,
    /// The collection holds blocks, but an index is missing. An index that is made over
    /// existing blocks may answer incompletely while it is made.
    #[error(
        "the ledger's collection holds blocks but lacks the index {index}: create it by hand, \
         wait until it is complete, start again"
    )]
    MissingIndex {
        /// The keys of the index.
        index: &'static str,
    },
    /// A block must be refused for its `_id` alone.
    #[error("the ledger's collection has the unique index {index}: drop it")]
    UniqueIndex {
        /// The name of the index.
        index: String,
    },
}

impl OpenError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

pub(super) async fn open(
    uri: &str,
    database: &str,
    options: MongoOptions,
) -> Result<(Client, Collection<RawDocumentBuf>), OpenError> {
    let client_options = client_options(uri).await?;
    let hosts = client_options.hosts.clone();
    let client = Client::with_options(client_options).map_err(OpenError::Uri)?;
    check_deployment(&client, &hosts, options).await?;
    let collection_options = CollectionOptions::builder()
        .read_concern(ReadConcern::majority())
        .write_concern(
            WriteConcern::builder()
                .w(Acknowledgment::Majority)
                .journal(true)
                .w_timeout(WRITE_TIMEOUT)
                .build(),
        )
        .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
        .build();
    let blocks = client.database(database).collection_with_options(COLLECTION, collection_options);
    ensure_indexes(&blocks).await?;
    Ok((client, blocks))
}

async fn client_options(uri: &str) -> Result<ClientOptions, OpenError> {
    let mut options = ClientOptions::parse(uri).await.map_err(OpenError::Uri)?;
    options.app_name = Some("vitalog-ledger".to_owned());
    // The appender sends the same bytes again itself until a block is found. A retry by the
    // driver would make a duplicate key of our own block look like another writer's, and turn
    // "nothing was sent" into a guess.
    options.retry_writes = Some(false);
    options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
    options.connect_timeout = Some(CONNECT_TIMEOUT);
    options.max_pool_size = Some(MAX_CONNECTIONS);
    Ok(options)
}

async fn check_deployment(
    client: &Client,
    hosts: &[ServerAddress],
    options: MongoOptions,
) -> Result<(), OpenError> {
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await;
    let hello = hello.map_err(|source| OpenError::Unavailable { doing: "hello", source })?;
    if is_cosmos(&hello, hosts) {
        return match options.cosmos_consistency {
            Some(CosmosConsistency::Strong) => Ok(()),
            None => Err(OpenError::CosmosConsistency),
        };
    }
    // The members behind a mongos cannot be asked through it. They are replica sets by
    // necessity, and `j: true` asks each counted member for its journal.
    if says(&hello, "msg", "isdbgrid") {
        return Ok(());
    }
    if hello.get_str("setName").is_err() {
        return check_standalone(hosts);
    }
    match admin.run_command(doc! { "replSetGetConfig": 1 }).await {
        Ok(reply) => check_configuration(&reply),
        // A ledger's account needs no right to read the set's configuration; `true` is the
        // default, and whoever may change it may do worse.
        Err(error) if may_be_skipped(&error) => {
            tracing::warn!(
                "cannot read the replica set's configuration; make sure that \
                 writeConcernMajorityJournalDefault is true"
            );
            Ok(())
        }
        Err(source) => Err(OpenError::Unavailable { doing: "replSetGetConfig", source }),
    }
}

fn check_configuration(reply: &Document) -> Result<(), OpenError> {
    let journaled = reply
        .get_document("config")
        .and_then(|config| config.get_bool("writeConcernMajorityJournalDefault"));
    // Absent means true.
    if journaled.unwrap_or(true) { Ok(()) } else { Err(OpenError::MajorityNotJournaled) }
}

fn says(hello: &Document, name: &str, value: &str) -> bool {
    hello.get_str(name).is_ok_and(|found| found == value)
}

fn may_be_skipped(error: &Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => {
            error.code == UNAUTHORIZED || COMMAND_UNKNOWN.contains(&error.code)
        }
        _ => false,
    }
}

fn check_standalone(hosts: &[ServerAddress]) -> Result<(), OpenError> {
    if !hosts.iter().all(is_loopback) {
        return Err(OpenError::Standalone);
    }
    tracing::warn!("the ledger's mongod is not a replica set: for trying out alone");
    Ok(())
}

fn is_loopback(address: &ServerAddress) -> bool {
    match address {
        ServerAddress::Tcp { host, .. } => {
            host.eq_ignore_ascii_case("localhost")
                || host
                    .trim_matches(['[', ']'])
                    .parse()
                    .is_ok_and(|address: IpAddr| address.is_loopback())
        }
        ServerAddress::Unix { .. } => true,
        _ => false,
    }
}

/// Azure Cosmos DB for MongoDB in its RU form. The vCore form (`mongocluster`) is another
/// program, with write concerns of its own.
fn is_cosmos(hello: &Document, hosts: &[ServerAddress]) -> bool {
    let by_host = |address: &ServerAddress| match address {
        ServerAddress::Tcp { host, .. } => {
            let host = host.to_ascii_lowercase();
            host.ends_with(".mongo.cosmos.azure.com") || host.ends_with(".documents.azure.com")
        }
        _ => false,
    };
    says(hello, "setName", "globaldb") || hosts.iter().any(by_host)
}

/// The lookups' indexes, by their keys.
fn indexes() -> [(&'static str, Document); 2] {
    [
        ("{ \"streams.s\": 1, _id: -1 }", doc! { "streams.s": 1, "_id": -1 }),
        ("{ \"commands.i\": 1 }", doc! { "commands.i": 1 }),
    ]
}

/// Makes the indexes of an empty collection, or waits for those of one that holds blocks.
async fn ensure_indexes(blocks: &Collection<RawDocumentBuf>) -> Result<(), OpenError> {
    let unavailable = |source| OpenError::Unavailable { doing: "indexes", source };
    let any = blocks.find_one(doc! {}).projection(doc! { "_id": 1 }).await;
    if any.map_err(unavailable)?.is_some() {
        await_indexes(blocks).await?;
    }
    // For indexes that exist this changes nothing, but waits while they are still being made.
    let models = indexes().map(|(_, keys)| IndexModel::builder().keys(keys).build());
    blocks.create_indexes(models).await.map_err(unavailable)?;
    let present = list_indexes(blocks).await.map_err(unavailable)?;
    let unique = present.into_iter().find(|(name, _, unique)| *unique && name != "_id_");
    unique.map_or(Ok(()), |(index, ..)| Err(OpenError::UniqueIndex { index }))
}

async fn await_indexes(blocks: &Collection<RawDocumentBuf>) -> Result<(), OpenError> {
    let mut missing = None;
    for _ in 0..INDEX_POLLS {
        let present = list_indexes(blocks).await;
        let present = present
            .map_err(|source| OpenError::Unavailable { doing: "listing indexes", source })?;
        missing = indexes()
            .into_iter()
            .find(|(_, keys)| !present.iter().any(|(_, present, _)| same_keys(present, keys)));
        if missing.is_none() {
            return Ok(());
        }
        tokio::time::sleep(INDEX_POLL_PAUSE).await;
    }
    missing.map_or(Ok(()), |(index, _)| Err(OpenError::MissingIndex { index }))
}

/// Name, keys and uniqueness of each index.
async fn list_indexes(
    blocks: &Collection<RawDocumentBuf>,
) -> Result<Vec<(String, Document, bool)>, Error> {
    let mut cursor = blocks.list_indexes().await?;
    let mut indexes = Vec::new();
    while cursor.advance().await? {
        let IndexModel { keys, options, .. } = cursor.deserialize_current()?;
        let IndexOptions { name, unique, .. } = options.unwrap_or_default();
        indexes.push((name.unwrap_or_default(), keys, unique.unwrap_or_default()));
    }
    Ok(indexes)
}

/// Compares by value: a shell makes doubles of the directions, the driver integers.
fn same_keys(one: &Document, other: &Document) -> bool {
    let direction = |value: &Bson| match value {
        Bson::Int32(value) => Some(f64::from(*value)),
        Bson::Double(value) => Some(*value),
        _ => None,
    };
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|((one, a), (other, b))| one == other && direction(a) == direction(b))
}
