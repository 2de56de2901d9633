//! The client that the other services use.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use audit_client::{AppendError, AuditClient, Options};
use audit_service::store::memory::AppendFault;
use domain::wire::Stored;
use runtime::secrets::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    chain::Chain,
    fixture::{by_command, event, eventually, fresh, mac, patient, read},
    server::{Server, key},
};

/// A connection in between, which can be cut.
#[derive(Clone)]
struct Proxy {
    url: String,
    upstream: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
    answers_to_lose: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = Arc::new(Mutex::new(String::new()));
        let proxy =
            Self { url, upstream, requests: Arc::default(), answers_to_lose: Arc::default() };
        proxy.lead_to(server);
        let this = proxy.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let upstream = this.upstream.lock().unwrap().clone();
                if let Ok(server) = TcpStream::connect(upstream).await {
                    tokio::spawn(this.clone().forward(client, server));
                }
            }
        });
        proxy
    }

    /// New connections go to this server from now on.
    fn lead_to(&self, server: &Server) {
        server.url.strip_prefix("http://").unwrap().clone_into(&mut self.upstream.lock().unwrap());
    }

    /// Forwards until either side ends, or an answer is to be lost: then the server has done
    /// its work, and the client hears nothing of it.
    async fn forward(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            tokio::select! {
                read = client.read(&mut up) => {
                    let Ok(count @ 1..) = read else { return };
                    let starts = up[..count].windows(5).filter(|bytes| bytes == b"POST ").count();
                    self.requests.fetch_add(starts, Ordering::SeqCst);
                    server.write_all(&up[..count]).await.unwrap();
                }
                read = server.read(&mut down) => {
                    let Ok(count @ 1..) = read else { return };
                    let one_less = |left: usize| left.checked_sub(1);
                    let order = Ordering::SeqCst;
                    let lost = self.answers_to_lose.fetch_update(order, order, one_less);
                    if lost.is_ok() || client.write_all(&down[..count]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn client(&self) -> AuditClient {
        AuditClient::start(options(&self.url))
    }
}

fn options(url: &str) -> Options {
    Options::new(url, Secret::new(key("patient-service")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_the_same_time_travel_together() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server).await;
    let client = proxy.client();
    let mut callers = JoinSet::new();
    for number in 0..400 {
        let client = client.clone();
        callers.spawn(async move { (number, client.append(event(number, 1)).await.unwrap()) });
    }
    let receipts = callers.join_all().await;
    let chain = Chain::check(&server.store.blocks());
    assert_eq!(chain.records.len(), 400);
    for (number, receipt) in receipts {
        let seq = usize::try_from(receipt.seq).unwrap();
        assert_eq!(chain.hashes[seq], receipt.hash.to_string());
        assert_eq!(chain.records[seq]["stream"], patient(number).to_string());
    }
    let requests = proxy.requests.load(Ordering::SeqCst);
    assert!(requests <= 40, "{requests} requests for 400 appends");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_lost_is_asked_for_again() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server).await;
    let client = proxy.client();
    for (command, lost) in [(1, 1), (2, 3)] {
        proxy.answers_to_lose.store(lost, Ordering::SeqCst);
        let proposal = fresh(by_command(command, 1, event(command, 1)));
        let receipt = client.append(proposal).await.unwrap();
        assert!(receipt.replayed);
        let chain = Chain::check(&server.store.blocks());
        assert_eq!(chain.with_command(&mac(command).to_string()), [receipt.seq]);
        assert_eq!(chain.hashes[usize::try_from(receipt.seq).unwrap()], receipt.hash.to_string());
    }
    assert_eq!(Chain::check(&server.store.blocks()).records.len(), 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_not_called_fresh_when_the_service_has_forgotten_everything() {
    let server = Server::start().await;
    let proxy = Proxy::start(&server).await;
    proxy.answers_to_lose.store(usize::MAX, Ordering::SeqCst);
    let client = proxy.client();
    let append =
        tokio::spawn(async move { client.append(fresh(by_command(1, 1, event(1, 1)))).await });
    let store = server.store.clone();
    eventually(|| !store.blocks().is_empty()).await;
    server.stop().await;
    let restarted = Server::start_on(&store).await;
    proxy.lead_to(&restarted);
    proxy.answers_to_lose.store(0, Ordering::SeqCst);
    let receipt = append.await.unwrap().unwrap();
    assert_eq!((receipt.seq, receipt.replayed), (0, true));
    assert_eq!(Chain::check(&store.blocks()).records.len(), 1);
    restarted.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_caller_gets_its_own_answer() {
    let server = Server::start().await;
    let client = AuditClient::start(options(&server.url));
    let first = client.append(by_command(1, 1, event(1, 1))).await.unwrap();
    let conflict = client.append(event(1, 1));
    let other_body = client.append(by_command(1, 2, event(1, 2)));
    let bad = client.append(domain::wire::Proposal { data: None, ..event(1, 2) });
    let read = client.append(read(1));
    let (conflict, other_body, bad, read) = tokio::join!(conflict, other_body, bad, read);
    let expected = AppendError::Conflict { stream: patient(1), expected: 0, actual: 1 };
    assert_eq!(conflict, Err(expected));
    assert_eq!(other_body, Err(AppendError::CommandReused));
    assert!(matches!(bad, Err(AppendError::Refused(_))));
    assert_eq!(read.unwrap().current_version, Some(1));

    let line = client.command(&mac(1)).await.unwrap().unwrap();
    assert_eq!(crate::chain::hash(&line), first.hash.to_string());
    assert_eq!(client.stream(patient(1), 1).await.unwrap(), [&*line]);
    assert_eq!(client.records(0, 1, Duration::ZERO).await.unwrap(), [&*line]);
    assert_eq!(client.record(0).await.unwrap(), Some(line));
    assert_eq!(client.record(9).await.unwrap(), None);
    assert_eq!(client.command(&mac(9)).await.unwrap(), None);
    assert!(client.verifier_key().await.unwrap().starts_with("test-ledger+"));
    assert!(client.checkpoint().await.unwrap().starts_with("test-ledger\n2\n"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_gone_stored_nothing_and_says_so_at_once() {
    let server = Server::start().await;
    let url = server.url.clone();
    server.stop().await;
    let started = Instant::now();
    let gone = AuditClient::start(options(&url)).append(event(1, 1)).await;
    assert_eq!(gone, Err(AppendError::Unavailable(Stored::NothingStored)));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_waits_no_longer_than_its_deadline() {
    let server = Server::start().await;
    server.store.fail_append(AppendFault::Hang);
    let append_deadline = Duration::from_millis(300);
    let client = AuditClient::start(Options { append_deadline, ..options(&server.url) });
    let mut callers = JoinSet::new();
    for number in 0..10 {
        let client = client.clone();
        callers.spawn(async move {
            // Some find both requests under way, and wait in this process.
            tokio::time::sleep(Duration::from_millis(number * 10)).await;
            let started = Instant::now();
            let result = client.append(event(number, 1)).await;
            assert_eq!(result, Err(AppendError::Unavailable(Stored::Unknown)));
            started.elapsed()
        });
    }
    for waited in callers.join_all().await {
        assert!(waited < Duration::from_millis(900), "{waited:?}");
    }
    server.store.release();
    eventually(|| !server.store.blocks().is_empty()).await;
    // What nobody waits for any more is not sent.
    client.append(read(1)).await.unwrap();
    Chain::check(&server.store.blocks());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_known_stores_nothing() {
    let server = Server::start().await;
    let client = AuditClient::start(Options::new(&server.url, Secret::new("not-a-key-of-anybody")));
    let refused = client.append(event(1, 1)).await;
    assert_eq!(refused, Err(AppendError::Unavailable(Stored::NothingStored)));
    assert!(client.record(0).await.is_err());
    server.stop().await;
}
