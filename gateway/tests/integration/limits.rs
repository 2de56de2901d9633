//! What a subscription is refused besides scopes.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use gateway::config::Settings;
use gateway::subscriptions::{Entry, Scope, write_file};
use http::Method;
use tokio::time::timeout;

use crate::harness::{BARE, CLINIC, Door, Got, KEY_HEADER, Upstream, entry, got};

const PATIENCE: Duration = Duration::from_secs(10);

fn limited(limit: impl FnOnce(&mut Entry)) -> Vec<Entry> {
    let mut clinic = entry("clinic", &[Scope::PatientRead], &[CLINIC]);
    limit(&mut clinic);
    vec![clinic, entry("bare", &[], &[BARE])]
}

/// A gateway with a clinic that is limited so.
async fn door(limit: impl FnOnce(&mut Entry)) -> Door {
    door_with(limit, |_| {}).await
}

async fn door_with(limit: impl FnOnce(&mut Entry), change: impl FnOnce(&mut Settings)) -> Door {
    let entries = limited(limit);
    Door::serving(Upstream::start().await, &entries, change).await
}

async fn read(door: &Door) -> Got {
    got(door.clinic(Method::GET, "/patient/1")).await
}

#[tokio::test]
async fn more_than_the_burst_is_refused_until_the_rate_allows_it_again() {
    let door = door(|clinic| {
        (clinic.rate, clinic.burst) = (NonZeroU32::new(1), NonZeroU32::new(3));
    })
    .await;
    for _ in 0..3 {
        assert_eq!(read(&door).await.status, 200);
    }
    let refused = read(&door).await;
    assert_eq!(refused.problem(429), "Rate limit is exceeded. Try again in 1 seconds.");
    assert_eq!(refused.retry_after(), 1);
    assert_eq!(door.patients.count(), 3);
    // A key that is not known is no subscription's.
    let unknown = door.request(Method::GET, "/patient/1").header(KEY_HEADER, "canary-unknown");
    got(unknown).await.problem(401);
    let other = door.request(Method::GET, "/echo/resource").header(KEY_HEADER, BARE);
    assert_eq!(got(other).await.status, 200);
    let waiting = Instant::now();
    while read(&door).await.status == 429 {
        assert!(waiting.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(door.patients.count(), 4);
}

#[tokio::test]
async fn refused_requests_are_charged_to_the_rate() {
    let door = door(|clinic| {
        (clinic.rate, clinic.burst) = (NonZeroU32::new(1), NonZeroU32::new(2));
    })
    .await;
    for _ in 0..2 {
        got(door.clinic(Method::DELETE, "/patient/1")).await.problem(403);
    }
    got(door.clinic(Method::DELETE, "/patient/1")).await.problem(429);
    read(&door).await.problem(429);
}

#[tokio::test]
async fn a_rate_goes_on_when_something_else_changes_and_begins_anew_when_it_does() {
    fn limit(clinic: &mut Entry, burst: u32) {
        (clinic.rate, clinic.burst) = (NonZeroU32::new(1), NonZeroU32::new(burst));
    }
    // So slow that nothing comes back while this test runs would be better, but a second is the
    // slowest rate there is: the burst tells the one limiter from the other.
    let door = door(|clinic| limit(clinic, 100)).await;
    for _ in 0..50 {
        assert_eq!(read(&door).await.status, 200);
    }
    let path = door.subscriptions_path();
    let with_marker = |burst| {
        let mut entries = limited(|clinic| limit(clinic, burst));
        entries.push(entry("marker", &[], &["canary-marker"]));
        entries
    };
    write_file(&path, &with_marker(100)).unwrap();
    door.until("canary-marker", 200).await;
    let mut admitted = 0;
    while read(&door).await.status == 200 {
        admitted += 1;
    }
    assert!((50..90).contains(&admitted), "{admitted}");
    let mut entries = with_marker(101);
    entries.pop();
    write_file(&path, &entries).unwrap();
    door.until("canary-marker", 401).await;
    assert_eq!(read(&door).await.status, 200);
}

#[tokio::test]
async fn a_suspended_subscription_is_refused_whichever_key_it_uses() {
    let door = door(|clinic| clinic.suspended = true).await;
    assert_eq!(read(&door).await.problem(403), "the subscription is suspended");
    let echo = door.clinic(Method::GET, "/echo/resource");
    got(echo).await.problem(403);
    assert_eq!(door.patients.count(), 0);
}

#[tokio::test]
async fn a_subscription_expires_without_anybody_doing_anything() {
    static NOW: AtomicI64 = AtomicI64::new(1_000);
    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(NOW.load(Ordering::SeqCst), 0).unwrap()
    }
    let door = door_with(
        |clinic| clinic.expires = DateTime::from_timestamp(2_000, 0),
        |settings| settings.clock = now,
    )
    .await;
    NOW.store(1_999, Ordering::SeqCst);
    assert_eq!(read(&door).await.status, 200);
    NOW.store(2_000, Ordering::SeqCst);
    assert_eq!(read(&door).await.problem(403), "the subscription has expired");
}

#[tokio::test]
async fn a_subscription_is_refused_from_other_networks() {
    #[track_caller]
    fn check(networks: &'static [&'static str], status: u16) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
            let door = door(|clinic| clinic.networks = networks).await;
            assert_eq!(read(&door).await.status, status, "{caller}");
            assert_eq!(door.patients.count(), usize::from(status == 200), "{caller}");
        }
    }
    check(&["127.0.0.0/8"], 200).await;
    check(&["127.0.0.1/32"], 200).await;
    check(&["10.0.0.0/8", "0.0.0.0/0"], 200).await;
    check(&["127.0.0.2/32"], 403).await;
    check(&["10.0.0.0/8", "2001:db8::/32"], 403).await;
    check(&["::/0"], 403).await;
}

#[tokio::test]
async fn a_client_over_ipv6_is_known_by_its_own_address() {
    let networks = |text: &str| vec![text.parse().unwrap()];
    for (network, v6, status) in [
        ("::1/128", true, 200),
        ("2001:db8::/32", true, 403),
        ("127.0.0.0/8", true, 403),
        // An IPv4 client of a listener for both.
        ("127.0.0.0/8", false, 200),
        ("::ffff:0:0/96", false, 403),
    ] {
        let door = Door::listening(
            "[::]:0",
            Upstream::start().await,
            &limited(|clinic| clinic.networks = networks(network)),
            |_| {},
        )
        .await;
        let host = if v6 { "[::1]" } else { "127.0.0.1" };
        let url = format!("http://{host}:{}/patient/1", door.address.port());
        let request = reqwest::Client::new().get(url).header(KEY_HEADER, CLINIC);
        assert_eq!(got(request).await.status, status, "{network} {host}");
    }
}

#[tokio::test]
async fn the_refusal_that_comes_first_is_the_one_that_is_told() {
    let door = door(|clinic| {
        clinic.rate = NonZeroU32::new(4);
        clinic.quota_day = NonZeroU64::new(1);
        clinic.networks = vec!["10.0.0.0/8".parse().unwrap()];
        clinic.suspended = true;
    })
    .await;
    let path = door.subscriptions_path();
    let wrong_scope = || door.clinic(Method::DELETE, "/patient/1");
    assert!(got(wrong_scope()).await.problem(403).contains("suspended"));
    let change = async |marker: &str, limit: &dyn Fn(&mut Entry)| {
        let mut entries = limited(|clinic| {
            clinic.quota_day = NonZeroU64::new(1);
            limit(clinic);
        });
        entries.push(entry("marker", &[], &[marker]));
        write_file(&path, &entries).unwrap();
        door.until(marker, 200).await;
    };
    change("canary-one", &|clinic| clinic.networks = vec!["10.0.0.0/8".parse().unwrap()]).await;
    assert!(got(wrong_scope()).await.problem(403).contains("network"));
    change("canary-two", &|_| {}).await;
    // What is refused is not charged to the quota.
    for _ in 0..3 {
        assert!(got(wrong_scope()).await.problem(403).contains("patient:write"));
    }
    assert_eq!(read(&door).await.status, 200);
    assert!(read(&door).await.problem(403).starts_with("Out of call volume quota"));
    assert!(got(wrong_scope()).await.problem(403).contains("patient:write"));
}

/// A minute before the end of a month.
fn end_of_month() -> DateTime<Utc> {
    "2026-11-30T23:59:00Z".parse().unwrap()
}

#[tokio::test]
async fn a_quota_holds_over_a_restart_and_until_its_period_ends() {
    let limit = |clinic: &mut Entry| {
        (clinic.quota_day, clinic.quota_month) = (NonZeroU64::new(5), NonZeroU64::new(7));
    };
    let at = |settings: &mut Settings| settings.clock = end_of_month;
    let mut first = door_with(limit, at).await;
    for _ in 0..3 {
        assert_eq!(read(&first).await.status, 200);
    }
    first.stop().await;
    let second = first.again(at).await;
    for _ in 0..2 {
        assert_eq!(read(&second).await.status, 200);
    }
    let refused = read(&second).await;
    let message = "Out of call volume quota. Quota will be replenished in 00:01:00.";
    assert_eq!(refused.problem(403), message);
    assert_eq!(refused.retry_after(), 60);

    // What was counted is beside the file within a second, so that a crash loses no more.
    let usage = second.directory.path().join("subscriptions.toml.usage");
    let stored = async {
        while !std::fs::read_to_string(&usage).unwrap().contains(r#""clinic/2026-11-30":5"#) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, stored).await.unwrap();
}

#[tokio::test]
async fn a_monthly_quota_outlives_the_day() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(NOW.load(Ordering::SeqCst), 0).unwrap()
    }
    let at = |text: &str| {
        let time: DateTime<Utc> = text.parse().unwrap();
        NOW.store(time.timestamp(), Ordering::SeqCst);
    };
    at("2026-11-24T12:00:00Z");
    let door = door_with(
        |clinic| (clinic.quota_day, clinic.quota_month) = (NonZeroU64::new(2), NonZeroU64::new(3)),
        |settings| settings.clock = now,
    )
    .await;
    for (time, status, retry) in [
        ("2026-11-24T12:00:00Z", 200, 0),
        ("2026-11-24T23:00:00Z", 200, 0),
        ("2026-11-24T23:59:58Z", 403, 2),
        ("2026-11-25T00:00:00Z", 200, 0),
        ("2026-11-25T00:00:00Z", 403, 6 * 86_400),
        ("2026-12-01T00:00:00Z", 200, 0),
    ] {
        at(time);
        let answer = read(&door).await;
        assert_eq!(answer.status, status, "{time}");
        assert_eq!(
            answer.header("retry-after").map_or(0, |_| answer.retry_after()),
            retry,
            "{time}"
        );
    }
}
