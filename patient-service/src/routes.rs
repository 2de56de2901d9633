//! All routes. Handlers extract, call, respond.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderMap,
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use runtime::{
    problem::{Outcome, Problem, fallback_404, fallback_405},
    service_keys::{Caller, Callers, require_caller},
    trace_context::trace_middleware,
};
use tokio::sync::Semaphore;

use crate::{
    action::Action,
    activity::{self, Parameters},
    answer::Answer,
    as_of::Moment,
    caller::{Place, Requester},
    commands,
    conditions::Condition,
    error::Failure,
    fhir, history,
    reads::{self, Target},
    search::{self, Page},
    sent::{Ids, IfNoneMatch, Sent, SentBody},
    service::SERVICE,
    state::App,
    time_travel,
};

/// Requests under way at once; what is beyond is answered 503 at once instead of waiting. Each
/// may hold a body of a mebibyte.
pub(crate) const MAX_REQUESTS: usize = 1_024;

/// The only service that may ask.
pub(crate) const GATEWAY: &str = "gateway";

type Result = std::result::Result<Answer, Failure>;

pub(crate) fn router(app: Arc<App>, callers: Arc<Callers>) -> Router {
    let places = Arc::new(Semaphore::new(MAX_REQUESTS));
    Router::new()
        .route("/patient", post(register))
        .route("/patient/search", post(search))
        .route("/patient/{id}", get(read_patient).put(amend_patient).delete(remove_patient))
        .route("/patient/{id}/history", get(read_history))
        .route("/patient/{id}/erase", post(erase_patient))
        .route("/patient/{id}/tests", post(record_test).get(list_tests))
        .route("/patient/{id}/tests/{testId}", get(read_test).put(amend_test).delete(remove_test))
        .route("/patient/{id}/activity", get(patient_activity))
        .route("/audit/activity", get(all_activity))
        .route("/audit/fhir/AuditEvent", get(audit_events))
        .fallback(fallback_404)
        .method_not_allowed_fallback(fallback_405)
        .layer(from_fn_with_state(places, admit))
        .layer(from_fn_with_state(callers, require_caller))
        .layer(from_fn_with_state(SERVICE, trace_middleware))
        .with_state(app)
}

async fn register(State(app): State<Arc<App>>, requester: Requester, sent: Sent) -> Result {
    commands::run(app, Action::Register, requester, sent).await
}

async fn search(
    State(app): State<Arc<App>>,
    page: Page,
    requester: Requester,
    body: SentBody,
) -> Result {
    search::run(&app, page, &requester, &body.0).await
}

async fn read_patient(
    State(app): State<Arc<App>>,
    ids: Ids,
    moment: Moment,
    requester: Requester,
    IfNoneMatch(condition): IfNoneMatch,
) -> Result {
    let target = Target::Patient(ids.patient()?);
    read(&app, target, moment, &requester, condition.as_ref()).await
}

async fn read_history(
    State(app): State<Arc<App>>,
    ids: Ids,
    page: history::Page,
    requester: Requester,
) -> Result {
    history::run(&app, ids.patient()?, page, &requester).await
}

async fn amend_patient(
    State(app): State<Arc<App>>,
    ids: Ids,
    requester: Requester,
    sent: Sent,
) -> Result {
    commands::run(app, Action::AmendPatient(ids.patient()?), requester, sent).await
}

async fn remove_patient(
    State(app): State<Arc<App>>,
    ids: Ids,
    requester: Requester,
    sent: Sent,
) -> Result {
    commands::run(app, Action::RemovePatient(ids.patient()?), requester, sent).await
}

async fn erase_patient(
    State(app): State<Arc<App>>,
    ids: Ids,
    requester: Requester,
    sent: Sent,
) -> Result {
    commands::run(app, Action::ErasePatient(ids.patient()?), requester, sent).await
}

async fn record_test(
    State(app): State<Arc<App>>,
    ids: Ids,
    requester: Requester,
    sent: Sent,
) -> Result {
    commands::run(app, Action::RecordTest(ids.patient_of_new_test()?), requester, sent).await
}

async fn list_tests(
    State(app): State<Arc<App>>,
    ids: Ids,
    moment: Moment,
    requester: Requester,
) -> Result {
    read(&app, Target::Tests(ids.patient()?), moment, &requester, None).await
}

async fn read_test(
    State(app): State<Arc<App>>,
    ids: Ids,
    moment: Moment,
    requester: Requester,
    IfNoneMatch(condition): IfNoneMatch,
) -> Result {
    let target = Target::Test(ids.patient()?, ids.test()?);
    read(&app, target, moment, &requester, condition.as_ref()).await
}

async fn amend_test(
    State(app): State<Arc<App>>,
    ids: Ids,
    requester: Requester,
    sent: Sent,
) -> Result {
    let action = Action::AmendTest(ids.patient()?, ids.test()?);
    commands::run(app, action, requester, sent).await
}

async fn remove_test(
    State(app): State<Arc<App>>,
    ids: Ids,
    requester: Requester,
    sent: Sent,
) -> Result {
    let action = Action::RemoveTest(ids.patient()?, ids.test()?);
    commands::run(app, action, requester, sent).await
}

/// Shows the present, or the moment that is asked for.
async fn read(
    app: &App,
    target: Target,
    Moment(moment): Moment,
    requester: &Requester,
    condition: Option<&Condition>,
) -> Result {
    match moment {
        None => reads::run(app, target, requester, condition).await,
        Some(as_of) => time_travel::run(app, target, as_of, requester, condition).await,
    }
}

async fn patient_activity(
    State(app): State<Arc<App>>,
    ids: Ids,
    parameters: Parameters,
    requester: Requester,
    headers: HeaderMap,
) -> Result {
    activity::of_patient(&app, ids.patient()?, &requester, parameters, &headers).await
}

async fn all_activity(
    State(app): State<Arc<App>>,
    parameters: Parameters,
    requester: Requester,
    headers: HeaderMap,
) -> Result {
    activity::of_everybody(&app, &requester, parameters, &headers).await
}

async fn audit_events(
    State(app): State<Arc<App>>,
    parameters: Parameters,
    requester: Requester,
) -> Result {
    fhir::search(&app, &requester, parameters).await
}

/// Lets the gateway in while there is a place.
async fn admit(State(places): State<Arc<Semaphore>>, mut request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>();
    if caller.is_none_or(|caller| caller.name() != GATEWAY) {
        return Problem::forbidden("only the gateway may ask").into_response();
    }
    let Ok(permit) = places.try_acquire_owned() else {
        return Problem::unavailable("too many requests are under way; try again")
            .outcome(Outcome::NothingStored)
            .into_response();
    };
    request.extensions_mut().insert(Place::new(permit));
    next.run(request).await
}
