//! Making a change: recorded first, then done.

use audit_client::{AppendError, AuditClient};
use domain::actor::{Actor, ActorKind, Outcome, Purpose};
use domain::ids::{Name, Stream};
use domain::record::RecordType;
use domain::subscription::SubscriptionChange;
use domain::wire::{Proposal, Receipt};
use runtime::client::ClientError;
use runtime::secrets::SecretError;

use super::SubscriptionsError;
use super::change::Change;
use super::store::{Replaced, Snapshot, SubscriptionStore};

/// How often a change is tried while others change the subscriptions, or their stream in the
/// ledger: each time it fails another one has succeeded.
const TRIES: u32 = 100;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// What it asks for cannot be, or the store failed; nothing was recorded and nothing done.
    #[error(transparent)]
    Subscriptions(#[from] SubscriptionsError),
    /// There is no ledger to record the change in.
    #[error(
        "a change is recorded in the ledger: give --audit-url and --caller-key, or --unrecorded where there is no ledger"
    )]
    NoLedger,
    /// The key of the operator could not be loaded.
    #[error("the operator's service key cannot be loaded")]
    CallerKey(#[source] SecretError),
    /// The client for the audit service could not be made.
    #[error("the audit service cannot be reached with these certificates")]
    Client(#[from] ClientError),
    /// The ledger did not acknowledge the record; nothing was done.
    #[error("the ledger did not acknowledge the record, so the change was not made: run it again")]
    NotRecorded(#[source] AppendError),
    /// It stands in the ledger and was not done.
    #[error("the change is recorded (seq {seq}) and not made: run it again")]
    NotMade {
        /// Where it is recorded.
        seq: u64,
        /// Why it was not made.
        #[source]
        source: SubscriptionsError,
    },
}

/// Where changes are recorded.
pub(crate) struct Journal {
    /// With the key of the caller `operator`, who is the actor of every change: that is all that is
    /// known of who makes it.
    pub(crate) audit: AuditClient,
    /// Who makes it as they say.
    pub(crate) claimed_by: Option<Name>,
}

/// What became of a change.
pub(crate) enum Made {
    /// All was so already; nothing was recorded.
    Nothing,
    /// It is made, and recorded where there is a journal.
    Change(Option<Receipt>),
}

/// All subscriptions, none where nothing was stored yet.
pub(crate) async fn current(store: &dyn SubscriptionStore) -> Result<Snapshot, SubscriptionsError> {
    match store.load(None).await {
        Err(error) if error.is_missing() => Ok(Snapshot::default()),
        loaded => Ok(loaded?.unwrap_or_default()),
    }
}

/// Records a change and makes it. A change that was recorded and not made, because something failed
/// in between, is recorded again when the command is run again: an intent too many is better than
/// a change that nobody knows of. So is one that others overtook, if they made its record untrue.
pub(crate) async fn make(
    store: &dyn SubscriptionStore,
    change: &Change,
    journal: Option<&Journal>,
) -> Result<Made, CommandError> {
    let mut recorded: Option<(SubscriptionChange, Receipt)> = None;
    for _ in 0..TRIES {
        let failed = |source| not_made(recorded.as_ref(), source);
        let before = current(store).await.map_err(failed)?;
        // Checked before it is recorded.
        let after = change.apply(&before.entries, journal.is_some()).map_err(failed)?;
        if after == before.entries && recorded.is_none() {
            return Ok(Made::Nothing);
        }
        if let Some(journal) = journal {
            let record = change.record(&before.entries, &after);
            if recorded.as_ref().is_none_or(|(told, _)| *told != record) {
                let receipt = journal.record(&record).await.map_err(CommandError::NotRecorded)?;
                recorded = Some((record, receipt));
            }
        }
        let failed = |source| not_made(recorded.as_ref(), source);
        if store.replace(&before, &after).await.map_err(failed)? == Replaced::Done {
            return Ok(Made::Change(recorded.map(|(_, receipt)| receipt)));
        }
    }
    Err(not_made(recorded.as_ref(), SubscriptionsError::Contended))
}

fn not_made(
    recorded: Option<&(SubscriptionChange, Receipt)>,
    source: SubscriptionsError,
) -> CommandError {
    match recorded {
        Some((_, receipt)) => CommandError::NotMade { seq: receipt.seq, source },
        None => source.into(),
    }
}

impl Journal {
    /// Appends the record of a change at the end of its stream, whose version only a refusal tells:
    /// an operator may not read the ledger. One whose acknowledgement is lost is recorded again.
    async fn record(&self, change: &SubscriptionChange) -> Result<Receipt, AppendError> {
        let mut version = 1;
        for _ in 1..TRIES {
            match self.audit.append(self.proposal(change, version)).await {
                Err(AppendError::Conflict { actual, .. }) => version = actual + 1,
                appended => return appended,
            }
        }
        self.audit.append(self.proposal(change, version)).await
    }

    fn proposal(&self, change: &SubscriptionChange, version: u64) -> Proposal {
        let id = "operator".parse().expect("a word is a name");
        let actor = Actor { id, kind: ActorKind::Service, roles: Vec::new() };
        let claimed_by = self.claimed_by.clone();
        let purpose = Purpose::SystemAdministration;
        Proposal {
            stream: Some(Stream::GatewaySubscriptions),
            version: Some(version),
            subscription: Some(SubscriptionChange { claimed_by, ..change.clone() }),
            ..Proposal::new(RecordType::SubscriptionChanged, actor, purpose, Outcome::Success)
        }
    }
}
