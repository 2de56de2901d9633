//! Bringing the ledger into one generation.

mod start;

use audit_verify::{
    checkpoint::{CheckpointError, LedgerKey, read_unverified},
    key_history::KeyHistory,
};
use futures::{future::try_join, try_join};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Pace,
    decoder::{Decoder, Decrypted, Rules, wrong_version},
    note::Note,
    progress::Progress,
    reader::{After, Reader},
};
use crate::{
    backoff::{Backoff, persist},
    change::StreamChange,
    digest::{Digest, digest},
    documents::{Generation, Office, Position},
    erasure,
    error::{FollowError, RebuildError},
    follower::Deps,
    store::{Applied, ProjectionStore, StoreError},
};

/// Batches read and verified ahead of the one that is decrypted.
const READ_AHEAD: usize = 2;

/// Batches decrypted ahead of the one that is written.
const DECRYPT_AHEAD: usize = 1;

/// Batches written between two notes at most: what a killed build does again.
const NOTE_EVERY: u64 = 2;

/// Records that a generation may lack before commands are told of it.
const CAUGHT_UP: u64 = 200;

/// Checkpoints read up to at most, each taken after the one before was reached. Where so many
/// do not end within [`CAUGHT_UP`] of the ledger's end, records come faster than they are applied.
const MAX_ROUNDS: u32 = 100;

/// A generation at work on.
pub(crate) struct Build<'a> {
    pub(super) deps: &'a Deps,
    pub(super) generation: Generation,
    office: Office,
    pub(super) note: Note,
    /// Where the note was when this process began.
    pub(super) resumed_at: u64,
    pub(super) pace: Pace,
    key: LedgerKey,
    /// `None` while a task reads, and after one failed.
    reader: Option<Reader>,
    /// A stream that is behind is brought up from the ledger.
    repair: bool,
    /// What the store's position is to say: not beyond the state that the generation shows.
    position: Option<Position>,
    unsaved: u64,
    progress: Progress,
}

impl Build<'_> {
    /// Records verified and applied.
    pub(crate) fn size(&self) -> u64 {
        self.note.size()
    }

    /// Reads and applies until the ledger's end is near.
    pub(crate) async fn catch_up(&mut self) -> Result<(), RebuildError> {
        for _ in 0..MAX_ROUNDS {
            if self.catch_up_once().await? <= CAUGHT_UP {
                return Ok(());
            }
        }
        Err(RebuildError::NotCaughtUp)
    }

    /// Reads and applies up to a checkpoint taken now. Returns how many records that were.
    pub(super) async fn catch_up_once(&mut self) -> Result<u64, RebuildError> {
        let mut backoff = Backoff::default();
        for _ in 0..MAX_ROUNDS {
            let (note, size) = self.checkpoint().await?;
            // Else it is of a replica that is behind the one before.
            if let Some(behind) = size.checked_sub(self.note.size()) {
                self.round(&note, size).await?;
                return Ok(behind);
            }
            backoff.wait().await;
        }
        Err(RebuildError::Size { read: self.note.size(), size: 0 })
    }

    /// Does something, and meanwhile keeps the generation caught up.
    pub(super) async fn following<T>(
        &mut self,
        work: impl Future<Output = Result<T, RebuildError>>,
    ) -> Result<T, RebuildError> {
        let done = CancellationToken::new();
        let work = async {
            let result = work.await;
            done.cancel();
            result
        };
        Ok(try_join(work, self.follow_until(&done)).await?.0)
    }

    async fn follow_until(&mut self, done: &CancellationToken) -> Result<(), RebuildError> {
        while !done.is_cancelled() {
            let (note, size) = self.checkpoint().await?;
            if size > self.note.size() {
                self.round(&note, size).await?;
            } else {
                done.run_until_cancelled(tokio::time::sleep(self.pace.look)).await;
            }
        }
        Ok(())
    }

    async fn checkpoint(&self) -> Result<(String, u64), RebuildError> {
        let note = persist("asking for a checkpoint", || async {
            self.deps.audit.checkpoint().await.map_err(FollowError::from)
        });
        let note = note.await?;
        // Which key has to have signed it is known when its size is read.
        let (origin, head) = read_unverified(&note)?;
        if origin == *self.key.origin() {
            Ok((note, head.size))
        } else {
            Err(CheckpointError::Origin.into())
        }
    }

    /// Reads and applies up to a checkpoint, verifies it and compares with it.
    async fn round(&mut self, note: &str, size: u64) -> Result<(), RebuildError> {
        let reader = self.reader.take().ok_or(RebuildError::Interrupted)?;
        let rules = Rules {
            generation: self.generation,
            until: self.note.until,
            ahead_below: self.note.ahead_below,
            repair: self.repair,
        };
        let (read, to_decrypt) = mpsc::channel(READ_AHEAD);
        let (decrypted, mut to_write) = mpsc::channel(DECRYPT_AHEAD);
        let reading = reader.read_to(size, self.pace.batch, read);
        let reading = AbortOnDropHandle::new(tokio::spawn(reading));
        let decoding = Decoder::new(self.deps.clone(), rules).run(to_decrypt, decrypted);
        let decoding = AbortOnDropHandle::new(tokio::spawn(decoding));
        while let Some(batch) = to_write.recv().await {
            self.write(batch).await?;
            self.progress.advance(self.note.size(), size);
        }
        // The reader's error is no more than the echo of a decoder that failed.
        decoding.await.map_err(|_| RebuildError::Interrupted)??;
        let reader = reading.await.map_err(|_| RebuildError::Interrupted)??;
        reader.check(&self.deps.audit, note).await?;
        self.reader = Some(reader);
        self.save().await
    }

    async fn write(&mut self, batch: Decrypted) -> Result<(), RebuildError> {
        let Deps { store, ring, .. } = self.deps;
        let (store, generation) = (store.as_ref(), self.generation);
        let Decrypted { after, applied, events, changes, seqs, activity } = batch;
        let (results, ()) = try_join!(
            persist("applying events", || apply(store, generation, &changes)),
            persist("writing activity", || async {
                if activity.is_empty() {
                    return Ok(());
                }
                store.write_activity(generation, &activity).await
            }),
        )?;
        for erasure in changes.iter().filter(|change| change.erased.is_some()) {
            let completed =
                persist("completing an erasure", || erasure::complete(store, ring, erasure));
            completed.await.map_err(FollowError::from)?;
        }
        for ((change, seq), result) in changes.iter().zip(seqs).zip(results) {
            // The cursor was right when it was read.
            if let Applied::Gap { .. } = result {
                return Err(wrong_version(change.patient, seq));
            }
        }
        let After { position, frontier, keys } = after;
        self.note.place = Some(position.into());
        self.note.frontier = frontier.map_or_else(Vec::new, |it| it.hashes().to_vec());
        self.note.keys = listing(&keys);
        self.note.events += events;
        self.position = applied.or(self.position);
        self.unsaved += 1;
        if self.unsaved >= NOTE_EVERY { self.save().await } else { Ok(()) }
    }

    /// Writes down how far the generation is; fails where another has taken office. The note
    /// goes last: it says where a build goes on, and one that has nothing left to read moves no
    /// position.
    pub(super) async fn save(&mut self) -> Result<(), RebuildError> {
        let Deps { store, .. } = self.deps;
        let (generation, office) = (self.generation, &self.office);
        // Written next, up to the next note and the batch that is under way then.
        let batch = u64::try_from(self.pace.batch).unwrap_or(u64::MAX);
        let ahead = self.note.size().saturating_add(batch.saturating_mul(NOTE_EVERY + 1));
        let note = Note { ahead_below: self.note.ahead_below.max(ahead), ..self.note.clone() };
        let unreadable = |_| RebuildError::Note { generation: generation.0 };
        let text = serde_json::to_string(&note).map_err(unreadable)?;
        if let Some(position) = &self.position {
            let moving = || store.set_position(generation, position, office);
            persist("writing the position", moving).await?;
        }
        persist("writing the note", || store.set_note(generation, &text, office)).await?;
        self.unsaved = 0;
        Ok(())
    }

    /// The digest as it is now.
    pub(super) async fn digest(&self) -> Result<Digest, RebuildError> {
        let (store, generation) = (self.deps.store.as_ref(), self.generation);
        Ok(persist("reading for the digest", || digest(store, generation)).await?)
    }
}

async fn apply(
    store: &dyn ProjectionStore,
    generation: Generation,
    changes: &[StreamChange],
) -> Result<Vec<Applied>, StoreError> {
    if changes.is_empty() { Ok(Vec::new()) } else { store.apply(generation, changes).await }
}

/// The keys of a ledger whose key was rotated; without a rotation it may be any of them that was
/// given.
fn listing(keys: &KeyHistory) -> String {
    if keys.keys().len() > 1 { keys.to_string() } else { String::new() }
}
