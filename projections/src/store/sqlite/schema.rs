//! The tables, and how a file of an older format gets those of today: a new file takes the same
//! steps, so the two cannot differ.

use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};

use super::{scrub, unavailable};
use crate::{documents::Generation, store::StoreError};

/// Format of the file, in `user_version`.
const FORMAT: i64 = 3;

/// Tables that each generation has one of, without the ending.
const TABLES: [&str; 6] =
    ["patients", "tests", "activity", "activity_patients", "erasures", "parked"];

/// `AUTOINCREMENT` never gives a number twice, not even one whose row is deleted.
const META_1: &str = "
    CREATE TABLE generations (
        generation INTEGER PRIMARY KEY AUTOINCREMENT,
        next_seq INTEGER, hash TEXT, at INTEGER
    ) STRICT;
    CREATE TABLE serving (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        generation INTEGER NOT NULL
    ) STRICT;";

/// The office stands in the row of the position, so that one is written only where the other
/// is as it should be.
const META_2: &str = "
    ALTER TABLE generations ADD COLUMN term INTEGER;
    ALTER TABLE generations ADD COLUMN holder TEXT;
    ALTER TABLE generations ADD COLUMN beat INTEGER;
    ALTER TABLE generations ADD COLUMN note TEXT;
    ALTER TABLE serving ADD COLUMN also INTEGER;";

/// Makes the tables of an empty file, and what one of an older format lacks, or nothing at all.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    // Without waiting for whoever writes.
    if format(connection)? == FORMAT {
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(unavailable)?;
    let format = format(&transaction)?;
    if format > FORMAT {
        return Err(StoreError::Layout(format));
    }
    if format < 0 {
        return Err(StoreError::Malformed { collection: "user_version" });
    }
    let begun = Instant::now();
    let is_old = (1..FORMAT).contains(&format);
    if is_old {
        let bytes = size(&transaction).map_err(unavailable)?;
        tracing::info!(bytes, layout = format, to = FORMAT, "updating the file of the read models");
    }
    let steps = || {
        if format < 1 {
            transaction.execute_batch(META_1)?;
        }
        if format < 2 {
            transaction.execute_batch(META_2)?;
            for generation in list(&transaction)? {
                transaction.execute_batch(&tables_2(generation))?;
            }
        }
        if format < 3 {
            transaction.execute_batch(scrub::TABLE)?;
            // A former version remembered only in memory what was due.
            if format > 0 {
                scrub::ask(&transaction)?;
            }
        }
        transaction.pragma_update(None, "user_version", FORMAT)
    };
    steps().map_err(|error: rusqlite::Error| unavailable(error))?;
    transaction.commit().map_err(unavailable)?;
    if is_old {
        let seconds = begun.elapsed().as_secs_f64();
        tracing::info!(seconds, "the file of the read models is updated");
    }
    Ok(())
}

/// Bytes of the file.
fn size(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok(pragma("page_count")?.saturating_mul(pragma("page_size")?))
}

fn format(connection: &Connection) -> Result<i64, StoreError> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(unavailable)
}

/// All generations, ascending.
pub(super) fn list(connection: &Connection) -> rusqlite::Result<Vec<Generation>> {
    connection
        .prepare_cached("SELECT generation FROM generations ORDER BY generation")?
        .query_map((), |row| row.get(0).map(Generation))?
        .collect()
}

/// Makes the tables of a new generation.
pub(super) fn make(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    connection.execute_batch(&tables_1(generation))?;
    connection.execute_batch(&tables_2(generation))
}

/// Drops the tables of a generation.
pub(super) fn unmake(connection: &Connection, Generation(n): Generation) -> rusqlite::Result<()> {
    TABLES
        .iter()
        .try_for_each(|table| connection.execute_batch(&format!("DROP TABLE {table}_g{n}")))
}

/// The tables of a generation. Times are milliseconds since 1970. `WITHOUT ROWID` makes the
/// id part of every index of patients, so that equal values come in the order of the pages.
fn tables_1(Generation(n): Generation) -> String {
    let searched = [
        "insurance_number",
        "last_name",
        "full_name",
        "preferred_contact_number",
        "first_name",
        "birth_day",
    ];
    let indexes = searched.map(|column| {
        format!("CREATE INDEX patients_g{n}_{column} ON patients_g{n} ({column}) WHERE {column} IS NOT NULL;")
    });
    format!(
        "CREATE TABLE patients_g{n} (
            id TEXT PRIMARY KEY, version INTEGER NOT NULL, status TEXT NOT NULL, kid TEXT,
            revision INTEGER, last_updated INTEGER, first_name TEXT, last_name TEXT,
            full_name TEXT, gender TEXT, date_of_birth TEXT, birth_day TEXT, post_code TEXT,
            insurance_number TEXT, preferred_contact_number TEXT
        ) STRICT, WITHOUT ROWID;
        {}
        CREATE TABLE tests_g{n} (
            id TEXT PRIMARY KEY, patient_id TEXT NOT NULL, version INTEGER NOT NULL,
            first INTEGER NOT NULL, status TEXT NOT NULL, revision INTEGER,
            last_updated INTEGER, performer TEXT, order_reference TEXT, observations TEXT
        ) STRICT;
        CREATE INDEX tests_g{n}_patient ON tests_g{n} (patient_id, first);
        CREATE TABLE activity_g{n} (
            seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, type TEXT NOT NULL,
            outcome TEXT NOT NULL, purpose TEXT NOT NULL, actor TEXT NOT NULL,
            source TEXT NOT NULL, client TEXT, trace TEXT, test TEXT, patients TEXT NOT NULL
        ) STRICT;
        CREATE TABLE activity_patients_g{n} (
            patient TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (patient, seq)
        ) STRICT, WITHOUT ROWID;",
        indexes.join("\n")
    )
}

/// What a generation of format 1 has not. The sequence number is part of every index of
/// activity: it is the row's own. The index of genders also is the list of all active patients.
fn tables_2(Generation(n): Generation) -> String {
    format!(
        "CREATE INDEX patients_g{n}_gender ON patients_g{n} (gender) WHERE gender IS NOT NULL;
        CREATE INDEX patients_g{n}_post_code ON patients_g{n} (post_code)
            WHERE post_code IS NOT NULL;
        CREATE INDEX activity_g{n}_actor ON activity_g{n} (actor ->> '$.id');
        CREATE INDEX activity_g{n}_at ON activity_g{n} (at);
        CREATE TABLE erasures_g{n} (patient TEXT PRIMARY KEY, kid TEXT NOT NULL)
            STRICT, WITHOUT ROWID;
        CREATE TABLE parked_g{n} (
            patient TEXT PRIMARY KEY, seq INTEGER NOT NULL, reason TEXT NOT NULL,
            at INTEGER NOT NULL, retry INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;"
    )
}
