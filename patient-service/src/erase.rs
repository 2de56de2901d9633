//! Erasing a patient (design §7): recorded first, then brought about, and only then answered.
//!
//! Decided on the ledger alone: neither a read model that lags nor an event that cannot be read
//! may stand in the way.

use audit_client::{AppendError, AuditClient};
use domain::{
    actor::{ErasureReason, Outcome},
    decide::{Command, decide},
    event::SCHEMA,
    ids::{PatientId, Stream},
    patient::{Lifecycle, Patient},
    strict_json::parse_object,
    wire::{Proposal, Receipt},
};
use http::StatusCode;
use projections::{
    erasure::{self, Trail},
    key_ring::KeyRing,
    store::ProjectionStore,
};
use runtime::spans;
use tokio::time::timeout_at;
use tracing::Instrument;

use crate::{
    answer::Answer,
    applying,
    commands::{MAX_TRIES, Work},
    error::Failure,
    replay::receipt,
    state::App,
};

/// Records the erasure unless it is recorded, and answers when nothing of the patient is left.
pub(crate) async fn perform(work: &Work<'_>, patient: PatientId) -> Result<Answer, Failure> {
    let reason = ErasureReason::from_body(&parse_object(&work.sent.body)?)?;
    let _turn = work.app.streams.turn(patient).await?;
    for attempt in 0..MAX_TRIES {
        let Trail { version, erased, .. } = Trail::read(&work.app.audit, patient).await?;
        if let Some((line, record)) = erased {
            return complete(work, patient, receipt(&line, &record)).await;
        }
        // Without content, so that one who is there to see passes for removed: either is erased.
        let lifecycle = if version > 0 { Lifecycle::Removed } else { Lifecycle::Unregistered };
        let state = Patient { version, lifecycle, ..Patient::default() };
        let event = decide(&state, Command::ErasePatient)?;
        let proposal = Proposal {
            stream: Some(Stream::Patient(patient)),
            version: Some(version + 1),
            schema: Some(SCHEMA),
            reason: Some(reason),
            command: Some(work.identity),
            fresh: attempt == 0 && work.sent.key.is_none(),
            ..work.requester.proposal(event.record_type(), Outcome::Success)
        };
        match work.app.audit.append(proposal).await {
            Ok(receipt) => return complete(work, patient, receipt).await,
            Err(AppendError::Conflict { .. }) => {}
            Err(error) => return Err(work.failed(error)),
        }
    }
    Err(Failure::StillInConflict)
}

/// Brings about what the ledger says, and answers with the receipt of its record.
async fn complete(
    work: &Work<'_>,
    patient: PatientId,
    receipt: Receipt,
) -> Result<Answer, Failure> {
    let App { audit, store, ring, .. } = work.app;
    let (audit, store, ring) = (audit.clone(), store.clone(), ring.clone());
    // Goes on when the client is told to come back, and keeps the request's place meanwhile.
    let requester = work.requester.clone();
    let completing = async move {
        let _requester = requester;
        destroy(&audit, store.as_ref(), &ring, patient).await
    };
    let applying = applying::span(work.requester.appended(&receipt));
    let completing = completing.instrument(applying.clone()).in_current_span();
    let completing = tokio::spawn(completing);
    let error = match timeout_at(work.apply_by, completing).await {
        Ok(Ok(Ok(()))) => return Ok(Answer::empty(StatusCode::NO_CONTENT, &receipt)),
        Ok(Ok(Err(error))) => error,
        Ok(Err(_)) => Failure::Panicked,
        Err(_) => Failure::CompletingTimedOut,
    };
    spans::fail(&applying, "pending");
    tracing::warn!(%error, "an erasure is not complete yet; the follower completes it");
    Err(Failure::ErasurePending(Box::new(receipt)))
}

async fn destroy(
    audit: &AuditClient,
    store: &dyn ProjectionStore,
    ring: &KeyRing,
    patient: PatientId,
) -> Result<(), Failure> {
    let erasure = erasure::find(audit, patient).await?;
    let erasure = erasure.ok_or(Failure::WrongRecord)?;
    Ok(erasure::complete(store, ring, &erasure).await?)
}
