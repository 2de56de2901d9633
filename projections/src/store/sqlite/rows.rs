//! The documents as rows: flat, with the members of the public API in snake case.

use std::{fmt::Display, str::FromStr};

use domain::{
    content::{PatientContent, TestContent},
    patient::Current,
    time::{Timestamp, first_day},
};
use rusqlite::{Row, types::FromSql};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    change::StreamChange,
    documents::{ActivityDoc, Erasure, Parked, PatientDoc, PatientState, TestDoc},
    store::StoreError,
};

pub(super) const ACTIVE: &str = "active";
pub(super) const REMOVED: &str = "removed";
const ERASED: &str = "erased";

/// Columns of a patient, in the order in which [`patient`] reads and [`PatientRow`] writes.
pub(super) const PATIENT: &str = "id, version, status, kid, revision, last_updated, first_name, \
     last_name, full_name, gender, date_of_birth, birth_day, post_code, insurance_number, \
     preferred_contact_number";

/// Columns of a test, in the order in which [`test`] reads.
pub(super) const TEST: &str = "id, patient_id, version, first, status, revision, last_updated, \
     performer, order_reference, observations";

/// Columns of an activity, in the order in which [`activity`] reads.
pub(super) const ACTIVITY: &str =
    "seq, at, type, outcome, purpose, actor, source, client, trace, test, patients";

/// Columns of an erasure, in the order in which [`erasure`] reads.
pub(super) const ERASURE: &str = "patient, kid";

/// Columns of a parked stream, in the order in which [`parked`] reads.
pub(super) const PARKED: &str = "patient, seq, reason, at, retry";

/// Versions and positions stay below 2^53.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A value that has only one form as text.
pub(super) fn text(value: impl Display) -> String {
    value.to_string()
}

/// A value with members, as JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and arrays of them always serialise")
}

/// Reads the columns of one row in their order.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    next: usize,
    table: &'static str,
}

impl<'a> Columns<'a> {
    pub(super) fn new(row: &'a Row<'a>, table: &'static str) -> Self {
        Self { row, next: 0, table }
    }

    /// What a value is that cannot be read. It is not shown, since it may be personal.
    fn malformed(&self) -> StoreError {
        StoreError::Malformed { collection: self.table }
    }

    pub(super) fn raw<T: FromSql>(&mut self) -> Result<T, StoreError> {
        self.next += 1;
        self.row.get(self.next - 1).map_err(|_| self.malformed())
    }

    pub(super) fn uint(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.raw::<i64>()?).map_err(|_| self.malformed())
    }

    pub(super) fn optional_uint(&mut self) -> Result<Option<u64>, StoreError> {
        let value: Option<i64> = self.raw()?;
        value.map(u64::try_from).transpose().map_err(|_| self.malformed())
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.raw().map(Timestamp::from_millis)
    }

    pub(super) fn parsed<T: FromStr>(&mut self) -> Result<T, StoreError> {
        self.raw::<String>()?.parse().map_err(|_| self.malformed())
    }

    pub(super) fn optional<T: FromStr>(&mut self) -> Result<Option<T>, StoreError> {
        let text: Option<String> = self.raw()?;
        text.map(|text| text.parse()).transpose().map_err(|_| self.malformed())
    }

    fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        serde_json::from_str(&self.raw::<String>()?).map_err(|_| self.malformed())
    }
}

/// What a change writes into a patient's row, beside its id and version.
pub(super) struct PatientRow<'a> {
    pub(super) status: &'static str,
    pub(super) kid: Option<String>,
    pub(super) current: Option<&'a Current<PatientContent>>,
    pub(super) birth_day: Option<String>,
}

impl<'a> PatientRow<'a> {
    /// `None` where the change moves the cursor alone.
    pub(super) fn new(change: &'a StreamChange) -> Option<Self> {
        let tombstone = |status| Self { status, kid: None, current: None, birth_day: None };
        Some(match change.state.as_ref()? {
            PatientState::Active { kid, current } => Self {
                status: ACTIVE,
                kid: Some(text(kid)),
                current: Some(current),
                birth_day: first_day(&current.content.date_of_birth).map(text),
            },
            PatientState::Removed => tombstone(REMOVED),
            PatientState::Erased => tombstone(ERASED),
        })
    }
}

pub(super) fn patient(row: &Row<'_>) -> Result<PatientDoc, StoreError> {
    let mut columns = Columns::new(row, "patients");
    let (id, version) = (columns.parsed()?, columns.uint()?);
    let state = match columns.raw::<String>()?.as_str() {
        ACTIVE => PatientState::Active {
            kid: columns.parsed()?,
            current: Current {
                revision: columns.uint()?,
                last_updated: columns.time()?,
                content: patient_content(&mut columns)?,
            },
        },
        REMOVED => PatientState::Removed,
        ERASED => PatientState::Erased,
        _ => return Err(columns.malformed()),
    };
    Ok(PatientDoc { id, version, state })
}

fn patient_content(columns: &mut Columns<'_>) -> Result<PatientContent, StoreError> {
    Ok(PatientContent {
        first_name: columns.raw()?,
        last_name: columns.raw()?,
        full_name: columns.raw()?,
        gender: columns.parsed()?,
        date_of_birth: {
            let written = columns.raw()?;
            // What ranges compare with follows from what was written.
            columns.raw::<Option<String>>()?;
            written
        },
        post_code: columns.raw()?,
        insurance_number: columns.raw()?,
        preferred_contact_number: columns.raw()?,
    })
}

pub(super) fn test(row: &Row<'_>) -> Result<TestDoc, StoreError> {
    let mut columns = Columns::new(row, "tests");
    let (id, patient) = (columns.parsed()?, columns.parsed()?);
    let (version, first) = (columns.uint()?, columns.uint()?);
    let current = match columns.raw::<String>()?.as_str() {
        ACTIVE => Some(Current {
            revision: columns.uint()?,
            last_updated: columns.time()?,
            content: TestContent {
                performer: columns.raw()?,
                order_reference: columns.raw()?,
                observations: columns.json()?,
            },
        }),
        REMOVED => None,
        _ => return Err(columns.malformed()),
    };
    Ok(TestDoc { id, patient, version, first, current })
}

pub(super) fn activity(row: &Row<'_>) -> Result<ActivityDoc, StoreError> {
    let mut columns = Columns::new(row, "activity");
    Ok(ActivityDoc {
        seq: columns.uint()?,
        at: columns.time()?,
        record_type: columns.parsed()?,
        outcome: columns.parsed()?,
        purpose: columns.parsed()?,
        actor: columns.json()?,
        source: columns.parsed()?,
        client: columns.optional()?,
        trace: columns.optional()?,
        test: columns.optional()?,
        patients: columns.json()?,
    })
}

pub(super) fn erasure(row: &Row<'_>) -> Result<Erasure, StoreError> {
    let mut columns = Columns::new(row, "erasures");
    Ok(Erasure { patient: columns.parsed()?, kid: columns.parsed()? })
}

pub(super) fn parked(row: &Row<'_>) -> Result<Parked, StoreError> {
    let mut columns = Columns::new(row, "parked");
    Ok(Parked {
        patient: columns.parsed()?,
        seq: columns.uint()?,
        reason: columns.raw()?,
        at: columns.time()?,
        retry: columns.raw()?,
    })
}
