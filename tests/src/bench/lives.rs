//! What a large ledger is filled with: lives of patients that follow from a number alone, so that
//! a benchmark can ask for any of them without remembering millions.

use anyhow::Context;
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    content::{PatientContent, TestContent},
    event::{Event, Recorded, SCHEMA},
    ids::{KeyId, Mac, ObjectRef, PatientId, Stream, TestId, TraceId},
    record::{CommandRef, KeyName, RecordType},
    time::Timestamp,
    wire::Proposal,
};
use projections::{documents::ActivityDoc, key_ring::DataKey, sealing::seal_event};
use rand::Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::filler::{EVENTS_A_PATIENT, laboratory, person};

/// Records of one patient: her events, then one read.
pub const RECORDS_A_PATIENT: u64 = EVENTS_A_PATIENT + 1;

/// Patients whose records alternate, so that no block has two of one patient.
const AT_ONCE: u64 = 200;

/// Contents that are taken in turns: making each anew would take longer than storing it.
const CONTENTS: u64 = 1_000;

/// When the first record was made, in milliseconds; each one after it is a millisecond later.
const BEGINNING: i64 = 1_700_000_000_000;

/// The lives.
#[derive(Debug)]
pub struct Lives {
    people: Vec<PatientContent>,
    test: TestContent,
}

impl Default for Lives {
    fn default() -> Self {
        Self { people: (0..CONTENTS).map(|_| person()).collect(), test: laboratory() }
    }
}

impl Lives {
    /// What the record at a position says.
    pub fn record(&self, seq: u64) -> anyhow::Result<Proposal> {
        let (number, version) = place(seq);
        let patient = patient(number);
        let Some(event) = self.event(number, version) else {
            return Ok(Proposal { trace: trace(seq), ..read(patient, version.checked_sub(1)) });
        };
        let key = data_key(number);
        let data = seal_event(&key, patient, version, &event).context("content of a bench fits")?;
        let command =
            CommandRef { digest: mac("body", seq), id: command(seq), kid: KeyName::new([1; 4]) };
        Ok(Proposal {
            stream: Some(Stream::Patient(patient)),
            version: Some(version),
            object: event.test().map(ObjectRef),
            schema: Some(SCHEMA),
            command: Some(command),
            client: Some([127, 0, 0, 1].into()),
            trace: trace(seq),
            data,
            ..proposal(event.record_type())
        })
    }

    /// The registration of a patient who is in no ledger.
    pub fn newcomer(&self) -> anyhow::Result<Proposal> {
        // Far above every position, and a first version.
        let window = rand::rng().random_range(1_u64 << 40..1 << 41);
        Ok(Proposal { fresh: true, ..self.record(window * AT_ONCE * RECORDS_A_PATIENT)? })
    }

    /// A patient's events, as they are read back from a ledger.
    pub fn events(&self, number: u64) -> Vec<Recorded> {
        let recorded = |version| {
            Some(Recorded {
                version,
                at: at(seq(number, version)),
                event: self.event(number, version)?,
            })
        };
        (1..=EVENTS_A_PATIENT).filter_map(recorded).collect()
    }

    /// The activity of a patient's records.
    pub fn activity(&self, number: u64) -> anyhow::Result<Vec<ActivityDoc>> {
        let document = |version| {
            let seq = seq(number, version);
            let Proposal { record_type, outcome, purpose, actor, client, trace, object, .. } =
                self.record(seq)?;
            Ok(ActivityDoc {
                seq,
                at: at(seq),
                record_type,
                outcome,
                purpose,
                actor,
                source: "patient-service".parse()?,
                client,
                trace,
                test: object.map(|object| object.0),
                patients: vec![patient(number)],
            })
        };
        (1..=RECORDS_A_PATIENT).map(document).collect()
    }

    fn event(&self, number: u64, version: u64) -> Option<Event> {
        let person = || {
            let turn = usize::try_from((number + version) % CONTENTS).unwrap_or_default();
            self.people.get(turn).cloned()
        };
        let test = TestId::new(id("test", number * RECORDS_A_PATIENT + version));
        match version {
            1 => person().map(Event::PatientRegistered),
            2 | 3 => Some(Event::TestRecorded { test, content: self.test.clone() }),
            EVENTS_A_PATIENT => person().map(Event::PatientAmended),
            _ => None,
        }
    }
}

/// A read of a patient as it is recorded, with the version that was found if any was.
pub fn read(patient: PatientId, version: Option<u64>) -> Proposal {
    Proposal {
        stream: Some(Stream::Patient(patient)),
        version,
        client: Some([127, 0, 0, 1].into()),
        ..proposal(RecordType::PatientRead)
    }
}

/// Patients whose whole lives a ledger of this size holds.
pub fn patients(records: u64) -> u64 {
    records / (AT_ONCE * RECORDS_A_PATIENT) * AT_ONCE
}

/// A patient by her number.
pub fn patient(number: u64) -> PatientId {
    PatientId::new(id("patient", number))
}

/// A patient's data key.
pub fn key_of(number: u64) -> KeyId {
    KeyId::new(id("key", number))
}

/// The command of the event at a position.
pub fn command(seq: u64) -> Mac {
    mac("command", seq)
}

/// Whether the record at a position is an event, and so has a command.
pub fn is_event(seq: u64) -> bool {
    place(seq).1 <= EVENTS_A_PATIENT
}

/// When the record at a position was made.
pub fn at(seq: u64) -> Timestamp {
    Timestamp::from_millis(BEGINNING.saturating_add_unsigned(seq))
}

/// Whose record stands at a position, and which of hers it is, from 1.
fn place(seq: u64) -> (u64, u64) {
    let (window, within) =
        (seq / (AT_ONCE * RECORDS_A_PATIENT), seq % (AT_ONCE * RECORDS_A_PATIENT));
    (window * AT_ONCE + within % AT_ONCE, within / AT_ONCE + 1)
}

fn seq(number: u64, version: u64) -> u64 {
    number / AT_ONCE * AT_ONCE * RECORDS_A_PATIENT + (version - 1) * AT_ONCE + number % AT_ONCE
}

fn proposal(record_type: RecordType) -> Proposal {
    let id = "clinic".parse().expect("a name");
    let actor = Actor { id, kind: ActorKind::Subscription, roles: Vec::new() };
    Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
}

fn data_key(number: u64) -> DataKey {
    DataKey::from_parts(key_of(number), derived("secret", number).into())
}

fn trace(seq: u64) -> Option<TraceId> {
    TraceId::new(id("trace", seq).into_bytes())
}

fn id(label: &str, number: u64) -> Uuid {
    let bytes = derived(label, number);
    let (first, _) = bytes.as_chunks::<16>();
    first.first().map_or(Uuid::nil(), |first| uuid::Builder::from_random_bytes(*first).into_uuid())
}

fn mac(label: &str, number: u64) -> Mac {
    Mac::new(derived(label, number))
}

/// Bytes as random as any, the same each time.
fn derived(label: &str, number: u64) -> [u8; 32] {
    Sha256::new().chain_update(label).chain_update(number.to_le_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_is_one_patients_and_found_again() {
        for position in 0..3 * AT_ONCE * RECORDS_A_PATIENT {
            let (number, version) = place(position);
            assert_eq!(seq(number, version), position);
            assert_eq!(is_event(position), version <= EVENTS_A_PATIENT);
        }
    }

    #[test]
    fn a_size_counts_the_patients_whose_lives_are_whole() {
        for (records, whole) in [(0, 0), (999, 0), (1_000, 200), (1_999, 200), (1_000_000, 200_000)]
        {
            assert_eq!(patients(records), whole, "{records}");
            if let Some(last) = whole.checked_sub(1) {
                assert!(seq(last, RECORDS_A_PATIENT) < records);
            }
        }
    }
}
