//! Anchored checkpoints: signed tree heads at a place that the ledger's operator cannot rewrite.

use anyhow::Context;
use audit_service::{
    anchor::{Anchor, read_each},
    outside::open_anchor,
    service::system_clock,
};
use audit_verify::{checkpoint::read_unverified, verifier::Expected};
use domain::ids::Name;

use super::VerifyArgs;
use crate::output::Failure;

/// Checkpoints of one anchor that are compared at most. A rewritten record is seen by every later
/// one, so the newest tells whether there is one, and the others narrow down where.
const COMPARED: usize = 10_000;

/// The signed tree heads that the anchors hold, and what is to be said about them.
#[derive(Default)]
pub(super) struct Anchored {
    pub(super) expected: Vec<Expected>,
    pub(super) words: Vec<String>,
}

impl Anchored {
    /// Reads what the anchors that were named hold of a ledger. An anchor without any is refused:
    /// whoever names one demands it.
    pub(super) async fn read(args: &VerifyArgs, origin: &Name) -> Result<Self, Failure> {
        let mut all = Self::default();
        for location in &args.anchors.anchors {
            let anchor = open_anchor(location, args.anchors.anchor_sas.as_ref(), &system_clock());
            all.read_one(&*anchor, &location.to_string(), origin).await?;
        }
        Ok(all)
    }

    async fn read_one(
        &mut self,
        anchor: &dyn Anchor,
        shown: &str,
        origin: &Name,
    ) -> Result<(), Failure> {
        let unreadable = || format!("the anchor {shown} cannot be read");
        let sizes = anchor.sizes(origin).await.with_context(unreadable)?;
        let found = sizes.len();
        if found == 0 {
            return Err(anyhow::anyhow!("the anchor {shown} has no checkpoint of {origin}").into());
        }
        let step = found.div_ceil(COMPARED);
        // Every so many, counted from the newest.
        let sizes: Vec<u64> = sizes.into_iter().rev().step_by(step).collect();
        let compared = sizes.len();
        let mut bad = None;
        read_each(anchor, origin, sizes, |size, note| match read_unverified(&note) {
            Ok((of, head)) if of == *origin && head.size == size => {
                let name = format!("the checkpoint anchored at {shown}");
                self.expected.push(Expected { name, head, note: Some(note) });
            }
            _ => bad = Some(size),
        })
        .await
        .with_context(unreadable)?;
        if let Some(size) = bad {
            let words = format!("the anchor {shown} holds under {size} what is not its checkpoint");
            return Err(Failure::tampered(None, words));
        }
        self.words
            .push(format!("{compared} of {found} checkpoints anchored at {shown} were compared"));
        Ok(())
    }

    /// Those that say something about the records `from .. to`, what is to be said, and the newest
    /// of those that are beyond.
    pub(super) fn within(
        self,
        from: u64,
        to: u64,
    ) -> (Vec<Expected>, Vec<String>, Option<Expected>) {
        let Self { expected, mut words } = self;
        let (within, others): (Vec<_>, Vec<_>) =
            expected.into_iter().partition(|one| (from..=to).contains(&one.head.size));
        if !others.is_empty() {
            let count = others.len();
            words.push(format!("{count} anchored checkpoints are of records that were not read"));
        }
        let beyond = others.into_iter().filter(|one| one.head.size > to);
        (within, words, beyond.max_by_key(|one| one.head.size))
    }
}
