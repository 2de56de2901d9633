//! Every type of record, and what BALP demands of those that claim a profile of it.

use domain::{
    actor::{Actor, Purpose},
    record::RecordType,
    time::Timestamp,
};

use super::*;

const PATIENT: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const OTHER: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964fe";
const TEST: &str = "00000000-0000-4000-8000-000000000001";

/// As such a record looks in activity.
fn document(record_type: RecordType) -> ActivityDoc {
    use RecordType as T;
    let of_test =
        matches!(record_type, T::TestRecorded | T::TestAmended | T::TestRemoved | T::TestRead);
    let of_none = matches!(record_type, T::LedgerRead | T::KeyRotated | T::SubscriptionChanged);
    ActivityDoc {
        seq: 7,
        at: Timestamp::from_millis(0),
        record_type,
        outcome: Outcome::Success,
        purpose: Purpose::Treatment,
        actor: Actor {
            id: "clinic".parse().unwrap(),
            kind: ActorKind::Subscription,
            roles: Vec::new(),
        },
        source: "patient-service".parse().unwrap(),
        client: Some("192.0.2.7".parse().unwrap()),
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap()),
        test: of_test.then(|| TEST.parse().unwrap()),
        patients: if of_none { Vec::new() } else { vec![PATIENT.parse().unwrap()] },
    }
}

fn by_a_person(record_type: RecordType) -> ActivityDoc {
    let mut document = document(record_type);
    document.actor.kind = ActorKind::User;
    document.actor.roles = vec!["nurse".parse().unwrap()];
    document
}

#[test]
fn every_type_has_its_codes() {
    #[track_caller]
    fn check(record_type: RecordType, expected: [&str; 4]) {
        let event = of(&document(record_type));
        let profile = event["meta"]["profile"][0].as_str().unwrap_or_default();
        let profile = profile.strip_prefix(BALP_PROFILE).unwrap_or(profile);
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or("");
        let found = [text("/type/code"), text("/subtype/0/code"), text("/action"), profile];
        assert_eq!(found, expected, "{record_type}");
        assert_eq!(event["meta"]["tag"][0]["code"], record_type.as_str());
    }
    for record_type in RecordType::ALL.iter().copied() {
        use RecordType as T;
        let expected = match record_type {
            T::PatientRegistered | T::TestRecorded => ["rest", "create", "C", "PatientCreate"],
            T::PatientAmended | T::TestAmended => ["rest", "update", "U", "PatientUpdate"],
            T::PatientRemoved | T::TestRemoved => ["rest", "delete", "D", "PatientDelete"],
            T::PatientErased => ["rest", "delete", "D", ""],
            T::PatientRead | T::TestRead => ["rest", "read", "R", "PatientRead"],
            T::PatientsSearched | T::TestsListed => ["rest", "search-type", "E", "PatientQuery"],
            T::HistoryRead => ["rest", "history-instance", "R", ""],
            T::ActivityRead | T::LedgerRead => ["110101", "", "R", ""],
            T::AccessRefused => ["110113", "110132", "E", ""],
            T::ExternalAccess => ["access", "", "E", ""],
            T::KeyRotated => ["110113", "110129", "U", ""],
            T::SubscriptionChanged => ["110113", "110137", "U", ""],
        };
        check(record_type, expected);
    }
}

#[test]
fn a_read_by_a_client_is_told_in_full() {
    let expected = json!({
        "resourceType": "AuditEvent",
        "id": "rec-7",
        "meta": {
            "profile": [format!("{BALP_PROFILE}PatientRead")],
            "tag": [{"system": "urn:vitalog:record-type", "code": "TestRead"}],
        },
        "type": {
            "system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest",
        },
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": "read"}],
        "action": "R",
        "recorded": "1970-01-01T00:00:00.000Z",
        "outcome": "0",
        "purposeOfEvent": [{"coding": [{"system": PURPOSE, "code": "TREAT"}]}],
        "agent": [
            {
                "type": {"coding": [{
                    "system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110152",
                }]},
                "who": {"identifier": {"type": {"text": "subscription"}, "value": "clinic"}},
                "requestor": true,
                "network": {"address": "192.0.2.7", "type": "2"},
            },
            {
                "type": {"coding": [{
                    "system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110153",
                }]},
                "who": {"type": "Device", "identifier": {"value": "patient-service"}},
                "requestor": false,
                "network": {"address": "patient-service", "type": "1"},
            },
        ],
        "source": {
            "observer": {"type": "Device", "identifier": {"value": "patient-service"}},
            "type": [{"system": SOURCE_TYPE, "code": "4"}],
        },
        "entity": [
            {
                "what": {"reference": format!("Patient/{PATIENT}")},
                "type": {"system": ENTITY_TYPE, "code": "1"},
                "role": {"system": OBJECT_ROLE, "code": "1"},
            },
            {
                "what": {
                    "type": "DiagnosticReport",
                    "identifier": {
                        "system": "urn:ietf:rfc:3986", "value": format!("urn:uuid:{TEST}"),
                    },
                },
                "type": {"system": ENTITY_TYPE, "code": "2"},
                "role": {"system": OBJECT_ROLE, "code": "4"},
            },
            {
                "what": {"identifier": {"value": "4bf92f3577b34da6a3ce929d0e0e4736"}},
                "type": {"system": BALP_ENTITY, "code": "XrequestId"},
            },
        ],
    });
    assert_eq!(of(&document(RecordType::TestRead)), expected);
}

#[test]
fn a_person_stands_beside_the_application_with_the_roles() {
    let event = of(&by_a_person(RecordType::PatientRead));
    let agents = event["agent"].as_array().unwrap();
    assert_eq!(agents.len(), 3);
    let person = agents.iter().find(|agent| agent["requestor"] == true).unwrap();
    assert_eq!(person["name"], "clinic");
    assert_eq!(person["role"], json!([{"text": "nurse"}]));
    assert_eq!(person["type"]["coding"][0]["code"], "IRCP");
    assert!(person.get("network").is_none());
}

#[test]
fn outcomes_have_a_code_each_and_only_successes_claim_a_profile() {
    for (outcome, code) in [
        (Outcome::Success, "0"),
        (Outcome::NotFound, "4"),
        (Outcome::Denied, "8"),
        (Outcome::Failed, "12"),
    ] {
        let event = of(&ActivityDoc { outcome, ..document(RecordType::PatientRead) });
        assert_eq!(event["outcome"], code);
        assert_eq!(event["meta"].get("profile").is_some(), outcome == Outcome::Success);
    }
}

#[test]
fn a_search_names_whom_it_showed_and_not_what_it_was_for() {
    let mut document = document(RecordType::PatientsSearched);
    document.patients.push(OTHER.parse().unwrap());
    let event = of(&document);
    let entities = event["entity"].as_array().unwrap();
    let shown: Vec<_> =
        entities.iter().filter_map(|entity| entity["what"]["reference"].as_str()).collect();
    assert_eq!(shown, [format!("Patient/{PATIENT}"), format!("Patient/{OTHER}")]);
    let query = entities.iter().find_map(|entity| entity["query"].as_str()).unwrap();
    assert_eq!(STANDARD.decode(query).unwrap(), b"POST /patient/search");
    // BALP's profile of a query about a patient is about one.
    assert_eq!(event["meta"]["profile"][0], format!("{BALP_PROFILE}Query"));
}

#[test]
fn an_erasure_says_that_it_is_for_good() {
    let event = of(&document(RecordType::PatientErased));
    assert_eq!(event["entity"][1]["lifecycle"]["code"], "15");
}

#[test]
fn what_claims_a_profile_of_balp_keeps_it() {
    for record_type in RecordType::ALL.iter().copied() {
        let nobody = ActivityDoc { patients: Vec::new(), ..document(record_type) };
        let unknown = ActivityDoc { client: None, ..document(record_type) };
        let mut service = document(record_type);
        service.actor.kind = ActorKind::Service;
        service.actor.roles = vec!["nurse".parse().unwrap()];
        for document in [document(record_type), by_a_person(record_type), nobody, unknown, service]
        {
            let event = of(&document);
            if let Some(profile) = event["meta"]["profile"][0].as_str() {
                keeps(&event, profile.strip_prefix(BALP_PROFILE).unwrap());
            }
        }
    }
}

/// The cardinalities and codes of the profiles, by the published profile definitions.
#[track_caller]
fn keeps(event: &Value, profile: &str) {
    let (about_patient, pattern) =
        profile.strip_prefix("Patient").map_or((false, profile), |pattern| (true, pattern));
    let (action, client, server, user) = match pattern {
        "Create" => ("C", "110153", "110152", "AUT"),
        "Update" => ("U", "110153", "110152", "AUT"),
        "Delete" => ("D", "110150", "custodian", "AUT"),
        "Read" => ("R", "110152", "110153", "IRCP"),
        "Query" => ("E", "110153", "110152", "IRCP"),
        other => panic!("{other}"),
    };
    assert_eq!((&event["action"], &event["outcome"]), (&json!(action), &json!("0")), "{event}");
    let agents = |code: &str| {
        let all = event["agent"].as_array().unwrap().iter();
        all.filter(|it| it["type"]["coding"][0]["code"] == code).collect::<Vec<_>>()
    };
    for code in [client, server] {
        let [agent] = agents(code)[..] else { panic!("{code}: {event}") };
        assert!(agent["who"].is_object() && agent["network"].is_object(), "{event}");
        for absent in ["role", "altId", "name", "location", "policy", "media", "purposeOfUse"] {
            assert!(agent.get(absent).is_none(), "{absent}: {event}");
        }
    }
    assert!(agents(user).iter().all(|it| it["requestor"] == true && it.get("network").is_none()));
    let entities = |kind: &str| {
        let all = event["entity"].as_array().unwrap().iter();
        all.filter(|it| it["type"]["code"] == kind).collect::<Vec<_>>()
    };
    let [data] = entities("2")[..] else { panic!("{event}") };
    if pattern == "Query" {
        assert_eq!(data["role"]["code"], "24");
        assert!(data["query"].is_string() && data.get("what").is_none(), "{event}");
    } else {
        assert_eq!(data["role"]["code"], "4");
        assert!(data["what"].is_object() && data.get("lifecycle").is_none(), "{event}");
    }
    assert!(!about_patient || entities("1").len() == 1, "{event}");
}
