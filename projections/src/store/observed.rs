//! A store whose every call is a span and a measurement.

use std::sync::Arc;

use async_trait::async_trait;
use runtime::store_calls::{CallError, Database};

use super::{
    ProjectionStore, StoreError,
    hooked::{Call, Hook, Hooked},
};

/// Observes a store; `system` is what it is: `mongodb`, `sqlite` or `memory`.
pub fn observed(store: Arc<dyn ProjectionStore>, system: &'static str) -> Arc<dyn ProjectionStore> {
    Arc::new(Hooked::new(store, Observing(Database { system, namespace: "patients" })))
}

struct Observing(Database);

#[async_trait]
impl Hook for Observing {
    fn around<T: Send>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> impl Future<Output = Result<T, StoreError>> + Send {
        let operation = call.name();
        self.0.call(operation, collection(operation), made)
    }
}

/// What an operation is mainly about, whatever the store's generations call it.
fn collection(operation: &str) -> &'static str {
    match operation {
        "patient" | "search" | "scan_patients" | "cursors" | "apply" => "patients",
        "test" | "tests" | "scan_tests" => "tests",
        "activity" | "write_activity" => "activity",
        "erasures" => "erasures",
        "park" | "parked" | "retry_parked" | "unpark" => "parked",
        _ => "meta",
    }
}

impl CallError for StoreError {
    fn error_type(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable(_) => Some("unavailable"),
            Self::Malformed { .. } => Some("malformed"),
            Self::Layout(_) => Some("layout"),
            // Answers to what was asked.
            Self::Generation(_) | Self::Fenced => None,
        }
    }
}
