//! The tables, and which generation of them serves.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::{SqliteStore, unavailable};
use crate::{
    documents::{Generation, Pointer},
    store::{Generations, StoreError},
};

/// `AUTOINCREMENT` never gives a number twice, not even one whose row is deleted.
const META: &str = "
    CREATE TABLE generations (
        generation INTEGER PRIMARY KEY AUTOINCREMENT,
        next_seq INTEGER, hash TEXT, at INTEGER
    ) STRICT;
    CREATE TABLE serving (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        generation INTEGER NOT NULL
    ) STRICT;";

pub(super) fn make_meta(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(META).map_err(unavailable)
}

/// The tables of a generation. Times are milliseconds since 1970. `WITHOUT ROWID` makes the
/// id part of every index of patients, so that equal values come in the order of the pages.
fn tables(Generation(n): Generation) -> String {
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

fn make(connection: &Connection) -> Result<Generation, StoreError> {
    let make = || {
        connection.execute("INSERT INTO generations DEFAULT VALUES", ())?;
        let number = connection.last_insert_rowid();
        let generation = Generation(u32::try_from(number).unwrap_or(u32::MAX));
        connection.execute_batch(&tables(generation))?;
        Ok(generation)
    };
    make().map_err(|error: rusqlite::Error| unavailable(error))
}

fn serving(connection: &Connection) -> Result<Option<Generation>, StoreError> {
    connection
        .query_row("SELECT generation FROM serving", (), |row| row.get(0).map(Generation))
        .optional()
        .map_err(unavailable)
}

fn serve(connection: &Connection, generation: Generation) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO serving (id, generation) VALUES (1, ?1)";
    connection.execute(sql, [generation.0]).map(|_| ()).map_err(unavailable)
}

fn serving_or_first(connection: &Connection) -> Result<Generation, StoreError> {
    if let Some(generation) = serving(connection)? {
        return Ok(generation);
    }
    let first = make(connection)?;
    serve(connection, first)?;
    Ok(first)
}

pub(super) fn require(connection: &Connection, generation: Generation) -> Result<(), StoreError> {
    let sql = "SELECT 1 FROM generations WHERE generation = ?1";
    let found = connection.query_row(sql, [generation.0], |_| Ok(())).optional();
    found.map_err(unavailable)?.ok_or(StoreError::Generation(generation.0))
}

#[async_trait]
impl Generations for SqliteStore {
    async fn pointer(&self) -> Result<Pointer, StoreError> {
        match self.read(serving).await? {
            Some(serving) => Ok(Pointer { serving, also: None }),
            None => Ok(Pointer { serving: self.write(serving_or_first).await?, also: None }),
        }
    }

    async fn join(&self, _: Generation) -> Result<(), StoreError> {
        Ok(())
    }

    async fn settle(&self, _: Generation) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Generation>, StoreError> {
        self.read(|connection| {
            let list = || {
                connection
                    .prepare_cached("SELECT generation FROM generations ORDER BY generation")?
                    .query_map((), |row| row.get(0).map(Generation))?
                    .collect::<Result<_, _>>()
            };
            list().map_err(|error: rusqlite::Error| unavailable(error))
        })
        .await
    }

    async fn create(&self) -> Result<Generation, StoreError> {
        self.write(|connection| {
            serving_or_first(connection)?;
            make(connection)
        })
        .await
    }

    async fn activate(&self, generation: Generation) -> Result<(), StoreError> {
        self.write(move |connection| {
            require(connection, generation)?;
            serve(connection, generation)
        })
        .await
    }

    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError> {
        self.write(move |connection| {
            require(connection, generation)?;
            if serving(connection)? == Some(generation) {
                return Err(StoreError::Generation(generation.0));
            }
            let n = generation.0;
            let drop = format!(
                "DROP TABLE patients_g{n}; DROP TABLE tests_g{n}; DROP TABLE activity_g{n};
                 DROP TABLE activity_patients_g{n};
                 DELETE FROM generations WHERE generation = {n};"
            );
            connection.execute_batch(&drop).map_err(unavailable)
        })
        .await
    }
}
