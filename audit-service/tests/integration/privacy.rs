//! What clients send never shows in answers to bad requests, nor in logs.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::{Value, json};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    fixture::{by_command, event, read},
    server::Server,
};

/// The levels at which this product's own code may be logged, all of them.
const LEVELS: &str =
    "info,audit_service=trace,audit_client=trace,runtime=trace,domain=trace,request=trace";

/// Log lines in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let filter = EnvFilter::new(LEVELS);
        tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(self.clone()).finish()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The log of one test that runs on one thread.
pub(crate) struct Logs {
    lines: Lines,
    _guard: DefaultGuard,
}

impl Logs {
    pub(crate) fn of_this_thread() -> Self {
        everything();
        let lines = Lines::default();
        Self { _guard: tracing::subscriber::set_default(lines.subscriber()), lines }
    }

    pub(crate) fn lines_with(&self, text: &str) -> Vec<String> {
        let lines = self.lines.text();
        lines.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// The log of the whole test process, from the first call on.
pub(crate) fn everything() -> &'static impl Fn() -> String {
    static ALL: OnceLock<Box<dyn Fn() -> String + Send + Sync>> = OnceLock::new();
    ALL.get_or_init(|| {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(lines.subscriber()).unwrap();
        Box::new(move || lines.text())
    })
}

const CANARY: &str = "CanaryOfJoanDoe";

/// Bodies that hold the canary in every place where a client could put it.
fn bad_bodies() -> Vec<String> {
    let with = |member: &str, value: Value| {
        let mut proposal = serde_json::to_value(by_command(1, 1, event(1, 1))).unwrap();
        proposal[member] = value;
        proposal.to_string()
    };
    let mut bodies = vec![
        CANARY.to_owned(),
        format!("\"{CANARY}\""),
        format!("{{\"{CANARY}\":1}}"),
        format!("{{\"type\":\"{CANARY}\"}}"),
        with(CANARY, json!(1)),
        with("trace", json!({ CANARY: CANARY })),
        json!({ "items": [{ "type": CANARY }] }).to_string(),
        json!({ "items": [], CANARY: 1 }).to_string(),
        json!({ "sourceSystemName": format!("{CANARY} of somewhere") }).to_string(),
        json!({ "sourceSystemName": "x", "resource": CANARY }).to_string(),
        json!({ "sourceSystemName": "x", "resource": { "type": format!("{CANARY} {CANARY}") } })
            .to_string(),
        json!({ "sourceSystemName": "x", "id": CANARY, "createdDate": CANARY }).to_string(),
        // The one name that is repeated is that of a field, as the older system did.
        json!({ "sourceSystemName": { "a": CANARY } }).to_string(),
    ];
    for member in ["data", "stream", "type", "purpose", "outcome", "client", "object", "actor"] {
        bodies.push(with(member, json!(CANARY)));
    }
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sent_is_never_repeated() {
    let logs = everything();
    let server = Server::start().await;
    for (caller, path) in [
        ("patient-service", "/records"),
        ("patient-service", "/records/batch"),
        ("old-clinic", "/api/auditrecord"),
    ] {
        for body in bad_bodies() {
            let answer = server.post(caller, path, body.clone()).await;
            assert!(answer.status >= 400, "{path} took {body}");
            assert!(!answer.text.contains(CANARY), "{path}: {}", answer.text);
        }
    }
    for path in [
        format!("/{CANARY}"),
        format!("/records/{CANARY}"),
        format!("/records?from={CANARY}"),
        format!("/records?{CANARY}=1"),
        format!("/streams/patient/{CANARY}/records"),
        format!("/streams/{CANARY}"),
        format!("/commands/{CANARY}"),
    ] {
        let answer = server.get("patient-service", &path).await;
        assert!(answer.status >= 400, "{path}");
        assert!(!answer.text.contains(CANARY), "{path}: {}", answer.text);
    }
    let unknown = server.get_with_key(CANARY, "/records").await;
    assert_eq!(unknown.status, 401);
    assert!(!unknown.text.contains(CANARY));
    assert!(server.store.blocks().is_empty());
    server.stop().await;
    assert!(logs().contains("\"request\""), "nothing was logged at all");
    assert!(!logs().contains(CANARY), "the canary is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_content_is_in_the_ledger_and_in_no_log() {
    let logs = everything();
    let server = Server::start().await;
    let proposal = event(1, 1);
    let data = proposal.data.clone().unwrap();
    let ciphertext = data.rsplit('.').nth(1).unwrap().to_owned();
    for body in [json!(proposal), json!(read(1)), json!(event(1, 9))] {
        server.post("patient-service", "/records", body.to_string()).await;
    }
    let line = server.get("projections", "/records/0").await.text;
    assert!(line.contains(&data));
    server.stop().await;
    assert!(!logs().contains(&ciphertext));
}
