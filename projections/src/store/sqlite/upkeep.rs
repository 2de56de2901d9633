//! The books of a generation. Position, office and note are one row of `generations`.

use std::collections::BTreeSet;

use async_trait::async_trait;
use domain::ids::PatientId;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use uuid::Uuid;

use super::{
    SqliteStore, generations, of_generation,
    query::Query,
    rows::{self, Columns, PARKED, int, text},
    scrub, unavailable,
};
use crate::{
    documents::{Generation, Office, Parked, Position},
    store::{StoreError, Upkeep},
};

/// Reads columns of a generation's row; a missing row is a missing generation.
fn book<T>(
    connection: &Connection,
    generation: Generation,
    columns: &'static str,
    read: fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let sql = format!("SELECT {columns} FROM generations WHERE generation = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(unavailable)?;
    let mut rows = statement.query([generation.0]).map_err(unavailable)?;
    let row = rows.next().map_err(unavailable)?;
    row.map_or(Err(StoreError::Generation(generation.0)), read)
}

fn position(row: &Row<'_>) -> Result<Option<Position>, StoreError> {
    let mut columns = Columns::new(row, "generations");
    let Some(next_seq) = columns.optional_uint()? else { return Ok(None) };
    Ok(Some(Position { next_seq, hash: columns.parsed()?, at: columns.time()? }))
}

fn office(row: &Row<'_>) -> Result<Option<Office>, StoreError> {
    let mut columns = Columns::new(row, "generations");
    let Some(term) = columns.optional_uint()? else { return Ok(None) };
    Ok(Some(Office { term, holder: columns.optional()?, beat: columns.uint()? }))
}

/// Changes the row of whoever is in office, by assignments to members `?4` and on.
fn set(
    connection: &Connection,
    generation: Generation,
    office: &Office,
    assignments: &str,
    values: &[&dyn ToSql],
) -> Result<(), StoreError> {
    let (term, holder) = (int(office.term), office.holder.map(text));
    let mut all: Vec<&dyn ToSql> = vec![&generation.0, &term, &holder];
    all.extend(values);
    let sql = format!(
        "UPDATE generations SET {assignments}
         WHERE generation = ?1 AND term = ?2 AND holder IS ?3"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(unavailable)?;
    if statement.execute(all.as_slice()).map_err(unavailable)? == 0 {
        generations::require(connection, generation)?;
        return Err(StoreError::Fenced);
    }
    Ok(())
}

fn take_office(
    connection: &Connection,
    generation: Generation,
    seen: Option<Office>,
    holder: Uuid,
) -> Result<Option<Office>, StoreError> {
    if book(connection, generation, "term, holder, beat", office)? != seen {
        return Ok(None);
    }
    let term = seen.map_or(0, |office| office.term) + 1;
    let sql = "UPDATE generations SET term = ?2, holder = ?3, beat = 0 WHERE generation = ?1";
    let values = params![generation.0, int(term), text(holder)];
    connection.execute(sql, values).map_err(unavailable)?;
    Ok(Some(Office { holder: Some(holder), term, beat: 0 }))
}

#[async_trait]
impl Upkeep for SqliteStore {
    async fn position(&self, generation: Generation) -> Result<Option<Position>, StoreError> {
        self.read(move |connection| book(connection, generation, "next_seq, hash, at", position))
            .await
    }

    async fn set_position(
        &self,
        generation: Generation,
        position: &Position,
        office: &Office,
    ) -> Result<(), StoreError> {
        let (position, office) = (*position, *office);
        self.write(move |connection| {
            set(connection, generation, &office, "beat = beat + 1", &[])?;
            let Position { next_seq, hash, at } = position;
            let sql = "UPDATE generations SET next_seq = ?2, hash = ?3, at = ?4
                       WHERE generation = ?1 AND coalesce(next_seq, -1) < ?2";
            let values = params![generation.0, int(next_seq), text(hash), at.millis()];
            connection.execute(sql, values).map(|_| ()).map_err(unavailable)
        })
        .await
    }

    async fn office(&self, generation: Generation) -> Result<Option<Office>, StoreError> {
        self.read(move |connection| book(connection, generation, "term, holder, beat", office))
            .await
    }

    async fn take_office(
        &self,
        generation: Generation,
        seen: Option<Office>,
        holder: Uuid,
    ) -> Result<Option<Office>, StoreError> {
        self.write(move |connection| take_office(connection, generation, seen, holder)).await
    }

    async fn beat(&self, generation: Generation, office: &Office) -> Result<(), StoreError> {
        let office = *office;
        self.write(move |connection| set(connection, generation, &office, "beat = beat + 1", &[]))
            .await
    }

    async fn leave_office(
        &self,
        generation: Generation,
        office: &Office,
    ) -> Result<(), StoreError> {
        let office = *office;
        self.write(move |connection| {
            let left = "holder = NULL, beat = beat + 1";
            match set(connection, generation, &office, left, &[]) {
                Err(StoreError::Fenced) => Ok(()),
                left => left,
            }
        })
        .await
    }

    async fn park(&self, generation: Generation, parked: &Parked) -> Result<(), StoreError> {
        let Parked { patient, seq, reason, at, retry } = parked.clone();
        self.write(move |connection| {
            let sql = format!(
                "INSERT OR REPLACE INTO parked_g{} ({PARKED}) VALUES (?1, ?2, ?3, ?4, ?5)",
                generation.0
            );
            let values = params![text(patient), int(seq), reason, at.millis(), retry];
            connection.execute(&sql, values).map(|_| ()).map_err(of_generation(generation))
        })
        .await
    }

    async fn parked(
        &self,
        generation: Generation,
        after: Option<PatientId>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        let mut query = Query::new(format!("SELECT {PARKED} FROM parked_g{}", generation.0));
        query.and_if(" WHERE patient > ?", after.map(text));
        self.query(generation, query.limit(" ORDER BY patient", limit), rows::parked).await
    }

    async fn retry_parked(
        &self,
        generation: Generation,
        patients: Option<&[PatientId]>,
    ) -> Result<u64, StoreError> {
        let patients = patients.map(|them| them.iter().copied().collect::<BTreeSet<_>>());
        self.write(move |connection| {
            let all = format!("UPDATE parked_g{} SET retry = 1", generation.0);
            let ask = || match patients {
                None => connection.execute(&all, ()),
                Some(patients) => {
                    let mut ask = connection.prepare(&format!("{all} WHERE patient = ?1"))?;
                    patients.iter().map(|patient| ask.execute([text(patient)])).sum()
                }
            };
            let asked = ask().map_err(of_generation(generation))?;
            Ok(u64::try_from(asked).unwrap_or(u64::MAX))
        })
        .await
    }

    async fn unpark(&self, generation: Generation, patient: PatientId) -> Result<(), StoreError> {
        self.write(move |connection| {
            let sql = format!("DELETE FROM parked_g{} WHERE patient = ?1", generation.0);
            let gone = connection.execute(&sql, [text(patient)]);
            gone.map(|_| ()).map_err(of_generation(generation))
        })
        .await
    }

    async fn scrub_due(&self) -> Result<bool, StoreError> {
        self.read(|connection| scrub::is_due(connection).map_err(unavailable)).await
    }

    async fn note(&self, generation: Generation) -> Result<Option<String>, StoreError> {
        let sql = "SELECT note FROM generations WHERE generation = ?1";
        let note = self.read(move |connection| {
            let note = connection.query_row(sql, [generation.0], |row| row.get(0)).optional();
            note.map_err(unavailable)?.ok_or(StoreError::Generation(generation.0))
        });
        note.await
    }

    async fn set_note(
        &self,
        generation: Generation,
        note: &str,
        office: &Office,
    ) -> Result<(), StoreError> {
        let (note, office) = (note.to_owned(), *office);
        self.write(move |connection| {
            set(connection, generation, &office, "note = ?4, beat = beat + 1", &[&note])
        })
        .await
    }
}
