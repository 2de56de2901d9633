//! Connecting, and refusing deployments that cannot keep the promises of the port.

use std::{net::IpAddr, time::Duration};

use mongodb::{
    Client, Collection,
    bson::{Document, RawDocumentBuf, doc},
    error::{Error, ErrorKind},
    options::{
        Acknowledgment, ClientOptions, CollectionOptions, ReadConcern, ReadPreference,
        SelectionCriteria, ServerAddress, WriteConcern,
    },
};

use super::{indexes, pool, tiles};

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

/// The client, the blocks and the tiles.
type Opened = (Client, Collection<RawDocumentBuf>, Collection<RawDocumentBuf>);

pub(super) async fn open(
    uri: &str,
    database: &str,
    options: MongoOptions,
) -> Result<Opened, OpenError> {
    let opened = open_to_read(uri, database, options).await?;
    indexes::ensure(&opened.1).await?;
    Ok(opened)
}

pub(super) async fn open_to_read(
    uri: &str,
    database: &str,
    options: MongoOptions,
) -> Result<Opened, OpenError> {
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
    let database = client.database(database);
    let blocks = database.collection_with_options(COLLECTION, collection_options.clone());
    let tiles = database.collection_with_options(tiles::COLLECTION, collection_options);
    Ok((client, blocks, tiles))
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
    options.cmap_event_handler = Some(pool::measured(&runtime::metrics::meter(), "ledger"));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hosts(addresses: &[&str]) -> Vec<ServerAddress> {
        addresses.iter().map(|address| ServerAddress::parse(address).unwrap()).collect()
    }

    #[test]
    fn a_standalone_server_is_for_loopback_alone() {
        #[track_caller]
        fn check(addresses: &[&str], allowed: bool) {
            assert_eq!(check_standalone(&hosts(addresses)).is_ok(), allowed, "{addresses:?}");
        }
        check(&["127.0.0.1:27017"], true);
        check(&["127.8.0.1"], true);
        check(&["LocalHost"], true);
        check(&["[::1]:27017"], true);
        check(&["10.0.0.1"], false);
        check(&["localhost.example.org"], false);
        check(&["127.0.0.1", "10.0.0.1"], false);
    }

    #[test]
    fn cosmos_is_known_by_its_hosts_or_its_set() {
        #[track_caller]
        fn check(hello: &Document, address: &str, expected: bool) {
            assert_eq!(is_cosmos(hello, &hosts(&[address])), expected, "{address}");
        }
        check(&doc! {}, "clinic.mongo.cosmos.azure.com:10255", true);
        check(&doc! {}, "CLINIC.mongo.cosmos.azure.com:10255", true);
        check(&doc! {}, "clinic.documents.azure.com:10255", true);
        check(&doc! { "setName": "globaldb" }, "10.0.0.1", true);
        check(&doc! { "msg": "isdbgrid" }, "clinic.mongocluster.cosmos.azure.com", false);
        check(&doc! { "setName": "rs0" }, "127.0.0.1", false);
    }

    #[test]
    fn majorities_are_journaled_unless_it_is_switched_off() {
        assert!(check_configuration(&doc! { "config": {} }).is_ok());
        let off = doc! { "config": { "writeConcernMajorityJournalDefault": false } };
        assert!(matches!(check_configuration(&off), Err(OpenError::MajorityNotJournaled)));
    }
}
