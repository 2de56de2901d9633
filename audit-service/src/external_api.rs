//! `POST /api/auditrecord`: the older system's way to report an access (contract).

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    ids::{ObjectRef, PatientId, Stream, TestId},
    record::{External, ExternalName, RecordType},
    strict_json,
    validation::{Fields, Invalid},
    wire::{AppendResult, Proposal, Receipt},
};
use runtime::{
    problem::Problem,
    serve::{MAX_BODY_BYTES, read_body},
    service_keys::Caller,
    trace_context::TraceContext,
};
use serde_json::{Map, Value, json};

use crate::{
    admit::place_nowhere,
    append_api::{APPEND_DEADLINE, RECEIPT_HEADER, source, to_problem},
    roles::Role,
    routes::AppState,
};

const NAME_RULE: &str = "must match [A-Za-z0-9._:-]{1,128}";

/// Records an access that another system reports; 201 with the record's `id`, `createdDate`.
pub async fn record(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if !Role::of(caller.name()).may_report() {
        return Err(Problem::forbidden("this caller may not report another system's accesses"));
    }
    refuse_media_type(&headers)?;
    let body = read_body(body, MAX_BODY_BYTES).await?;
    let object = strict_json::parse_object(&body)
        .map_err(|error| Problem::bad_request(error.to_string()))?;
    let external = read_external(&object).map_err(|error| invalid(&error))?;
    let source = source(&caller)?;
    let actor = Actor { id: source.clone(), kind: ActorKind::Service, roles: Vec::new() };
    let (record_type, purpose) = (RecordType::ExternalAccess, Purpose::Treatment);
    let proposal = Proposal {
        stream: patient(&external).map(Stream::Patient),
        object: test(&external).map(ObjectRef),
        trace: trace.trace_id_hex().parse().ok(),
        external: Some(external.clone()),
        ..Proposal::new(record_type, actor, purpose, Outcome::Success)
    };
    let admitted =
        place_nowhere(proposal, state.ledger.origin(), &source).map_err(Problem::bad_request)?;
    let result = state.ledger.queue.submit(vec![admitted], APPEND_DEADLINE).await.pop();
    match result {
        Some(AppendResult::Appended(receipt)) => Ok((
            StatusCode::CREATED,
            [(RECEIPT_HEADER, receipt.header_value())],
            Json(view(&external, &receipt)),
        )
            .into_response()),
        other => Err(other.map_or_else(Problem::internal, to_problem)),
    }
}

fn refuse_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().trim_start().to_ascii_lowercase();
    if media_type.starts_with("multipart/") || media_type.starts_with("application/octet-stream") {
        return Err(Problem::unsupported_media_type("the body must be JSON"));
    }
    Ok(())
}

fn read_external(body: &Map<String, Value>) -> Result<External, Invalid> {
    let mut fields = Fields::new(body, "");
    fields.refused("id", "Id unexpected.");
    fields.refused("createdDate", "createdDate unexpected.");
    let system = fields.required_parsed("sourceSystemName", NAME_RULE, |text| text.parse().ok());
    let mut resource = Resource::default();
    match fields.take("resource") {
        None => {}
        Some(Value::Object(object)) => {
            let mut inner = Fields::new(object, "resource.");
            resource.kind = inner.required_parsed("type", NAME_RULE, |text| text.parse().ok());
            resource.operation =
                inner.required_parsed("operation", NAME_RULE, |text| text.parse().ok());
            resource.id = inner.optional_parsed("id", NAME_RULE, |text| text.parse().ok());
            fields.absorb(inner.finish());
        }
        Some(_) => fields.complain("resource", "must be of type object"),
    }
    let external = system.map(|system| External {
        id: resource.id,
        operation: resource.operation,
        system,
        resource_type: resource.kind,
    });
    domain::validation::valid_or(external, fields.finish())
}

#[derive(Default)]
struct Resource {
    id: Option<ExternalName>,
    operation: Option<ExternalName>,
    kind: Option<ExternalName>,
}

/// The patient that the other system names, so that the access shows among hers.
fn patient(external: &External) -> Option<PatientId> {
    id_of(external, "patient")?.parse().ok()
}

fn test(external: &External) -> Option<TestId> {
    id_of(external, "test")?.parse().ok()
}

fn id_of(external: &External, resource_type: &str) -> Option<String> {
    let named = external.resource_type.as_ref()?.to_string();
    if !named.eq_ignore_ascii_case(resource_type) {
        return None;
    }
    external.id.as_ref().map(ToString::to_string)
}

fn view(external: &External, receipt: &Receipt) -> Value {
    let mut view = json!({
        "id": uuid_of(receipt),
        "createdDate": receipt.recorded_at,
        "sourceSystemName": external.system,
    });
    if let (Some(resource_type), Some(operation)) = (&external.resource_type, &external.operation) {
        view["resource"] = json!({"type": resource_type, "operation": operation});
        if let Some(id) = &external.id {
            view["resource"]["id"] = json!(id);
        }
    }
    view
}

/// Older callers expect a UUID: version 8 (RFC 9562 §5.8) from the record's hash.
fn uuid_of(receipt: &Receipt) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&receipt.hash.0[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn invalid(error: &Invalid) -> Problem {
    let errors = error.0.iter().map(|error| runtime::problem::FieldError {
        field: error.field.clone(),
        detail: error.detail.clone(),
    });
    Problem::bad_request(error.to_string()).errors(errors.collect())
}
