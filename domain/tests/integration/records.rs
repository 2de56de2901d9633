//! The record: one canonical line, and a chain that shows every change.

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    chain::{ChainError, Link},
    hash::Hash,
    ids::{KeyId, Mac, Name, PatientId, Stream},
    record::{
        CommandRef, KeyName, ParseError, Record, RecordType, RuleError, SubscriptionAct,
        SubscriptionChange,
    },
    sealed::{JweHeader, write_compact},
    time::Timestamp,
    wire::Proposal,
};
use proptest::prelude::*;
use uuid::Uuid;

fn ledger() -> Name {
    "test-ledger".parse().unwrap()
}

fn proposal(record_type: RecordType) -> Proposal {
    let actor = Actor {
        id: "clinic".parse().unwrap(),
        kind: ActorKind::Subscription,
        roles: vec!["nurse".parse().unwrap()],
    };
    Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
}

fn registration(number: u128) -> Proposal {
    let stream = Stream::Patient(PatientId::new(Uuid::from_u128(number)));
    let record_type = RecordType::PatientRegistered;
    let header = JweHeader::new(KeyId::new(Uuid::nil()), Some(stream), record_type, Some(1));
    Proposal {
        stream: Some(stream),
        version: Some(1),
        schema: Some(1),
        client: Some("2001:db8::1".parse().unwrap()),
        command: Some(CommandRef {
            digest: Mac::new([1; 32]),
            id: Mac::new([2; 32]),
            kid: KeyName::new([3; 4]),
        }),
        trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
        data: Some(write_compact(&header.encode(), &[4; 12], b"sealed", &[5; 16])),
        ..proposal(record_type)
    }
}

fn read(number: u128) -> Proposal {
    let stream = Stream::Patient(PatientId::new(Uuid::from_u128(number)));
    Proposal { stream: Some(stream), version: Some(1), ..proposal(RecordType::PatientRead) }
}

fn suspension() -> Proposal {
    let (change, name) = (SubscriptionAct::Suspended, "clinic".parse().unwrap());
    Proposal {
        stream: Some(Stream::GatewaySubscriptions),
        version: Some(1),
        subscription: Some(SubscriptionChange { change, name }),
        ..proposal(RecordType::SubscriptionChanged)
    }
}

/// Lines of a chain of these proposals.
fn chain(proposals: impl IntoIterator<Item = Proposal>) -> Vec<String> {
    let mut link = Link::genesis();
    let mut lines = Vec::new();
    for proposal in proposals {
        let at = Timestamp::from_millis(1_000 + i64::try_from(link.next_seq).unwrap());
        let source = "patient-service".parse().unwrap();
        let record = proposal.into_record(ledger(), source, &link, at);
        lines.push(record.to_line());
        link.advance(&record, Hash::of_line(&lines[lines.len() - 1]));
    }
    lines
}

fn verify(lines: &[String]) -> Result<Link, ChainError> {
    let mut link = Link::genesis();
    for line in lines {
        link.follow(&ledger(), line)?;
    }
    Ok(link)
}

#[test]
fn the_line_is_what_rfc_8785_makes_of_it() {
    let proposals = [registration(1), read(1), proposal(RecordType::LedgerRead), suspension()];
    for line in chain(proposals) {
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_jcs::to_string(&value).unwrap(), line);
        assert_eq!(Record::parse(&line).unwrap().to_line(), line);
    }
}

#[test]
fn the_hash_is_sha_256_over_a_zero_byte_and_the_line() {
    // { printf '\0'; printf %s abc; } | sha256sum
    let expected = "609f6e36d2405585188d5cfd761f407c7cc46a7d3f314c88270469dde315fcd1";
    assert_eq!(Hash::of_line("abc").to_string(), expected);
}

#[test]
fn a_changed_subscription_has_this_line_for_ever() {
    let line = chain([suspension()]).remove(0);
    let zeros = "0".repeat(64);
    let expected = format!(
        r#"{{"actor":{{"id":"clinic","kind":"subscription","roles":["nurse"]}},"kind":"admin","ledger":"test-ledger","outcome":"success","prev":"{zeros}","purpose":"TREAT","recordedAt":"1970-01-01T00:00:01.000Z","seq":0,"source":"patient-service","stream":"gateway/subscriptions","subscription":{{"change":"suspended","name":"clinic"}},"type":"SubscriptionChanged","v":1,"version":1}}"#
    );
    assert_eq!(line, expected);
    for (from, to) in [("suspended", "deleted"), ("\"name\":\"clinic\"", "\"name\":\"Jane Doe\"")] {
        assert!(Record::parse(&line.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn lines_that_are_not_canonical_are_refused() {
    let line = chain([registration(1)]).remove(0);
    let inside = &line[1..line.len() - 1];
    for other in [
        format!("{line} "),
        format!(" {line}"),
        line.replace("\"seq\":0", "\"seq\": 0"),
        line.replace("\"seq\":0", "\"seq\":0.0"),
        line.replace("\"seq\":0", "\"seq\":-0"),
        line.replace("\"v\":1", "\"v\":1e0"),
        line.replace("clinic", "\\u0063linic"),
        line.replace("2001:db8::1", "2001:0db8::1"),
        line.replace(
            "00000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-00000000000A",
        ),
        format!("{{{inside},\"version\":1}}"),
        format!("{{\"extra\":1,{inside}}}"),
        format!("{{\"subjects\":[],{inside}}}"),
        line.replace("\"schema\":1,", "\"schema\":null,"),
        line.replace("\"v\":1", "\"v\":2"),
    ] {
        assert_ne!(other, line);
        assert!(Record::parse(&other).is_err(), "{other}");
    }
    assert!(matches!(Record::parse(&"x".repeat(65_536)), Err(ParseError::TooLong(65_536))));
}

#[test]
fn members_must_fit_the_type() {
    #[track_caller]
    fn check(proposal: Proposal, rule: &RuleError) {
        let source = "patient-service".parse().unwrap();
        let record = proposal.into_record(ledger(), source, &Link::genesis(), Timestamp::EPOCH);
        assert_eq!(record.check().as_ref(), Err(rule));
    }
    let good = registration(1);
    check(Proposal { stream: None, ..good.clone() }, &RuleError::Missing("stream"));
    check(Proposal { version: None, ..good.clone() }, &RuleError::Missing("version"));
    check(Proposal { version: Some(0), ..good.clone() }, &RuleError::Range("version"));
    check(Proposal { version: Some(1 << 53), ..good.clone() }, &RuleError::Range("version"));
    check(Proposal { version: Some(2), ..good.clone() }, &RuleError::DataHeader);
    check(Proposal { schema: None, ..good.clone() }, &RuleError::Missing("schema"));
    check(Proposal { data: None, ..good.clone() }, &RuleError::Missing("data"));
    check(Proposal { stream: Some(Stream::LedgerKeys), ..good.clone() }, &RuleError::Stream);
    let subjects = vec![PatientId::new(Uuid::nil())];
    check(Proposal { subjects, ..good.clone() }, &RuleError::Unexpected("subjects"));
    check(Proposal { subscription: None, ..suspension() }, &RuleError::Missing("subscription"));
    check(Proposal { stream: Some(Stream::LedgerKeys), ..suspension() }, &RuleError::Stream);
    let subscription = suspension().subscription;
    check(Proposal { subscription, ..read(1) }, &RuleError::Unexpected("subscription"));
    let data = good.data.clone();
    check(Proposal { data, ..read(1) }, &RuleError::Unexpected("data"));
    check(Proposal { schema: Some(1), ..read(1) }, &RuleError::Unexpected("schema"));
    let data = Some("Jane Doe, in the clear".to_owned());
    check(Proposal { data, ..good }, &RuleError::Data(domain::sealed::NotAJwe));
}

proptest! {
    #[test]
    fn any_changed_byte_of_a_chain_is_noticed_at_that_record_or_the_next(
        count in 2..8_usize, which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(), byte in 32..127_u8,
    ) {
        let mut lines = chain((0..count).map(|n| if n % 2 == 0 { registration(n as u128) } else { read(n as u128) }));
        prop_assert!(verify(&lines).is_ok());
        // The last line has no successor that could show a change; the root of a checkpoint does.
        let which = which.index(count - 1);
        let mut changed = lines[which].clone().into_bytes();
        let at = at.index(changed.len());
        prop_assume!(changed[at] != byte);
        changed[at] = byte;
        lines[which] = String::from_utf8(changed).unwrap();
        let seq = verify(&lines).unwrap_err().seq();
        prop_assert!(seq == which as u64 || seq == which as u64 + 1, "{}", seq);
    }

    #[test]
    fn a_removed_inserted_or_swapped_line_is_noticed(
        count in 3..8_usize, which in any::<prop::sample::Index>(), how in 0..3,
    ) {
        let mut lines = chain((0..count).map(|n| registration(n as u128)));
        let which = which.index(count - 1);
        match how {
            0 => { lines.remove(which); }
            1 => { let line = lines[which].clone(); lines.insert(which, line); }
            _ => lines.swap(which, which + 1),
        }
        let error = verify(&lines).unwrap_err();
        let expected = if how == 1 { which + 1 } else { which };
        prop_assert_eq!(error.seq(), expected as u64);
    }

    #[test]
    fn parsing_never_panics(line in ".{0,300}") {
        prop_assert!(Record::parse(&line).is_err());
    }
}

#[test]
fn a_chain_of_another_ledger_and_time_that_runs_backwards_are_noticed() {
    let lines = chain([read(1), read(2)]);
    let mut link = Link::genesis();
    let other: Name = "other".parse().unwrap();
    assert!(matches!(link.follow(&other, &lines[0]), Err(ChainError::Ledger { seq: 0 })));
    link.follow(&ledger(), &lines[0]).unwrap();
    link.at = Timestamp::from_millis(10_000);
    assert!(matches!(link.follow(&ledger(), &lines[1]), Err(ChainError::Time { seq: 1 })));
}
