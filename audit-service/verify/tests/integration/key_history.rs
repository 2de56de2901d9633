//! Which key signs which sizes, and who may say so.

use audit_verify::{
    checkpoint::{CheckpointError, LedgerKey, LedgerSecret, TreeHead},
    key_history::{KeyHistory, NotVouchedFor, read_listing, rotation},
};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    chain::Link,
    hash::Hash,
    ids::Stream,
    record::{HexBytes, KeyRotation, Record, RecordType},
    time::Timestamp,
    wire::Proposal,
};

fn secret(seed: u8) -> LedgerSecret {
    LedgerSecret::new("test-ledger".parse().unwrap(), &[seed; 32])
}

fn key(seed: u8) -> LedgerKey {
    secret(seed).public()
}

fn record(seq: u64, version: u64, key: KeyRotation) -> Record {
    let actor =
        Actor { id: "operator".parse().unwrap(), kind: ActorKind::Service, roles: Vec::new() };
    let link = Link { next_seq: seq, hash: Hash::ZERO, at: Timestamp::EPOCH };
    let (purpose, outcome) = (Purpose::SystemAdministration, Outcome::Success);
    let proposal = Proposal {
        stream: Some(Stream::LedgerKeys),
        version: Some(version),
        key: Some(key),
        ..Proposal::new(RecordType::KeyRotated, actor, purpose, outcome)
    };
    let (ledger, source) = ("test-ledger".parse().unwrap(), "operator".parse().unwrap());
    let record = proposal.into_record(ledger, source, &link, Timestamp::EPOCH);
    record.check().unwrap();
    record
}

fn rotated(seq: u64, version: u64, from: u8, to: u8) -> Record {
    record(seq, version, rotation(&secret(from), &key(to), version))
}

/// Key 1 signs up to 4 records, key 2 from 5 to 9, key 3 from 10.
fn two_rotations() -> [Record; 2] {
    [rotated(4, 1, 1, 2), rotated(9, 2, 2, 3)]
}

fn followed(mut keys: KeyHistory) -> KeyHistory {
    for record in &two_rotations() {
        keys.follow(record).unwrap();
    }
    keys
}

fn note(seed: u8, size: u64) -> String {
    secret(seed).sign(TreeHead { size, root: Hash::ZERO })
}

#[test]
fn each_size_has_its_key_and_no_other() {
    let keys = followed(KeyHistory::new(key(1)));
    for (size, signer) in [(0, 1), (4, 1), (5, 2), (9, 2), (10, 3), (u64::MAX >> 11, 3)] {
        assert_eq!(keys.at(size), &key(signer), "{size}");
        for seed in 1..=3 {
            let opened = keys.open(&note(seed, size));
            assert_eq!(opened.is_ok(), seed == signer, "{size} by {seed}: {opened:?}");
        }
    }
    assert_eq!(keys.newest(), &key(3));
    assert_eq!(keys.until(9).keys(), [(0, key(1)), (5, key(2))]);
    assert_eq!(keys.until(4), KeyHistory::new(key(1)));
}

#[test]
fn a_reader_with_a_later_key_believes_that_one_and_those_after_it() {
    for (pinned, from) in [(1, 0), (2, 5), (3, 10)] {
        let keys = followed(KeyHistory::with(key(pinned)));
        assert_eq!(keys.keys(), followed(KeyHistory::new(key(1))).keys());
        for (size, signer) in [(4, 1), (5, 2), (9, 2), (10, 3)] {
            let opened = keys.open(&note(signer, size));
            assert_eq!(opened.is_ok(), size >= from, "key {pinned}, {size}: {opened:?}");
        }
    }
    // Before anything was read, the key itself is all there is.
    let keys = KeyHistory::with(key(3));
    assert!(keys.open(&note(3, 10)).is_ok() && keys.open(&note(2, 9)).is_err());
    // A history that it does not come up in is nobody's.
    let keys = followed(KeyHistory::with(key(7)));
    for (size, signer) in [(4, 1), (9, 2), (10, 3), (10, 7)] {
        assert_eq!(keys.open(&note(signer, size)), Err(CheckpointError::Signature));
    }
}

#[track_caller]
fn check_refused(keys: &KeyHistory, record: &Record) {
    let mut after = keys.clone();
    assert_eq!(after.follow(record), Err(NotVouchedFor { seq: record.seq }));
    assert_eq!(&after, keys, "a refused rotation changes nothing");
}

#[test]
fn only_the_holder_of_the_current_key_hands_it_on() {
    let keys = followed(KeyHistory::new(key(1)));
    check_refused(&keys, &rotated(12, 3, 2, 4));
    check_refused(&keys, &rotated(12, 3, 8, 4));
    check_refused(&KeyHistory::new(key(1)), &rotated(4, 1, 8, 2));
    let good = rotation(&secret(3), &key(4), 3);
    let other = rotation(&secret(8), &key(4), 3);
    check_refused(&keys, &record(12, 3, KeyRotation { voucher: other.voucher, ..good }));
    check_refused(&keys, &record(12, 3, KeyRotation { next: HexBytes(*key(5).public()), ..good }));
    check_refused(&keys, &record(12, 3, KeyRotation { previous: other.previous, ..good }));
    // No point of the curve.
    let nothing = HexBytes([2; 32]);
    check_refused(&keys, &record(12, 3, KeyRotation { next: nothing, ..good }));
    keys.clone().follow(&record(12, 3, good)).unwrap();
}

#[test]
fn a_voucher_is_good_for_one_place_of_one_ledger() {
    let keys = followed(KeyHistory::new(key(1)));
    check_refused(&keys, &rotated(12, 4, 3, 4));
    check_refused(&keys, &rotated(12, 1, 3, 4));
    check_refused(&keys, &record(12, 4, rotation(&secret(3), &key(4), 3)));
    check_refused(&keys, &record(12, 3, rotation(&secret(3), &key(4), 4)));
    check_refused(&keys, &rotated(9, 3, 3, 4));
    check_refused(&keys, &rotated(2, 3, 3, 4));
    keys.clone().follow(&rotated(10, 3, 3, 4)).unwrap();
    let elsewhere = Record { ledger: "another-ledger".parse().unwrap(), ..rotated(12, 3, 3, 4) };
    check_refused(&keys, &elsewhere);
    let stranger = LedgerSecret::new("another-ledger".parse().unwrap(), &[3; 32]);
    check_refused(&keys, &record(12, 3, rotation(&stranger, &key(4), 3)));
}

#[test]
fn the_listing_is_read_as_it_is_written() {
    let keys = followed(KeyHistory::new(key(1)));
    let text = keys.to_string();
    assert!(text.starts_with("0 test-ledger+") && text.ends_with('\n'), "{text}");
    assert_eq!(read_listing(&text).unwrap(), keys.keys());
    for bad in ["0", "0 x", "x test-ledger+1+2", "-1 test-ledger+00000000+AA=="] {
        assert!(read_listing(bad).is_err(), "{bad}");
    }
}
