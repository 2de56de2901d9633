//! Activity documents from records. Pure.

use domain::record::Record;

use crate::documents::ActivityDoc;

/// Who touched which patients, as a record says it. A search that returned a patient is a
/// disclosure of that patient; a record of no patient has none.
pub(crate) fn of_record(record: &Record) -> ActivityDoc {
    let patients = match record.patient() {
        Some(patient) => vec![patient],
        None => record.subjects.clone(),
    };
    ActivityDoc {
        seq: record.seq,
        at: record.recorded_at,
        record_type: record.record_type,
        outcome: record.outcome,
        purpose: record.purpose,
        actor: record.actor.clone(),
        source: record.source.clone(),
        client: record.client,
        trace: record.trace,
        test: record.test(),
        patients,
    }
}
