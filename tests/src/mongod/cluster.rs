//! A replica set of a test's own.

mod users;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};

use super::{
    process::{Folder, Guarded},
    program,
};

pub use users::User;

/// How long a server may take to start, or a set to agree on a primary. Far more than either
/// needs, because a machine that also compiles is slow.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long one server may take to say who it is; a frozen one never does.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two looks.
const POLL_PAUSE: Duration = Duration::from_millis(50);

/// Time without a heartbeat after which a primary is replaced. Short, because tests wait for it.
const ELECTION_TIMEOUT_MS: i32 = 1_000;

/// How often members look for each other; several times in an election timeout.
const HEARTBEAT_MS: i32 = 200;

/// The set's name.
const SET: &str = "rs0";

/// A replica set whose members can be frozen and killed. Ends when it is dropped, or with the
/// test process.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// Last, because fields are dropped in order: the servers end before their data does.
    folder: Folder,
}

#[derive(Debug)]
struct Node {
    port: u16,
    data: PathBuf,
    in_a_set: bool,
    /// What the members of a set know each other by that lets in users alone.
    key_file: Option<PathBuf>,
    server: Option<Guarded>,
}

impl Cluster {
    /// Starts a set of this many voting members and waits for its primary.
    pub async fn start(members: usize) -> anyhow::Result<Self> {
        Self::start_in(Folder::new()?, members, None).await
    }

    /// As [`Cluster::start`], with its data under a folder that is there.
    pub async fn start_under(folder: &Path, members: usize) -> anyhow::Result<Self> {
        Self::start_in(Folder::under(folder)?, members, None).await
    }

    async fn start_in(
        folder: Folder,
        members: usize,
        key_file: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let mut nodes = Vec::with_capacity(members);
        for (number, port) in free_ports(members)?.into_iter().enumerate() {
            let data = folder.path().join(number.to_string());
            fs::create_dir(&data)?;
            let key_file = key_file.clone();
            let mut node = Node { port, data, in_a_set: true, key_file, server: None };
            node.start()?;
            nodes.push(node);
        }
        let cluster = Self { nodes, folder };
        for node in &cluster.nodes {
            node.answer().await?;
        }
        cluster.initiate().await?;
        cluster.primary().await?;
        Ok(cluster)
    }

    /// Starts a single server that is no replica set.
    pub async fn start_standalone() -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let data = folder.path().join("0");
        fs::create_dir(&data)?;
        let port = free_ports(1)?[0];
        let mut node = Node { port, data, in_a_set: false, key_file: None, server: None };
        node.start()?;
        let cluster = Self { nodes: vec![node], folder };
        cluster.nodes[0].answer().await?;
        Ok(cluster)
    }

    /// Where the set is.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(Node::host).collect();
        format!("mongodb://{}/?replicaSet={SET}", hosts.join(","))
    }

    /// Where one member is, for a client that shall see no other.
    pub fn member_uri(&self, node: usize) -> String {
        format!("mongodb://{}/?directConnection=true", self.nodes[node].host())
    }

    /// The member that is primary, once exactly one says so.
    pub async fn primary(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut primaries = Vec::new();
            for (number, node) in self.nodes.iter().enumerate() {
                let hello = node.hello().await;
                if hello.is_some_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                    primaries.push(number);
                }
            }
            if let [primary] = primaries[..] {
                return Ok(primary);
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        bail!(
            "no primary was elected in {PATIENCE:?}; logs are in {}",
            self.folder.path().display()
        )
    }

    /// The process of a member.
    pub fn pid(&self, node: usize) -> anyhow::Result<u32> {
        let server = self.nodes[node].server.as_ref().context("this member does not run")?;
        Ok(server.pid())
    }

    /// Freezes a member: its connections stay open, but nothing is answered.
    pub fn pause(&self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].signal("STOP")
    }

    /// Lets a frozen member continue where it was.
    pub fn resume(&self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].signal("CONT")
    }

    /// Kills a member without warning.
    pub fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].signal("KILL")?;
        self.nodes[node].server = None;
        Ok(())
    }

    /// Starts a killed member again, with the data that it had.
    pub async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].start()?;
        self.nodes[node].answer().await
    }

    async fn initiate(&self) -> anyhow::Result<()> {
        let members: Vec<Document> = (0_i32..)
            .zip(&self.nodes)
            .map(|(number, node)| doc! { "_id": number, "host": node.host() })
            .collect();
        let configuration = doc! {
            "_id": SET,
            "members": members,
            "settings": {
                "electionTimeoutMillis": ELECTION_TIMEOUT_MS,
                "heartbeatIntervalMillis": HEARTBEAT_MS,
            },
        };
        let admin = self.nodes[0].client().await?.database("admin");
        admin.run_command(doc! { "replSetInitiate": configuration }).await?;
        Ok(())
    }
}

impl Node {
    fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let data = self.data.display().to_string();
        let port = self.port.to_string();
        let log = format!("{data}/log");
        let mut arguments = vec!["--bind_ip", "127.0.0.1", "--port", &port, "--dbpath", &data];
        arguments.extend(["--logpath", &log, "--logappend", "--nounixsocket"]);
        arguments.extend(["--wiredTigerCacheSizeGB", "0.5"]);
        // For `failCommand`, by which a test makes the server answer as it rarely does.
        arguments.extend(["--setParameter", "enableTestCommands=1"]);
        if self.in_a_set {
            arguments.extend(["--replSet", SET, "--oplogSize", "512"]);
        }
        let key_file = self.key_file.as_ref().map(|file| file.display().to_string());
        if let Some(file) = &key_file {
            arguments.extend(["--auth", "--keyFile", file]);
        }
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        self.server = None;
        self.server = Some(Guarded::start(&program()?, &arguments)?);
        Ok(())
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        self.server.as_ref().context("this member does not run")?.signal(name)
    }

    /// Waits until the server answers at all.
    async fn answer(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.hello().await.is_some() {
                return Ok(());
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
        let log = fs::read_to_string(self.data.join("log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        bail!("mongod did not start in {PATIENCE:?}: {last:#?}")
    }

    async fn hello(&self) -> Option<Document> {
        let hello = async {
            let admin = self.client().await.ok()?.database("admin");
            admin.run_command(doc! { "hello": 1 }).await.ok()
        };
        tokio::time::timeout(HELLO_TIMEOUT, hello).await.ok().flatten()
    }

    /// A client that sees this member alone.
    async fn client(&self) -> anyhow::Result<Client> {
        let mut options = ClientOptions::parse(format!("mongodb://{}", self.host())).await?;
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(HELLO_TIMEOUT);
        options.connect_timeout = Some(HELLO_TIMEOUT);
        Ok(Client::with_options(options)?)
    }
}

/// Ports that were free a moment ago, all different because they were taken at once.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
