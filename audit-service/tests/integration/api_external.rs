//! `POST /api/auditrecord`: the older system's way to report an access (contract).

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{chain::Chain, server::Server};

const CALLER: &str = "old-clinic";
const PATIENT: &str = "6F9619FF-8B86-D011-B42D-00CF4FC964FF";

#[tokio::test]
async fn an_access_is_recorded_and_answered_with_id_and_date() {
    let server = Server::start().await;
    let reports = [
        json!({ "sourceSystemName": "old.clinic:1" }),
        json!({ "sourceSystemName": "x", "resource": { "type": "patient", "operation": "find", "id": PATIENT } }),
        json!({ "sourceSystemName": "x", "resource": { "type": "invoice", "operation": "read" } }),
        json!({ "sourceSystemName": "x", "resource": { "type": "patient", "operation": "find", "id": "17" } }),
    ];
    let mut ids = Vec::new();
    for (seq, report) in reports.iter().enumerate() {
        let path = if seq % 2 == 0 { "/api/auditrecord" } else { "/api/auditrecord/" };
        let answer = server.post(CALLER, path, report.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let mut view = answer.json();
        let id = view["id"].take();
        let created = view["createdDate"].take();
        view.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        assert_eq!(view, *report);
        assert!(id.as_str().unwrap().parse::<Uuid>().is_ok());
        ids.push(id);
        let chain = Chain::check(&server.store.blocks());
        let record = &chain.records[seq];
        assert_eq!(record["recordedAt"], created);
        let receipt = format!("seq={seq}, hash=\"{}\"", chain.hashes[seq]);
        assert_eq!(answer.header("audit-receipt"), Some(receipt.as_str()));
        assert_eq!(record["type"], "ExternalAccess");
        assert_eq!(record["actor"], json!({ "id": CALLER, "kind": "service" }));
        assert_eq!(record["external"]["system"], report["sourceSystemName"]);
        let names_a_patient = seq == 1;
        let stream = format!("patient/{}", PATIENT.to_lowercase());
        let expected = if names_a_patient { json!(stream) } else { Value::Null };
        assert_eq!(record["stream"], expected);
    }
    ids.dedup();
    assert_eq!(ids.len(), reports.len());
    server.stop().await;
}

#[tokio::test]
async fn what_the_older_system_took_by_mistake_is_refused() {
    let server = Server::start().await;
    let resource = |resource: Value| json!({ "sourceSystemName": "x", "resource": resource });
    let bad = [
        (json!({}), "\"sourceSystemName\" is required"),
        (json!({ "sourceSystemName": null }), "\"sourceSystemName\" must be a string"),
        (json!({ "sourceSystemName": 3 }), "\"sourceSystemName\" must be a string"),
        (json!({ "sourceSystemName": "" }), "\"sourceSystemName\" is not allowed to be empty"),
        (
            json!({ "sourceSystemName": "Dr. Doe looked" }),
            "\"sourceSystemName\" must match [A-Za-z0-9._:-]{1,128}",
        ),
        (
            json!({ "sourceSystemName": "x".repeat(129) }),
            "\"sourceSystemName\" must match [A-Za-z0-9._:-]{1,128}",
        ),
        (json!({ "sourceSystemName": "x", "id": "1" }), "Id unexpected."),
        (json!({ "sourceSystemName": "x", "createdDate": "now" }), "createdDate unexpected."),
        (json!({ "sourceSystemName": "x", "extra": 1 }), "\"extra\" is not allowed"),
        (resource(json!("patient")), "\"resource\" must be of type object"),
        (resource(json!({})), "\"resource.type\" is required"),
        (resource(json!({ "type": "patient" })), "\"resource.operation\" is required"),
        (
            resource(json!({ "type": "patient", "operation": "read", "id": "Joan Doe" })),
            "\"resource.id\" must match [A-Za-z0-9._:-]{1,128}",
        ),
        (
            resource(json!({ "type": "patient", "operation": "read", "more": 1 })),
            "\"resource.more\" is not allowed",
        ),
    ];
    for (body, detail) in bad {
        let problem =
            server.post(CALLER, "/api/auditrecord", body.to_string()).await.is_problem(400);
        assert_eq!(problem["detail"], detail, "{body}");
    }
    for body in ["", "{", "[]", "{\"sourceSystemName\":\"x\",\"sourceSystemName\":\"y\"}"] {
        server.post(CALLER, "/api/auditrecord", body).await.is_problem(400);
    }
    let large = json!({ "sourceSystemName": "x".repeat(1024 * 1024) }).to_string();
    server.post(CALLER, "/api/auditrecord", large).await.is_problem(413);
    assert!(server.store.blocks().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn the_media_type_does_not_matter_unless_it_is_no_text() {
    let server = Server::start().await;
    let body = json!({ "sourceSystemName": "x" }).to_string();
    let cases = [
        (None, 201),
        (Some("application/json"), 201),
        (Some("text/plain; charset=utf-8"), 201),
        (Some("multipart/form-data; boundary=x"), 415),
        (Some("Multipart/Form-Data; boundary=x"), 415),
        (Some("application/octet-stream"), 415),
    ];
    for (media_type, status) in cases {
        let mut request = server.request(CALLER, "POST", "/api/auditrecord").body(body.clone());
        if let Some(media_type) = media_type {
            request = request.header("content-type", media_type);
        }
        assert_eq!(server.send(request).await.status, status, "{media_type:?}");
    }
    assert_eq!(Chain::check(&server.store.blocks()).records.len(), 3);
    server.stop().await;
}
