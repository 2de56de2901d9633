//! Which generations there are, and which are in use.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, schema, unavailable};
use crate::{
    documents::{Generation, Pointer},
    store::{Generations, StoreError},
};

fn make(connection: &Connection) -> Result<Generation, StoreError> {
    let make = || {
        connection.execute("INSERT INTO generations DEFAULT VALUES", ())?;
        let number = connection.last_insert_rowid();
        let generation = Generation(u32::try_from(number).unwrap_or(u32::MAX));
        schema::make(connection, generation)?;
        Ok(generation)
    };
    make().map_err(|error: rusqlite::Error| unavailable(error))
}

fn pointer(connection: &Connection) -> Result<Option<Pointer>, StoreError> {
    let read = |row: &rusqlite::Row<'_>| {
        let also: Option<u32> = row.get(1)?;
        Ok(Pointer { serving: Generation(row.get(0)?), also: also.map(Generation) })
    };
    let sql = "SELECT generation, also FROM serving";
    connection.query_row(sql, (), read).optional().map_err(unavailable)
}

fn set_pointer(connection: &Connection, pointer: Pointer) -> Result<(), StoreError> {
    let sql = "INSERT OR REPLACE INTO serving (id, generation, also) VALUES (1, ?1, ?2)";
    let values = params![pointer.serving.0, pointer.also.map(|also| also.0)];
    connection.execute(sql, values).map(|_| ()).map_err(unavailable)
}

fn pointer_or_first(connection: &Connection) -> Result<Pointer, StoreError> {
    if let Some(pointer) = pointer(connection)? {
        return Ok(pointer);
    }
    let first = Pointer { serving: make(connection)?, also: None };
    set_pointer(connection, first)?;
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
        match self.read(pointer).await? {
            Some(pointer) => Ok(pointer),
            None => self.write(pointer_or_first).await,
        }
    }

    async fn list(&self) -> Result<Vec<Generation>, StoreError> {
        self.read(|connection| schema::list(connection).map_err(unavailable)).await
    }

    async fn create(&self) -> Result<Generation, StoreError> {
        self.write(|connection| {
            pointer_or_first(connection)?;
            make(connection)
        })
        .await
    }

    async fn join(&self, generation: Generation) -> Result<(), StoreError> {
        self.write(move |connection| {
            require(connection, generation)?;
            let Pointer { serving, .. } = pointer_or_first(connection)?;
            if serving == generation {
                return Err(StoreError::Generation(generation.0));
            }
            set_pointer(connection, Pointer { serving, also: Some(generation) })
        })
        .await
    }

    async fn activate(
        &self,
        generation: Generation,
        expected: Pointer,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| {
            require(connection, generation)?;
            let (found, moved) = (pointer_or_first(connection)?, expected.moved_to(generation));
            if found == expected && found != moved {
                set_pointer(connection, moved)?;
            }
            Ok(found == expected || found == moved)
        })
        .await
    }

    async fn settle(&self, also: Generation) -> Result<(), StoreError> {
        self.write(move |connection| {
            let sql = "UPDATE serving SET also = NULL WHERE also = ?1";
            connection.execute(sql, [also.0]).map(|_| ()).map_err(unavailable)
        })
        .await
    }

    async fn drop_generation(&self, generation: Generation) -> Result<(), StoreError> {
        self.write(move |connection| {
            require(connection, generation)?;
            let used = pointer(connection)?;
            if used.is_some_and(|pointer| pointer.written().any(|used| used == generation)) {
                return Err(StoreError::Generation(generation.0));
            }
            let sql = "DELETE FROM generations WHERE generation = ?1";
            connection.execute(sql, [generation.0]).map_err(unavailable)?;
            schema::unmake(connection, generation).map_err(unavailable)
        })
        .await
    }
}
