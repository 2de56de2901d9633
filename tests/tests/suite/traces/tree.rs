//! One request is one tree of spans, from the door to both databases.

use reqwest::Method;
use serde_json::json;
use tests::{
    http::{send, text_body},
    otlp::{Collector, Kind, Protocol, Span, Trace},
    samples::{a_place, id_of, patient, random_name, test},
};

use super::{names, one_replica, trace_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_patient_is_one_trace_across_three_services_and_both_stores() {
    let _place = a_place().await;
    let collector = Collector::start().await;
    let mut system = one_replica(&collector.settings(Protocol::Http)).await;
    let created = system.clinic().post("/patient", &patient(&random_name())).await.expect(201);
    // Nothing can come any more then, and nothing may be lost.
    system.stop_all().await.unwrap();

    let trace = collector.trace(&trace_of(&created));
    let root = trace.root(None);
    for (part, of) in [
        (names::TO_PATIENTS, names::DOOR),
        (names::PATIENTS, names::TO_PATIENTS),
        (names::PROPOSAL, names::PATIENTS),
        (names::TO_AUDIT, names::PROPOSAL),
        (names::AUDIT, names::TO_AUDIT),
        (names::APPEND, names::PROPOSAL),
        (names::COMMIT, names::APPEND),
        (names::BLOCK, names::COMMIT),
        (names::APPLY, names::PATIENTS),
    ] {
        let (part, of) = (part.of(&trace), of.of(&trace));
        assert_eq!(part.parent.as_ref(), Some(&of.id), "{part:?} is no part of {of:?}:\n{trace}");
    }
    assert!(trace.is_below(names::WRITE.of(&trace), names::PATIENTS.of(&trace)), "{trace}");
    assert_eq!(root, names::DOOR.of(&trace));
    let (append, commit) = (names::APPEND.of(&trace), names::COMMIT.of(&trace));
    assert!(append.is_linked_to(commit) && commit.is_linked_to(append), "{trace}");
    assert!(names::APPLY.of(&trace).is_linked_to(append), "{trace}");
    assert!(trace.services().iter().all(|it| names::SERVICES.contains(it)), "{trace}");
    assert!(trace.spans.iter().all(|span| !span.is_error), "{trace}");
    conventional(&trace);
    let spans = collector.spans();
    let doors: Vec<&Span> = spans.iter().filter(|span| names::DOOR.is(span)).collect();
    assert_eq!(doors.len(), 1, "{doors:#?}");
    system.finish().await;
}

/// Every kind of request, so that no hop loses its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_request_is_one_tree_across_three_services() {
    let _place = a_place().await;
    let collector = Collector::start().await;
    let mut system = one_replica(&collector.settings(Protocol::Http)).await;
    let clinic = system.clinic();
    let sent = patient(&random_name());
    let created = clinic.post("/patient", &sent).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&created));
    let tests = format!("{path}/tests");
    let recorded = clinic.post(&tests, &test(1)).await.expect(201);
    let a_test = format!("{tests}/{}", id_of(&recorded.json()));
    let mut answers = vec![("POST /patient/{id}/tests", recorded.clone())];
    for (name, method, path, body) in [
        ("GET /patient/{id}", Method::GET, &path, json!({})),
        ("PUT /patient/{id}", Method::PUT, &path, created),
        ("GET /patient/{id}/tests", Method::GET, &tests, json!({})),
        ("GET /patient/{id}/tests/{testId}", Method::GET, &a_test, json!({})),
        ("PUT /patient/{id}/tests/{testId}", Method::PUT, &a_test, recorded.json()),
        ("GET /patient/{id}/history", Method::GET, &format!("{path}/history"), json!({})),
        (
            "POST /patient/search",
            Method::POST,
            &"/patient/search".to_owned(),
            json!({"lastName": sent["lastName"], "firstName": sent["firstName"]}),
        ),
    ] {
        let answer = send(text_body(clinic.request(method, path), &body)).await;
        answers.push((name, answer.expect(200)));
    }
    system.stop_all().await.unwrap();
    for (name, answer) in answers {
        let trace = collector.trace(&trace_of(&answer));
        let root = trace.root(None);
        assert_eq!((root.service.as_str(), root.name.as_str()), ("gateway", name), "{trace}");
        assert_eq!(trace.services(), names::SERVICES.into(), "{trace}");
        let stores = trace.spans.iter().filter(|span| !span.text("db.system.name").is_empty());
        assert!(stores.count() > 0, "{trace}");
        assert!(trace.spans.iter().all(|span| !span.is_error), "{trace}");
        conventional(&trace);
    }
    system.finish().await;
}

/// Names and attributes of OpenTelemetry's semantic conventions for HTTP and for databases.
#[track_caller]
fn conventional(trace: &Trace) {
    for span in &trace.spans {
        let stores = span.attributes.keys().any(|name| name.starts_with("db."));
        match span.kind {
            Kind::Client if stores => {
                assert_eq!(span.text("db.system.name"), "mongodb", "{span:?}");
                let operation = span.text("db.operation.name");
                let collection = span.text("db.collection.name");
                assert!(!span.text("db.namespace").is_empty(), "{span:?}");
                assert!(!operation.is_empty() && !collection.is_empty(), "{span:?}");
                assert_eq!(span.name, format!("{operation} {collection}"));
            }
            Kind::Server | Kind::Client => {
                let method = span.text("http.request.method");
                let server = span.kind == Kind::Server;
                let route = span.text(if server { "http.route" } else { "url.template" });
                assert_eq!(span.name, format!("{method} {route}"), "{span:?}");
                assert!(span.number("http.response.status_code").is_some(), "{span:?}");
                assert!(names::SERVICES.contains(&span.text("service")), "{span:?}");
                assert_eq!(server, span.text("service") == span.service, "{span:?}");
            }
            _ => {}
        }
        assert!(span.ended >= span.started, "{span:?}");
    }
}
