//! Activity as FHIR R4 `AuditEvent` resources, by the patterns of IHE BALP (Basic Audit Log
//! Patterns).
//!
//! In scope: searching them by the parameters that the read model can answer. Errors are problem
//! details, as everywhere, and not `OperationOutcome`.

mod audit_event;
mod bundle;
mod date;
mod pattern;
mod search;

use crate::{
    activity::{Parameters, account},
    answer::Answer,
    caller::Requester,
    error::Failure,
    state::App,
};

/// `GET /audit/fhir/AuditEvent`: a `Bundle` of type `searchset`, newest first.
pub(crate) async fn search(
    app: &App,
    requester: &Requester,
    mut parameters: Parameters,
) -> Result<Answer, Failure> {
    let query = search::read(&mut parameters)?;
    parameters.finish()?;
    let accounting = account(app, requester, &query).await?;
    let bundle = bundle::searchset(&accounting.page, &parameters);
    let body = bundle.to_string().into_bytes();
    Ok(Answer::with_body(&accounting.receipt, "application/fhir+json", body))
}
