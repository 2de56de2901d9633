//! Changing the key-encryption key: every key is wrapped anew, while the ring is in use.
//!
//! Nothing is remembered between two runs: what is left to do is what the store still holds under
//! another key-encryption key.

use std::{collections::BTreeMap, future::Future, time::Duration};

use serde::Serialize;

use super::{
    KeyRingError,
    kek::KekId,
    keks::{Keks, listed},
    store::{KeyStoreError, Rewrap, Rewrapped},
};
use crate::backoff::{Transient, persist};

/// Keys wrapped anew in one call: some 200 kB.
const PAGE: usize = 1_000;

/// Passes over the store at most. One finds the keys, the next whatever was made meanwhile; more
/// are needed only while some process still wraps under another key.
const MAX_PASSES: u32 = 10;

/// How long one call of the store may take: one that looks at every key of ten million.
const CALL_DEADLINE: Duration = Duration::from_mins(5);

/// Why keys were not wrapped anew.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The store gave no answer, again and again. What was done stays done.
    #[error("the key store does not answer; run it again, it goes on where it was")]
    Store(#[from] KeyStoreError),
    /// Keys are wrapped under key-encryption keys that are not at hand.
    #[error(
        "keys are wrapped under the key-encryption key {}, which was not given; name it behind {first}",
        listed(needed)
    )]
    Missing {
        /// The ids that are needed.
        needed: Vec<KekId>,
        /// The id of the key that wraps.
        first: KekId,
    },
    /// Keys under other key-encryption keys appear as fast as they are wrapped anew.
    #[error(
        "keys are still being wrapped under another key-encryption key than {first}; restart every \
         process with {first} first and run it again"
    )]
    StillComing {
        /// The id of the key that wraps.
        first: KekId,
    },
}

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Keys under another key-encryption key when the run began.
    pub found: u64,
    /// Keys wrapped anew so far.
    pub rewrapped: u64,
    /// Keys that were destroyed, or wrapped anew by another process, before it was their turn.
    pub passed_over: u64,
    /// Keys that do not unwrap, counted once a pass: they were changed in the store. They stay as
    /// they are.
    pub corrupt: u64,
}

/// How many keys are under which key-encryption key.
pub async fn counts(store: &dyn Rewrap) -> Result<BTreeMap<KekId, u64>, KeyStoreError> {
    ask(|| store.counts()).await
}

/// Wraps every data and epoch key that is not under the first key-encryption key under it, until
/// a pass over the store finds none. May be stopped and run again at any time, and more than
/// once at a time.
pub async fn rotate(
    store: &dyn Rewrap,
    keks: &Keks,
    mut progress: impl FnMut(&Progress),
) -> Result<Progress, RotateError> {
    let (first, held) = (keks.first(), keks.ids());
    let counts = counts(store).await?;
    let needed: Vec<_> = counts.keys().filter(|kek| !held.contains(kek)).copied().collect();
    if !needed.is_empty() {
        return Err(RotateError::Missing { needed, first });
    }
    let others = counts.iter().filter(|(kek, _)| **kek != first);
    let mut total = Progress { found: others.map(|(_, keys)| keys).sum(), ..Progress::default() };
    for _ in 0..MAX_PASSES {
        total.corrupt = 0;
        let done = total;
        pass(store, keks, &mut total, &mut progress).await?;
        // Always, because an earlier run may have ended before it came to that.
        ask(|| store.scrub()).await?;
        if (total.rewrapped, total.passed_over) == (done.rewrapped, done.passed_over) {
            return Ok(total);
        }
    }
    Err(RotateError::StillComing { first })
}

/// Goes once through the keys under other key-encryption keys.
async fn pass(
    store: &dyn Rewrap,
    keks: &Keks,
    total: &mut Progress,
    progress: &mut impl FnMut(&Progress),
) -> Result<(), RotateError> {
    let mut after = None;
    loop {
        let page = ask(|| store.not_under(keks.first(), after, PAGE)).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.kid);
        let mut changes = Vec::with_capacity(page.len());
        for old in page {
            match keks.unwrap(&old) {
                Ok(key) => changes.push(Rewrapped { new: keks.wrap(&key), old }),
                Err(KeyRingError::WrongKek { needed, .. }) => {
                    let first = keks.first();
                    return Err(RotateError::Missing { needed: vec![needed], first });
                }
                Err(error) => {
                    total.corrupt += 1;
                    tracing::error!(%error, "a key cannot be wrapped anew");
                }
            }
        }
        let put = ask(|| store.rewrap(&changes)).await?;
        total.rewrapped += put;
        total.passed_over += (changes.len() as u64).saturating_sub(put);
        progress(total);
    }
}

/// Asks the store, again where it is away for a moment.
async fn ask<T, F, Fut>(mut call: F) -> Result<T, KeyStoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, KeyStoreError>>,
{
    persist("asking the key store", || {
        let answer = tokio::time::timeout(CALL_DEADLINE, call());
        async { answer.await.unwrap_or(Err(KeyStoreError::TimedOut)) }
    })
    .await
}

impl Transient for KeyStoreError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TimedOut)
    }
}
