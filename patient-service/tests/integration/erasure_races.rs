//! What is under way on one replica while another erases the patient: nothing of hers is answered
//! or kept after the erasure was answered.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use domain::record::RecordType;
use http::{Method, StatusCode};
use projections::{
    documents::Generation,
    store::{
        ReadModels, StoreError,
        hooked::{Call, Hook, Hooked},
    },
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    harness::{Answer, Request, System, text},
    samples,
};

/// Which call of the store is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After this read has its result.
    After(&'static str),
    /// Before this read.
    Before(&'static str),
    /// Before changes are applied.
    Apply,
}

/// Holds the first such call once it is armed, until it is let go.
struct Hold {
    at: At,
    armed: AtomicBool,
    reached: Notify,
    go: Notify,
}

struct Holding(Arc<Hold>);

impl Holding {
    async fn pass(&self, here: At) {
        if here == self.0.at && self.0.armed.swap(false, Ordering::SeqCst) {
            self.0.reached.notify_one();
            self.0.go.notified().await;
        }
    }
}

#[async_trait]
impl Hook for Holding {
    async fn before(&self, call: Call<'_>) -> Result<(), StoreError> {
        match call {
            Call::Apply(_) => self.pass(At::Apply).await,
            Call::Read(name) => self.pass(At::Before(name)).await,
            Call::Write(_) => {}
        }
        Ok(())
    }

    async fn after(&self, call: Call<'_>) -> Result<(), StoreError> {
        if let Call::Read(name) = call {
            self.pass(At::After(name)).await;
        }
        Ok(())
    }
}

/// Two replicas, the second of which can be held, and a patient with a test whom both know.
struct Race {
    system: System,
    hold: Arc<Hold>,
    created: Value,
    path: String,
}

impl Race {
    async fn prepare(at: At) -> Self {
        let mut system = System::start().await;
        let (reached, go) = (Notify::new(), Notify::new());
        let hold = Arc::new(Hold { at, armed: AtomicBool::new(false), reached, go });
        let store = Hooked::new(Arc::new(system.store.clone()), Holding(hold.clone()));
        let url = system.audit.url.clone();
        system.add_instance_over(&url, Arc::new(store)).await;
        let post = |path: &str, body: Value| {
            let request = system.request_to(1, Method::POST, path);
            request.header("idempotency-key", "k1").json(&body).send()
        };
        let created = post("/patient", canary()).await.expect(StatusCode::CREATED).body;
        let path = format!("/patient/{}", text(&created, "id"));
        let test = post(&format!("{path}/tests"), canary_test()).await;
        test.expect(StatusCode::CREATED);
        Self { system, hold, created, path }
    }

    fn request(&self, method: Method, path: &str) -> Request {
        self.system.request_to(1, method, path)
    }

    /// Sends a request to the second replica, erases the patient through the first while it is
    /// held, and gives its answer, which shows nothing of her.
    async fn run(&self, request: Request) -> Answer {
        self.hold.armed.store(true, Ordering::SeqCst);
        let held = tokio::spawn(request.send());
        self.hold.reached.notified().await;
        let erased = self.system.erase(0, &self.path).send().await;
        erased.expect(StatusCode::NO_CONTENT);
        self.hold.go.notify_one();
        let answer = held.await.unwrap();
        assert!(!answer.text.contains("CANARY"), "{answer:?}");
        answer
    }

    /// Nothing of her is stored.
    async fn nothing_is_left(&self) {
        let (store, first) = (&self.system.store, Generation(1));
        let patients = store.scan_patients(first, None, 10).await.unwrap();
        let tests = store.scan_tests(first, None, 10).await.unwrap();
        let shown = format!("{patients:?} {tests:?}");
        assert!(tests.iter().all(|test| test.current.is_none()), "{shown}");
        assert!(shown.contains("Erased") && !shown.contains("Active"), "{shown}");
    }
}

fn canary() -> Value {
    let mut body = samples::patient();
    body["firstName"] = "CANARY".into();
    body
}

fn canary_test() -> Value {
    let mut body = samples::test();
    body["performer"] = "CANARY".into();
    body
}

#[tokio::test]
async fn a_search_that_found_her_before_shows_nothing() {
    for at in [At::After("search"), At::Before("cursors")] {
        let race = Race::prepare(at).await;
        let search = race.request(Method::POST, "/patient/search").json(&json!({}));
        let answer = race.run(search).await.expect(StatusCode::NOT_FOUND);
        // What was found first was recorded and not shown; the answer has its own record.
        let searches = race.system.records_of(RecordType::PatientsSearched);
        let shown: Vec<_> = searches.iter().map(|record| record.subjects.len()).collect();
        assert_eq!(shown, [1, 0], "{at:?}");
        assert!(answer.receipt().starts_with(&format!("seq={}, ", searches[1].seq)));
    }
}

#[tokio::test]
async fn a_search_shows_the_others_whom_it_found() {
    let race = Race::prepare(At::After("search")).await;
    let other = race.system.registered(&samples::patient()).await;
    let search = race.request(Method::POST, "/patient/search").json(&json!({}));
    let answer = race.run(search).await.expect(StatusCode::OK);
    assert_eq!(answer.body, json!([other]));
}

#[tokio::test]
async fn a_read_that_has_her_data_shows_nothing() {
    for (at, path) in [
        (At::After("patient"), ""),
        (At::After("patient"), "/tests"),
        (At::After("tests"), "/tests"),
    ] {
        let race = Race::prepare(at).await;
        let read = race.request(Method::GET, &format!("{}{path}", race.path));
        race.run(read).await.expect(StatusCode::NOT_FOUND);
    }
    let race = Race::prepare(At::After("test")).await;
    let tests = race.request(Method::GET, &format!("{}/tests", race.path)).send().await;
    let test = text(&tests.body[0], "id").to_owned();
    let read = race.request(Method::GET, &format!("{}/tests/{test}", race.path));
    race.run(read).await.expect(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_command_sent_again_that_waits_for_the_read_model_is_gone() {
    let race = Race::prepare(At::Apply).await;
    let again = race.request(Method::POST, "/patient").header("idempotency-key", "k1");
    race.run(again.json(&canary())).await.expect(StatusCode::GONE);
    race.nothing_is_left().await;
}

#[tokio::test]
async fn a_write_that_is_recorded_before_and_applied_after_leaves_nothing() {
    let race = Race::prepare(At::Apply).await;
    let mut body = samples::test();
    body["orderReference"] = "order-2".into();
    let tests = format!("{}/tests", race.path);
    let write = race.request(Method::POST, &tests).json(&body);
    race.run(write).await.expect(StatusCode::CREATED);
    race.nothing_is_left().await;
    race.request(Method::GET, &tests).send().await.expect(StatusCode::NOT_FOUND);

    let race = Race::prepare(At::Apply).await;
    let mut body = race.created.clone();
    body["firstName"] = "JANE".into();
    let write = race.request(Method::PUT, &race.path).json(&body);
    race.run(write).await.expect(StatusCode::OK);
    race.nothing_is_left().await;
}

#[tokio::test]
async fn a_write_that_was_decided_before_is_not_recorded() {
    let race = Race::prepare(At::After("patient")).await;
    let write = race.request(Method::POST, &format!("{}/tests", race.path));
    race.run(write.json(&samples::test())).await.expect(StatusCode::NOT_FOUND);
    assert_eq!(race.system.records_of(RecordType::TestRecorded).len(), 1);
    race.nothing_is_left().await;
}

#[tokio::test]
async fn erasures_and_writes_at_once_end_in_one_erasure() {
    let system = System::with_instances(3).await;
    let path = system.any_patient().await;
    let tests = format!("{path}/tests");
    let writes = (0..12).map(|turn| {
        let request = system.request_to(turn % 3, Method::POST, &tests);
        request.json(&samples::test()).send()
    });
    let erasures = (0..3).map(|instance| system.erase(instance, &path).send());
    let (writes, erasures) =
        tokio::join!(futures::future::join_all(writes), futures::future::join_all(erasures));
    for answer in writes {
        assert!([StatusCode::CREATED, StatusCode::NOT_FOUND].contains(&answer.status));
    }
    let erased = system.records_of(RecordType::PatientErased);
    assert_eq!(erased.len(), 1);
    for answer in erasures {
        let answer = answer.expect(StatusCode::NO_CONTENT);
        assert!(answer.receipt().starts_with(&format!("seq={}, ", erased[0].seq)));
    }
    let last = system.records().into_iter().rfind(|record| record.version.is_some()).unwrap();
    assert_eq!(last.record_type, RecordType::PatientErased);
    let left = system.store.scan_tests(Generation(1), None, 100).await.unwrap();
    assert!(left.iter().all(|test| test.current.is_none()));
}

#[tokio::test]
async fn a_key_in_the_memory_of_another_replica_opens_nothing() {
    let system = System::with_instances(2).await;
    let post = |instance| {
        let request = system.request_to(instance, Method::POST, "/patient");
        request.header("idempotency-key", "k1").json(&canary()).send()
    };
    let created = post(1).await.expect(StatusCode::CREATED).body;
    let path = format!("/patient/{}", text(&created, "id"));
    // Answered from the ledger, so that the second replica unwraps the key.
    post(1).await.expect(StatusCode::CREATED);
    system.erase(0, &path).send().await.expect(StatusCode::NO_CONTENT);

    let tests = format!("{path}/tests");
    let ask = |method: Method, path: &str| system.request_to(1, method, path);
    for (request, status) in [
        (ask(Method::GET, &path), StatusCode::NOT_FOUND),
        (ask(Method::GET, &tests), StatusCode::NOT_FOUND),
        (ask(Method::POST, "/patient/search").json(&json!({})), StatusCode::NOT_FOUND),
        (ask(Method::PUT, &path).json(&samples::moved(&created, "1")), StatusCode::BAD_REQUEST),
        (ask(Method::PUT, &path).json(&samples::moved(&created, "4321")), StatusCode::NOT_FOUND),
        (ask(Method::POST, &tests).json(&samples::test()), StatusCode::NOT_FOUND),
        (ask(Method::DELETE, &path), StatusCode::NOT_FOUND),
    ] {
        let answer = request.send().await.expect(status);
        assert!(!answer.text.contains("CANARY"), "{answer:?}");
    }
    for instance in [0, 1] {
        let again = post(instance).await.expect(StatusCode::GONE);
        assert!(!again.text.contains("CANARY"));
    }
    assert_eq!(system.records_of(RecordType::PatientAmended).len(), 0);
}
