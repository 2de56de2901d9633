//! Ledgers made by hand, and witnesses on free ports.

use std::{path::Path, sync::Arc};

use audit_service::{
    checkpoint::TreeHead,
    clock::Clock,
    witness::{
        client::WitnessSpec,
        request::AddCheckpoint,
        server::{WitnessConfig, run},
    },
};
use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret},
    cosignature::{WitnessKey, WitnessSecret},
};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use domain::{hash::Hash, time::Timestamp};
use sha2_for_ct_merkle::Sha256;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ORIGIN, PATIENCE, name};

/// When every cosignature of these witnesses was made, in seconds since 1970.
pub(crate) const COSIGNED_AT: u64 = 1_679_315_147;

/// A ledger of which every checkpoint and proof can be had, by `ct_merkle`.
pub(crate) struct Log {
    secret: LedgerSecret,
    leaves: Vec<String>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { secret: ledger_secret(), leaves: (0..64).map(|n| format!("leaf {n}")).collect() }
    }

    /// The same ledger up to a position, with other records from there on.
    pub(crate) fn forked_at(size: usize) -> Self {
        let mut log = Self::new();
        log.leaves[size..].iter_mut().for_each(|leaf| leaf.push_str(", forked"));
        log
    }

    pub(crate) fn signed_by(self, secret: LedgerSecret) -> Self {
        Self { secret, ..self }
    }

    fn tree(&self, size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
        let mut tree = MemoryBackedTree::new();
        for leaf in &self.leaves[..usize::try_from(size).unwrap()] {
            tree.push(leaf.clone().into_bytes());
        }
        tree
    }

    pub(crate) fn note(&self, size: u64) -> String {
        let root = if size == 0 {
            Hash::of_nothing()
        } else {
            Hash(self.tree(size).root().as_bytes()[..].try_into().unwrap())
        };
        self.secret.sign(TreeHead { size, root })
    }

    pub(crate) fn proof(&self, from: u64, to: u64) -> Vec<Hash> {
        if from == 0 || from >= to {
            return Vec::new();
        }
        let added = usize::try_from(to - from).unwrap();
        let proof = self.tree(to).prove_consistency(added);
        proof.as_bytes().chunks(32).map(|hash| Hash(hash.try_into().unwrap())).collect()
    }

    /// A request with a genuine proof.
    pub(crate) fn request(&self, old: u64, size: u64) -> AddCheckpoint {
        AddCheckpoint { old, proof: self.proof(old, size), note: self.note(size) }
    }
}

/// The signing key of [`crate::fixture::signer`].
pub(crate) fn ledger_secret() -> LedgerSecret {
    LedgerSecret::new(name(ORIGIN), &[9; 32])
}

pub(crate) fn witness_secret(number: u8) -> WitnessSecret {
    WitnessSecret::new(&format!("witness.test/w{number}"), &[100 + number; 32]).unwrap()
}

/// What a witness answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) text: String,
}

/// A running witness, as one process is.
pub(crate) struct Witness {
    pub(crate) url: String,
    pub(crate) key: WitnessKey,
    pub(crate) folder: Arc<TempDir>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    http: reqwest::Client,
}

impl Witness {
    pub(crate) async fn start(number: u8) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(number, folder, vec![ledger_secret().public()]).await
    }

    pub(crate) async fn start_in(
        number: u8,
        folder: Arc<TempDir>,
        ledgers: Vec<LedgerKey>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, number, folder, ledgers)
    }

    pub(crate) fn start_on(
        listener: TcpListener,
        number: u8,
        folder: Arc<TempDir>,
        ledgers: Vec<LedgerKey>,
    ) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let secret = witness_secret(number);
        let key = secret.public();
        let seconds = i64::try_from(COSIGNED_AT).unwrap();
        let clock: Clock = Arc::new(move || Timestamp::from_millis(seconds * 1_000 + 999));
        let state = folder.path().to_owned();
        let config = WitnessConfig { secret, ledgers, state, clock };
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { run(listener, config, stop).await.unwrap() });
        let http = runtime::client::internal_client();
        Self { url, key, folder, shutdown, task, http }
    }

    /// Another process on the same state, after this one has ended.
    pub(crate) async fn restart(self, number: u8) -> Self {
        let folder = self.folder.clone();
        self.stop().await;
        Self::start_in(number, folder, vec![ledger_secret().public()]).await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
    }

    pub(crate) fn spec(&self) -> WitnessSpec {
        WitnessSpec::new(&self.url, self.key.clone()).unwrap()
    }

    pub(crate) async fn add(&self, request: &AddCheckpoint) -> Said {
        self.post(request.to_text()).await
    }

    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> Said {
        let url = format!("{}/add-checkpoint", self.url);
        let response = self.http.post(url).body(body).timeout(PATIENCE).send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        Said { status, kind, text: response.text().await.unwrap() }
    }

    /// The remembered note.
    pub(crate) fn remembered(&self) -> Option<String> {
        std::fs::read_to_string(self.state_file()).ok()
    }

    pub(crate) fn state_file(&self) -> std::path::PathBuf {
        self.folder.path().join(format!("{ORIGIN}.checkpoint"))
    }

    /// Kept evidence of a kind: the notes that contradicted what was seen.
    pub(crate) fn evidence(&self, kind: &str) -> Vec<String> {
        let folder = self.folder.path().join("evidence").join(kind);
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        let offending = |path: &std::path::PathBuf| is_offending(path);
        paths.filter(offending).map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }
}

fn is_offending(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(".offending.note"))
}
