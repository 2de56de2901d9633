//! A small ledger as an auditor has it: lines, a signed checkpoint and the verifier key.

use std::path::Path;

use audit_verify::checkpoint::{LedgerSecret, TreeHead};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    chain::Link,
    hash::Hash,
    ids::{KeyId, Mac, Name, ObjectRef, PatientId, Stream, TestId},
    merkle::Frontier,
    record::{CommandRef, KeyName, Record, RecordType},
    time::Timestamp,
    wire::Proposal,
};
use projections::{jwe, key_ring::DataKey};
use uuid::Uuid;
use zeroize::Zeroizing;

/// Lines without their newlines, the signed note over all of them, and the verifier key.
pub(crate) fn signed_export(count: u64) -> (Vec<String>, String, String) {
    let lines = lines(count);
    let note = sign(&secret(1), &lines);
    (lines, note, secret(1).public().to_string())
}

/// The ledger's name.
pub(crate) fn origin() -> Name {
    "clinic-ledger".parse().unwrap()
}

/// A signing key of the ledger's name; the ledger's own is 1.
pub(crate) fn secret(seed: u8) -> LedgerSecret {
    LedgerSecret::new(origin(), &[seed; 32])
}

/// The note of these lines under this key.
pub(crate) fn sign(secret: &LedgerSecret, lines: &[String]) -> String {
    let mut frontier = Frontier::default();
    for line in lines {
        frontier.push(Hash::of_line(line));
    }
    secret.sign(TreeHead { size: frontier.size(), root: frontier.root() })
}

/// The lines with every `prev` made right again from `from` on, as a forger would.
pub(crate) fn relink(lines: &mut [String], from: usize) {
    for seq in from.max(1)..lines.len() {
        let mut record: Record = Record::parse(&lines[seq]).unwrap();
        record.prev = Hash::of_line(&lines[seq - 1]);
        lines[seq] = record.to_line();
    }
}

/// Writes `ledger.ndjson`, `checkpoint` and `ledger.pub`.
pub(crate) fn write(folder: &Path, lines: &[String], note: &str, vkey: &str) {
    let end = if lines.is_empty() { "" } else { "\n" };
    std::fs::write(folder.join("ledger.ndjson"), lines.join("\n") + end).unwrap();
    std::fs::write(folder.join("checkpoint"), note).unwrap();
    std::fs::write(folder.join("ledger.pub"), format!("{vkey}\n")).unwrap();
}

fn lines(count: u64) -> Vec<String> {
    let mut link = Link::genesis();
    let mut lines = Vec::new();
    for seq in 0..count {
        // Some records share a millisecond.
        let at = Timestamp::from_millis(1_764_000_000_000 + 250 * i64::try_from(seq / 3).unwrap());
        let source = "patient-service".parse().unwrap();
        let record = proposal(seq).into_record(origin(), source, &link, at);
        lines.push(record.to_line());
        let written = &lines[lines.len() - 1];
        assert_eq!(Record::parse(written).unwrap(), record);
        link.advance(&record, Hash::of_line(written));
    }
    lines
}

/// Eight records about each patient: registered, read, tested, searched and so on.
fn proposal(seq: u64) -> Proposal {
    let patient = PatientId::new(Uuid::from_u128(u128::from(seq / 8)));
    let stream = Some(Stream::Patient(patient));
    let test = Some(ObjectRef(TestId::new(Uuid::from_u128(u128::from(seq)))));
    let event = |kind: RecordType, version: u64| Proposal {
        stream,
        version: Some(version),
        schema: Some(1),
        client: Some("2001:db8::7".parse().unwrap()),
        command: Some(CommandRef {
            digest: Mac::new([1; 32]),
            id: Mac::new(Hash::of_line(&seq.to_string()).0),
            kid: KeyName::new([3; 4]),
        }),
        trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
        data: Some(jwe::seal(&key(), stream, kind, Some(version), b"{\"firstName\":\"Joan\"}")),
        ..plain(kind)
    };
    let tested = |version| Proposal { object: test, ..event(RecordType::TestRecorded, version) };
    let read =
        |version| Proposal { stream, version: Some(version), ..plain(RecordType::PatientRead) };
    match seq % 8 {
        0 => event(RecordType::PatientRegistered, 1),
        1 => read(1),
        2 => tested(2),
        3 => Proposal {
            subjects: vec![patient],
            data: Some(jwe::seal(&key(), None, RecordType::PatientsSearched, None, b"{}")),
            ..plain(RecordType::PatientsSearched)
        },
        4 => event(RecordType::PatientAmended, 3),
        5 => plain(RecordType::LedgerRead),
        6 => Proposal { outcome: Outcome::Denied, ..plain(RecordType::AccessRefused) },
        _ => read(3),
    }
}

fn plain(kind: RecordType) -> Proposal {
    let actor = Actor {
        id: "clinic".parse().unwrap(),
        kind: ActorKind::Subscription,
        roles: vec!["nurse".parse().unwrap()],
    };
    Proposal::new(kind, actor, Purpose::Treatment, Outcome::Success)
}

fn key() -> DataKey {
    DataKey::from_parts(KeyId::new(Uuid::from_u128(7)), Zeroizing::new([5; 32]))
}
