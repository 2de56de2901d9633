//! The flow of a command (design §2): known? validate, load, decide, seal, append, apply.

use std::{iter, sync::Arc, time::Duration};

use audit_client::AppendError;
use domain::{
    actor::Outcome,
    decide::{Command, Refusal, decide},
    event::{Event, Recorded, SCHEMA},
    ids::{KeyId, ObjectRef, PatientId, Stream},
    patient::{Lifecycle, Patient, Test},
    record::CommandRef,
    wire::{Proposal, Receipt, Stored},
};
use projections::{documents::Generation, key_ring::DataKey, sealing};
use tokio::time::{Instant, timeout};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    action::{Action, insist},
    answer::Answer,
    applying::apply,
    caller::Requester,
    erase,
    error::Failure,
    loading::{Loaded, Tests},
    replay,
    sent::Sent,
    state::App,
};

/// Tries of one command at most; every one but the last lost to another command, or found
/// the read model behind the ledger.
pub(crate) const MAX_TRIES: u32 = 8;

/// How long a client waits for its command: longer than an append may take (8 s), and shorter
/// than the gateway waits (10 s), which knows less about the outcome.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(9);

/// How long a command waits for the read model, counted from its beginning. What is durable
/// by then is answered as pending instead of as unknown.
const APPLY_BY: Duration = Duration::from_millis(8_500);

/// Runs a command to its end, even if the client goes away in the middle: what was appended
/// should be applied, too.
pub(crate) async fn run(
    app: Arc<App>,
    action: Action,
    requester: Requester,
    sent: Sent,
) -> Result<Answer, Failure> {
    let keyed = sent.key.is_some();
    let task = tokio::spawn(execute(app, action, requester, sent).in_current_span());
    match timeout(COMMAND_TIMEOUT, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::Panicked),
        Err(_) => Err(Failure::CommandNotAcknowledged { stored: Stored::Unknown, keyed }),
    }
}

async fn execute(
    app: Arc<App>,
    action: Action,
    requester: Requester,
    sent: Sent,
) -> Result<Answer, Failure> {
    let generation = app.generation()?;
    let apply_by = Instant::now() + APPLY_BY;
    let (identity, older) =
        app.command_keys.identify(&requester.actor, &action, sent.key.as_ref(), &sent.body);
    let mut work = Work { app: &app, generation, apply_by, action, requester, sent, identity };
    if work.sent.key.is_some() {
        for name in iter::once(identity).chain(older) {
            // An earlier try may be stored, so no failure from here on may say that nothing was.
            let known = app.audit.command(&name.id).await;
            let known = known.map_err(|error| Failure::from(error).after_append(true))?;
            if let Some(line) = known {
                work.identity = name;
                return work.again(&line).await.map_err(|failure| failure.after_append(true));
            }
        }
    }
    if let Action::ErasePatient(patient) = action {
        return erase::perform(&work, patient).await;
    }
    let command = action.command(&work.sent.body)?;
    match action.patient() {
        None => work.perform(PatientId::new(Uuid::new_v4()), &command, Loaded::nothing()).await,
        Some(patient) => {
            let _turn = app.streams.turn(patient).await?;
            let loaded = app.load(generation, patient, work.tests()).await?;
            work.perform(patient, &command, loaded).await
        }
    }
}

/// One command on its way.
pub(crate) struct Work<'a> {
    pub(crate) app: &'a App,
    generation: Generation,
    pub(crate) apply_by: Instant,
    action: Action,
    pub(crate) requester: Requester,
    pub(crate) sent: Sent,
    pub(crate) identity: CommandRef,
}

impl Work<'_> {
    /// Answers a command that the ledger knows, by its line there.
    async fn again(&self, line: &str) -> Result<Answer, Failure> {
        if let Action::ErasePatient(patient) = self.action {
            replay::own(line, &self.identity)?;
            // Whatever is missing of it is done.
            return erase::perform(self, patient).await;
        }
        replay::answer(self.app, self.apply_by, line, &self.identity).await
    }

    async fn perform(
        &self,
        patient: PatientId,
        command: &Command,
        mut loaded: Loaded,
    ) -> Result<Answer, Failure> {
        for attempt in 0..MAX_TRIES {
            let event = match decide(&loaded.patient, self.resolve(command, &loaded.patient)) {
                Ok(event) => event,
                Err(refusal) => {
                    loaded = self.doubt(patient, refusal, loaded).await?;
                    continue;
                }
            };
            let Some(key) = self.key(&event, &loaded).await? else {
                // The key of a patient who is there to see is gone: she was erased since.
                loaded = self.erased(patient, loaded).await?;
                continue;
            };
            let version = loaded.patient.version + 1;
            let proposal = self.proposal(patient, version, &event, &key, attempt == 0)?;
            match self.app.audit.append(proposal).await {
                Ok(receipt) if receipt.replayed => return self.replayed(&receipt).await,
                Ok(receipt) => {
                    let recorded = Recorded { version, at: receipt.recorded_at, event };
                    return Ok(self.finish(patient, key.kid(), recorded, &receipt).await);
                }
                Err(AppendError::Conflict { actual, .. }) => {
                    let (generation, tests) = (self.generation, self.tests());
                    let app = self.app;
                    loaded = app.reload(generation, patient, tests, actual, loaded.kid).await?;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(Failure::StillInConflict)
    }

    /// The command with its `If-Match` made a revision of the state at hand.
    fn resolve(&self, command: &Command, state: &Patient) -> Command {
        let command = command.clone();
        match &self.sent.if_match {
            Some(condition) => {
                let revision = condition.insisted(current_revision(state, &command));
                insist(command, revision)
            }
            None => command,
        }
    }

    /// A refusal by a read model is only as good as the read model: where that lags, the patient
    /// may exist after all, or be at the revision that the client saw. Returns the newer state
    /// to decide again, or the refusal where there is none.
    async fn doubt(
        &self,
        patient: PatientId,
        refusal: Refusal,
        loaded: Loaded,
    ) -> Result<Loaded, Failure> {
        if loaded.from_ledger || loaded.is_final() {
            return Err(refusal.into());
        }
        let next = loaded.patient.version + 1;
        if self.app.audit.stream(Stream::Patient(patient), next).await?.is_empty() {
            return Err(refusal.into());
        }
        self.app.load_from_ledger(patient).await
    }

    /// The key to seal an event under; `None` where it was destroyed.
    async fn key(&self, event: &Event, loaded: &Loaded) -> Result<Option<DataKey>, Failure> {
        match (event, loaded.kid) {
            (Event::PatientRegistered(_), _) => Ok(Some(self.app.ring.fresh().await?)),
            (_, Some(kid)) => Ok(self.app.ring.get(kid).await?),
            (_, None) => Err(Failure::KeyMissing),
        }
    }

    async fn erased(&self, patient: PatientId, loaded: Loaded) -> Result<Loaded, Failure> {
        if loaded.from_ledger {
            return Err(Failure::KeyMissing);
        }
        self.app.load_from_ledger(patient).await
    }

    fn proposal(
        &self,
        patient: PatientId,
        version: u64,
        event: &Event,
        key: &DataKey,
        first: bool,
    ) -> Result<Proposal, Failure> {
        let data = sealing::seal_event(key, patient, version, event)
            .map_err(|error| Failure::ContentTooLarge(error.bytes))?;
        Ok(Proposal {
            stream: Some(Stream::Patient(patient)),
            version: Some(version),
            object: event.test().map(ObjectRef),
            schema: Some(SCHEMA),
            command: Some(self.identity),
            fresh: first && self.sent.key.is_none(),
            data,
            ..self.requester.proposal(event.record_type(), Outcome::Success)
        })
    }

    /// Brings an acknowledged event into the read model and answers. Nothing fails any more.
    async fn finish(
        &self,
        patient: PatientId,
        kid: KeyId,
        recorded: Recorded,
        receipt: &Receipt,
    ) -> Answer {
        let appended = self.requester.appended(receipt);
        let projection =
            apply(self.app, self.apply_by, patient, Some(kid), &recorded, appended).await;
        Answer::of_event(patient, recorded, receipt, projection)
    }

    /// The ledger had this very command: another try of it was stored.
    async fn replayed(&self, receipt: &Receipt) -> Result<Answer, Failure> {
        replay::answer_at(self.app, self.apply_by, receipt.seq, &self.identity)
            .await
            .map_err(|failure| failure.after_append(self.sent.key.is_some()))
    }

    pub(crate) fn failed(&self, error: AppendError) -> Failure {
        match error {
            AppendError::CommandReused => Failure::CommandReused,
            AppendError::Unavailable(stored) => {
                Failure::CommandNotAcknowledged { stored, keyed: self.sent.key.is_some() }
            }
            refused @ (AppendError::Refused(_) | AppendError::Conflict { .. }) => {
                Failure::Refused(refused.to_string())
            }
        }
    }

    fn tests(&self) -> Tests {
        self.action.test().map_or(Tests::None, Tests::One)
    }
}

/// The revision of what a command is about.
fn current_revision(state: &Patient, command: &Command) -> Option<u64> {
    let Lifecycle::Active(patient) = &state.lifecycle else { return None };
    match command.test() {
        None => Some(patient.revision),
        Some(test) => match state.tests.get(&test)? {
            Test::Active { current, .. } => Some(current.revision),
            Test::Gone => None,
        },
    }
}

impl Loaded {
    /// The state of a stream whose id was just made.
    fn nothing() -> Self {
        Self { patient: Patient::default(), kid: None, from_ledger: true }
    }
}
