//! The trace of a client goes in, through and out.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, send, text_body},
    ledger::Ledger,
    otlp::{Collector, Protocol},
    samples::{a_place, patient, random_name},
    system::{Layout, System},
};

use super::{names, trace_of};

/// A trace and a span that a client has.
struct Parent {
    trace: String,
    span: String,
}

impl Parent {
    fn random() -> Self {
        let hex = |digits: usize| {
            format!("{:032x}", rand::random::<u128>() | 1)[32 - digits..].to_owned()
        };
        Self { trace: hex(32), span: hex(16) }
    }

    /// Sends a body with this context, sampled or not.
    async fn post(&self, api: &Api, body: &Value, sampled: bool) -> Answer {
        let parent = format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(sampled));
        let request = text_body(api.request(Method::POST, "/patient"), body);
        let answer = send(request.header("traceparent", parent)).await;
        assert_eq!(trace_of(&answer), self.trace);
        answer
    }
}

async fn system(ratio: &str, collector: &Collector) -> System {
    let settings = tests::otlp::settings(collector.endpoint(), Protocol::Http, ratio);
    let layout = Layout {
        replicas: 1,
        environment: vec![("RUST_LOG".to_owned(), "info,request=debug".to_owned())],
        ..Layout::shared().await
    };
    System::four_processes(layout.telling_all(&settings)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_trace_is_in_spans_logs_ledger_and_answers() {
    let _place = a_place().await;
    let collector = Collector::start().await;
    // Its decision counts, not ours.
    let mut system = system("0", &collector).await;
    let (accepted, refused) = (Parent::random(), Parent::random());
    let clinic = system.clinic();
    let created = accepted.post(&clinic, &patient(&random_name()), true).await.expect(201);
    assert!(created.header("traceparent").unwrap().ends_with("-01"));
    let problem = refused.post(&clinic, &json!({"gender": 7}), true).await.problem(400);
    assert_eq!(problem["trace"], refused.trace, "{problem}");
    let unknown = Parent::random();
    let problem = unknown.post(&system.api(), &json!({}), true).await.problem(401);
    assert_eq!(problem["trace"], unknown.trace, "{problem}");
    let ledger = Ledger::read(&system.compliance()).await;
    let seq = usize::try_from(created.receipt().seq).unwrap();
    let record: Value = ledger.lines[seq].parse().unwrap();
    assert_eq!(record["trace"], accepted.trace, "{record}");
    system.stop_all().await.unwrap();

    let trace = collector.trace(&accepted.trace);
    assert_eq!(trace.root(Some(&accepted.span)), names::DOOR.of(&trace));
    assert_eq!(trace.services(), names::SERVICES.into(), "{trace}");
    let trace = collector.trace(&refused.trace);
    assert_eq!(trace.root(Some(&refused.span)), names::DOOR.of(&trace));
    // A client's mistake is no failure of ours.
    assert!(trace.spans.iter().all(|span| !span.is_error), "{trace}");
    for (program, log) in system.logs() {
        let lines = log.lines().filter_map(|line| line.parse::<Value>().ok());
        let mut traces = lines.filter_map(|line| Some(line["trace"].as_str()?.to_owned()));
        let takes_part = names::SERVICES.iter().any(|service| program.starts_with(service));
        assert_eq!(traces.any(|trace| trace == accepted.trace), takes_part, "{program}:\n{log}");
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_does_not_sample_is_sent_only_when_it_fails() {
    let sampled = Some(false);
    only_failures_are_sent("1", sampled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_is_not_sampled_here_only_failures_are_sent() {
    only_failures_are_sent("0", None).await;
}

/// Requests of clients that sampled or did not, or had no trace, where this share is sampled.
async fn only_failures_are_sent(ratio: &str, sampled: Option<bool>) {
    let _place = a_place().await;
    let collector = Collector::start().await;
    let mut system = system(ratio, &collector).await;
    let clinic = system.clinic();
    let post = async || {
        let body = patient(&random_name());
        match sampled {
            Some(sampled) => Parent::random().post(&clinic, &body, sampled).await,
            None => clinic.post("/patient", &body).await,
        }
    };
    let succeeded = post().await.expect(201);
    assert!(succeeded.header("traceparent").unwrap().ends_with("-00"), "{succeeded:?}");
    system.stop("audit-service-0").await.unwrap();
    let failed = post().await;
    let problem = failed.problem(503);
    assert_eq!(problem["trace"], trace_of(&failed));
    for name in ["gateway", "patient-service-0", "projections"] {
        system.stop(name).await.unwrap();
    }
    let trace = collector.trace(&trace_of(&succeeded));
    assert!(trace.spans.is_empty(), "{trace}");
    let trace = collector.trace(&trace_of(&failed));
    for name in [names::DOOR, names::TO_PATIENTS, names::PATIENTS] {
        assert!(name.of(&trace).is_error, "{name:?}:\n{trace}");
    }
    assert!(trace.is_below(names::PATIENTS.of(&trace), names::DOOR.of(&trace)), "{trace}");
    system.finish().await;
}
