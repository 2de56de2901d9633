//! MongoDB for tests: one server that the whole test process shares, and clusters of a test's
//! own to stop, freeze and kill.
//!
//! The shared server is that of `MONGODB_URI` if it is set, else a replica set of one node that
//! is started at first use and ends with the process, however that ends. The program is
//! `VITALOG_MONGOD`, else a `mongod` on the `PATH`, else the one that `tests/run` fetched.

use std::path::{Path, PathBuf};

use anyhow::Context;
use mongodb::{Client, bson::doc};
use tokio::sync::OnceCell;

mod cluster;
mod process;

pub use cluster::{Cluster, User};

static SHARED: OnceCell<ReplicaSet> = OnceCell::const_new();

/// The server that the tests of one process share.
#[derive(Debug)]
pub struct ReplicaSet {
    uri: String,
    /// Kept for as long as the process lives, because the server ends with it.
    _cluster: Option<Cluster>,
}

impl ReplicaSet {
    /// Where it is.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    async fn find_or_start() -> anyhow::Result<Self> {
        if let Some(uri) = environment("MONGODB_URI") {
            return Ok(Self { uri, _cluster: None });
        }
        let cluster = Cluster::start(1).await?;
        Ok(Self { uri: cluster.uri(), _cluster: Some(cluster) })
    }
}

/// The shared server, started if it is not there yet.
///
/// # Panics
/// If there is none and none can be started: without one, no test on MongoDB can pass.
pub async fn replica_set() -> &'static ReplicaSet {
    match SHARED.get_or_try_init(ReplicaSet::find_or_start).await {
        Ok(server) => server,
        Err(error) => panic!("no MongoDB for the tests: {error:#}"),
    }
}

/// Where the shared server is; started if it is not there yet.
pub async fn uri() -> &'static str {
    replica_set().await.uri()
}

/// A database name that no other test, process or earlier run uses. At most 38 bytes, so that
/// a suffix fits before MongoDB's limit of 63.
pub fn database(test: &str) -> String {
    let test: String =
        test.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(20).collect();
    format!("t_{test}_{:015x}", rand::random::<u64>() >> 4)
}

/// Drops the databases of the shared server whose names begin like this. Needed only where the
/// server outlives the tests, so failing is no failure of a test.
pub async fn drop_databases(prefix: &str) {
    let Ok(client) = Client::with_uri_str(uri().await).await else { return };
    for name in client.list_database_names().await.unwrap_or_default() {
        if name.starts_with(prefix) {
            let _ = client.database(&name).run_command(doc! { "dropDatabase": 1 }).await;
        }
    }
}

/// The harness's settings, read in this one place.
#[allow(clippy::disallowed_methods)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The server's program.
fn program() -> anyhow::Result<PathBuf> {
    if let Some(program) = environment("VITALOG_MONGOD") {
        return Ok(program.into());
    }
    let path = environment("PATH").unwrap_or_default();
    let on_the_path = std::env::split_paths(&path).map(|folder| folder.join("mongod"));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = environment("CARGO_TARGET_DIR");
    let target = target.map_or_else(|| workspace.join("target"), |target| workspace.join(target));
    on_the_path
        .chain([target.join("mongod/mongod")])
        .find(|program| program.is_file())
        .context("no mongod found: run ./tests/run once, or set VITALOG_MONGOD or MONGODB_URI")
}
