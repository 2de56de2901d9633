//! Which address is passed on as the client's.

use http::Method;
use runtime::networks::Network;

use crate::harness::{Door, Upstream, got};

async fn behind(proxies: &[&str]) -> Door {
    let proxies = proxies.iter().map(|text| text.parse::<Network>().unwrap()).collect();
    let change = |settings: &mut gateway::config::Settings| settings.edge.trusted_proxies = proxies;
    Door::before(Upstream::start().await, change).await
}

/// What the upstream is told after these headers.
async fn client(door: &Door, headers: &[(&str, &str)]) -> String {
    let mut request = door.clinic(Method::GET, "/patient/1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    assert_eq!(got(request).await.status, 200);
    let seen = door.patients.last();
    for (name, _) in headers {
        assert_eq!(seen.header(name), None, "{name} went on");
    }
    seen.header("x-vitalog-client").unwrap().to_owned()
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is() {
    let door = behind(&["127.0.0.0/8", "10.0.0.0/8"]).await;
    for (header, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1:4711, 10.0.0.2", "192.0.2.1"),
        ("6.6.6.6, [2001:db8::1]:4711", "2001:db8::1"),
        ("6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
        ("nonsense", "127.0.0.1"),
    ] {
        assert_eq!(client(&door, &[("x-forwarded-for", header)]).await, expected, "{header}");
    }
    let lines = [("x-forwarded-for", "6.6.6.6, 192.0.2.1"), ("x-forwarded-for", "10.0.0.2")];
    assert_eq!(client(&door, &lines).await, "192.0.2.1");
}

#[tokio::test]
async fn nobody_else_is_believed() {
    for proxies in [&[][..], &["10.0.0.0/8"]] {
        let door = behind(proxies).await;
        let headers = [
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
        ];
        assert_eq!(client(&door, &headers).await, "127.0.0.1");
    }
    let door = behind(&["127.0.0.1"]).await;
    let other_headers = [("forwarded", "for=6.6.6.6"), ("x-real-ip", "6.6.6.6")];
    assert_eq!(client(&door, &other_headers).await, "127.0.0.1");
}
