//! A rebuild and its flip while 64 clients write and read through two replicas.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use projections::rebuild::{Options, rebuild};
use reqwest::Method;
use serde_json::{Value, json};
use tests::samples;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    crash::Crash,
    process::Process,
    world::{Backend, World},
};

const CLIENTS: usize = 64;

/// How long the clients go on after the flip is over.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// What the clients saw.
#[derive(Default)]
struct Seen {
    visits: AtomicUsize,
    /// Answers that said that the read models follow later: searches may lack the change then.
    pending: AtomicUsize,
}

/// One client, who asks one replica for what it had the other do.
struct Client<'a> {
    replicas: [&'a Process; 2],
    number: usize,
    seen: &'a Seen,
}

impl Client<'_> {
    async fn ask(&self, replica: usize, method: Method, path: &str, body: Option<&Value>) -> Asked {
        let answer = self.replicas[replica % 2].send(method, path, None, body).await;
        let answer = answer.expect("no connection is lost");
        if answer.pending {
            self.seen.pending.fetch_add(1, Ordering::Relaxed);
        }
        Asked { status: answer.status, body: answer.body, pending: answer.pending }
    }

    /// Who has this insurance number, by the search of a replica.
    async fn insured(&self, replica: usize, number: &str) -> Vec<String> {
        let criteria = json!({ "insuranceNumber": number });
        let found = self.ask(replica, Method::POST, "/patient/search", Some(&criteria)).await;
        match found.status {
            404 => Vec::new(),
            200 => found.body.as_array().unwrap().iter().map(samples::id_of).collect(),
            status => panic!("a search was answered {status}"),
        }
    }

    /// Registers and amends a patient and records a test, and finds each of it at once.
    async fn visit(&self, turn: usize) {
        let insurance = |what: &str| format!("{what}-{}-{turn}", self.number);
        let mut body = samples::patient("LOAD");
        body["insuranceNumber"] = json!(insurance("first"));
        let made = self.ask(turn, Method::POST, "/patient", Some(&body)).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let id = samples::id_of(&made.body);
        let path = format!("/patient/{id}");
        if !made.pending {
            assert_eq!(self.insured(turn + 1, &insurance("first")).await, [id.as_str()]);
        }

        body["id"] = json!(id);
        body["insuranceNumber"] = json!(insurance("second"));
        let amended = self.ask(turn + 1, Method::PUT, &path, Some(&body)).await;
        assert_eq!(amended.status, 200, "{}", amended.body);
        if !amended.pending {
            assert_eq!(self.insured(turn, &insurance("first")).await, [""; 0]);
            assert_eq!(self.insured(turn, &insurance("second")).await, [id.as_str()]);
        }

        let tests = format!("{path}/tests");
        let recorded = self.ask(turn, Method::POST, &tests, Some(&samples::test(1))).await;
        assert_eq!(recorded.status, 201, "{}", recorded.body);
        let listed = self.ask(turn + 1, Method::GET, &tests, None).await;
        assert_eq!((listed.status, &listed.body[0]), (200, &recorded.body));
        self.seen.visits.fetch_add(1, Ordering::Relaxed);
    }
}

struct Asked {
    status: u16,
    body: Value,
    pending: bool,
}

async fn under_load(backend: Backend) {
    let world = World::new(backend).await;
    let one = Process::start(&world, Crash::never()).await;
    let two = Process::start(&world, Crash::never()).await;
    let (seen, ended) = (Seen::default(), AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|number| {
        let client = Client { replicas: [&one, &two], number, seen: &seen };
        let ended = &ended;
        async move {
            let mut turn = 0;
            while !ended.load(Ordering::Relaxed) {
                client.visit(turn).await;
                turn += 1;
            }
        }
    });
    let rebuilding = async {
        // There is something to rebuild before it begins.
        while seen.visits.load(Ordering::Relaxed) < CLIENTS {
            sleep(Duration::from_millis(20)).await;
        }
        let deps = world.deps(world.place.store().await, world.place.ring().await);
        let summary = rebuild(&deps, &Options::default(), &CancellationToken::new()).await;
        sleep(AFTERWARDS).await;
        ended.store(true, Ordering::Relaxed);
        summary.unwrap()
    };
    let (summary, _) = tokio::join!(rebuilding, join_all(clients));
    assert!(summary.serves && summary.differences.is_empty(), "{summary:?}");
    let store = world.place.store().await;
    let pointer = store.pointer().await.unwrap();
    assert_eq!((pointer.serving.0, pointer.also), (summary.generation, None));
    let (visits, pending) =
        (seen.visits.load(Ordering::Relaxed), seen.pending.load(Ordering::Relaxed));
    assert!(pending * 100 <= visits, "{pending} of {visits} were pending");
    world.check("after a flip under load").await;
    one.kill();
    two.kill();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_under_load_is_not_noticed_on_sqlite() {
    let _place = samples::a_place().await;
    under_load(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_under_load_is_not_noticed_on_mongo() {
    let _place = samples::a_place().await;
    under_load(Backend::Mongo).await;
}
