//! Where a build begins.

use audit_verify::{checkpoint::LedgerKey, key_history::KeyHistory};
use domain::merkle::Frontier;

use super::{Build, listing};
use crate::{
    backoff::persist,
    documents::{Generation, Office, Position},
    error::{FollowError, RebuildError},
    follower::Deps,
    rebuild::{
        Options, Pace,
        claim::Claimed,
        note::{Note, Stage, note_of},
        progress::Progress,
        reader::Reader,
    },
    status::rotations,
    tail::Tail,
};

impl<'a> Build<'a> {
    /// Begins a generation, or goes on where its note says.
    pub(in crate::rebuild) async fn resume(
        deps: &'a Deps,
        options: &Options,
        key: LedgerKey,
        claimed: Claimed,
    ) -> Result<Self, RebuildError> {
        let Claimed { generation, office, note, .. } = claimed;
        let note = note.unwrap_or_else(|| Note::new(options.until, (deps.clock)()));
        let unfit = RebuildError::Note { generation: generation.0 };
        let frontier = Frontier::from_parts(note.size(), note.frontier.clone());
        let Some(frontier) = frontier else { return Err(unfit) };
        let position = note.place.map(Position::from);
        let reader = Reader::at(deps, &key, position, Some(frontier)).await?;
        if listing(&reader.keys) != note.keys {
            return Err(unfit);
        }
        let pace = options.pace;
        let mut build = Self::new(deps, generation, office, note, pace, key, reader);
        build.progress.show(options.bar);
        tracing::info!(generation = generation.0, records = build.note.size(), "rebuilding");
        build.note.stage = Stage::Building;
        build.save().await?;
        Ok(build)
    }

    /// Goes on in a generation that was complete once, from the position that its last follower
    /// left.
    pub(crate) async fn kept(
        deps: &'a Deps,
        pace: Pace,
        generation: Generation,
        office: Office,
    ) -> Result<Self, RebuildError> {
        let key = persist("asking for the ledger's key", || deps.ledger_key()).await?;
        let position = deps.store.position(generation).await?;
        let frontier = position.is_none().then(Frontier::default);
        let reader = Reader::at(deps, &key, position, frontier).await?;
        let old = note_of(deps.store.as_ref(), generation).await?;
        let events = old.map_or(0, |note| note.events);
        let note = Note {
            stage: Stage::Served,
            place: position.map(Into::into),
            ahead_below: u64::MAX,
            events,
            ..Note::new(None, (deps.clock)())
        };
        let mut build = Self::new(deps, generation, office, note, pace, key, reader);
        build.repair = true;
        Ok(build)
    }

    fn new(
        deps: &'a Deps,
        generation: Generation,
        office: Office,
        note: Note,
        pace: Pace,
        key: LedgerKey,
        reader: Reader,
    ) -> Self {
        Self {
            deps,
            generation,
            office,
            resumed_at: note.size(),
            note,
            pace,
            key,
            reader: Some(reader),
            repair: false,
            position: None,
            unsaved: 0,
            progress: Progress::default(),
        }
    }
}

impl Reader {
    /// A reader after the last record that was verified before, which must still be there.
    async fn at(
        deps: &Deps,
        key: &LedgerKey,
        position: Option<Position>,
        frontier: Option<Frontier>,
    ) -> Result<Self, RebuildError> {
        let tail = Tail::resume(deps.audit.clone(), key.origin().clone(), position);
        let mut keys = KeyHistory::with(key.clone());
        if tail.next_seq() > 0 {
            persist("looking for the last record", || async {
                tail.confirm().await.map_err(FollowError::from)
            })
            .await?;
            keys = rotations(&deps.audit, key.clone(), tail.next_seq()).await?;
        }
        Ok(Self { tail, frontier, keys })
    }
}
