//! The receivers of telemetry that other tests believe.

use std::time::Duration;

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    metrics::v1::{
        Gauge, Metric as WireMetric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric,
        number_data_point,
    },
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status, span::Link, status},
};
use prost::Message;
use reqwest::{Certificate, Client, Response};
use serde_json::{Value, json};
use tests::{
    app_insights::{AppInsights, INSTRUMENTATION_KEY},
    otlp::{Collector, Context, Kind, Mode, Span},
};

const TRACE: &str = "0102030405060708090a0b0c0d0e0f10";

#[tokio::test]
async fn a_collector_keeps_what_comes_by_either_protocol() {
    let collector = Collector::start().await;
    assert!(post(&collector, "traces", &spans(1, None)).await.status().is_success());
    assert!(post(&collector, "metrics", &metrics()).await.status().is_success());
    let endpoint = collector.endpoint().to_owned();
    let mut grpc = TraceServiceClient::connect(endpoint.clone()).await.unwrap();
    grpc.export(spans(2, Some(1))).await.unwrap();
    let mut grpc = MetricsServiceClient::connect(endpoint).await.unwrap();
    grpc.export(metrics()).await.unwrap();

    assert_eq!(collector.requests(), 4);
    let trace = collector.wait_for_trace(TRACE, |trace| trace.spans.len() == 2).await;
    let root = trace.root(None);
    let expected = Span {
        service: "one".into(),
        name: "span 1".into(),
        kind: Kind::Server,
        trace: TRACE.into(),
        id: "0101010101010101".into(),
        parent: None,
        links: vec![Context { trace: TRACE.into(), span: "0909090909090909".into() }],
        attributes: [("a".to_owned(), json!("text")), ("b".to_owned(), json!(7))].into(),
        is_error: true,
        started: 1,
        ended: 1_001,
    };
    assert_eq!(*root, expected);
    let child = trace.one("one", Kind::Server, "span 2");
    assert!(trace.children(root).eq([child]) && trace.is_below(child, root));
    assert!(!trace.is_below(root, child) && root.parent.is_none());
    assert!(trace.to_string().contains("    one Server \"span 2\""), "{trace}");

    let metrics = collector.metrics();
    assert_eq!(metrics.len(), 2);
    assert_eq!((metrics[0].service.as_str(), metrics[0].name.as_str()), ("one", "a.metric"));
    assert!((metrics[0].value - 2.5).abs() < f64::EPSILON);
    assert_eq!(collector.dump().iter().filter(|text| text.contains("span 1")).count(), 1);
}

#[tokio::test]
#[should_panic(expected = "this is not one tree")]
async fn a_trace_without_its_middle_is_no_tree() {
    let collector = Collector::start().await;
    post(&collector, "traces", &spans(1, None)).await;
    post(&collector, "traces", &spans(3, Some(2))).await;
    collector.trace(TRACE).root(None);
}

#[tokio::test]
async fn a_collector_refuses_and_dawdles_when_told_to() {
    let collector = Collector::start().await;
    collector.set(Mode::Refuse);
    assert_eq!(post(&collector, "traces", &spans(1, None)).await.status(), 503);
    let mut grpc = TraceServiceClient::connect(collector.endpoint().to_owned()).await.unwrap();
    let refused = grpc.export(spans(1, None)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert_eq!((collector.spans(), collector.requests()), (Vec::new(), 2));

    collector.set(Mode::Slow(Duration::from_hours(1)));
    let request = spans(1, None);
    let dawdling =
        tokio::time::timeout(Duration::from_secs(1), post(&collector, "traces", &request));
    assert!(dawdling.await.is_err());
    assert_eq!(collector.requests(), 3);
}

#[tokio::test]
async fn a_collector_takes_nothing_but_protobuf() {
    let collector = Collector::start().await;
    let url = format!("{}/v1/traces", collector.endpoint());
    let json = Client::new().post(&url).header("content-type", "application/json").body("{}");
    assert_eq!(json.send().await.unwrap().status(), 415);
    let broken = Client::new().post(&url).header("content-type", "application/x-protobuf");
    assert_eq!(broken.body("no protobuf").send().await.unwrap().status(), 400);
    assert_eq!(collector.spans(), []);
}

#[tokio::test]
async fn application_insights_keeps_envelopes_of_its_resource() {
    let folder = tempfile::tempdir().unwrap();
    let insights = AppInsights::start(folder.path()).await.unwrap();
    let settings = insights.environment();
    let setting = |name: &str| &settings.iter().find(|(key, _)| key == name).unwrap().1;
    let certificate = std::fs::read(setting("SSL_CERT_FILE")).unwrap();
    let certificate = Certificate::from_pem(&certificate).unwrap();
    let client = Client::builder().tls_certs_only([certificate]).build().unwrap();
    let url = insights.connection_string();
    let url = url.split_once("IngestionEndpoint=").unwrap().1;
    let one =
        json!({"name": "Request", "iKey": INSTRUMENTATION_KEY, "tags": {"ai.operation.id": TRACE}});
    let send = |version: &str, body: Vec<u8>| {
        client.post(format!("{url}{version}/track")).header("content-encoding", "gzip").body(body)
    };
    let array = gzip(&json!([one, one]).to_string());
    let taken = send("v2", array).send().await.unwrap();
    assert_eq!(taken.text().await.unwrap().parse::<Value>().unwrap()["itemsAccepted"], 2);
    let lines = gzip(&format!("{one}\n{one}\n"));
    assert_eq!(send("v2.1", lines).send().await.unwrap().status(), 200);
    let other = gzip(&json!([{"name": "Request", "iKey": "another"}]).to_string());
    assert_eq!(send("v2", other).send().await.unwrap().status(), 400);
    assert_eq!(send("v2", b"no gzip".to_vec()).send().await.unwrap().status(), 400);
    assert_eq!(insights.envelopes(), vec![one; 4]);
}

fn gzip(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

async fn post(collector: &Collector, what: &str, message: &impl Message) -> Response {
    let request = Client::new()
        .post(format!("{}/v1/{what}", collector.endpoint()))
        .header("content-type", "application/x-protobuf");
    request.body(message.encode_to_vec()).send().await.unwrap()
}

fn attribute(key: &str, value: Any) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource() -> Resource {
    let name = attribute("service.name", Any::StringValue("one".to_owned()));
    Resource { attributes: vec![name], ..Resource::default() }
}

/// One failed span of this number, part of another if a number is given.
fn spans(number: u8, parent: Option<u8>) -> ExportTraceServiceRequest {
    let trace_id = hex::decode(TRACE).unwrap();
    let span = WireSpan {
        trace_id: trace_id.clone(),
        span_id: vec![number; 8],
        parent_span_id: parent.map(|parent| vec![parent; 8]).unwrap_or_default(),
        name: format!("span {number}"),
        kind: Kind::Server.into(),
        start_time_unix_nano: number.into(),
        end_time_unix_nano: u64::from(number) + 1_000,
        attributes: vec![
            attribute("a", Any::StringValue("text".to_owned())),
            attribute("b", Any::IntValue(7)),
        ],
        links: vec![Link { trace_id, span_id: vec![9; 8], ..Link::default() }],
        status: Some(Status { code: status::StatusCode::Error.into(), message: String::new() }),
        ..WireSpan::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let part =
        ResourceSpans { resource: Some(resource()), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![part] }
}

fn metrics() -> ExportMetricsServiceRequest {
    let value = Some(number_data_point::Value::AsDouble(2.5));
    let point = NumberDataPoint { value, ..NumberDataPoint::default() };
    let metric = WireMetric {
        name: "a.metric".to_owned(),
        data: Some(metric::Data::Gauge(Gauge { data_points: vec![point] })),
        ..WireMetric::default()
    };
    let scope_metrics = vec![ScopeMetrics { metrics: vec![metric], ..ScopeMetrics::default() }];
    let part =
        ResourceMetrics { resource: Some(resource()), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![part] }
}
