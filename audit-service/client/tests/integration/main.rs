//! What the client tells the audit service of traces, by a service that writes it down.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use audit_client::{AuditClient, Options};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use clap::Parser;
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::TraceId,
    record::RecordType,
    time::Timestamp,
    wire::{AppendRequest, AppendResponse, AppendResult, Proposal, Receipt},
};
use futures::future::join_all;
use runtime::{
    secrets::Secret,
    spans::{self, TARGET},
    telemetry::{self, TelemetryArgs},
    trace_context::{TRACEPARENT, TraceContext},
};
use tokio::net::TcpListener;
use tracing::{Instrument, Span};

/// Appends of the same moment.
const APPENDS: usize = 20;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

/// What the service was told by a request: its place, and the proposals in it.
type Told = (Option<TraceContext>, Vec<Proposal>);

#[derive(Clone, Default)]
struct Service(Arc<Mutex<Vec<Told>>>);

impl Service {
    async fn start() -> (Self, AuditClient) {
        let service = Self::default();
        let app = Router::new()
            .route("/records/batch", post(append))
            .route("/records/{seq}", get(record))
            .with_state(service.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (service, AuditClient::start(Options::new(url, Secret::new(*b"the key of a service"))))
    }

    fn note(&self, headers: &HeaderMap, proposals: Vec<Proposal>) {
        let place = headers.get(TRACEPARENT).map(|it| it.to_str().unwrap());
        let place = place.map(|place| TraceContext::parse(place).unwrap());
        self.0.lock().unwrap().push((place, proposals));
    }

    fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

async fn append(
    State(service): State<Service>,
    headers: HeaderMap,
    Json(AppendRequest { items }): Json<AppendRequest>,
) -> Json<AppendResponse> {
    let receipt = Receipt {
        seq: 0,
        hash: Hash::ZERO,
        stream: None,
        version: None,
        recorded_at: Timestamp::EPOCH,
        current_version: None,
        replayed: false,
        proof: None,
        span: None,
    };
    let results = items.iter().map(|_| AppendResult::Appended(receipt.clone())).collect();
    service.note(&headers, items);
    Json(AppendResponse { results })
}

async fn record(State(service): State<Service>, headers: HeaderMap) -> StatusCode {
    service.note(&headers, Vec::new());
    StatusCode::NOT_FOUND
}

fn proposal(trace: Option<TraceId>) -> Proposal {
    let actor =
        Actor { id: "clinic".parse().unwrap(), kind: ActorKind::Subscription, roles: vec![] };
    let kind = RecordType::PatientRead;
    Proposal { trace, ..Proposal::new(kind, actor, Purpose::Treatment, Outcome::Success) }
}

/// A request of its own, as a service has it: its span, and the trace that records name.
fn request() -> (Span, TraceId) {
    let span = tracing::info_span!(target: TARGET, parent: None, "request");
    let place = spans::context(&span).unwrap_or_else(TraceContext::generate);
    (span, TraceId::new(place.trace_id()).unwrap())
}

/// Spans belong to a process as a whole, so what holds without them comes first.
#[tokio::test]
async fn the_service_is_told_of_spans_where_somebody_records_them() {
    let (service, client) = Service::start().await;
    let (_, trace) = request();
    client.append(proposal(Some(trace))).await.unwrap();
    client.record(7).await.unwrap();
    for (place, proposals) in service.told() {
        assert_eq!(place, None);
        assert!(proposals.iter().all(|proposal| proposal.span.is_none()));
    }

    // Nobody listens there; what is exported is not the question here.
    let args = ["audit-client", "--otlp-endpoint=http://127.0.0.1:9", "--trace-ratio=1"];
    let _telemetry = telemetry::init("audit-client", &Cli::parse_from(args).telemetry);
    one_request_tells_its_place(&service, &client).await;
    appends_that_travel_together_tell_their_own(&service, &client).await;
    what_nobody_asked_for_is_in_no_trace(&service, &client).await;
    calls_are_counted_by_route();
}

async fn one_request_tells_its_place(service: &Service, client: &AuditClient) {
    let (span, trace) = request();
    client.record(7).instrument(span.clone()).await.unwrap();
    let [(Some(place), _)] = service.told()[..] else { panic!("one request with its place") };
    assert_eq!(place.trace_id(), trace.bytes());
    assert_ne!(place.span_id(), spans::context(&span).unwrap().span_id(), "a span of its own");
    // A record of another trace cannot say where in this one it was proposed.
    for trace in [None, Some(TraceId::new([7; 16]).unwrap())] {
        client.append(proposal(trace)).instrument(span.clone()).await.unwrap();
        assert_eq!(service.told()[0].1[0].span, None);
    }
}

async fn appends_that_travel_together_tell_their_own(service: &Service, client: &AuditClient) {
    let requests: Vec<_> = (0..APPENDS).map(|_| request()).collect();
    let appends = requests
        .iter()
        .map(|(span, trace)| client.append(proposal(Some(*trace))).instrument(span.clone()));
    assert!(join_all(appends).await.iter().all(Result::is_ok));
    let mut seen = 0;
    for (place, proposals) in service.told() {
        let first = proposals[0].trace.unwrap();
        assert_eq!(place.unwrap().trace_id(), first.bytes(), "a child of the first");
        for proposal in &proposals {
            let (asking, _) =
                requests.iter().find(|(_, trace)| Some(*trace) == proposal.trace).unwrap();
            let span = proposal.span.unwrap();
            assert!(span.is_sampled());
            assert_ne!(span.id(), spans::context(asking).unwrap().span_id());
            assert_ne!(span.id(), place.unwrap().span_id());
        }
        seen += proposals.len();
    }
    assert_eq!(seen, APPENDS);
}

async fn what_nobody_asked_for_is_in_no_trace(service: &Service, client: &AuditClient) {
    client.record(7).await.unwrap();
    client.append(proposal(None)).await.unwrap();
    for (place, proposals) in service.told() {
        assert_eq!(place, None);
        assert!(proposals.iter().all(|proposal| proposal.span.is_none()));
    }
}

fn calls_are_counted_by_route() {
    let metrics = runtime::metrics::process().text().unwrap();
    for (method, route, status) in [("POST", "/records/batch", 200), ("GET", "/records/{seq}", 404)]
    {
        let labels = [
            format!("http_request_method=\"{method}\""),
            format!("http_route=\"{route}\""),
            format!("http_response_status_code=\"{status}\""),
            "service=\"audit-service\"".to_owned(),
        ];
        let counted = metrics
            .lines()
            .filter(|line| line.starts_with("http_client_request_duration_seconds_count"))
            .any(|line| labels.iter().all(|label| line.contains(label)));
        assert!(counted, "no {labels:?} in\n{metrics}");
    }
}
