//! The rules of a witness: which checkpoint it cosigns.

use std::sync::{Mutex, PoisonError};

use audit_verify::{
    checkpoint::{LedgerKey, TreeHead, read_unverified},
    cosignature::WitnessSecret,
};
use domain::{
    hash::Hash,
    ids::Name,
    merkle::{ProofError, check_consistency},
};

use super::{
    evidence::{Contradiction, Evidence, Kept},
    request::AddCheckpoint,
    state::{Change, StateError, WitnessState},
};
use crate::{clock::Clock, outside::outage::Outage};

/// A witness: its key, the ledgers that it watches, and what it has seen of them.
pub struct Cosigner {
    secret: WitnessSecret,
    ledgers: Vec<LedgerKey>,
    state: WitnessState,
    evidence: Evidence,
    /// What is wrong with keeping evidence.
    outage: Mutex<Outage>,
    clock: Clock,
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The checkpoint is no signed note of a checkpoint.
    #[error("the checkpoint cannot be read")]
    Malformed,
    /// The old size is larger than the checkpoint.
    #[error("the old size is larger than the checkpoint")]
    OldTooLarge,
    /// No key of this origin is known.
    #[error("this witness does not know the checkpoint's origin")]
    UnknownOrigin,
    /// No known key of the origin signed it.
    #[error("no key that this witness trusts for the origin signed the checkpoint")]
    Untrusted,
    /// The witness has seen another size than the sender believes.
    #[error("the latest cosigned checkpoint has size {size}")]
    OtherSize {
        /// Size of the latest cosigned checkpoint; 0 if there is none.
        size: u64,
    },
    /// The same size as the latest cosigned checkpoint with another root: a fork.
    #[error("the latest cosigned checkpoint has another root at this size")]
    Fork,
    /// The proof does not show that the checkpoint extends the latest cosigned one.
    #[error("the consistency proof does not verify")]
    Inconsistent(#[source] ProofError),
    /// What was seen before cannot be read or replaced.
    #[error("the witness's state cannot be used")]
    State(#[from] StateError),
}

impl Cosigner {
    /// A witness. Several keys of one origin are all trusted, while the ledger rotates its key.
    pub fn new(
        secret: WitnessSecret,
        ledgers: Vec<LedgerKey>,
        state: WitnessState,
        clock: Clock,
    ) -> Self {
        let evidence = Evidence::new(state.folder());
        Self { secret, ledgers, state, evidence, outage: Mutex::default(), clock }
    }

    /// Cosigns a checkpoint, remembers it and returns the signature line. Blocks on files.
    pub fn add(&self, request: &AddCheckpoint) -> Result<String, Refusal> {
        let (origin, head) = self.open(&request.note)?;
        if request.old > head.size {
            return Err(Refusal::OldTooLarge);
        }
        self.state.update(&origin, |seen| {
            let (latest, seen) = self.latest(&origin, seen)?;
            let contradicts = head.size == latest.size && head.root != latest.root;
            if contradicts {
                self.keep_evidence(Contradiction::Fork, &origin, head, request, seen);
            }
            if request.old != latest.size {
                return Err(Refusal::OtherSize { size: latest.size });
            }
            if contradicts {
                return Err(Refusal::Fork);
            }
            let (old, new) = ((latest.size, latest.root), (head.size, head.root));
            if let Err(error) = check_consistency(old, new, &request.proof) {
                self.keep_evidence(Contradiction::Unproven, &origin, head, request, seen);
                return Err(Refusal::Inconsistent(error));
            }
            // Read under the lock: at this time nothing larger has been seen.
            let seconds = u64::try_from((self.clock)().millis() / 1_000).unwrap_or_default();
            let line =
                self.secret.cosign(&request.note, seconds).map_err(|_| Refusal::Malformed)?;
            let remember = (head.size > latest.size || seen.is_none())
                .then(|| self.essence(&origin, &request.note).map(|note| note + &line))
                .transpose()?;
            Ok(Change { remember, answer: line })
        })
    }

    /// Origin and tree head of a note that a trusted key signed.
    fn open(&self, note: &str) -> Result<(Name, TreeHead), Refusal> {
        use audit_verify::checkpoint::CheckpointError;
        let (origin, _) = read_unverified(note).map_err(|error| match error {
            CheckpointError::Origin => Refusal::UnknownOrigin,
            CheckpointError::Malformed | CheckpointError::Signature => Refusal::Malformed,
        })?;
        let mut keys = self.ledgers.iter().filter(|key| *key.origin() == origin).peekable();
        if keys.peek().is_none() {
            return Err(Refusal::UnknownOrigin);
        }
        let head = keys.find_map(|key| key.open(note).ok()).ok_or(Refusal::Untrusted)?;
        Ok((origin, head))
    }

    /// The note with one genuine signature of each of the ledger's keys and no other line: what
    /// strangers may add would make it longer than a note may be, once this witness adds its own.
    fn essence(&self, origin: &Name, note: &str) -> Result<String, Refusal> {
        let blank = note.rfind("\n\n").ok_or(Refusal::Malformed)?;
        let (text, lines) = note.split_at(blank + 2);
        let mut essence = text.to_owned();
        for key in self.ledgers.iter().filter(|key| key.origin() == origin) {
            let signed = |line: &&str| key.open(&format!("{text}{line}")).is_ok();
            if let Some(line) = lines.split_inclusive('\n').find(signed) {
                essence.push_str(line);
            }
        }
        Ok(essence)
    }

    /// The remembered checkpoint, verified; the empty tree where there is none.
    fn latest<'a>(
        &self,
        origin: &Name,
        seen: Option<&'a str>,
    ) -> Result<(TreeHead, Option<&'a str>), StateError> {
        let Some(note) = seen else {
            return Ok((TreeHead { size: 0, root: Hash::of_nothing() }, None));
        };
        let damaged = || StateError::Damaged { path: self.state.file(origin) };
        let (of, head) = read_unverified(note).map_err(|_| damaged())?;
        // A key of the ledger may have been retired since, and this witness may have a new one.
        let own = matches!(self.secret.public().cosigned_at(note), Ok(Some(_)));
        let trusted = own || self.ledgers.iter().any(|key| key.open(note).is_ok());
        if of == *origin && trusted { Ok((head, seen)) } else { Err(damaged()) }
    }

    fn keep_evidence(
        &self,
        kind: Contradiction,
        origin: &Name,
        head: TreeHead,
        request: &AddCheckpoint,
        seen: Option<&str>,
    ) {
        let TreeHead { size, root } = head;
        let seen = seen.unwrap_or_default();
        let kept = self.evidence.keep(kind, origin, head, &request.note, seen);
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        // Strangers may send all of this again and again: what is not new is not worth much.
        let file = match kept {
            Ok(Kept::New(file)) => {
                outage.ends();
                Some(file)
            }
            Ok(Kept::Before) => {
                return tracing::debug!(%origin, size, %root, ?kind, "contradicts, as before");
            }
            Ok(Kept::Full { first: true }) => {
                return tracing::warn!(
                    %origin, size, %root, ?kind,
                    "contradicts; no evidence of this kind is kept any more, as there is too much"
                );
            }
            Ok(Kept::Full { first: false }) => {
                return tracing::debug!(%origin, size, %root, ?kind, "contradicts; not kept");
            }
            Err(error) if outage.begins(&error.to_string()) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "evidence could not be kept");
                None
            }
            Err(_) => {
                return tracing::debug!(%origin, size, %root, ?kind, "contradicts; not kept");
            }
        };
        let file = file.map(|file| file.display().to_string());
        match kind {
            Contradiction::Fork => tracing::error!(
                %origin, size, %root, file,
                "FORK: the ledger's key signed two roots at one size"
            ),
            Contradiction::Unproven => tracing::error!(
                %origin, size, %root, file,
                "a signed checkpoint came without a proof that it extends the one that was cosigned"
            ),
        }
    }
}
