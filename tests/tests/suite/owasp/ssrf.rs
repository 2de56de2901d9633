//! API7, server side request forgery: no text of a request makes a service connect to anything.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use tests::{
    http::{Api, send, text_body},
    ledger::Ledger,
    samples::{a_place, id_of, patient, test},
    system::{Store, System},
};
use tokio::net::{TcpListener, TcpStream};

/// Headers in which some server takes an address for its own use.
const HEADERS: [&str; 18] = [
    "x-forwarded-host",
    "x-forwarded-server",
    "x-forwarded-for",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
    "x-proxy-url",
    "x-http-destinationurl",
    "x-callback-url",
    "x-wap-profile",
    "profile",
    "referer",
    "origin",
    "from",
    "link",
    "destination",
    "proxy-host",
    "x-client-ip",
];

/// A listener that counts who comes.
async fn trap() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, visits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api7_no_address_in_a_request_is_ever_connected_to() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let (address, visits) = trap().await;
    let url = format!("http://{address}/a");
    stored(&system, &url).await;
    refused(&system, &url).await;
    in_headers(&system, &address, &url).await;
    as_tokens(&system, &url).await;
    let _ = Ledger::read(&system.compliance()).await;
    system.finish().await;
    // Everything that could have gone out has ended; only then does the trap prove that it works.
    let own = TcpStream::connect(&address).await.unwrap();
    while visits.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop(own);
    assert_eq!(visits.load(Ordering::SeqCst), 1);
}

/// Where an address is valid content, and read back in every way.
async fn stored(system: &System, url: &str) {
    let clinic = system.clinic();
    let mut body = patient("JANE");
    for member in ["firstName", "lastName", "fullName", "insuranceNumber", "preferredContactNumber"]
    {
        body[member] = json!(url);
    }
    let created = clinic.post("/patient", &body).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&created));
    let mut content = test(1);
    content["performer"] = json!(url);
    content["orderReference"] = json!(url);
    for member in ["id", "code", "measurement", "interpretation", "status"] {
        content["observations"][0][member] = json!(url);
    }
    let tests = format!("{path}/tests");
    let recorded = clinic.post(&tests, &content).await.expect(201).json();
    let test_path = format!("{tests}/{}", id_of(&recorded));
    let _ = clinic.put(&path, &created).await.expect(200);
    let _ = clinic.put(&test_path, &recorded).await.expect(200);
    let _ = clinic.post("/patient/search", &json!({"firstName": url})).await.expect(200);
    for path in [&path, &tests, &test_path, &format!("{path}/history"), &format!("{path}/activity")]
    {
        let _ = clinic.get(path).await.expect(200);
    }
    let _ = system.compliance().get("/audit/fhir/AuditEvent").await.expect(200);
}

/// Where it is none: every parameter of the document, and members that nobody knows.
async fn refused(system: &System, url: &str) {
    let document = system.api().get("/openapi.json").await.expect(200).json();
    let encoded = url.replace(':', "%3A").replace('/', "%2F");
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let key = match operation["security"][0]["headerKey"][0].as_str() {
                Some("audit:read") => system.compliance(),
                Some("patient:erase") => system.privacy(),
                _ => system.clinic(),
            };
            let path = path
                .split('/')
                .map(|part| if part.starts_with('{') { encoded.as_str() } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let ask = async |query: String| {
                let body = json!({ "url": url, "callback": url, "$ref": url, "@context": url });
                let path = format!("{path}?{query}");
                let answer = send(text_body(key.request(method.clone(), &path), &body)).await;
                assert!(answer.status < 500, "{answer:?}");
            };
            for name in ["url", "callback", "redirect", "source", "next"] {
                ask(format!("{name}={encoded}")).await;
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if let Some(name) = parameter["name"].as_str() {
                    ask(format!("{name}={encoded}")).await;
                }
            }
        }
    }
}

async fn in_headers(system: &System, address: &str, url: &str) {
    let clinic = system.clinic();
    let send_with = async |client: &Api, name: &str, value: &str| {
        for (method, path) in [
            (Method::GET, "/patient/1"),
            (Method::POST, "/patient/search"),
            (Method::GET, "/audit/checkpoint"),
        ] {
            let request = client.request(method, path).header(name, value).body("{}");
            assert!(send(request).await.status < 500, "{name}");
        }
    };
    for name in HEADERS {
        for value in [address, url] {
            send_with(&clinic, name, value).await;
        }
    }
    // The document's own headers.
    for name in ["purpose-of-use", "idempotency-key", "prefer", "tracestate", "traceparent", "host"]
    {
        send_with(&clinic, name, if name == "host" { address } else { url }).await;
    }
}

/// Tokens that name where their keys are, and keys that are addresses.
async fn as_tokens(system: &System, url: &str) {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = part(&json!({ "iss": url, "aud": "vitalog", "exp": 4_000_000_000_u64 }));
    for member in ["jku", "x5u", "kid", "iss", "jwk"] {
        let header = part(&json!({ "alg": "RS256", "typ": "JWT", member: url }));
        let token = format!("{header}.{claims}.AAAA");
        let request = system.api().request(Method::GET, "/patient/1");
        let _ = send(request.header("authorization", format!("Bearer {token}"))).await.expect(401);
    }
    let _ = system.api().with_key(url).get("/patient/1").await.expect(401);
}
