//! A span as tests look at it.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
    trace::v1::{Span as Wire, status::StatusCode},
};
use serde_json::{Value, json};

pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind as Kind;

/// A span that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// `service.name` of what sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Client, server or what else.
    pub kind: Kind,
    /// The trace, in hexadecimal.
    pub trace: String,
    /// The span, in hexadecimal.
    pub id: String,
    /// The span that it is part of, in hexadecimal.
    pub parent: Option<String>,
    /// What it is linked to.
    pub links: Vec<Context>,
    /// What else it says.
    pub attributes: BTreeMap<String, Value>,
    /// Whether its status is an error.
    pub is_error: bool,
    /// Its start, in nanoseconds since 1970.
    pub started: u64,
    /// Its end, likewise.
    pub ended: u64,
}

/// The place of a span, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Context {
    /// The trace.
    pub trace: String,
    /// The span.
    pub span: String,
}

impl Span {
    /// Where it is.
    pub fn context(&self) -> Context {
        Context { trace: self.trace.clone(), span: self.id.clone() }
    }

    /// Whether it is linked to another.
    pub fn is_linked_to(&self, other: &Self) -> bool {
        self.links.contains(&other.context())
    }

    /// An attribute that is a text; empty if there is none.
    pub fn text(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).and_then(Value::as_str).unwrap_or_default()
    }

    /// An attribute that is a whole number, and was sent as one.
    pub fn number(&self, attribute: &str) -> Option<i64> {
        self.attributes.get(attribute)?.as_i64()
    }
}

/// The spans of a request.
pub(super) fn of(request: &ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for part in &request.resource_spans {
        let service = service(part.resource.as_ref());
        let all = part.scope_spans.iter().flat_map(|scope| &scope.spans);
        spans.extend(all.map(|span| read(&service, span)));
    }
    spans
}

/// `service.name` of a resource.
pub(super) fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| attributes(&resource.attributes));
    let name = attributes.and_then(|attributes| attributes.get("service.name").cloned());
    name.as_ref().and_then(Value::as_str).unwrap_or("without a name").to_owned()
}

pub(super) fn attributes(of: &[KeyValue]) -> BTreeMap<String, Value> {
    of.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref()))).collect()
}

fn value(of: Option<&AnyValue>) -> Value {
    match of.and_then(|value| value.value.as_ref()) {
        None => Value::Null,
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::BoolValue(value)) => json!(value),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        Some(Any::ArrayValue(all)) => all.values.iter().map(|one| value(Some(one))).collect(),
        Some(other) => json!(format!("{other:?}")),
    }
}

fn read(service: &str, span: &Wire) -> Span {
    let links = span.links.iter().map(|link| Context {
        trace: hex::encode(&link.trace_id),
        span: hex::encode(&link.span_id),
    });
    Span {
        service: service.to_owned(),
        name: span.name.clone(),
        kind: span.kind(),
        trace: hex::encode(&span.trace_id),
        id: hex::encode(&span.span_id),
        parent: Some(hex::encode(&span.parent_span_id)).filter(|id| !id.is_empty()),
        links: links.collect(),
        attributes: attributes(&span.attributes),
        is_error: span.status.as_ref().is_some_and(|it| it.code() == StatusCode::Error),
        started: span.start_time_unix_nano,
        ended: span.end_time_unix_nano,
    }
}
