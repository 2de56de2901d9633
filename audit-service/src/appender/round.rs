//! One round: from the proposals that waited to a block, and to an answer for each of them.

use std::time::Instant;

use domain::wire::{AppendResult, Stored};
use tracing::Instrument;

use super::Appender;
use crate::{
    append_span,
    checkpoint::{CheckpointSigner, TreeHead},
    commit::{Committed, commit},
    known::{Known, look_up},
    plan::{Formed, Plan},
    prover::Grown,
    queue::{Item, refuse, unavailable},
    stop::{Final, Stop},
    store::StoreError,
};

/// What is true of the proposals of a round once its block is durable.
struct Decided {
    results: Vec<AppendResult>,
    /// The block, if one is needed, and when it was begun.
    formed: Option<(Formed, Instant)>,
}

impl Appender {
    /// Appends what it is given as one block and answers every item.
    pub(super) async fn round(&mut self, mut items: Vec<Item>) -> Result<(), Final> {
        match self.append(&mut items).await {
            Ok((results, grown)) => {
                self.prover.answer(items, results, grown);
                Ok(())
            }
            Err(Stop::Store(error)) => {
                self.unavailable(&error);
                refuse(items, Stored::NothingStored);
                Ok(())
            }
            Err(Stop::Final(reason)) => {
                refuse(items, reason.stored());
                Err(reason)
            }
        }
    }

    /// The results, and how the tree grew if somebody wants a proof of that.
    async fn append(
        &mut self,
        items: &mut [Item],
    ) -> Result<(Vec<AppendResult>, Option<Grown>), Stop> {
        let mut fenced = false;
        loop {
            let deciding = append_span::decide(items);
            let Decided { results, formed } =
                self.decide(items, fenced).instrument(deciding).await?;
            let Some((formed, began)) = formed else { return Ok((results, None)) };
            match self.commit(&formed, items, &results).await? {
                Committed::Stored => {
                    self.metrics.stored(formed.records.iter().map(|(it, _)| it), began.elapsed());
                    let proven = items.iter().any(|item| item.proof);
                    let grown = proven.then(|| self.grown(&formed));
                    self.adopt(formed);
                    return Ok((results, grown));
                }
                Committed::Fenced => fenced = true,
                Committed::Refused => {
                    return Ok((vec![unavailable(Stored::NothingStored); items.len()], None));
                }
                Committed::Abandoned => return Err(Stop::Final(Final::Abandoned)),
            }
        }
    }

    /// Checks the items against the ledger, which is caught up with first where another process's
    /// block came before ours.
    async fn decide(&mut self, items: &[Item], fenced: bool) -> Result<Decided, Stop> {
        if fenced {
            self.catch_up().await?;
        } else {
            match self.confirm_tail().await {
                // No answer is no evidence, and the append itself will say how the store is.
                Ok(()) | Err(Stop::Store(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        let mut confirmed = false;
        loop {
            let known = self.look_up(items).await?;
            let Some(now) = self.now().await else {
                let results = vec![unavailable(Stored::NothingStored); items.len()];
                return Ok(Decided { results, formed: None });
            };
            let began = Instant::now();
            let mut plan = Plan::new(&self.ledger, known, now);
            let results: Vec<AppendResult> =
                items.iter().map(|item| offer(&mut plan, &self.signer, item)).collect();
            if let Some(formed) = plan.finish() {
                return Ok(Decided { results, formed: Some((formed, began)) });
            }
            // No block confirms that our head is the ledger's: a conflict with an old head
            // would be a lie.
            let conflict = |result| matches!(result, &AppendResult::Conflict { .. });
            if !confirmed && results.iter().any(conflict) {
                confirmed = true;
                if self.catch_up().await? {
                    continue;
                }
            }
            return Ok(Decided { results, formed: None });
        }
    }

    async fn look_up(&mut self, items: &[Item]) -> Result<Known, Stop> {
        loop {
            let size = self.ledger.size();
            if let Some(known) = look_up(&*self.store, &mut self.recent, size, items).await? {
                return Ok(known);
            }
            // The store knows more than we do; each turn gets us further.
            if !self.catch_up().await? {
                let error = "a command was found in a block that is not visible";
                return Err(Stop::Store(StoreError::Unavailable(error.into())));
            }
        }
    }

    async fn commit(
        &self,
        formed: &Formed,
        items: &mut [Item],
        results: &[AppendResult],
    ) -> Result<Committed, StoreError> {
        let started = Instant::now();
        let span = append_span::commit(formed, items, results);
        let Self { store, component, abandon, metrics, .. } = self;
        let committing = commit(&**store, &formed.block, component, abandon, metrics);
        // While the store works.
        let linking = async { append_span::link(&span, items, results) };
        let (committed, ()) = tokio::join!(committing.instrument(span.clone()), linking);
        append_span::committed(&span, started, &committed);
        committed
    }

    fn grown(&self, formed: &Formed) -> Grown {
        Grown {
            before: self.ledger.frontier().clone(),
            leaves: formed.records.iter().map(|(_, hash)| *hash).collect(),
            head: TreeHead { size: formed.ledger.size(), root: formed.ledger.root() },
        }
    }

    fn adopt(&mut self, formed: Formed) {
        self.ledger = formed.ledger;
        self.tail.moved_to(&formed.block);
        self.publish(&formed.records);
        self.component.ready();
    }
}

/// A proposal whose caller has gone while other processes' blocks came first is not appended:
/// it was certainly not stored, and its command may have been sent again elsewhere since.
fn offer(plan: &mut Plan, signer: &CheckpointSigner, item: &Item) -> AppendResult {
    if item.is_waited_for() {
        // It would be the last record that this process appends.
        if let Some(rotation) = &item.record.key
            && !signer.holds_public(&rotation.next.0)
        {
            let reason = "this replica does not hold the next signing key: give it to every \
                          replica before the rotation";
            return AppendResult::Refused { reason: reason.to_owned() };
        }
        plan.offer(&item.record, item.fresh)
    } else {
        unavailable(Stored::NothingStored)
    }
}
