//! What fills one compartment leaves the others their places.

use std::num::NonZeroU16;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::any;
use gateway::config::Places;
use http::Method;
use tokio::sync::Semaphore;

use crate::harness::{COMPLIANCE, Door, Got, KEY_HEADER, PRIVACY, Upstream, got};

const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

/// A service that holds requests which ask for it until they are let go, and answers others at once.
struct Holding {
    app: Router,
    reached: Arc<Semaphore>,
    release: Arc<Semaphore>,
}

impl Holding {
    fn new() -> Self {
        let (reached, release) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (enter, leave) = (Arc::clone(&reached), Arc::clone(&release));
        let held = any(async move |request: Request| {
            if request.uri().query().is_some_and(|query| query.contains("hold")) {
                enter.add_permits(1);
                leave.acquire().await.unwrap().forget();
            }
            "{}".into_response()
        });
        Self { app: Router::new().fallback(held), reached, release }
    }
}

/// One request of each kind, with a key that may send it.
const KINDS: [(Method, &str, &str, &str); 4] = [
    (Method::POST, "/patient", "commands", crate::harness::CLINIC),
    (Method::GET, "/patient/1", "reads", crate::harness::CLINIC),
    (Method::POST, "/patient/search", "searches", crate::harness::CLINIC),
    (Method::GET, "/audit/records", "ledger", COMPLIANCE),
];

#[track_caller]
fn busy(answer: &Got, is_command: bool) {
    let message = answer.problem(503);
    assert!(message.contains("too many requests at once"), "{message}");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json()["outcome"] == "nothingStored", is_command, "{answer:?}");
    assert_eq!(message.contains("nothing was stored"), is_command, "{message}");
}

#[tokio::test]
async fn a_full_compartment_answers_503_and_the_others_go_on() {
    const PLACES: u16 = 3;
    for (method, path, full, key) in KINDS {
        let holding = Holding::new();
        let both = (holding.app.clone(), holding.app.clone());
        let audit = Upstream::serving(both.0, Arc::default()).await;
        let patients = Upstream::serving(both.1, Arc::default()).await;
        let door = Door::before(patients, |settings| {
            let places = NonZeroU16::new(PLACES).unwrap();
            settings.places =
                Places { commands: places, reads: places, searches: places, ledger: places };
            settings.audit.url = audit.url();
        })
        .await;
        let send = |method: &Method, path: &str, key: &str| {
            let request = door.request(method.clone(), path).header(KEY_HEADER, key);
            tokio::spawn(got(request.body("{}")))
        };
        let held: Vec<_> =
            (0..PLACES).map(|_| send(&method, &format!("{path}?hold"), key)).collect();
        holding.reached.acquire_many(PLACES.into()).await.unwrap().forget();
        assert_eq!(door.metric_now(&format!("in_flight{{places=\"{full}\"}}")).await, 3);

        for (other, path, name, key) in KINDS {
            let answer = send(&other, path, key).await.unwrap();
            if name == full {
                busy(&answer, name == "commands");
            } else {
                assert_eq!(answer.status, 200, "{full} are full, {name}: {answer:?}");
            }
        }
        // What is answered here needs no place.
        assert_eq!(got(door.clinic(Method::GET, "/echo/resource")).await.status, 200);
        assert_eq!(door.metric_now(&format!("refusals_total{{reason=\"busy_{full}\"}}")).await, 1);
        holding.release.add_permits(PLACES.into());
        for request in held {
            assert_eq!(request.await.unwrap().status, 200);
        }
        assert_eq!(send(&method, path, key).await.unwrap().status, 200);
        assert_eq!(door.metric_now(&format!("in_flight{{places=\"{full}\"}}")).await, 0);
    }
}

#[tokio::test]
async fn what_may_take_long_has_places_of_its_own() {
    let holding = Holding::new();
    let patients = Upstream::serving(holding.app.clone(), Arc::default()).await;
    let door = Door::before(patients, |settings| {
        settings.places.searches = NonZeroU16::MIN;
    })
    .await;
    let search = door.clinic(Method::POST, "/patient/search?hold").body("{}");
    let held = tokio::spawn(got(search));
    holding.reached.acquire().await.unwrap().forget();
    for (path, key) in [
        (format!("/patient/{ID}/history"), crate::harness::CLINIC),
        (format!("/patient/{ID}/activity"), crate::harness::CLINIC),
        ("/audit/activity".to_owned(), COMPLIANCE),
        ("/audit/fhir/AuditEvent".to_owned(), COMPLIANCE),
    ] {
        busy(&got(door.request(Method::GET, &path).header(KEY_HEADER, key)).await, false);
    }
    let erase = door.request(Method::POST, &format!("/patient/{ID}/erase"));
    assert_eq!(got(erase.header(KEY_HEADER, PRIVACY).body("{}")).await.status, 200);
    holding.release.add_permits(1);
    assert_eq!(held.await.unwrap().status, 200);
}
