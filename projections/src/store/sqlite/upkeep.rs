//! The books of a generation.

use async_trait::async_trait;
use domain::{ids::PatientId, time::Timestamp};
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::{
    SqliteStore, generations, of_generation,
    rows::{int, text},
};
use crate::{
    documents::{Generation, Office, Parked, Position},
    store::{StoreError, Upkeep},
};

#[async_trait]
impl Upkeep for SqliteStore {
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError> {
        let stored = self.read(move |connection| {
            let sql = "SELECT next_seq, hash, at FROM generations WHERE generation = ?1";
            let read = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?, row.get(2)?))
            };
            let stored = connection.query_row(sql, [generation.0], read).optional();
            stored.map_err(of_generation(generation))?.ok_or(StoreError::Generation(generation.0))
        });
        let (Some(next_seq), hash, at) = stored.await? else { return Ok(None) };
        let malformed = || StoreError::Malformed { collection: "generations" };
        let hash: Option<String> = hash;
        let at: Option<i64> = at;
        Ok(Some(Position {
            next_seq: u64::try_from(next_seq).map_err(|_| malformed())?,
            hash: hash.and_then(|it| it.parse().ok()).ok_or_else(malformed)?,
            at: at.map(Timestamp::from_millis).ok_or_else(malformed)?,
        }))
    }

    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
        _: &Office,
    ) -> Result<(), StoreError> {
        let Position { next_seq, hash, at } = *position;
        self.write(move |connection| {
            generations::require(connection, generation)?;
            let set = "UPDATE generations SET next_seq = ?2, hash = ?3, at = ?4
                       WHERE generation = ?1 AND coalesce(next_seq, -1) < ?2";
            let values = params![generation.0, int(next_seq), text(hash), at.millis()];
            connection.execute(set, values).map(|_| ()).map_err(of_generation(generation))
        })
        .await
    }

    async fn office(&self, _: Generation) -> Result<Option<Office>, StoreError> {
        Ok(None)
    }

    async fn take_office(
        &self,
        _: Generation,
        _: Option<Office>,
        holder: Uuid,
    ) -> Result<Option<Office>, StoreError> {
        Ok(Some(Office { holder: Some(holder), term: 1, beat: 0 }))
    }

    async fn beat(&self, _: Generation, _: &Office) -> Result<(), StoreError> {
        Ok(())
    }

    async fn leave_office(&self, _: Generation, _: &Office) -> Result<(), StoreError> {
        Ok(())
    }

    async fn park(&self, _: Generation, _: &Parked) -> Result<(), StoreError> {
        Ok(())
    }

    async fn parked(
        &self,
        _: Generation,
        _: Option<PatientId>,
        _: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        Ok(Vec::new())
    }

    async fn retry_parked(
        &self,
        _: Generation,
        _: Option<&[PatientId]>,
    ) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn unpark(&self, _: Generation, _: PatientId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn note(&self, _: Generation) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    async fn set_note(&self, _: Generation, _: &str, _: &Office) -> Result<(), StoreError> {
        Ok(())
    }
}
