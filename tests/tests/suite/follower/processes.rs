//! Two followers as processes: one follows, and the other takes over when that one dies or sleeps.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{
    http::{Api, send},
    samples::{a_place, id_of, patient, random_name},
    system::{Layout, PATIENCE, System},
};

const NAMES: [&str; 2] = ["projections", "projections-too"];

/// What a follower tells under this name; `None` where it does not answer.
async fn metric(system: &System, follower: &str, name: &str) -> Option<u64> {
    let api = Api::new(system.health_url(follower));
    let request = api.request(reqwest::Method::GET, "/metrics").timeout(Duration::from_secs(5));
    let text = tests::http::try_send(request).await.ok()?.text().to_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok())
}

async fn in_office(system: &System) -> [Option<u64>; 2] {
    let ask = |follower| metric(system, follower, "vitalog_follower_in_office");
    futures::future::join_all(NAMES.map(ask)).await.try_into().unwrap()
}

/// Waits until the offices are as told.
async fn become_so(system: &System, wanted: [Option<u64>; 2]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = in_office(system).await;
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} and not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn is_busy(system: &System) {
    let clinic = system.clinic();
    for _ in 0..5 {
        let body = patient(&random_name());
        let id = id_of(&clinic.post("/patient", &body).await.expect(201).json());
        let _ = clinic.get(&format!("/patient/{id}")).await.expect(200);
        let found = clinic.post("/patient/search", &json!({ "id": id })).await;
        assert_eq!(found.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_followers_follows_through_kills_and_pauses() {
    let _place = a_place().await;
    let mut system = System::four_processes(Layout::shared().await).await;
    system.another_follower(NAMES[1]).unwrap();
    become_so(&system, [Some(1), None]).await;
    // It stands by, and is ready.
    system.start(NAMES[1]).await.unwrap();
    is_busy(&system).await;
    become_so(&system, [Some(1), Some(0)]).await;

    system.program(NAMES[0]).kill().unwrap();
    is_busy(&system).await;
    become_so(&system, [None, Some(1)]).await;
    system.followed().await.unwrap();
    system.spawn(NAMES[0]).unwrap();
    system.ready().await.unwrap();
    become_so(&system, [Some(0), Some(1)]).await;

    // One that sleeps is replaced, and finds that out when it wakes.
    system.program(NAMES[1]).signal("STOP").unwrap();
    is_busy(&system).await;
    become_so(&system, [Some(1), None]).await;
    system.program(NAMES[1]).signal("CONT").unwrap();
    become_so(&system, [Some(1), Some(0)]).await;
    is_busy(&system).await;
    system.followed().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while metric(&system, NAMES[0], "vitalog_follower_lag_records").await != Some(0) {
        assert!(Instant::now() < deadline, "the size is at most some seconds old");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(metric(&system, NAMES[0], "vitalog_follower_lag_seconds").await, Some(0));
    assert_eq!(metric(&system, NAMES[0], "vitalog_follower_parked_streams").await, Some(0));
    let metrics = Api::new(system.health_url(NAMES[0])).request(reqwest::Method::GET, "/metrics");
    let answer = send(metrics).await.expect(200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    system.equals_its_rebuild().await;
    system.finish().await;
}
