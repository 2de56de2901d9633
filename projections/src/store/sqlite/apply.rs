//! Writing: one transaction a call, so that the cursor that a change is checked against is the
//! one it is written on.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use async_trait::async_trait;
use domain::ids::{PatientId, TestId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    SqliteStore, of_generation,
    rows::{ACTIVE, ACTIVITY, PATIENT, PatientRow, REMOVED, TEST, int, json, text},
    scrub,
};
use crate::{
    change::{StreamChange, TestChange},
    documents::{ActivityDoc, Generation, PatientState},
    store::{Applied, StoreError, WriteModels},
};

#[async_trait]
impl WriteModels for SqliteStore {
    async fn cursors(
        &self,
        generation: Generation,
        patients: &[PatientId],
    ) -> Result<HashMap<PatientId, u64>, StoreError> {
        let patients = patients.to_vec();
        self.read(move |connection| {
            let sql = Sql::new(generation);
            let read = || {
                let mut cursors = HashMap::with_capacity(patients.len());
                for patient in patients {
                    let at = sql.cursor(connection, patient)?;
                    if at > 0 {
                        cursors.insert(patient, at);
                    }
                }
                Ok(cursors)
            };
            read().map_err(of_generation(generation))
        })
        .await
    }

    async fn apply(
        &self,
        generation: Generation,
        changes: &[StreamChange],
    ) -> Result<Vec<Applied>, StoreError> {
        let changes = changes.to_vec();
        let truncation_due = Arc::clone(&self.truncation_due);
        self.write(move |connection| {
            if changes.iter().any(|change| change.state == Some(PatientState::Erased)) {
                truncation_due.store(true, Ordering::Release);
            }
            let sql = Sql::new(generation);
            let results = changes.iter().map(|change| sql.apply(connection, change));
            results.collect::<Result<_, _>>().map_err(of_generation(generation))
        })
        .await
    }

    async fn write_activity(
        &self,
        generation: Generation,
        documents: &[ActivityDoc],
    ) -> Result<(), StoreError> {
        let documents = documents.to_vec();
        self.write(move |connection| {
            let sql = Sql::new(generation);
            let written =
                documents.iter().try_for_each(|document| sql.write_activity(connection, document));
            written.map_err(of_generation(generation))
        })
        .await
    }
}

/// The statements of one generation.
struct Sql {
    cursor: String,
    move_cursor: String,
    put_patient: String,
    put_test: String,
    set_test: String,
    bury_tests: String,
    put_activity: String,
    put_subject: String,
    put_erasure: String,
}

const PUT_PATIENT: &str = "version = excluded.version, status = excluded.status,
    kid = excluded.kid, revision = excluded.revision, last_updated = excluded.last_updated,
    first_name = excluded.first_name, last_name = excluded.last_name,
    full_name = excluded.full_name, gender = excluded.gender,
    date_of_birth = excluded.date_of_birth, birth_day = excluded.birth_day,
    post_code = excluded.post_code, insurance_number = excluded.insurance_number,
    preferred_contact_number = excluded.preferred_contact_number";

const PUT_TEST: &str = "version = excluded.version, status = excluded.status,
    revision = excluded.revision, last_updated = excluded.last_updated,
    performer = excluded.performer, order_reference = excluded.order_reference,
    observations = excluded.observations";

impl Sql {
    fn new(Generation(n): Generation) -> Self {
        Self {
            cursor: format!("SELECT version FROM patients_g{n} WHERE id = ?1"),
            move_cursor: format!("UPDATE patients_g{n} SET version = ?2 WHERE id = ?1"),
            put_patient: format!(
                "INSERT INTO patients_g{n} ({PATIENT})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
                 ON CONFLICT (id) DO UPDATE SET {PUT_PATIENT}"
            ),
            put_test: format!(
                "INSERT INTO tests_g{n} ({TEST})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (id) DO UPDATE SET {PUT_TEST} WHERE version < excluded.version"
            ),
            set_test: format!(
                "UPDATE tests_g{n} SET version = ?2, status = ?3, revision = ?4,
                 last_updated = ?5, performer = ?6, order_reference = ?7, observations = ?8
                 WHERE id = ?1 AND version < ?2"
            ),
            bury_tests: format!(
                "UPDATE tests_g{n} SET version = ?2, status = '{REMOVED}', revision = NULL,
                 last_updated = NULL, performer = NULL, order_reference = NULL,
                 observations = NULL WHERE patient_id = ?1 AND version < ?2"
            ),
            put_activity: format!(
                "INSERT OR IGNORE INTO activity_g{n} ({ACTIVITY})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            ),
            put_subject: format!("INSERT OR IGNORE INTO activity_patients_g{n} VALUES (?1, ?2)"),
            put_erasure: format!("INSERT OR IGNORE INTO erasures_g{n} VALUES (?1, ?2)"),
        }
    }

    /// The stream's cursor; 0 where nothing is applied.
    fn cursor(&self, connection: &Connection, patient: PatientId) -> rusqlite::Result<u64> {
        let mut statement = connection.prepare_cached(&self.cursor)?;
        let at: Option<i64> = statement.query_row([text(patient)], |row| row.get(0)).optional()?;
        Ok(at.and_then(|at| u64::try_from(at).ok()).unwrap_or_default())
    }

    fn apply(&self, connection: &Connection, change: &StreamChange) -> rusqlite::Result<Applied> {
        if let Some(kid) = change.erased {
            let mut statement = connection.prepare_cached(&self.put_erasure)?;
            statement.execute([text(change.patient), text(kid)])?;
        }
        let at = self.cursor(connection, change.patient)?;
        if at >= change.to {
            return Ok(Applied::Already);
        }
        if at < change.from || (at == 0 && change.state.is_none()) {
            return Ok(Applied::Gap { at });
        }
        for (id, test) in &change.tests {
            self.write_test(connection, change.patient, *id, test)?;
        }
        if let Some(version) = change.tests_gone_at {
            let mut statement = connection.prepare_cached(&self.bury_tests)?;
            statement.execute(params![text(change.patient), int(version)])?;
        }
        self.write_patient(connection, change)?;
        // Where nothing of her was written before there is nothing to overwrite.
        if change.state == Some(PatientState::Erased) && at > 0 {
            scrub::ask(connection)?;
        }
        Ok(Applied::Done)
    }

    fn write_test(
        &self,
        connection: &Connection,
        patient: PatientId,
        id: TestId,
        change: &TestChange,
    ) -> rusqlite::Result<()> {
        let (id, version) = (text(id), int(change.version));
        let current = change.current.as_ref();
        let status = if current.is_some() { ACTIVE } else { REMOVED };
        let revision = current.map(|it| int(it.revision));
        let updated = current.map(|it| it.last_updated.millis());
        let performer = current.map(|it| &it.content.performer);
        let reference = current.map(|it| &it.content.order_reference);
        let observations = current.map(|it| json(&it.content.observations));
        #[rustfmt::skip]
        if let Some(first) = change.first {
            connection.prepare_cached(&self.put_test)?.execute(params![
                id, text(patient), version, int(first), status, revision, updated, performer,
                reference, observations,
            ])?;
        } else {
            connection.prepare_cached(&self.set_test)?.execute(params![
                id, version, status, revision, updated, performer, reference, observations,
            ])?;
        };
        Ok(())
    }

    fn write_patient(
        &self,
        connection: &Connection,
        change: &StreamChange,
    ) -> rusqlite::Result<()> {
        let (id, version) = (text(change.patient), int(change.to));
        let Some(row) = PatientRow::new(change) else {
            let mut statement = connection.prepare_cached(&self.move_cursor)?;
            return statement.execute(params![id, version]).map(|_| ());
        };
        let PatientRow { status, kid, current, birth_day } = row;
        let content = current.map(|it| &it.content);
        connection.prepare_cached(&self.put_patient)?.execute(params![
            id,
            version,
            status,
            kid,
            current.map(|it| int(it.revision)),
            current.map(|it| it.last_updated.millis()),
            content.map(|it| &it.first_name),
            content.and_then(|it| it.last_name.as_ref()),
            content.and_then(|it| it.full_name.as_ref()),
            content.map(|it| it.gender.as_str()),
            content.map(|it| &it.date_of_birth),
            birth_day,
            content.map(|it| &it.post_code),
            content.and_then(|it| it.insurance_number.as_ref()),
            content.and_then(|it| it.preferred_contact_number.as_ref()),
        ])?;
        Ok(())
    }

    fn write_activity(
        &self,
        connection: &Connection,
        document: &ActivityDoc,
    ) -> rusqlite::Result<()> {
        connection.prepare_cached(&self.put_activity)?.execute(params![
            int(document.seq),
            document.at.millis(),
            document.record_type.as_str(),
            document.outcome.as_str(),
            document.purpose.as_str(),
            json(&document.actor),
            document.source.as_str(),
            document.client.map(text),
            document.trace.map(text),
            document.test.map(text),
            json(&document.patients),
        ])?;
        let mut statement = connection.prepare_cached(&self.put_subject)?;
        for patient in &document.patients {
            statement.execute(params![text(patient), int(document.seq)])?;
        }
        Ok(())
    }
}
