//! What an accounting says, and to whom of whom.

use domain::{
    actor::{Actor, ActorKind, ErasureReason, Outcome, Purpose},
    event::SCHEMA,
    ids::Stream,
    record::RecordType,
    wire::Proposal,
};
use http::{Method, StatusCode};
use serde_json::json;

use super::following::{each, entries, followed, next_of, seqs};
use crate::{
    harness::{System, id, text},
    samples::{self, UNKNOWN},
};

#[tokio::test]
async fn a_patients_accounting_has_every_touch_and_nothing_of_others() {
    let (system, _following) = followed().await;
    let one = system.registered(&samples::patient()).await;
    let other = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&one, "id"));
    system.get(&path).await.expect(StatusCode::OK);
    let tests = format!("{path}/tests");
    let test = system.post(&tests, &samples::test()).await.expect(StatusCode::CREATED).body;
    system.get(&format!("{tests}/{UNKNOWN}")).await.expect(StatusCode::NOT_FOUND);
    system.post("/patient/search", &json!({})).await.expect(StatusCode::OK);

    let request = system.request(Method::GET, &format!("{path}/activity"));
    let answer = request.header("purpose-of-use", "PATRQT").send().await;
    assert!(!answer.text.contains(text(&other, "id")), "{}", answer.text);
    let shown = entries(answer);
    let types = [
        "ActivityRead",
        "PatientsSearched",
        "TestRead",
        "TestRecorded",
        "PatientRead",
        "PatientRegistered",
    ];
    assert_eq!(each(&shown, "type"), types);
    assert!(shown.iter().all(|entry| entry["patients"] == json!([one["id"]])), "{shown:?}");
    assert_eq!(shown[2]["outcome"], "notFound");
    let records = system.records();
    let record = records.iter().find(|it| it.record_type == RecordType::TestRecorded).unwrap();
    let expected = json!({
        "seq": record.seq, "at": record.recorded_at, "type": "TestRecorded",
        "outcome": "success", "purpose": "TREAT",
        "actor": {"id": "clinic", "kind": "subscription"}, "source": "patient-service",
        "client": "192.0.2.7", "trace": record.trace, "test": test["id"],
        "patients": [one["id"]],
    });
    assert_eq!(shown[3], expected);
    // The auditors see whom a search showed together.
    let all = entries(system.get("/audit/activity?type=PatientsSearched").await);
    assert_eq!(all[0]["patients"].as_array().unwrap().len(), 2);

    let reads = system.records_of(RecordType::ActivityRead);
    assert_eq!(reads[0].stream, Some(Stream::Patient(id(&one))));
    assert_eq!((reads[0].outcome, reads[0].purpose), (Outcome::Success, Purpose::PatientRequest));
    assert_eq!((reads[1].stream, reads[1].outcome), (None, Outcome::Success));
}

#[tokio::test]
async fn every_filter_narrows_it() {
    let (system, _following) = followed().await;
    let one = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&one, "id"));
    system.get(&path).await.expect(StatusCode::OK);
    let other = system.any_patient().await;
    let research = system.request(Method::GET, &other).header("purpose-of-use", "HRESCH");
    research.send().await.expect(StatusCode::OK);
    system.get(&format!("/patient/{UNKNOWN}")).await.expect(StatusCode::NOT_FOUND);
    let at = |seq: usize| system.records()[seq].recorded_at.to_string();
    let (second, third) = (at(1), at(2));

    let check = async |query: &str, expected: &[u64]| {
        let found = entries(system.get(&format!("/audit/activity?{query}")).await);
        // Accountings themselves come on top.
        let found: Vec<u64> = seqs(&found).into_iter().filter(|seq| *seq < 5).collect();
        assert_eq!(found, expected, "{query}");
    };
    check("", &[4, 3, 2, 1, 0]).await;
    check(&format!("patient={}", text(&one, "id")), &[1, 0]).await;
    check(&format!("patient={UNKNOWN}"), &[4]).await;
    check("type=PatientRegistered", &[2, 0]).await;
    check("purpose=HRESCH", &[3]).await;
    check("outcome=notFound", &[4]).await;
    check("actor=clinic&type=PatientRead", &[4, 3, 1]).await;
    check("actor=nobody", &[]).await;
    check("until=2026-01-01T00:00:00Z", &[]).await;
    check("from=2026-01-01T00:00:00%2B02:00&limit=1000", &[4, 3, 2, 1, 0]).await;
    if second < third {
        check(&format!("until={third}"), &[1, 0]).await;
        check(&format!("from={third}"), &[4, 3, 2]).await;
    }
    let found = entries(system.get(&format!("{path}/activity?type=PatientRead&limit=1")).await);
    assert_eq!(seqs(&found), [1]);
}

#[tokio::test]
async fn pages_have_no_gap_and_no_double_while_records_come_in() {
    let (system, _following) = followed().await;
    let path = system.any_patient().await;
    for _ in 0..6 {
        system.get(&path).await.expect(StatusCode::OK);
    }
    let mut query = "?limit=3&actor=clinic".to_owned();
    let mut seen = Vec::new();
    let mut newest = None;
    loop {
        assert!(query.contains("limit=3&actor=clinic"), "{query}");
        let answer = system.get(&format!("{path}/activity{query}")).await;
        let next = next_of(&answer);
        let page = entries(answer);
        newest = newest.or(seqs(&page).first().copied());
        assert!(page.len() <= 3);
        seen.extend(seqs(&page));
        // Two more touches between any two pages.
        system.get(&path).await.expect(StatusCode::OK);
        let Some(next) = next else { break };
        query = next;
    }
    // The first page began with its own record, the eighth of all.
    assert_eq!(newest, Some(7));
    assert_eq!(seen, (0..=7).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_no_question_is_refused_by_name_and_leaves_no_record() {
    let system = System::start().await;
    let path = system.any_patient().await;
    let before = system.records().len();
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=1&limit=1", "limit"),
        ("cursor=x", "cursor"),
        ("actor=a%20b", "actor"),
        ("type=patientRead", "type"),
        ("purpose=FUN", "purpose"),
        ("outcome=0", "outcome"),
        ("from=yesterday", "from"),
        ("from=2026-01-01T00:00:00+02:00", "from"),
        ("until=2026", "until"),
        ("sort=at", "sort"),
        ("JANE=DOE", "<unknown>"),
    ] {
        for path in [format!("{path}/activity"), "/audit/activity".to_owned()] {
            let answer = system.get(&format!("{path}?{query}")).await;
            let answer = answer.expect(StatusCode::BAD_REQUEST);
            assert_eq!(answer.body["errors"][0]["field"], name, "{query}");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("\"{name}\" ")), "{detail}");
            assert!(!answer.text.contains("JANE"), "{}", answer.text);
        }
    }
    let of_patient = system.get(&format!("{path}/activity?patient={UNKNOWN}")).await;
    of_patient.expect(StatusCode::BAD_REQUEST);
    system.get("/audit/activity?patient=1").await.expect(StatusCode::BAD_REQUEST);
    assert_eq!(system.records().len(), before);
}

#[tokio::test]
async fn spreadsheets_get_csv() {
    let (system, _following) = followed().await;
    let path = system.any_patient().await;
    let get = |accept: &'static str| {
        let request = system.request(Method::GET, &format!("{path}/activity?limit=1"));
        request.header("accept", accept).send()
    };
    let answer = get("text/csv").await.expect(StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert!(next_of(&answer).is_some());
    let lines: Vec<_> = answer.text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("seq,at,type,outcome,"));
    let record = system.records().pop().unwrap();
    let (at, trace) = (record.recorded_at, record.trace.unwrap());
    let expected = format!(
        "{},{at},ActivityRead,success,TREAT,clinic,subscription,,patient-service,192.0.2.7,\
         {trace},,{}",
        record.seq,
        path.trim_start_matches("/patient/"),
    );
    assert_eq!(lines[1], expected);
    for accept in ["application/json", "*/*", "text/html", "text/csv;q=0.1, */*"] {
        assert_eq!(get(accept).await.header("content-type"), "application/json", "{accept}");
    }
}

#[tokio::test]
async fn who_was_never_heard_of_is_not_found_and_who_is_gone_still_has_an_accounting() {
    let (system, _following) = followed().await;
    let unknown = system.get(&format!("/patient/{UNKNOWN}/activity")).await;
    let unknown = unknown.expect(StatusCode::NOT_FOUND);
    let record = system.records().pop().unwrap();
    assert!(unknown.receipt().starts_with(&format!("seq={}, ", record.seq)));
    assert_eq!(record.record_type, RecordType::ActivityRead);
    assert_eq!((record.outcome, record.version), (Outcome::NotFound, None));
    let before = system.records().len();
    system.get("/patient/1/activity").await.expect(StatusCode::NOT_FOUND);
    assert_eq!(system.records().len(), before);

    let removed = system.any_patient().await;
    system.delete(&removed).await.expect(StatusCode::NO_CONTENT);
    let shown = entries(system.get(&format!("{removed}/activity")).await);
    assert_eq!(each(&shown, "type"), ["ActivityRead", "PatientRemoved", "PatientRegistered"]);

    let erased = system.registered(&samples::patient()).await;
    let actor_id = "privacy".parse().unwrap();
    let actor = Actor { id: actor_id, kind: ActorKind::Subscription, roles: Vec::new() };
    let (record_type, purpose) = (RecordType::PatientErased, Purpose::PatientRequest);
    let proposal = Proposal {
        stream: Some(Stream::Patient(id(&erased))),
        version: Some(2),
        schema: Some(SCHEMA),
        reason: Some(ErasureReason::ConsentWithdrawn),
        ..Proposal::new(record_type, actor, purpose, Outcome::Success)
    };
    system.audit_client().append(proposal).await.unwrap();
    let path = format!("/patient/{}/activity", text(&erased, "id"));
    let answer = system.get(&path).await;
    assert!(!answer.text.contains("JANE"));
    let shown = entries(answer);
    assert_eq!(each(&shown, "type"), ["ActivityRead", "PatientErased", "PatientRegistered"]);
    assert_eq!(shown[1]["actor"]["id"], "privacy");
}
