//! What a back end gets of appends. One test alone: telemetry is the process's.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::{Name, PatientId, SpanRef, Stream},
    record::RecordType,
    wire::{AppendResult, Proposal},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message;
use runtime::{
    health::Readiness,
    metrics::Meters,
    secrets::Secret,
    telemetry::{self, OtlpProtocol, TelemetryArgs},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    AuditLedger, Parts,
    admit::place_nowhere,
    checkpoint::{CheckpointFile, CheckpointSigner, new_signing_key},
    outside::Outside,
    seal::SealKeys,
    service::system_clock,
    store::{
        LedgerStore,
        memory::{AppendFault, MemoryLedger},
        observed::Observed,
    },
};

type Received = Arc<Mutex<Vec<Span>>>;

async fn take(State(received): State<Received>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let parts = request.resource_spans.into_iter().flat_map(|part| part.scope_spans);
    received.lock().unwrap().extend(parts.flat_map(|scope| scope.spans));
}

/// Where spans go, and what came.
async fn receiver() -> (TelemetryArgs, Received) {
    let received = Received::default();
    let app = Router::new()
        .route("/v1/traces", post(take))
        .route("/v1/metrics", post(async || ()))
        .with_state(received.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = TelemetryArgs {
        otlp_endpoint: Some(format!("http://{}", listener.local_addr().unwrap())),
        otlp_protocol: OtlpProtocol::HttpProtobuf,
        otlp_headers: None,
        application_insights: None,
        trace_ratio: "1".parse().unwrap(),
    };
    tokio::spawn(async move { axum::serve(listener, app).await });
    (args, received)
}

async fn open(store: impl LedgerStore, folder: &tempfile::TempDir) -> AuditLedger {
    let key = new_signing_key(&"test-ledger".parse().unwrap(), [1; 32]);
    let parts = Parts {
        store: Arc::new(store),
        signer: CheckpointSigner::from_secret(&Secret::new(key.as_bytes())).unwrap(),
        seal_keys: SealKeys::new([2; 32]),
        checkpoint_file: CheckpointFile::new(folder.path().join("checkpoint")),
        clock: system_clock(),
        outside: Outside::default(),
    };
    let (readiness, tasks) = (Readiness::default(), TaskTracker::new());
    let (shutdown, abandon) = (CancellationToken::new(), CancellationToken::new());
    let meter = Meters::default().meter();
    AuditLedger::open_measured(parts, &readiness, &tasks, &shutdown, &abandon, &meter)
        .await
        .unwrap()
}

/// A proposal of trace and span of this number.
fn proposal(record_type: RecordType, of: u8, sampled: bool) -> Proposal {
    let name: Name = "clinic".parse().unwrap();
    let actor = Actor { id: name, kind: ActorKind::Subscription, roles: Vec::new() };
    Proposal {
        stream: Some(Stream::Patient(PatientId::new(Uuid::from_u128(7)))),
        trace: Some(hex::encode([of; 16]).parse().unwrap()),
        span: SpanRef::new([of; 8], sampled),
        ..Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
    }
}

/// All of them wait before the appender looks: it runs on this thread.
async fn append(ledger: &AuditLedger, proposals: Vec<Proposal>) -> Vec<AppendResult> {
    let source: Name = "patient-service".parse().unwrap();
    let admit = |proposal| place_nowhere(proposal, ledger.origin(), &source).unwrap();
    let admitted = proposals.into_iter().map(admit).collect();
    ledger.queue.submit(admitted, Duration::from_secs(10)).await
}

fn attribute<'a>(span: &'a Span, name: &str) -> Option<&'a Value> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    found.value.as_ref()?.value.as_ref()
}

#[track_caller]
fn text_of<'a>(span: &'a Span, name: &str) -> &'a str {
    match attribute(span, name) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{name} is {other:?} in {span:#?}"),
    }
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// The one span of this name in this trace.
#[track_caller]
fn one<'a>(spans: &'a [Span], of: u8, name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.trace_id == [of; 16] && span.name == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name} in {of}: {spans:#?}"));
    assert!(found.next().is_none(), "two {name} in {of}: {spans:#?}");
    first
}

fn linked(span: &Span) -> Vec<(&[u8], &[u8])> {
    span.links.iter().map(|link| (link.trace_id.as_slice(), link.span_id.as_slice())).collect()
}

fn place(span: &Span) -> (&[u8], &[u8]) {
    (&span.trace_id, &span.span_id)
}

/// The place that a receipt names.
fn told(result: &AppendResult) -> Option<SpanRef> {
    match result {
        AppendResult::Appended(receipt) => receipt.span,
        other => panic!("not appended: {other:?}"),
    }
}

#[tokio::test]
async fn appends_belong_to_their_proposals_and_are_linked_with_their_commit() {
    let (args, received) = receiver().await;
    let (store, folder) = (MemoryLedger::new(), tempfile::tempdir().unwrap());
    // Nobody records anything yet.
    let ledger = open(store.clone(), &folder).await;
    let results = append(&ledger, vec![proposal(RecordType::PatientRead, 9, true)]).await;
    assert_eq!(told(&results[0]), None);

    drop(ledger);
    let telemetry = telemetry::init("audit-service", &args);
    // A test may say what it found.
    drop(std::panic::take_hook());
    let ledger = open(Observed::new("memory", store.clone()), &folder).await;
    let conflict = Proposal {
        version: Some(9),
        schema: Some(1),
        ..proposal(RecordType::PatientRemoved, 4, true)
    };
    let mut untraced = proposal(RecordType::PatientRead, 5, true);
    (untraced.trace, untraced.span) = (None, None);
    let proposals = vec![
        untraced,
        proposal(RecordType::PatientRead, 1, false),
        proposal(RecordType::PatientRead, 2, true),
        proposal(RecordType::TestsListed, 3, true),
        conflict,
    ];
    let results = append(&ledger, proposals).await;
    store.fail_append(AppendFault::Refuse);
    let refused = append(&ledger, vec![proposal(RecordType::PatientRead, 6, false)]).await;
    assert!(matches!(refused[0], AppendResult::Unavailable { .. }));
    telemetry.finish().await;

    let spans = std::mem::take(&mut *received.lock().unwrap());
    assert!(
        [1, 5, 9].iter().all(|of| spans.iter().all(|it| it.trace_id != [*of; 16])),
        "{spans:#?}"
    );
    let (first, second) = (one(&spans, 2, "append"), one(&spans, 3, "append"));
    let commit = one(&spans, 2, "commit");
    for (span, of, result) in [(first, 2, &results[2]), (second, 3, &results[3])] {
        assert_eq!(span.parent_span_id, [of; 8]);
        assert_eq!(text_of(span, "vitalog.append.result"), "appended");
        assert_eq!(linked(span), [place(commit)]);
        let told = told(result).unwrap();
        assert_eq!((told.id().as_slice(), told.is_sampled()), (span.span_id.as_slice(), true));
        assert!(!is_error(span), "{span:#?}");
    }
    assert_eq!(told(&results[0]), None);
    assert_eq!(told(&results[1]), None, "it has no span");
    assert_eq!(linked(commit), [place(first), place(second)]);
    assert_eq!(commit.parent_span_id, first.span_id, "the first that is sampled");
    assert_eq!(attribute(commit, "vitalog.commit.records"), Some(&Value::IntValue(4)));
    assert_eq!(attribute(commit, "vitalog.commit.first"), Some(&Value::IntValue(1)));
    assert_eq!(one(&spans, 2, "append blocks").parent_span_id, commit.span_id);
    let decide = one(&spans, 2, "decide");
    assert_eq!(decide.parent_span_id, first.span_id);
    assert_eq!(one(&spans, 2, "stream_versions blocks").parent_span_id, decide.span_id);

    let conflict = one(&spans, 4, "append");
    assert_eq!(text_of(conflict, "vitalog.append.result"), "conflict");
    assert!(linked(conflict).is_empty() && !is_error(conflict), "{conflict:#?}");

    // Not sampled; sent for its error.
    for (name, error) in
        [("append", "unavailable"), ("commit", "refused"), ("append blocks", "refused")]
    {
        let span = one(&spans, 6, name);
        assert!(is_error(span), "{span:#?}");
        assert_eq!(span.parent_span_id, [6; 8], "below who proposed it");
        assert_eq!(text_of(span, "error.type"), error, "{span:#?}");
    }
}
