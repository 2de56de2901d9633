//! Many writes in one command. The driver's own bulk write needs MongoDB 8.

use std::collections::BTreeSet;

use mongodb::bson::{self, RawArrayBuf, RawDocumentBuf, raw::cstr, rawdoc};
use serde::{Deserialize, Serialize};

use super::{MongoStore, WRITE_TIMEOUT, failure};
use crate::store::StoreError;

/// Statements of one command at most; the server takes 100,000, but answers only when all are
/// done.
const MAX_STATEMENTS: usize = 1_000;

/// Bytes of the statements of one command at most. A command must stay below the 16 MB of a
/// document; one statement is at most about a hundred kilobytes.
const MAX_COMMAND_BYTES: usize = 8 * 1024 * 1024;

/// A document with the `_id` exists: the condition of an upsert did not hold, or another
/// writer inserted it at the same moment.
const DUPLICATE_KEY: i32 = 11_000;

/// What to write where.
pub(super) struct Statement {
    /// Which document, and the condition.
    pub(super) q: RawDocumentBuf,
    /// The new document, or update operators.
    pub(super) u: RawDocumentBuf,
    /// Whether to insert where none fits `q`.
    pub(super) upsert: bool,
    /// Whether to write all that fit `q`.
    pub(super) multi: bool,
}

impl Statement {
    fn encode(&self) -> RawDocumentBuf {
        let (q, u) = (self.q.clone(), self.u.clone());
        rawdoc! { "q": q, "u": u, "upsert": self.upsert, "multi": self.multi }
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<RawDocumentBuf, StoreError> {
    bson::serialize_to_raw_document_buf(value).map_err(|_| failure::driver())
}

/// What became of a run of statements, by their index.
#[derive(Default)]
pub(super) struct Outcome {
    /// Statements that matched or inserted a document; one that names an `_id` counts once.
    pub(super) written: usize,
    /// Statements whose `_id` was taken.
    pub(super) duplicates: BTreeSet<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    #[serde(default)]
    n: i64,
    #[serde(default)]
    write_errors: Vec<Indexed>,
    write_concern_error: Option<Indexed>,
}

#[derive(Deserialize)]
struct Indexed {
    #[serde(default)]
    index: i64,
    #[serde(default)]
    code: i32,
}

impl MongoStore {
    /// Sends update statements. Every one is tried; a taken `_id` is an outcome, any other
    /// refusal an error. `Ok` means that a majority holds what was written, and what kept a
    /// condition from holding.
    pub(super) async fn update(
        &self,
        collection: &str,
        statements: &[Statement],
    ) -> Result<Outcome, StoreError> {
        let statements: Vec<RawDocumentBuf> = statements.iter().map(Statement::encode).collect();
        let mut outcome = Outcome::default();
        let mut first = 0;
        while first < statements.len() {
            let run = fitting(&statements[first..]);
            let command = rawdoc! { "update": collection, "updates": array(run) };
            let reply = self.write(command).await?;
            outcome.add(first, &reply)?;
            first += run.len();
        }
        Ok(outcome)
    }

    /// Sends statements whose condition is that the stored document is older. Those that may
    /// insert mostly do, and inserting costs the server a third of an upsert; where a document
    /// has the `_id`, the condition tells whether it is further on.
    pub(super) async fn update_if_newer(
        &self,
        collection: &str,
        mut statements: Vec<Statement>,
    ) -> Result<(), StoreError> {
        let new: Vec<_> = statements.iter().filter(|it| it.upsert).map(|it| it.u.clone()).collect();
        let taken = self.insert(collection, &new).await?;
        let mut place = 0..;
        statements.retain(|it| !it.upsert || place.next().is_some_and(|it| taken.contains(&it)));
        for statement in &mut statements {
            statement.upsert = false;
        }
        self.update(collection, &statements).await.map(|_| ())
    }

    /// Inserts documents; those whose `_id` is taken stay as they are, and are told by their
    /// index.
    pub(super) async fn insert(
        &self,
        collection: &str,
        documents: &[RawDocumentBuf],
    ) -> Result<BTreeSet<usize>, StoreError> {
        let mut outcome = Outcome::default();
        let mut first = 0;
        while first < documents.len() {
            let run = fitting(&documents[first..]);
            let command = rawdoc! { "insert": collection, "documents": array(run) };
            let reply = self.write(command).await?;
            outcome.add(first, &reply)?;
            first += run.len();
        }
        Ok(outcome.duplicates)
    }

    async fn write(&self, mut command: RawDocumentBuf) -> Result<Reply, StoreError> {
        let timeout = i64::try_from(WRITE_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
        command.append(cstr!("ordered"), false);
        // Commands sent as such do not take the database's write concern.
        let concern = rawdoc! { "w": "majority", "j": true, "wtimeout": timeout };
        command.append(cstr!("writeConcern"), concern);
        let reply = self.database.run_raw_command(command).await;
        let reply = reply.map_err(|error| failure::unavailable(&error))?;
        bson::deserialize_from_document(reply).map_err(|_| failure::driver())
    }
}

impl Outcome {
    fn add(&mut self, first: usize, reply: &Reply) -> Result<(), StoreError> {
        for error in &reply.write_errors {
            if error.code != DUPLICATE_KEY {
                return Err(failure::write(error.code));
            }
        }
        if let Some(error) = &reply.write_concern_error {
            return Err(failure::write_concern(error.code));
        }
        let place = |it: &Indexed| first + usize::try_from(it.index).unwrap_or_default();
        self.written += usize::try_from(reply.n).unwrap_or_default();
        self.duplicates.extend(reply.write_errors.iter().map(place));
        Ok(())
    }
}

/// As many of the documents as one command takes, at least one.
fn fitting(documents: &[RawDocumentBuf]) -> &[RawDocumentBuf] {
    let mut bytes = 0;
    let fits = |document: &&RawDocumentBuf| {
        bytes += document.as_bytes().len();
        bytes <= MAX_COMMAND_BYTES
    };
    let count = documents.iter().take(MAX_STATEMENTS).take_while(fits).count();
    &documents[..count.max(1).min(documents.len())]
}

fn array(documents: &[RawDocumentBuf]) -> RawArrayBuf {
    let mut array = RawArrayBuf::new();
    for document in documents {
        array.push(document.clone());
    }
    array
}
