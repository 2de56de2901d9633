//! SIGTERM: what is under way is finished, what only waits is let go.

use std::time::{Duration, Instant};

use reqwest::Method;
use tests::{
    http::send,
    programs::POLL_PAUSE,
    samples::{a_place, id_of, patient, random_name},
    system::{PATIENCE, Store, System},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_requests_finish() {
    let _place = a_place().await;
    let mut system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    let sent = patient(&random_name()).to_string();
    let (first, second) = sent.split_at(10);
    let (first, second) = (first.to_owned(), second.to_owned());
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go, goes_on) = tokio::sync::oneshot::channel::<()>();
    // The first half of the body, and the second one only when the system is stopping.
    let body = futures::stream::unfold(
        (0, Some(begun), Some(goes_on), first, second),
        |(part, begun, goes_on, first, second)| async move {
            match part {
                0 => Some((
                    Ok::<_, std::io::Error>(first.clone()),
                    (1, begun, goes_on, first, second),
                )),
                1 => {
                    let _ = begun.map(|begun| begun.send(()));
                    let _ = goes_on?.await;
                    Some((Ok(second.clone()), (2, None, None, first, second)))
                }
                _ => None,
            }
        },
    );
    let request = clinic.request(Method::POST, "/patient").body(reqwest::Body::wrap_stream(body));
    let answer = tokio::spawn(send(request));
    begins.await.unwrap();
    // The head must have arrived: a connection without a request is not waited for.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waiting = system.compliance();
    let long_poll = tokio::spawn(async move {
        let path = "/audit/records?from=1000000&wait=30";
        tests::http::try_send(waiting.request(Method::GET, path)).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    system.program("standalone").signal("TERM").unwrap();
    refuses_connections(system.api().base()).await;
    go.send(()).unwrap();
    let created = answer.await.unwrap().expect(201);
    assert!(created.header("audit-receipt").is_some());
    let begun = Instant::now();
    let status = system.program("standalone").wait(Duration::from_secs(15)).await.unwrap();
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let _ = long_poll.await.unwrap();

    system.start("standalone").await.unwrap();
    let path = format!("/patient/{}", id_of(&created.json()));
    assert_eq!(system.clinic().get(&path).await.expect(200).json(), created.json());
    system.finish().await;
}

async fn refuses_connections(base: &str) {
    let address = base.trim_start_matches("http://").to_owned();
    let deadline = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        assert!(Instant::now() < deadline, "it still listens");
        tokio::time::sleep(POLL_PAUSE).await;
    }
}
