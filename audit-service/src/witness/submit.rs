//! Submitting checkpoints to witnesses, off the path of appends.
//!
//! All witnesses get the same checkpoint in one round, so that one checkpoint has the
//! cosignatures of all of them. A witness that fails is left out of the rounds for a while.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use opentelemetry::metrics::Meter;
use tokio::{sync::watch, time::Instant};

use super::{
    book::CosignedBook,
    client::{SubmitError, Submitted, WitnessSpec},
    request::AddCheckpoint,
};
use crate::{
    appender::Head,
    checkpoint::{CheckpointError, TreeHead},
    notary::Notary,
    outside::{
        outage::Outage,
        reach::{self, Reach},
    },
    proofs::{NoProof, Proofs},
};

/// Between the end of a round and the next one at least, whatever the setting.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// How long a witness that failed is left alone: doubled with each failure in a row.
const FIRST_BACKOFF: Duration = Duration::from_secs(2);
const LONGEST_BACKOFF: Duration = Duration::from_mins(1);

/// How long one witness may take for one checkpoint, with the proofs.
const ROUND_TIMEOUT: Duration = Duration::from_secs(15);

/// Submissions of one checkpoint to one witness at most: the first may learn the size that the
/// witness has, and another replica may be faster once.
const MAX_TRIES: usize = 3;

/// Rounds in a row in which another replica may have been faster.
const MAX_AHEAD: u32 = 20;

/// Collects cosignatures for the ledger's checkpoints.
pub struct Submitter {
    head: watch::Receiver<Head>,
    notary: Arc<Notary>,
    proofs: Proofs,
    book: Arc<CosignedBook>,
    http: reqwest::Client,
    witnesses: Vec<Witness>,
    pause: Duration,
}

struct Witness {
    place: usize,
    spec: WitnessSpec,
    /// Size of the checkpoint that the witness has, as far as is known.
    has: u64,
    /// The last checkpoint that it cosigned for this process.
    cosigned: Reach,
    failures: u32,
    /// Rounds in a row in which it had seen more than this process.
    ahead: u32,
    not_before: Instant,
    outage: Outage,
}

/// Why a witness did not cosign in this round.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("no consistency proof can be made")]
    Prove(#[from] NoProof),
    #[error("the witness took too long")]
    TimedOut,
}

impl Submitter {
    /// A submitter to these witnesses, with this pause between two rounds.
    pub fn new(
        head: watch::Receiver<Head>,
        notary: Arc<Notary>,
        proofs: Proofs,
        book: Arc<CosignedBook>,
        witnesses: Vec<WitnessSpec>,
        pause: Duration,
    ) -> Self {
        let now = Instant::now();
        let witness = |(place, spec)| Witness {
            place,
            spec,
            has: 0,
            cosigned: Reach::default(),
            failures: 0,
            ahead: 0,
            not_before: now,
            outage: Outage::default(),
        };
        let witnesses = witnesses.into_iter().enumerate().map(witness).collect();
        let http = runtime::client::internal_client();
        Self { head, notary, proofs, book, http, witnesses, pause: pause.max(LEAST_PAUSE) }
    }

    /// Shows the age of what witnesses cosigned in the metrics.
    pub fn observe(&self, meter: &Meter) {
        let place = |it: &Witness| (it.spec.name().to_owned(), it.cosigned.watch());
        let places = self.witnesses.iter().map(place).collect();
        reach::observe(meter, ("vitalog.witness.age", "witness"), self.head.clone(), places);
    }

    /// Submits what is new until the appender is gone.
    pub async fn run(mut self) {
        let mut stopping = self.head.clone();
        tokio::select! {
            // Ends with an error when the appender does.
            _ = stopping.wait_for(|_| false) => {}
            () = self.keep_submitting() => {}
        }
    }

    async fn keep_submitting(&mut self) {
        let mut outage = Outage::default();
        loop {
            let size = self.head.borrow_and_update().size;
            let now = Instant::now();
            let due =
                |witness: &Witness| witness.cosigned.size() < size && witness.not_before <= now;
            if self.witnesses.iter().any(due) {
                match self.round().await {
                    Ok(()) => _ = outage.ends(),
                    Err(error) => {
                        if outage.begins(&error.to_string()) {
                            let error = &error as &dyn std::error::Error;
                            tracing::error!(error, "no checkpoint could be signed for witnesses");
                        }
                    }
                }
            }
            tokio::time::sleep(self.pause).await;
            self.until_due().await;
        }
    }

    /// Waits for a new record, or for the end of a witness's pause.
    async fn until_due(&mut self) {
        let size = self.head.borrow().size;
        let behind = self.witnesses.iter().filter(|witness| witness.cosigned.size() < size);
        let mut head = self.head.clone();
        let grown = head.wait_for(|head| head.size > size);
        match behind.map(|witness| witness.not_before).min() {
            Some(due) => _ = tokio::time::timeout_at(due, grown).await,
            None => _ = grown.await,
        }
    }

    /// Submits the newest checkpoint to every witness that is due.
    async fn round(&mut self) -> Result<(), CheckpointError> {
        let Head { size, root, .. } = *self.head.borrow();
        let note = self.notary.sign(TreeHead { size, root }).await?;
        let now = Instant::now();
        let Self { proofs, book, http, witnesses, .. } = self;
        let due = witnesses.iter_mut().filter(|w| w.cosigned.size() < size && w.not_before <= now);
        let submissions = due.map(async |witness| {
            let submitting = witness.submit(http, proofs, size, &note);
            let result = match tokio::time::timeout(ROUND_TIMEOUT, submitting).await {
                Ok(result) => result,
                Err(_) => Err(RoundError::TimedOut),
            };
            match result {
                Ok(Some(line)) => {
                    book.add(size, &note, witness.place, line);
                    witness.succeeded(size);
                }
                Ok(None) => witness.is_ahead(size),
                Err(error) => witness.failed(&error, size),
            }
        });
        join_all(submissions).await;
        Ok(())
    }
}

impl Witness {
    /// The cosignature line; `None` if the witness has seen a larger ledger than this process.
    async fn submit(
        &mut self,
        http: &reqwest::Client,
        proofs: &Proofs,
        size: u64,
        note: &str,
    ) -> Result<Option<String>, RoundError> {
        for _ in 0..MAX_TRIES {
            if self.has > size {
                break;
            }
            let proof = proofs.consistency(self.has, size).await?.hashes;
            let request = AddCheckpoint { old: self.has, proof, note: note.to_owned() };
            match self.spec.submit(http, &request).await? {
                Submitted::Cosigned(line) => {
                    self.has = size;
                    return Ok(Some(line));
                }
                Submitted::OtherSize(has) => self.has = has,
            }
        }
        Ok(None)
    }

    fn succeeded(&mut self, size: u64) {
        self.cosigned.to(size);
        (self.failures, self.ahead) = (0, 0);
        self.not_before = Instant::now();
        if self.outage.ends() {
            tracing::info!(witness = self.spec.name(), size, "the witness cosigns again");
        }
    }

    /// Another replica was faster, and a later checkpoint will do. If none comes, this ledger is
    /// shorter than what the witness has seen.
    fn is_ahead(&mut self, size: u64) {
        let has = self.has;
        // Asked for again, so that a false size does not end all submissions.
        self.has = 0;
        self.ahead = self.ahead.saturating_add(1);
        if self.ahead <= MAX_AHEAD {
            return;
        }
        self.back_off();
        let reason = "the witness has seen a larger ledger than this process";
        if self.outage.begins(reason) {
            tracing::error!(witness = self.spec.name(), size, has, "{reason}, for a while now");
        }
    }

    fn back_off(&mut self) {
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(8)).min(LONGEST_BACKOFF);
        self.failures += 1;
        self.not_before = Instant::now() + backoff;
    }

    fn failed(&mut self, error: &RoundError, size: u64) {
        self.back_off();
        if !self.outage.begins(&error.to_string()) {
            return;
        }
        let witness = self.spec.name();
        let cause = error as &dyn std::error::Error;
        match error {
            RoundError::Submit(SubmitError::Fork | SubmitError::Inconsistent) => tracing::error!(
                witness,
                size,
                has = self.has,
                error = cause,
                "FORK: a witness has seen another history of this ledger"
            ),
            RoundError::Submit(SubmitError::NotGenuine) => tracing::error!(
                witness,
                size,
                error = cause,
                "a witness answered without a genuine cosignature"
            ),
            _ => tracing::warn!(
                witness,
                size,
                error = cause,
                "a witness does not cosign, trying again"
            ),
        }
    }
}
