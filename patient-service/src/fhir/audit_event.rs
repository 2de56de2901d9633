//! One record as an `AuditEvent`. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    actor::{ActorKind, Outcome},
    ids::PatientId,
};
use projections::documents::ActivityDoc;
use serde_json::{Value, json};

use super::pattern::{self, Code, Object, Pattern, RECORD_TYPE};
use crate::activity::kind_of;

const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const ENTITY_LIFECYCLE: &str = "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";
const PURPOSE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const BALP_PROFILE: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.";

/// The resource. Its id is `rec-<seq>`, and its tag the record's type.
pub(super) fn of(document: &ActivityDoc) -> Value {
    let pattern = pattern::of(document.record_type);
    let tag = Code { system: RECORD_TYPE, code: document.record_type.as_str() };
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": id(document.seq),
        "meta": {"tag": [coding(tag)]},
        "type": coding(pattern.kind),
        "action": pattern.action,
        "recorded": document.at,
        "outcome": pattern::outcome(document.outcome),
        "purposeOfEvent": [{"coding": [{"system": PURPOSE, "code": document.purpose}]}],
        "agent": agents(document, &pattern),
        "source": {
            "observer": device(document),
            "type": [{"system": SOURCE_TYPE, "code": "4"}],
        },
    });
    if let Some(profile) = profile(document, &pattern) {
        event["meta"]["profile"] = json!([profile]);
    }
    if let Some(subtype) = pattern.subtype {
        event["subtype"] = json!([coding(subtype)]);
    }
    let entities = entities(document, &pattern);
    // FHIR knows no empty array.
    if !entities.is_empty() {
        event["entity"] = entities.into();
    }
    event
}

pub(super) fn id(seq: u64) -> String {
    format!("rec-{seq}")
}

/// The profile that the resource keeps. BALP's are for successes, with everybody's address, and a
/// client has no roles; its pattern of a query about a patient is about one.
fn profile(document: &ActivityDoc, pattern: &Pattern) -> Option<String> {
    let of_client = document.actor.kind != ActorKind::User;
    let with_roles = of_client && !document.actor.roles.is_empty();
    if document.outcome != Outcome::Success || document.client.is_none() || with_roles {
        return None;
    }
    match (pattern.balp?, document.patients.len()) {
        (name, 1) => Some(format!("{BALP_PROFILE}Patient{name}")),
        ("Query", _) if pattern.object == Object::Search => Some(format!("{BALP_PROFILE}Query")),
        _ => None,
    }
}

fn coding(code: Code) -> Value {
    json!({"system": code.system, "code": code.code})
}

fn concept(code: Code) -> Value {
    json!({"coding": [coding(code)]})
}

/// The service that asked for the record.
fn device(document: &ActivityDoc) -> Value {
    json!({"type": "Device", "identifier": {"value": document.source}})
}

/// The client, the service, and the person where one is known. A client is the one who asks
/// unless a person is.
fn agents(document: &ActivityDoc, pattern: &Pattern) -> Vec<Value> {
    let actor = &document.actor;
    let roles = pattern.roles;
    let who = json!({"identifier": {"type": {"text": kind_of(actor.kind)}, "value": actor.id}});
    let is_user = actor.kind == ActorKind::User;
    let mut client = json!({"type": concept(roles.client), "requestor": !is_user});
    if let Some(address) = document.client {
        client["network"] = json!({"address": address, "type": "2"});
    }
    let server = json!({
        "type": concept(roles.server),
        "who": device(document),
        "requestor": false,
        "network": {"address": document.source, "type": "1"},
    });
    let mut of_actor = if is_user {
        // Of the application that the person uses, the address is all that is known.
        client["who"] = json!({"display": match document.client {
            Some(address) => address.to_string(),
            None => "unknown".to_owned(),
        }});
        json!({"type": concept(roles.user), "requestor": true, "name": actor.id})
    } else {
        std::mem::take(&mut client)
    };
    of_actor["who"] = who;
    if !actor.roles.is_empty() {
        of_actor["role"] = actor.roles.iter().map(|role| json!({"text": role})).collect();
    }
    let mut agents = vec![of_actor, server];
    if is_user {
        agents.insert(0, client);
    }
    agents
}

fn entities(document: &ActivityDoc, pattern: &Pattern) -> Vec<Value> {
    let mut entities: Vec<Value> = document.patients.iter().map(|it| person(*it)).collect();
    entities.extend(object(document, pattern.object));
    if let Some(trace) = document.trace {
        entities.push(json!({
            "what": {"identifier": {"value": trace}},
            "type": {"system": BALP_ENTITY, "code": "XrequestId"},
        }));
    }
    entities
}

fn person(patient: PatientId) -> Value {
    json!({
        "what": reference(patient),
        "type": {"system": ENTITY_TYPE, "code": "1"},
        "role": {"system": OBJECT_ROLE, "code": "1"},
    })
}

fn reference(patient: PatientId) -> Value {
    json!({"reference": format!("Patient/{patient}")})
}

/// What the act was about, where the record says it.
fn object(document: &ActivityDoc, object: Object) -> Option<Value> {
    let entity = |role: &str| {
        json!({
            "type": {"system": ENTITY_TYPE, "code": "2"},
            "role": {"system": OBJECT_ROLE, "code": role},
        })
    };
    let patient = document.patients.first();
    Some(match object {
        Object::Resource | Object::Destroyed => {
            let mut resource = entity("4");
            resource["what"] = match (document.test, patient) {
                // A test is no FHIR resource here, so it is named and not referred to.
                (Some(test), _) => json!({
                    "type": "DiagnosticReport",
                    "identifier": {
                        "system": "urn:ietf:rfc:3986",
                        "value": format!("urn:uuid:{test}"),
                    },
                }),
                (None, Some(patient)) => reference(*patient),
                (None, None) => return None,
            };
            if object == Object::Destroyed {
                resource["lifecycle"] = json!({"system": ENTITY_LIFECYCLE, "code": "15"});
            }
            resource
        }
        Object::Search => query(entity("24"), "POST /patient/search"),
        Object::Tests => query(entity("24"), &format!("GET /patient/{}/tests", patient?)),
        Object::Security(name) => {
            let mut log = entity("13");
            log["name"] = name.into();
            log
        }
    })
}

fn query(mut entity: Value, request: &str) -> Value {
    entity["query"] = STANDARD.encode(request).into();
    entity
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
