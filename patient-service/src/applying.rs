//! Bringing an acknowledged event into the read models.

use domain::{
    event::Recorded,
    ids::{KeyId, PatientId},
};
use projections::{change::StreamChange, error::ApplyError, tally::TALLY};
use runtime::{
    spans::{self, TARGET},
    trace_context::TraceContext,
};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, field::Empty};

use crate::{answer::Projection, state::App};

/// Applies one acknowledged event. A failure is not the command's: the follower repairs it.
///
/// Writes to every generation in use, also to one that comes into use meanwhile: when this
/// returns, whoever reads one that may serve finds the event. `appended` is the span of the
/// audit service that appended it, where that is known.
pub(crate) async fn apply(
    app: &App,
    by: Instant,
    patient: PatientId,
    kid: Option<KeyId>,
    recorded: &Recorded,
    appended: Option<TraceContext>,
) -> Projection {
    let span = span(appended);
    let applying = apply_everywhere(app, by, patient, kid, recorded);
    let projection = applying.instrument(span.clone()).await;
    if projection == Projection::Pending {
        TALLY.pending();
        spans::fail(&span, "pending");
    }
    projection
}

async fn apply_everywhere(
    app: &App,
    by: Instant,
    patient: PatientId,
    kid: Option<KeyId>,
    recorded: &Recorded,
) -> Projection {
    let Some(change) = StreamChange::fold(patient, kid, std::slice::from_ref(recorded)) else {
        return Projection::Applied;
    };
    let mut applied = Vec::with_capacity(1);
    loop {
        let Some(pointer) = app.pointer() else { return Projection::Pending };
        let Some(next) = pointer.written().find(|it| !applied.contains(it)) else {
            return Projection::Applied;
        };
        let error = match timeout_at(by, app.applier.apply(next, change.clone())).await {
            Ok(Ok(())) => {
                applied.push(next);
                continue;
            }
            Ok(Err(error)) => error,
            Err(_) => ApplyError::TimedOut,
        };
        tracing::warn!(%error, "an event is not in the read model yet; the follower adds it");
        return Projection::Pending;
    }
}

/// The span of bringing an event about: a child of the current span, linked to where the event was
/// appended; none where its trace is not sampled.
pub(crate) fn span(appended: Option<TraceContext>) -> Span {
    if !spans::traced() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET,
        "apply",
        otel.status_code = Empty,
        error.type = Empty,
    );
    if let Some(appended) = appended {
        spans::link(&span, appended);
    }
    span
}
