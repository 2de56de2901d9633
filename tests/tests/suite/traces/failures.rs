//! What fails is marked where it failed, and where it made something else fail.

use mongodb::options::ClientOptions;
use tests::{
    mongod,
    otlp::{Collector, Protocol, Trace},
    proxy::{Mode, TcpProxy},
    samples::{a_place, patient, random_name},
    system::{Layout, System},
};

use super::{names, one_replica, trace_of};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_audit_service_the_way_to_it_is_marked() {
    let _place = a_place().await;
    let collector = Collector::start().await;
    let mut system = one_replica(&collector.settings(Protocol::Http)).await;
    let clinic = system.clinic();
    let _ = clinic.post("/patient", &patient(&random_name())).await.expect(201);
    system.program("audit-service-0").kill().unwrap();
    let failed = clinic.post("/patient", &patient(&random_name())).await;
    failed.problem(503);
    for name in ["gateway", "patient-service-0"] {
        system.stop(name).await.unwrap();
    }
    let trace = collector.trace(&trace_of(&failed));
    trace.root(None);
    for (name, error) in
        [(names::DOOR, "503"), (names::TO_PATIENTS, "503"), (names::PATIENTS, "503")]
    {
        let span = name.of(&trace);
        assert!(span.is_error, "{name:?}:\n{trace}");
        assert_eq!(span.text("error.type"), error, "{span:?}");
        assert_eq!(span.number("http.response.status_code"), Some(503), "{span:?}");
    }
    let proposal = names::PROPOSAL.of(&trace);
    assert!(proposal.is_error && !proposal.text("error.type").is_empty(), "{trace}");
    // There may be several tries.
    let calls: Vec<_> = trace.spans.iter().filter(|span| names::TO_AUDIT.is(span)).collect();
    assert!(!calls.is_empty(), "{trace}");
    for call in calls {
        assert!(call.is_error && call.attributes.contains_key("error.type"), "{trace}");
        assert!(!call.attributes.contains_key("http.response.status_code"), "{trace}");
    }
    for span in trace.spans.iter().filter(|span| !span.text("db.system.name").is_empty()) {
        assert!(!span.is_error, "a store is not to blame:\n{trace}");
    }
    assert!(!trace.services().contains("audit-service"), "{trace}");
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_model_that_is_away_marks_its_own_call_and_no_other_service() {
    let _place = a_place().await;
    let collector = Collector::start().await;
    let mongo = mongod::uri().await;
    let host = ClientOptions::parse(mongo).await.unwrap().hosts[0].to_string();
    let proxy = TcpProxy::start(host).await.unwrap();
    let through_proxy = format!("mongodb://{}/?directConnection=true", proxy.address());
    let layout = Layout { patients_store: Some(through_proxy), replicas: 1, ..Layout::on(mongo) };
    let layout = layout.telling_all(&collector.settings(Protocol::Http));
    let system = System::four_processes(layout).await;
    let clinic = system.clinic();
    let _ = clinic.post("/patient", &patient(&random_name())).await.expect(201);
    proxy.set(Mode::Refuse);
    let pending = clinic.post("/patient", &patient(&random_name())).await.expect(201);
    assert_eq!(pending.header("x-projection"), Some("pending"), "{:?}", pending.headers);
    let is_told = |trace: &Trace| {
        // What comes last from each service, the write aside.
        [names::WRITE, names::DOOR, names::PATIENTS, names::APPEND, names::AUDIT]
            .iter()
            .all(|name| name.is_in(trace))
    };
    let trace = collector.wait_for_trace(&trace_of(&pending), is_told).await;
    // Given up by then, and not before.
    proxy.set(Mode::Forward);
    trace.root(None);
    let write = names::WRITE.of(&trace);
    assert!(write.is_error && !write.text("error.type").is_empty(), "{trace}");
    for name in [names::DOOR, names::TO_PATIENTS, names::PATIENTS, names::PROPOSAL] {
        assert!(!name.of(&trace).is_error, "{name:?}:\n{trace}");
    }
    let audit = trace.spans.iter().filter(|span| span.service == "audit-service");
    assert!(audit.clone().count() > 0 && audit.clone().all(|span| !span.is_error), "{trace}");
    system.finish().await;
}
