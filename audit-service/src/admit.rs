//! Checks of a proposal that need no ledger, made before it queues.

use domain::{
    actor::ActorKind,
    chain::Link,
    hash::Hash,
    ids::{MAX_SAFE_INTEGER, Name},
    record::{Kind, MAX_LINE_BYTES},
    time::Timestamp,
    wire::Proposal,
};

use crate::{append_span::AppendSpan, queue::Admitted, roles::Role};

/// Turns a proposal into a record without a place, or says which rule it breaks. For a client the
/// caller speaks; an administrative act is the caller's own, whose key is all that shows who acts.
pub fn admit(
    proposal: Proposal,
    role: Role,
    origin: &Name,
    source: &Name,
) -> Result<Admitted, String> {
    if !role.may_append(proposal.record_type) {
        return Err(format!("{source} may not append {}", proposal.record_type));
    }
    let actor = &proposal.actor;
    let own = actor.id == *source && actor.kind == ActorKind::Service;
    if proposal.record_type.kind() == Kind::Admin && !own {
        return Err(format!("the actor of {} is the service {source}", proposal.record_type));
    }
    place_nowhere(proposal, origin, source)
}

/// As [`admit`], for records that this service itself asks for.
pub fn place_nowhere(proposal: Proposal, origin: &Name, source: &Name) -> Result<Admitted, String> {
    let (fresh, proof, at) = (proposal.fresh, proposal.proof, proposal.span);
    // The highest position: the real line is never longer than this one.
    let nowhere = Link { next_seq: MAX_SAFE_INTEGER, hash: Hash::ZERO, at: EPOCH };
    let record = proposal.into_record(origin.clone(), source.clone(), &nowhere, EPOCH);
    record.check().map_err(|error| error.to_string())?;
    let line_bytes = record.to_line().len();
    if line_bytes > MAX_LINE_BYTES {
        return Err(format!("a line of {line_bytes} bytes is longer than {MAX_LINE_BYTES}"));
    }
    let span = AppendSpan::start(&record, at);
    Ok(Admitted { record, fresh, proof, line_bytes, span })
}

const EPOCH: Timestamp = Timestamp::EPOCH;
