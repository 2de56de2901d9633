//! What stands between two services: a connection that can be cut, and a balancer of requests.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use reqwest::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// Bytes forwarded at once.
const CHUNK: usize = 64 * 1024;

/// What a [`TcpProxy`] does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards.
    Forward,
    /// Forwards each piece after this time, in both directions.
    Slow(Duration),
    /// Closes every connection, old and new.
    Refuse,
}

/// Forwards connections to one address, and fails in the ways that networks do.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    control: Arc<Control>,
    // Ends the proxy when it is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Control {
    target: String,
    mode: watch::Sender<Mode>,
    doom: Mutex<Option<Doom>>,
    posts: AtomicUsize,
}

/// Requests whose answers get lost.
#[derive(Debug, Clone, Copy)]
struct Doom {
    /// What their first line begins with.
    request: &'static str,
    left: usize,
}

impl TcpProxy {
    /// Listens on a free port of loopback and forwards to `target`, which need not be there yet.
    pub async fn start(target: impl Into<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, _) = watch::channel(Mode::Forward);
        let control = Arc::new(Control {
            target: target.into(),
            mode,
            doom: Mutex::default(),
            posts: AtomicUsize::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&control)));
        Ok(Self { address, control, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does; [`Mode::Refuse`] cuts the open connections, too.
    pub fn set(&self, mode: Mode) {
        self.control.mode.send_replace(mode);
    }

    /// The next `count` HTTP/1.1 requests whose first line begins with `request` are forwarded,
    /// and their connections are cut when the answer begins to arrive.
    pub fn lose_answers(&self, request: &'static str, count: usize) {
        *self.control.doom() = Some(Doom { request, left: count });
    }

    /// HTTP/1.1 requests to append or change something that were forwarded.
    pub fn posts(&self) -> usize {
        self.control.posts.load(Ordering::Relaxed)
    }

    /// How many answers are still to be lost.
    pub fn answers_to_lose(&self) -> usize {
        self.control.doom().map_or(0, |doom| doom.left)
    }
}

impl Control {
    /// Waits as long as the mode wants before a piece is forwarded.
    async fn hold(&self) {
        let mode = *self.mode.borrow();
        if let Mode::Slow(time) = mode {
            tokio::time::sleep(time).await;
        }
    }

    fn doom(&self) -> std::sync::MutexGuard<'_, Option<Doom>> {
        self.doom.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the answer to what begins with these bytes is to be lost.
    fn dooms(&self, bytes: &[u8]) -> bool {
        let mut doom = self.doom();
        match doom.as_mut() {
            Some(doom) if doom.left > 0 && bytes.starts_with(doom.request.as_bytes()) => {
                doom.left -= 1;
                true
            }
            _ => false,
        }
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(client, Arc::clone(&control)));
    }
}

async fn connection(client: TcpStream, control: Arc<Control>) {
    let mut mode = control.mode.subscribe();
    if *mode.borrow() == Mode::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(&control.target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let doomed = watch::Sender::new(false);
    tokio::select! {
        () = requests(from_client, to_server, &control, &doomed) => {}
        () = answers(from_server, to_client, &control, doomed.subscribe()) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    control: &Control,
    doomed: &watch::Sender<bool>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        if chunk.starts_with(b"POST ") {
            control.posts.fetch_add(1, Ordering::Relaxed);
        }
        if control.dooms(&chunk[..count]) {
            doomed.send_replace(true);
        }
        control.hold().await;
        if to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    control: &Control,
    doomed: watch::Receiver<bool>,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        control.hold().await;
        if *doomed.borrow() || to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}

/// Sends each HTTP request to the next of several replicas, so that a client with one connection
/// meets all of them.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    replicas: Replicas,
    // Ends the balancer when it is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Replicas {
    all: Arc<[Replica]>,
    next: Arc<AtomicUsize>,
    http: reqwest::Client,
}

#[derive(Debug)]
struct Replica {
    url: String,
    is_out: AtomicBool,
}

impl Balancer {
    /// Listens on a free port of loopback.
    pub async fn start(urls: Vec<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let http = runtime::client::internal_client();
        let all = urls.into_iter().map(|url| Replica { url, is_out: AtomicBool::new(false) });
        let replicas = Replicas { all: all.collect(), next: Arc::default(), http };
        let app = Router::new().fallback(forward).with_state(replicas.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, replicas, _tasks: tasks })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether a replica gets requests from now on; at first each does.
    pub fn let_in(&self, replica: usize, is_in: bool) {
        self.replicas.all[replica].is_out.store(!is_in, Ordering::SeqCst);
    }
}

async fn forward(State(replicas): State<Replicas>, request: Request) -> Response {
    replicas.forward(request).await.unwrap_or_else(|_| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

impl Replicas {
    fn next(&self) -> &Replica {
        let one = || &self.all[self.next.fetch_add(1, Ordering::SeqCst) % self.all.len()];
        let found = self.all.iter().map(|_| one()).find(|one| !one.is_out.load(Ordering::SeqCst));
        found.unwrap_or_else(one)
    }

    async fn forward(&self, request: Request) -> anyhow::Result<Response> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().context("a path")?;
        let mut headers = parts.headers;
        headers.remove(reqwest::header::HOST);
        let body = to_bytes(body, usize::MAX).await?;
        let send = || {
            let url = format!("{}{path}", self.next().url);
            let request = self.http.request(parts.method.clone(), url).headers(headers.clone());
            request.body(body.clone()).send()
        };
        let answer = match send().await {
            // It was taken out after it was chosen, and took no connection any more.
            Err(error) if error.is_connect() => send().await?,
            answer => answer?,
        };
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(Body::from(answer.bytes().await?));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response.headers_mut().remove(reqwest::header::TRANSFER_ENCODING);
        Ok(response)
    }
}
