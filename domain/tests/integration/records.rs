//! The record: one canonical line, and a chain that shows every change.

use std::num::{NonZeroU32, NonZeroU64};

use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    chain::{ChainError, Link},
    hash::Hash,
    ids::{KeyId, MAX_SAFE_INTEGER, Mac, Name, PatientId, Stream},
    record::{CommandRef, KeyName, ParseError, Record, RecordType, RuleError},
    sealed::{JweHeader, write_compact},
    subscription::{
        KeySlot, MAX_NETWORKS, Scope, SubscriptionAct, SubscriptionChange, SubscriptionTerms,
    },
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

fn change(change: SubscriptionChange) -> Proposal {
    Proposal {
        stream: Some(Stream::GatewaySubscriptions),
        version: Some(1),
        subscription: Some(change),
        ..proposal(RecordType::SubscriptionChanged)
    }
}

fn act(act: SubscriptionAct) -> SubscriptionChange {
    SubscriptionChange::new(act, "clinic".parse().unwrap())
}

fn suspension() -> Proposal {
    change(act(SubscriptionAct::Suspended))
}

fn terms() -> SubscriptionTerms {
    SubscriptionTerms {
        burst: NonZeroU32::new(20),
        expires: Some(Timestamp::from_millis(1_800_000_000_000)),
        networks: vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        quota_day: NonZeroU64::new(1_000),
        quota_month: NonZeroU64::new(MAX_SAFE_INTEGER),
        rate: NonZeroU32::new(10),
        scopes: [Scope::PatientWrite, Scope::PatientRead].into(),
        suspended: true,
    }
}

fn limitation() -> SubscriptionChange {
    SubscriptionChange {
        after_unrecorded: true,
        claimed_by: "j.doe".parse().ok(),
        terms: Some(terms()),
        ..act(SubscriptionAct::Limited)
    }
}

fn rotation() -> SubscriptionChange {
    SubscriptionChange { key: Some(KeySlot::Secondary), ..act(SubscriptionAct::Rotated) }
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
    let mut proposals =
        vec![registration(1), read(1), proposal(RecordType::LedgerRead), suspension()];
    proposals.extend([limitation(), rotation()].map(change));
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
fn what_a_change_of_a_subscription_says_has_this_form_for_ever() {
    #[track_caller]
    fn check(subscription: SubscriptionChange, expected: &str) {
        let line = chain([change(subscription.clone())]).remove(0);
        assert!(line.contains(&format!(r#""subscription":{expected},"type""#)), "{line}");
        assert_eq!(Record::parse(&line).unwrap().subscription, Some(subscription));
    }
    check(
        limitation(),
        r#"{"afterUnrecorded":true,"change":"limited","claimedBy":"j.doe","name":"clinic","terms":{"burst":20,"expires":"2027-01-15T08:00:00.000Z","networks":["10.1.0.0/16","2001:db8::/32"],"quotaDay":1000,"quotaMonth":9007199254740991,"rate":10,"scopes":["patient:read","patient:write"],"suspended":true}}"#,
    );
    check(rotation(), r#"{"change":"rotated","key":"secondary","name":"clinic"}"#);
    let bare = SubscriptionTerms {
        burst: None,
        expires: None,
        networks: Vec::new(),
        quota_day: None,
        quota_month: None,
        rate: None,
        scopes: [].into(),
        suspended: false,
    };
    check(
        SubscriptionChange { terms: Some(bare), ..act(SubscriptionAct::Added) },
        r#"{"change":"added","name":"clinic","terms":{"scopes":[]}}"#,
    );
}

#[test]
fn a_change_of_a_subscription_has_one_form_and_holds_nothing_else() {
    let line = chain([change(limitation())]).remove(0);
    assert!(Record::parse(&line).is_ok());
    for (from, to) in [
        ("\"afterUnrecorded\":true,", "\"afterUnrecorded\":false,"),
        ("\"suspended\":true", "\"suspended\":false"),
        ("j.doe", "Jane Doe"),
        ("\"name\":\"clinic\"", "\"key\":\"6f96\",\"name\":\"clinic\""),
        ("10.1.0.0/16", "10.1.0.0/016"),
        ("10.1.0.0/16", "10.1.0.0"),
        ("2001:db8::/32", "2001:0db8::/32"),
        ("\"quotaDay\":1000", "\"quotaDay\":0"),
        ("\"quotaDay\":1000", "\"quotaDay\":1e3"),
        ("\"quotaDay\":1000", "\"quotaDay\":null"),
        ("9007199254740991", "9007199254740992"),
        ("\"rate\":10", "\"rate\":4294967296"),
        ("08:00:00.000Z", "08:00:00Z"),
        ("[\"patient:read\",\"patient:write\"]", "[\"patient:write\",\"patient:read\"]"),
        ("[\"patient:read\",\"patient:write\"]", "[\"patient:read\",\"patient:read\"]"),
        ("[\"patient:read\",\"patient:write\"]", "[\"patient:all\"]"),
        ("\"scopes\":", "\"digest\":\"00\",\"scopes\":"),
    ] {
        assert!(line.contains(from), "{from}");
        assert!(Record::parse(&line.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn what_a_subscription_may_do_and_which_key_belong_to_some_acts() {
    for act_done in SubscriptionAct::ALL {
        let terms = SubscriptionChange { terms: Some(terms()), ..act(*act_done) };
        let key = SubscriptionChange { key: Some(KeySlot::Primary), ..act(*act_done) };
        let taken = [terms, key].map(|it| {
            let source = "operator".parse().unwrap();
            change(it).into_record(ledger(), source, &Link::genesis(), Timestamp::EPOCH).check()
        });
        let (has_terms, has_key) =
            (*act_done != SubscriptionAct::Removed, *act_done == SubscriptionAct::Rotated);
        assert_eq!(taken.map(|taken| taken.is_ok()), [has_terms, has_key], "{act_done}");
    }
    let many = SubscriptionTerms {
        networks: vec!["10.0.0.0/8".parse().unwrap(); MAX_NETWORKS + 1],
        ..terms()
    };
    let many = SubscriptionChange { terms: Some(many), ..act(SubscriptionAct::Limited) };
    let record = change(many).into_record(
        ledger(),
        "operator".parse().unwrap(),
        &Link::genesis(),
        Timestamp::EPOCH,
    );
    assert_eq!(record.check(), Err(RuleError::Range("subscription.terms.networks")));
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
