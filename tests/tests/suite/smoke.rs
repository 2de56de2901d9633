//! The smoke test, on a deployment of four processes, and on ones that are not as they should be.

use std::process::{Command, Output};

use axum::{Router, http::StatusCode};
use tests::{
    mongod, programs, samples,
    system::{Layout, System},
};

fn smoke(url: &str, arguments: &[String], keys: &[(&str, String)]) -> Output {
    let mut command = Command::new(programs::built("smoke").unwrap());
    command.arg(url).args(arguments).env_clear();
    for (name, key) in keys {
        command.env(name, format!("env:{name}_VALUE")).env(format!("{name}_VALUE"), key);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap()
}

/// A door that answers everything so; its address.
async fn door(status: StatusCode, content: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = async move || (status, [("content-type", content)], "{}");
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_as_it_should_be_passes_and_one_that_shows_its_services_does_not() {
    let _place = samples::a_place().await;
    let system = System::four_processes(Layout::on(mongod::uri().await)).await;
    let url = &system.addresses().gateway;
    let keys = [
        ("VITALOG_SMOKE_KEY", system.key("clinic")),
        ("VITALOG_SMOKE_AUDIT_KEY", system.key("compliance")),
        ("VITALOG_SMOKE_ERASE_KEY", system.key("privacy")),
    ];
    let shown = system.clinic().get("/audit/key").await.expect(200).text().to_owned();
    let other_door = door(StatusCode::NOT_FOUND, "text/html").await;
    let good = [
        "--internal=no-such-host.invalid:443".to_owned(),
        "--internal=127.0.0.1:1".to_owned(),
        "--internal=https://no-such-host.invalid".to_owned(),
        "--internal=mongodb+srv://no-such-host.example.invalid".to_owned(),
        format!("--internal={other_door}"),
        format!("--ledger-pub={}", shown.trim()),
    ];
    let output = smoke(url, &good, &keys);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("ok        ").count(), 14, "{text}");
    assert!(!text.contains("left out"), "{text}");
    for (_, key) in &keys {
        assert!(!text.contains(key.as_str()), "{text}");
    }

    // Without keys it says what it has not looked at.
    let output = smoke(url, &[], &[]);
    let text = said(&output);
    assert!(output.status.success() && text.matches("left out").count() == 6, "{text}");

    // An internal service that can be reached; a key that may not write; a key of another ledger.
    let internal = system.addresses().audit_service.trim_start_matches("http://").to_owned();
    let mongo = format!("mongodb://{}", mongod::uri().await.split('/').nth(2).unwrap());
    let refuses = door(StatusCode::UNAUTHORIZED, "application/problem+json").await;
    let places = [internal.clone(), format!("http://{internal}"), mongo, refuses, "x".into()];
    let named: Vec<_> = places.iter().map(|place| format!("--internal={place}")).collect();
    let output = smoke(url, &named, &keys);
    for place in places {
        let failed = format!("FAILED    not reachable: {place}");
        assert!(said(&output).contains(&failed), "{failed} in {}", said(&output));
    }
    assert_eq!(output.status.code(), Some(1));
    let wrong = [("VITALOG_SMOKE_KEY", system.key("compliance"))];
    let output = smoke(url, &[], &wrong);
    assert!(said(&output).contains("FAILED    create"), "{}", said(&output));
    assert_eq!(output.status.code(), Some(1));
    let other = super::ledger_processes::ledger_secret().public();
    let output = smoke(url, &[format!("--ledger-pub={other}")], &keys);
    assert!(said(&output).contains("FAILED    prove"), "{}", said(&output));
}

/// Something answers, but it is not a gateway of ours: everybody is let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lets_everybody_in_does_not_pass() {
    let url = door(StatusCode::OK, "text/plain").await;
    let output = smoke(&url, &[], &[("VITALOG_SMOKE_KEY", "key".to_owned())]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for check in ["health and document", "refuse: no key, wrong key", "refuse: bad input", "create"]
    {
        assert!(text.contains(&format!("FAILED    {check}")), "{text}");
    }
    // Nobody answers at all; and an address that is not encrypted.
    for url in ["http://127.0.0.1:1", "http://gateway.invalid"] {
        let output = smoke(url, &[], &[]);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    }
    let text = said(&smoke("http://gateway.invalid", &[], &[]));
    assert!(text.contains("FAILED    encrypted"), "{text}");
}
