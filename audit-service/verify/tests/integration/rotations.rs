//! The history of signing keys: each vouched for by the one before, each for its sizes alone.

use audit_verify::{
    checkpoint::{CheckpointError, LedgerKey, LedgerSecret, TreeHead},
    key_history::{KeyHistory, NotVouchedFor},
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

use crate::given::origin;

fn secret(seed: u8) -> LedgerSecret {
    LedgerSecret::new(origin(), &[seed; 32])
}

fn public(seed: u8) -> HexBytes<32> {
    HexBytes(*secret(seed).public().public())
}

/// What the key of `voucher` says: at this version the key `next` follows `previous`.
fn rotation(voucher: u8, version: u64, previous: u8, next: HexBytes<32>) -> KeyRotation {
    let previous = public(previous);
    let statement = KeyRotation::statement(&origin(), version, previous, next);
    let voucher = HexBytes(secret(voucher).sign_message(statement.as_bytes()));
    KeyRotation { next, previous, voucher }
}

fn record(seq: u64, version: u64, key: Option<KeyRotation>) -> Record {
    let actor =
        Actor { id: "audit-service".parse().unwrap(), kind: ActorKind::Service, roles: Vec::new() };
    let kind = if key.is_some() { RecordType::KeyRotated } else { RecordType::LedgerRead };
    let stream = key.map(|_| Stream::LedgerKeys);
    let version = key.map(|_| version);
    let proposal = Proposal::new(kind, actor, Purpose::Treatment, Outcome::Success);
    let proposal = Proposal { stream, version, key, ..proposal };
    let link = Link { next_seq: seq, ..Link::genesis() };
    let source = "audit-service".parse().unwrap();
    let record = proposal.into_record(origin(), source, &link, Timestamp::EPOCH);
    // What the tests follow is what a ledger can hold.
    assert_eq!(Record::parse(&record.to_line()).unwrap(), record);
    record
}

fn signed(seed: u8, size: u64) -> String {
    secret(seed).sign(TreeHead { size, root: Hash::ZERO })
}

/// Keys 1, 2 and 3; the second from record 10 on, the third from record 20 on.
fn history() -> KeyHistory {
    let mut history = KeyHistory::new(secret(1).public());
    history.follow(&record(0, 0, None)).unwrap();
    history.follow(&record(10, 1, Some(rotation(1, 1, 1, public(2))))).unwrap();
    history.follow(&record(11, 0, None)).unwrap();
    history.follow(&record(20, 2, Some(rotation(2, 2, 2, public(3))))).unwrap();
    history
}

#[test]
fn each_key_signs_the_sizes_from_its_own_record_on() {
    let history = history();
    assert_eq!(*history.newest(), secret(3).public());
    let sizes: Vec<u64> = history.keys().iter().map(|(from, _)| *from).collect();
    assert_eq!(sizes, [0, 11, 21]);
    for (size, signer) in
        [(0, 1), (1, 1), (10, 1), (11, 2), (12, 2), (20, 2), (21, 3), (22, 3), (u64::MAX, 3)]
    {
        assert_eq!(*history.at(size), secret(signer).public(), "size {size}");
        for seed in 1..=4 {
            let expected = if seed == signer {
                Ok(TreeHead { size, root: Hash::ZERO })
            } else {
                Err(CheckpointError::Signature)
            };
            assert_eq!(history.open(&signed(seed, size)), expected, "key {seed}, size {size}");
        }
    }
}

#[test]
fn a_rotation_that_the_key_before_did_not_vouch_for_is_refused() {
    let mut history = history();
    let before = history.clone();
    let flipped = |at: usize| {
        let mut rotation = rotation(3, 3, 3, public(4));
        rotation.voucher.0[at] ^= 1;
        rotation
    };
    let vouched_elsewhere = {
        let other = "other".parse().unwrap();
        let statement = KeyRotation::statement(&other, 3, public(3), public(4));
        let voucher = HexBytes(secret(3).sign_message(statement.as_bytes()));
        KeyRotation { next: public(4), previous: public(3), voucher }
    };
    for (why, rotation) in [
        ("vouched for by the new key itself", rotation(4, 3, 3, public(4))),
        ("vouched for by an older key", rotation(2, 3, 3, public(4))),
        ("vouched for by a stranger", rotation(9, 3, 3, public(4))),
        ("follows an older key", rotation(2, 3, 2, public(4))),
        ("follows an older key, says the newest", rotation(3, 3, 2, public(4))),
        ("vouched for at an earlier version", rotation(3, 2, 3, public(4))),
        ("vouched for at a later version", rotation(3, 4, 3, public(4))),
        ("vouched for at no version", rotation(3, 0, 3, public(4))),
        (
            "vouched for another key",
            KeyRotation { next: public(5), ..rotation(3, 3, 3, public(4)) },
        ),
        ("vouched for in another ledger", vouched_elsewhere),
        ("no key at all", rotation(3, 3, 3, HexBytes([2; 32]))),
        ("a key under which anybody signs", rotation(3, 3, 3, HexBytes([0; 32]))),
        ("first bit of the voucher", flipped(0)),
        ("last bit of the voucher", flipped(63)),
        ("a voucher of zeros", KeyRotation { voucher: HexBytes([0; 64]), ..flipped(0) }),
    ] {
        let refused = history.follow(&record(30, 3, Some(rotation)));
        assert_eq!(refused, Err(NotVouchedFor { seq: 30 }), "{why}");
        assert_eq!(history, before, "{why}");
    }
    history.follow(&record(30, 3, Some(rotation(3, 3, 3, public(4))))).unwrap();
    assert_eq!(*history.newest(), secret(4).public());
}

#[test]
fn a_record_of_another_ledger_rotates_no_key_of_this_one() {
    let mut history = KeyHistory::new(secret(1).public());
    let statement = KeyRotation::statement(&"other".parse().unwrap(), 1, public(1), public(2));
    let voucher = HexBytes(secret(1).sign_message(statement.as_bytes()));
    let key = KeyRotation { next: public(2), previous: public(1), voucher };
    let elsewhere = Record { ledger: "other".parse().unwrap(), ..record(10, 1, Some(key)) };
    assert_eq!(history.follow(&elsewhere), Err(NotVouchedFor { seq: 10 }));
}

#[test]
fn a_checkpoint_is_no_voucher_and_a_voucher_no_checkpoint() {
    // One key signs both, so the texts must never be each other's.
    let statement = KeyRotation::statement(&origin(), 1, public(1), public(2));
    let note = signed(1, 7);
    let text = note.split("\n\n").next().unwrap();
    assert_ne!(statement.lines().next(), text.lines().next());
    assert!("vitalog key rotation v1".parse::<domain::ids::Name>().is_err());
    let key: LedgerKey = secret(1).public();
    let voucher = secret(1).sign_message(statement.as_bytes());
    assert!(key.verifies(statement.as_bytes(), &voucher));
    assert!(!key.verifies(format!("{text}\n").as_bytes(), &voucher));
}
