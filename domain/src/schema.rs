//! Versions of the content of events, and how content of an older version is read.
//!
//! The record of every event names the version of the schema that its content was written in
//! (`schema`); the ledger is never rewritten, so every version ever written is read for ever.
//! The newest one is parsed as it is; an older one is first turned into the next version, step by
//! step, by [`Upcaster`]s. Newer content than this program knows is refused: nothing is guessed.
//!
//! # A new version
//!
//! 1. Change the content's types (`content.rs`) and raise [`SCHEMA`] by one.
//! 2. Add an [`Upcaster`] from the version before to `UPCASTERS`, for the types of events whose
//!    content has another shape now. Types that none is for have the same shape in both.
//! 3. Let the tests `golden` of `domain` and `projections` run: each fails with the text of the
//!    files that the new version needs. Save them as they are and add their hashes to the tests.
//!    Files and hashes of earlier versions stay as they are, for ever; what they are expected to
//!    be read as is written with today's types, and may get a new member there.
//! 4. Bring the new program everywhere before anything is written with it: an older one stops at
//!    the first record of the new version and says that it must be updated.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    event::{ContentError, SCHEMA},
    record::RecordType,
};

/// Content of some version, as JSON.
pub type Members = Map<String, Value>;

/// Turns content of one version into content of the next. Pure.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    /// The version that it reads; it gives the one after.
    pub from: u32,
    /// The events whose content changed its shape between the two.
    pub types: &'static [RecordType],
    /// `None` if what it is given is no content of version `from`.
    pub upcast: fn(Members) -> Option<Members>,
}

/// The versions that a program can read.
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    /// The newest version; its content is what the types of [`crate::content`] look like.
    pub version: u32,
    /// At most one for each version and type.
    pub upcasters: &'a [Upcaster],
}

/// What this program reads.
pub const TODAY: Schema<'static> = Schema { version: SCHEMA, upcasters: UPCASTERS };

/// Every change of shape so far: none.
const UPCASTERS: &[Upcaster] = &[];

impl Schema<'_> {
    /// Refuses versions that never were, or are of a later program.
    pub fn check(&self, version: u32) -> Result<(), ContentError> {
        if (1..=self.version).contains(&version) {
            Ok(())
        } else {
            Err(ContentError::Schema(version))
        }
    }

    /// Reads the content, as JSON, of an event of some version.
    pub fn read<T: Serialize + DeserializeOwned>(
        &self,
        record_type: RecordType,
        version: u32,
        content: &[u8],
    ) -> Result<T, ContentError> {
        self.check(version)?;
        let shape = || ContentError::Shape(record_type);
        if version == self.version {
            return serde_json::from_slice(content).map_err(|_| shape());
        }
        let mut members: Members = serde_json::from_slice(content).map_err(|_| shape())?;
        for from in version..self.version {
            let fits = |it: &&Upcaster| it.from == from && it.types.contains(&record_type);
            if let Some(upcaster) = self.upcasters.iter().find(fits) {
                members = (upcaster.upcast)(members).ok_or_else(shape)?;
            }
        }
        let members = Value::Object(members);
        let content = T::deserialize(&members).map_err(|_| shape())?;
        // A member that the type does not have would be lost without a word.
        let kept = serde_json::to_value(&content).is_ok_and(|kept| kept == members);
        if kept { Ok(content) } else { Err(shape()) }
    }
}
