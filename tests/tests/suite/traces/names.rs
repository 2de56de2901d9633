//! What spans are called.

use tests::otlp::{Kind, Span, Trace};

/// Those that take part in a request.
pub(super) const SERVICES: [&str; 3] = ["gateway", "patient-service", "audit-service"];

/// A kind of span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) service: &'static str,
    pub(super) kind: Kind,
    pub(super) called: &'static str,
}

const fn name(service: &'static str, kind: Kind, called: &'static str) -> Name {
    Name { service, kind, called }
}

/// Creating a patient, at the door.
pub(super) const DOOR: Name = name("gateway", Kind::Server, "POST /patient");
pub(super) const TO_PATIENTS: Name = name("gateway", Kind::Client, "POST /patient");
pub(super) const PATIENTS: Name = name("patient-service", Kind::Server, "POST /patient");
/// One proposal, until it is acknowledged.
pub(super) const PROPOSAL: Name = name("patient-service", Kind::Producer, "append");
/// The proposals that travel together.
pub(super) const TO_AUDIT: Name = name("patient-service", Kind::Client, "POST /records/batch");
pub(super) const AUDIT: Name = name("audit-service", Kind::Server, "POST /records/batch");
/// One proposal, in the ledger.
pub(super) const APPEND: Name = name("audit-service", Kind::Internal, "append");
/// The proposals of one block.
pub(super) const COMMIT: Name = name("audit-service", Kind::Internal, "commit");
pub(super) const BLOCK: Name = name("audit-service", Kind::Client, "append blocks");
/// One event, in the read model.
pub(super) const APPLY: Name = name("patient-service", Kind::Internal, "apply");
pub(super) const WRITE: Name = name("patient-service", Kind::Client, "apply patients");

impl Name {
    pub(super) fn is(&self, span: &Span) -> bool {
        span.service == self.service && span.kind == self.kind && span.name == self.called
    }

    pub(super) fn is_in(&self, trace: &Trace) -> bool {
        trace.spans.iter().any(|span| self.is(span))
    }

    /// The one such span of a trace.
    #[track_caller]
    pub(super) fn of<'a>(&self, trace: &'a Trace) -> &'a Span {
        trace.one(self.service, self.kind, self.called)
    }
}
