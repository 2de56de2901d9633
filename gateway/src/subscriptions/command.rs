//! Making a change: recorded first, then done.

use audit_client::{AppendError, AuditClient};
use domain::actor::{Actor, Outcome, Purpose};
use domain::ids::Stream;
use domain::record::RecordType;
use domain::wire::{Proposal, Receipt};
use runtime::client::ClientError;
use runtime::secrets::SecretError;

use super::change::Change;
use super::store::{Replaced, Snapshot, SubscriptionStore};
use super::{Entry, SubscriptionsError};

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
        "a change is recorded in the ledger: give --audit-url and --caller-key, or --unrecorded before there is a ledger"
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
    #[error("the change is recorded (seq {seq:?}) and not made: run it again")]
    NotMade {
        /// Where it is recorded, if it was to be recorded.
        seq: Option<u64>,
        /// Why it was not made.
        #[source]
        source: SubscriptionsError,
    },
}

/// Who makes a change, and where it is recorded.
pub(crate) struct Journal {
    pub(crate) audit: AuditClient,
    pub(crate) actor: Actor,
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
/// a change that nobody knows of.
pub(crate) async fn make(
    store: &dyn SubscriptionStore,
    change: &Change,
    journal: Option<&Journal>,
) -> Result<Made, CommandError> {
    let before = current(store).await?;
    // Checked before it is recorded.
    let after = change.apply(&before.entries)?;
    if after == before.entries {
        return Ok(Made::Nothing);
    }
    let receipt = match journal {
        Some(journal) => Some(journal.record(change).await.map_err(CommandError::NotRecorded)?),
        None => None,
    };
    let seq = receipt.as_ref().map(|receipt| receipt.seq);
    replace(store, change, before, after)
        .await
        .map_err(|source| CommandError::NotMade { seq, source })?;
    Ok(Made::Change(receipt))
}

async fn replace(
    store: &dyn SubscriptionStore,
    change: &Change,
    mut before: Snapshot,
    mut after: Vec<Entry>,
) -> Result<(), SubscriptionsError> {
    for _ in 0..TRIES {
        if store.replace(&before, &after).await? == Replaced::Done {
            return Ok(());
        }
        before = current(store).await?;
        after = change.apply(&before.entries)?;
    }
    Err(SubscriptionsError::Contended)
}

impl Journal {
    /// Appends the record of a change at the end of its stream, whose version only a refusal tells:
    /// an operator may not read the ledger. One whose acknowledgement is lost is recorded again.
    async fn record(&self, change: &Change) -> Result<Receipt, AppendError> {
        let mut version = 1;
        for _ in 1..TRIES {
            match self.audit.append(self.proposal(change, version)).await {
                Err(AppendError::Conflict { actual, .. }) => version = actual + 1,
                appended => return appended,
            }
        }
        self.audit.append(self.proposal(change, version)).await
    }

    fn proposal(&self, change: &Change, version: u64) -> Proposal {
        let purpose = Purpose::SystemAdministration;
        let record_type = RecordType::SubscriptionChanged;
        Proposal {
            stream: Some(Stream::GatewaySubscriptions),
            version: Some(version),
            subscription: Some(change.record()),
            ..Proposal::new(record_type, self.actor.clone(), purpose, Outcome::Success)
        }
    }
}
