//! Writing checkpoints to anchors, off the path of appends.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use opentelemetry::metrics::Meter;
use tokio::{sync::watch, time::Instant};

use super::{Anchor, AnchorError};
use crate::{
    appender::Head,
    checkpoint::{CheckpointError, TreeHead},
    notary::Notary,
    outside::{
        outage::Outage,
        reach::{self, Reach},
    },
    witness::book::CosignedBook,
};

/// How long the last checkpoint of a clean stop may take.
const LAST: Duration = Duration::from_secs(10);

/// How long one anchor may take for one checkpoint.
const KEEP_TIMEOUT: Duration = Duration::from_mins(2);

/// How long a checkpoint's cosignatures are waited for: longer than witnesses take that answer.
const COSIGNED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Anchors the ledger's checkpoints.
pub struct Keeper {
    head: watch::Receiver<Head>,
    notary: Arc<Notary>,
    book: Arc<CosignedBook>,
    anchors: Vec<Kept>,
    every: Duration,
    /// Whether there are witnesses.
    witnessed: bool,
}

struct Kept {
    /// For the log.
    location: String,
    anchor: Arc<dyn Anchor>,
    reach: Reach,
    outage: Outage,
}

/// Why an anchor has not kept a checkpoint.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    #[error("the anchor took too long")]
    TimedOut,
}

impl Keeper {
    /// A keeper that writes to these anchors, named for the log, as often as this; `witnessed`
    /// says whether cosignatures are to be expected.
    pub fn new(
        head: watch::Receiver<Head>,
        notary: Arc<Notary>,
        book: Arc<CosignedBook>,
        anchors: Vec<(String, Arc<dyn Anchor>)>,
        every: Duration,
        witnessed: bool,
    ) -> Self {
        let kept = |(location, anchor)| {
            let (reach, outage) = Default::default();
            Kept { location, anchor, reach, outage }
        };
        let anchors = anchors.into_iter().map(kept).collect();
        Self { head, notary, book, anchors, every, witnessed }
    }

    /// Shows the age of what is anchored in the metrics.
    pub fn observe(&self, meter: &Meter) {
        let places = self.anchors.iter().map(|kept| (kept.location.clone(), kept.reach.watch()));
        let metric = ("vitalog.anchor.age", "anchor");
        reach::observe(meter, metric, self.head.clone(), places.collect());
    }

    /// Anchors what is new until the appender is gone, and the last head then.
    pub async fn run(mut self) {
        let mut stopping = self.head.clone();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                // Ends with an error when the appender does.
                _ = stopping.wait_for(|_| false) => break,
                () = tokio::time::sleep_until(next) => {}
            }
            next = Instant::now() + self.every;
            let anchoring = async {
                let cosigned = self.cosigned().await;
                self.round(cosigned).await;
            };
            tokio::select! {
                _ = stopping.wait_for(|_| false) => break,
                () = anchoring => {}
            }
        }
        if tokio::time::timeout(LAST, self.round(None)).await.is_err() {
            tracing::warn!("not every anchor has the last checkpoint: the process goes down");
        }
    }

    /// The newest cosigned checkpoint; waits a little for one that is new to all
    /// anchors.
    async fn cosigned(&self) -> Option<(u64, String)> {
        let kept = self.anchors.iter().map(|kept| kept.reach.size()).max().unwrap_or_default();
        if !self.witnessed || self.head.borrow().size <= kept {
            return self.book.newest();
        }
        let looking = async {
            loop {
                match self.book.newest() {
                    Some(newest) if newest.0 > kept => return newest,
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        tokio::time::timeout(COSIGNED_WITHIN, looking).await.ok()
    }

    /// Brings each anchor up to a cosigned checkpoint, or to the head where that is nothing new.
    async fn round(&mut self, cosigned: Option<(u64, String)>) {
        let size = self.head.borrow().size;
        if self.anchors.iter().all(|kept| kept.reach.size() >= size) {
            return;
        }
        let head = match self.checkpoint().await {
            Ok(head) => head,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "no checkpoint could be signed for anchors");
                return;
            }
        };
        let origin = self.notary.origin();
        let keeping = self.anchors.iter_mut().map(async |kept| {
            let newer = cosigned.as_ref().filter(|(size, _)| *size > kept.reach.size());
            let (size, note) = newer.unwrap_or(&head);
            if *size <= kept.reach.size() {
                return;
            }
            let keeping = kept.anchor.keep(origin, *size, note);
            let result = match tokio::time::timeout(KEEP_TIMEOUT, keeping).await {
                Ok(result) => result.map_err(KeepError::from),
                Err(_) => Err(KeepError::TimedOut),
            };
            kept.note(*size, result);
        });
        join_all(keeping).await;
    }

    /// The head's checkpoint with the cosignatures that it has.
    async fn checkpoint(&self) -> Result<(u64, String), CheckpointError> {
        let Head { size, root, .. } = *self.head.borrow();
        let note = self.notary.sign(TreeHead { size, root }).await?;
        Ok((size, self.book.with_cosignatures(note)))
    }
}

impl Kept {
    fn note(&mut self, size: u64, result: Result<(), KeepError>) {
        let anchor = &self.location;
        let error = match result {
            Ok(()) => {
                self.reach.to(size);
                if self.outage.ends() {
                    tracing::info!(anchor, size, "the anchor keeps checkpoints again");
                }
                return;
            }
            Err(error) => error,
        };
        let cause = &error as &dyn std::error::Error;
        if !self.outage.begins(&error.to_string()) {
            return;
        }
        if let KeepError::Anchor(AnchorError::Differs { .. }) = error {
            tracing::error!(
                anchor,
                size,
                error = cause,
                "FORK: the anchor keeps another checkpoint of this ledger under this size"
            );
        } else {
            tracing::error!(anchor, size, error = cause, "a checkpoint could not be anchored");
        }
    }
}
