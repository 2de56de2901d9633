//! Requests for the past take turns, and those that wait do not take the places of others.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream::FuturesUnordered};
use http::{Method, StatusCode};
use tokio::time::timeout;

use crate::{
    harness::{Answer, System},
    lossy::Lossy,
};

/// Requests for the past under way: those whose turn it is, and those who wait.
const MOST: usize = 16 + 48;

/// Far shorter than a request for the past may take.
const SOON: Duration = Duration::from_secs(5);

/// What is refused is refused at once.
const MOMENT: Duration = Duration::from_millis(500);

/// Asks for histories and for earlier states in turn.
fn ask(
    system: &System,
    path: &str,
    count: usize,
) -> FuturesUnordered<impl Future<Output = Answer>> {
    let paths = ["/history", "?asOf=0", "/tests?asOf=0"].map(|end| format!("{path}{end}"));
    let ask = |path: &String| system.request_to(1, Method::GET, path).send();
    paths.iter().cycle().take(count).map(ask).collect()
}

#[tokio::test]
async fn too_many_that_wait_are_refused_at_once_and_who_leaves_gives_the_place_back() {
    let mut system = System::start().await;
    let path = system.any_patient().await;
    let (lossy, url) = Lossy::start(&system.audit.url).await;
    system.add_instance(&url).await;

    lossy.stall(true);
    let began = Instant::now();
    let mut asked = ask(&system, &path, MOST + 8);
    for _ in 0..8 {
        let answer = timeout(SOON, asked.next()).await.expect("it is refused at once").unwrap();
        let answer = answer.expect(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.text.contains("too many requests for the past"), "{}", answer.text);
        assert_eq!(answer.body["outcome"], "nothingStored");
    }
    assert!(timeout(MOMENT, asked.next()).await.is_err(), "all others are under way");
    // All that waits for the ledger waits on, and one that needs no turn is let in.
    assert!(timeout(MOMENT, ask(&system, &path, 1).next()).await.is_ok(), "still too many");

    drop(asked);
    let is_refused = async || timeout(MOMENT, ask(&system, &path, MOST).next()).await.is_ok();
    while is_refused().await {
        assert!(began.elapsed() < SOON, "the places of those who left are still taken");
    }
    lossy.stall(false);
    let answered = async {
        let mut asked = ask(&system, &path, 1);
        while asked.next().await.unwrap().status != StatusCode::OK {
            asked = ask(&system, &path, 1);
        }
    };
    timeout(SOON, answered).await.expect("turns come");
}
