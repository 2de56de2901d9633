//! A ledger over HTTP that says whatever a test wants it to say.

use std::{convert::Infallible, sync::Arc};

use audit_service::{block::Block, checkpoint::TreeHead, store::memory::MemoryLedger};
use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    hash::Hash,
    merkle::{Frontier, Node, Subtree, consistency_path, inclusion_path},
};
use futures::StreamExt;
use serde_json::json;
use tokio::net::TcpListener;

use crate::fixture::{self, Machine, event};

/// The key of every server here.
pub(crate) const KEY: &str = "the-key-that-must-never-show";

type RecordsChange = Arc<dyn Fn(usize, String) -> Response + Send + Sync>;
type TextChange = Arc<dyn Fn(&str, String) -> Response + Send + Sync>;

/// What a server shows and serves; each test changes what it is about.
#[derive(Clone)]
pub(crate) struct Fake {
    /// The honest lines.
    pub(crate) lines: Arc<Vec<String>>,
    /// The verifier key.
    pub(crate) key: String,
    /// The key history that it lists.
    pub(crate) keys: String,
    /// The signed checkpoint.
    pub(crate) checkpoint: String,
    /// Lines of one answer at most.
    pub(crate) page: usize,
    /// What becomes of an answer with records: the first seq and the honest bytes come in.
    pub(crate) records: RecordsChange,
    /// What becomes of any other answer: the path, and the honest text.
    pub(crate) text: TextChange,
    /// Whether it is the gateway, under `/audit`.
    pub(crate) is_gateway: bool,
}

/// The lines of a real ledger with so many records.
pub(crate) async fn lines_of(count: u64) -> Vec<String> {
    let store = MemoryLedger::new();
    let running = Machine::new().open(&store).await;
    for n in 0..count {
        fixture::receipt(running.append(event(n % 2, 1 + n / 2)).await);
    }
    running.stop().await;
    store.blocks().into_iter().flat_map(|block: Block| block.lines).collect()
}

pub(crate) fn head_of(lines: &[String]) -> TreeHead {
    let mut frontier = Frontier::default();
    for line in lines {
        frontier.push(Hash::of_line(line));
    }
    TreeHead { size: frontier.size(), root: frontier.root() }
}

/// The signed checkpoint over these lines.
pub(crate) fn note_of(lines: &[String]) -> String {
    fixture::signer().sign(&fixture::keys(), head_of(lines)).unwrap()
}

impl Fake {
    /// An honest server of the audit service's kind.
    pub(crate) fn honest(lines: &[String]) -> Self {
        Self {
            lines: Arc::new(lines.to_vec()),
            key: fixture::keys().newest().to_string(),
            keys: fixture::keys().to_string(),
            checkpoint: note_of(lines),
            page: 10_000,
            records: Arc::new(|_, bytes| bytes.into_response()),
            text: Arc::new(|_, text| text.into_response()),
            is_gateway: false,
        }
    }

    /// Changes what is served as records.
    pub(crate) fn with_records(
        mut self,
        change: impl Fn(usize, String) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.records = Arc::new(change);
        self
    }

    /// Changes every other answer.
    pub(crate) fn with_text(
        mut self,
        change: impl Fn(&str, String) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.text = Arc::new(change);
        self
    }

    /// Serves; the address of it, until the test ends.
    pub(crate) async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/key", get(key))
            .route("/keys", get(keys))
            .route("/checkpoint", get(checkpoint))
            .route("/records", get(records))
            .route("/records/{seq}", get(record))
            .route("/records/{seq}/proof", get(proof))
            .route("/consistency", get(consistency));
        let routes = if self.is_gateway { Router::new().nest("/audit", routes) } else { routes };
        let guarded = routes
            .layer(middleware::from_fn_with_state(self.is_gateway, require_key))
            .with_state(self);
        tokio::spawn(async move { axum::serve(listener, guarded).await.unwrap() });
        url
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree(self.lines.iter().map(|line| Hash::of_line(line)).collect())
    }
}

async fn require_key(
    State(is_gateway): State<bool>,
    headers: HeaderMap,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let name = if is_gateway { "ocp-apim-subscription-key" } else { "x-functions-key" };
    if headers.get(name).is_some_and(|value| value == KEY) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

async fn key(State(fake): State<Fake>) -> Response {
    (fake.text)("/key", format!("{}\n", fake.key))
}

async fn keys(State(fake): State<Fake>) -> Response {
    (fake.text)("/keys", fake.keys)
}

async fn checkpoint(State(fake): State<Fake>) -> Response {
    (fake.text)("/checkpoint", fake.checkpoint)
}

async fn records(State(fake): State<Fake>, RawQuery(query): RawQuery) -> Response {
    let (from, limit) = (number(query.as_deref(), "from"), number(query.as_deref(), "limit"));
    let page = fake.lines.iter().skip(from).take(limit.min(fake.page));
    let bytes = page.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat();
    (fake.records)(from, bytes)
}

async fn record(State(fake): State<Fake>, Path(seq): Path<usize>) -> Response {
    match fake.lines.get(seq) {
        Some(line) => (fake.text)("/records/seq", format!("{line}\n")),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn proof(
    State(fake): State<Fake>,
    Path(seq): Path<u64>,
    RawQuery(query): RawQuery,
) -> Response {
    let size = match value(query.as_deref(), "size") {
        "latest" => fake.lines.len(),
        number => number.parse().unwrap(),
    };
    let lines = &fake.lines[..size];
    let hashes = fake.tree().hashes(&inclusion_path(seq, size as u64).unwrap());
    let hashes: Vec<String> = hashes.iter().map(|hash| format!("{hash}\n")).collect();
    let (hashes, checkpoint) = (hashes.concat(), note_of(lines));
    let text = format!("c2sp.org/tlog-proof@v1\nindex {seq}\n{hashes}\n{checkpoint}");
    (fake.text)("/proof", text)
}

async fn consistency(State(fake): State<Fake>, RawQuery(query): RawQuery) -> Response {
    let (from, to) = (number(query.as_deref(), "from"), number(query.as_deref(), "to"));
    (fake.text)("/consistency", fake.tree().consistency(from, to))
}

fn value<'a>(query: Option<&'a str>, name: &str) -> &'a str {
    let pairs = query.unwrap().split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(found, _)| *found == name).unwrap().1
}

fn number(query: Option<&str>, name: &str) -> usize {
    value(query, name).parse().unwrap()
}

/// A tree by its leaves, from which every node can be computed by the definition.
pub(crate) struct Tree(Vec<Hash>);

impl Tree {
    /// RFC 6962 §2.1, word for word.
    fn root(&self, begin: usize, end: usize) -> Hash {
        match end - begin {
            0 => Hash::of_nothing(),
            1 => self.0[begin],
            leaves => {
                let split = begin + leaves.next_power_of_two() / 2;
                Hash::of_node(self.root(begin, split), self.root(split, end))
            }
        }
    }

    fn hashes(&self, path: &[Subtree]) -> Vec<String> {
        let at = |level: u8, index: u64| usize::try_from(index << level).unwrap();
        let node = |node: Node| {
            let (begin, end) = (at(node.level, node.index), at(node.level, node.index + 1));
            Ok::<_, Infallible>(self.root(begin, end))
        };
        path.iter().map(|part| STANDARD.encode(part.hash(node).unwrap().0)).collect()
    }

    /// The answer of `/consistency`.
    pub(crate) fn consistency(&self, from: usize, to: usize) -> String {
        let head = |size| json!({ "size": size, "root": self.root(0, size).to_string() });
        let hashes = self.hashes(&consistency_path(from as u64, to as u64).unwrap());
        json!({ "from": head(from), "to": head(to), "hashes": hashes }).to_string()
    }
}

/// An answer with a body far longer than any honest one. It ends, at 64 MiB, so that a reader
/// without a bound is caught instead of filling memory.
pub(crate) fn endless() -> Response {
    let chunk = || Ok::<_, Infallible>("x".repeat(64 * 1024));
    Body::from_stream(futures::stream::repeat_with(chunk).take(1_024)).into_response()
}

/// An answer that breaks off after its beginning.
pub(crate) fn broken_off(beginning: String) -> Response {
    let chunks = [Ok(beginning), Err(std::io::Error::other("broken off"))];
    Body::from_stream(futures::stream::iter(chunks)).into_response()
}
