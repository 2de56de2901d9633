//! One span and one measurement for every call of a store.

use std::sync::LazyLock;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::metrics;
use crate::spans::{self, Failed, SpanKind, TARGET};

static CALLS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    metrics::seconds("db.client.operation.duration", "How long a store took for a call")
});

/// A database as calls of it are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// `mongodb`, `sqlite` or `memory`.
    pub system: &'static str,
    /// Which of ours: `ledger`, `patients`, `keys`.
    pub namespace: &'static str,
}

/// What of a call's error is worth knowing.
pub trait CallError {
    /// In a word of this program; `None` where the error is an answer, such as a conflict.
    fn error_type(&self) -> Option<&'static str>;
}

impl Database {
    /// Runs a call of an operation on a collection.
    ///
    /// It is a span of the trace that the current span is of; a call that nobody asked for is
    /// measured alone.
    pub async fn call<T, E: CallError>(
        self,
        operation: &'static str,
        collection: &'static str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let span = self.span(operation, collection);
        let started = Instant::now();
        let result = call.instrument(span.clone()).await;
        let error = result.as_ref().err().and_then(CallError::error_type);
        let labels = [
            KeyValue::new("db.system.name", self.system),
            KeyValue::new("db.namespace", self.namespace),
            KeyValue::new("db.operation.name", operation),
            KeyValue::new("db.collection.name", collection),
            KeyValue::new("error.type", error.unwrap_or_default()),
        ];
        if let Some(error) = error {
            spans::fail(&span, error);
            if span.is_none() {
                let (name, kind) = (format!("{operation} {collection}").into(), SpanKind::Client);
                let (error, attributes) = (Some(error.into()), labels[..4].to_vec());
                Failed { name, kind, started, error, attributes }.within(&Span::current());
            }
        }
        let labels = if error.is_some() { &labels[..] } else { &labels[..4] };
        CALLS.record(started.elapsed().as_secs_f64(), labels);
        result
    }

    fn span(self, operation: &'static str, collection: &'static str) -> Span {
        if !spans::traced() {
            return Span::none();
        }
        tracing::info_span!(
            target: TARGET,
            "store",
            otel.name = %format_args!("{operation} {collection}"),
            otel.kind = "client",
            db.system.name = self.system,
            db.namespace = self.namespace,
            db.operation.name = operation,
            db.collection.name = collection,
            otel.status_code = Empty,
            error.type = Empty,
        )
    }
}
