//! An audit service that is away, or that answers nobody; read models that cannot be written.

use std::time::Instant;

use futures::future::join_all;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::{
    http::{Answer, Api, send, text_body},
    ledger::Ledger,
    mongod::Cluster,
    programs::POLL_PAUSE,
    proxy::{Mode, TcpProxy},
    samples::{a_place, expect_content, id_of, patient, plain_patient, random_name, test},
    system::{Layout, PATIENCE, Store, System},
};

async fn one_replica() -> System {
    let layout = Layout { replicas: 1, ..Layout::shared().await };
    System::four_processes(layout).await
}

/// A 503 that says when to come back, and nothing of what was asked for.
#[track_caller]
fn refused(answer: &Answer, name: &Value) -> Value {
    let problem = answer.problem(503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(answer.header("audit-receipt").is_none(), "{answer:?}");
    assert!(!answer.text().contains(name.as_str().unwrap()), "{answer:?}");
    problem
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_audit_service_nothing_is_done_and_nothing_shown() {
    let _place = a_place().await;
    let mut system = one_replica().await;
    let clinic = system.clinic();
    let created = clinic.post("/patient", &patient(&random_name())).await.expect(201).json();
    let _ = clinic.get("/patient/1").await.expect(404);
    system.followed().await.unwrap();
    let before = system.projections("digest").await.unwrap();

    let path = format!("/patient/{}", id_of(&created));
    system.program("audit-service-0").kill().unwrap();
    refuses_everything(&clinic, &created).await;
    assert_eq!(system.projections("digest").await.unwrap(), before);
    system.start("audit-service-0").await.unwrap();
    assert_eq!(clinic.get(&path).await.expect(200).json(), created);
    // That read is activity.
    system.followed().await.unwrap();
    let before = system.projections("digest").await.unwrap();

    system.program("audit-service-0").signal("STOP").unwrap();
    refuses_everything(&clinic, &created).await;
    assert_eq!(system.projections("digest").await.unwrap(), before);
    system.program("audit-service-0").signal("CONT").unwrap();
    system.ready().await.unwrap();
    // What waited for the frozen process may be stored now, as the answers said.
    let read = clinic.get(&path).await.expect(200).json();
    assert_eq!(read["firstName"], created["firstName"]);
    Ledger::read(&system.compliance()).await.check_checkpoint(&system.compliance()).await;
    system.equals_its_rebuild().await;
    system.finish().await;
}

/// All at once, because each waits for the audit service's deadline.
async fn refuses_everything(clinic: &Api, created: &Value) {
    let path = format!("/patient/{}", id_of(created));
    let mut update = created.clone();
    update["lastName"] = json!("CHANGED");
    let tests = format!("{path}/tests");
    let (search, new, recorded) = (json!({}), plain_patient(), test(1));
    let (read, list, found, create, put, record, delete) = tokio::join!(
        clinic.get(&path),
        clinic.get(&tests),
        clinic.post("/patient/search", &search),
        clinic.post("/patient", &new),
        clinic.put(&path, &update),
        clinic.post(&tests, &recorded),
        async {
            // Of another patient, so that commands do not queue behind each other.
            let other = format!("/patient/{}", tests::samples::unknown_id());
            clinic.delete(&other).await
        },
    );
    let name = &created["firstName"];
    for answer in [&read, &list, &found, &delete] {
        refused(answer, name);
    }
    for answer in [&create, &put, &record] {
        let outcome = refused(answer, name)["outcome"].clone();
        // The connection is there, as it ends at the harness's proxy, so that it may be unknown.
        let allowed = outcome == "nothingStored" || outcome == "unknown";
        assert!(allowed, "{outcome} of {answer:?}");
    }
}

/// What the audit service stored and could not say has one effect and one receipt, whether
/// patient-service asks again within the request or the client sends the command again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_answer_was_lost_has_one_effect_and_its_first_receipt() {
    let _place = a_place().await;
    let system = one_replica().await;
    let (clinic, compliance) = (system.clinic(), system.compliance());
    let mut patients = Vec::new();
    for _ in 0..2 {
        let created = clinic.post("/patient", &patient(&random_name())).await.expect(201);
        patients.push(created.json());
    }
    let [amended, tested] = [&patients[0], &patients[1]];
    let mut update = amended.clone();
    update["lastName"] = json!("CHANGED");
    let commands = [
        Command::new(Method::POST, "/patient", patient(&random_name())),
        Command::new(Method::PUT, &format!("/patient/{}", id_of(amended)), update),
        Command::new(Method::POST, &format!("/patient/{}/tests", id_of(tested)), test(2)),
    ];
    let mut ledger = Ledger::read(&compliance).await;

    for command in &commands {
        let events = ledger.events();
        system.to_audit[0].lose_answers("POST /records", 1);
        let answer = command.send(&clinic, "lost once").await;
        assert!(answer.status < 300, "{answer:?}");
        assert_eq!(system.to_audit[0].answers_to_lose(), 0, "no answer was lost");
        ledger.read_on(&compliance).await;
        assert_eq!(ledger.events(), events + 1);
        ledger.record(&answer.receipt());
    }

    let events = ledger.events();
    system.to_audit[0].lose_answers("POST /records", usize::MAX);
    let lost = join_all(commands.iter().map(|it| it.send(&clinic, "always lost"))).await;
    for answer in &lost {
        assert_eq!(answer.problem(503)["outcome"], "unknown");
        assert!(answer.header("retry-after").is_some());
    }
    // Of a read nothing is lost but the answer.
    let path = format!("/patient/{}", id_of(amended));
    refused(&clinic.get(&path).await, &amended["firstName"]);
    system.to_audit[0].lose_answers("POST /records", 0);
    for command in &commands {
        let answer = command.send(&clinic, "always lost").await;
        assert!(answer.status < 300, "{answer:?}");
        ledger.read_on(&compliance).await;
        assert_eq!(ledger.events(), events + commands.len());
        ledger.record(&answer.receipt());
        let again = command.send(&clinic, "always lost").await;
        assert_eq!((again.receipt(), again.json()), (answer.receipt(), answer.json()));
    }
    ledger.read_on(&compliance).await;
    assert_eq!(ledger.events(), events + commands.len());
    system.equals_its_rebuild().await;
    system.finish().await;
}

struct Command {
    method: Method,
    path: String,
    body: Value,
}

impl Command {
    fn new(method: Method, path: &str, body: Value) -> Self {
        Self { method, path: path.to_owned(), body }
    }

    async fn send(&self, clinic: &Api, key: &str) -> Answer {
        let request = clinic.request(self.method.clone(), &self.path);
        let key = key.replace(' ', "-");
        send(text_body(request.header("idempotency-key", key), &self.body)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_the_read_model_that_fails_is_repaired_on_sqlite() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    let created = clinic.post("/patient", &patient(&random_name())).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&created));
    let lock = Connection::open(system.data().join("patients.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut update = created.clone();
    update["lastName"] = json!(random_name());
    let (new, put) = tokio::join!(pending(&clinic), clinic.put(&path, &update));
    let put = put.expect(200);
    assert_eq!(put.header("x-projection"), Some("pending"));
    // What is shown is what was answered, though the read model does not have it.
    assert_eq!(clinic.get(&path).await.expect(200).json(), put.json());
    lock.execute_batch("ROLLBACK").unwrap();
    appears(&clinic, &new).await;
    appears(&clinic, &put.json()).await;
    system.equals_its_rebuild().await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_of_the_read_model_that_fails_is_repaired_on_mongodb() {
    let _place = a_place().await;
    let cluster = Cluster::start(1).await.unwrap();
    let member = cluster.member_uri(0);
    let host = member.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    let proxy = TcpProxy::start(host.clone()).await.unwrap();
    let through_proxy = member.replace(&host, &proxy.address().to_string());
    let layout =
        Layout { patients_store: Some(through_proxy), replicas: 1, ..Layout::on(cluster.uri()) };
    let system = System::four_processes(layout).await;
    let clinic = system.clinic();
    let _ = clinic.post("/patient", &plain_patient()).await.expect(201);
    proxy.set(Mode::Refuse);
    let new = pending(&clinic).await;
    proxy.set(Mode::Forward);
    appears(&clinic, &new).await;
    system.equals_its_rebuild().await;
}

/// Creates a patient whose event cannot be applied.
async fn pending(clinic: &Api) -> Value {
    let sent = patient(&random_name());
    let created = clinic.post("/patient", &sent).await.expect(201);
    assert_eq!(created.header("x-projection"), Some("pending"), "{:?}", created.headers);
    assert!(created.header("audit-receipt").is_some());
    expect_content(&created.json(), &sent);
    created.json()
}

/// Waits until a search, which sees the read model alone, shows this patient.
async fn appears(clinic: &Api, patient: &Value) {
    let criteria = json!({"id": patient["id"], "lastName": patient["lastName"]});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = clinic.post("/patient/search", &criteria).await;
        if found.status == 200 {
            assert_eq!(found.json(), json!([patient]));
            return;
        }
        assert!(matches!(found.status, 404 | 503), "{found:?}");
        assert!(Instant::now() < deadline, "the follower did not repair it");
        tokio::time::sleep(POLL_PAUSE).await;
    }
}
