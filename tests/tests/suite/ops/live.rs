//! Every query of the dashboard and of the rules, put to a real Prometheus that looks at the
//! running system.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::samples::{a_place, id_of, plain_patient, test, unknown_id};

use super::{files, operations, promql, stack::Stack};

/// Far more than a few scrapes take, because the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

const PAUSE: Duration = Duration::from_millis(500);

/// Metrics of our programs.
const OUR_JOBS: &str = r#"{job=~"gateway|patient-service|audit-service|projections"}"#;

/// What begins their names, where Prometheus does not add them.
const OURS: [&str; 4] = ["vitalog_", "http_", "db_", "process_"];

/// What is there only once something has happened that this test does not make happen.
const RARE: [&str; 0] = [];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_is_answered_and_names_metrics_that_exist() {
    let _place = a_place().await;
    let stack = Stack::start().await;
    let queries: Vec<_> =
        files::dashboard_queries().into_iter().chain(files::rule_queries()).collect();
    let named: BTreeSet<&str> = queries.iter().flat_map(|it| promql::metrics(&it.text)).collect();

    let deadline = Instant::now() + PATIENCE;
    let missing = loop {
        traffic(&stack).await;
        let known = names(&stack, r#"{__name__!=""}"#).await;
        let missing: BTreeSet<_> = named.iter().filter(|it| !known.contains(**it)).collect();
        if missing.iter().all(|it| RARE.contains(it)) || Instant::now() >= deadline {
            break missing;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let unexpected: Vec<_> = missing.iter().filter(|it| !RARE.contains(**it)).collect();
    assert!(unexpected.is_empty(), "named, but not there: {unexpected:#?}");
    documented(&names(&stack, OUR_JOBS).await);

    for query in &queries {
        let answer = stack.ask("query", &[("query", &query.text)]).await.expect("an answer");
        assert_eq!(answer.json()["status"], "success", "{}: {}", query.place, answer.text());
    }
    for rule in stack.ask("rules", &[]).await.expect("an answer").json()["data"]["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| files::list(&group["rules"]))
    {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// What the operations page says of metrics is all there is.
fn documented(known: &BTreeSet<String>) {
    let is_ours = |name: &&String| OURS.iter().any(|begins| name.starts_with(begins));
    let family = |name: &String| {
        // Some names end with `_count` though they are no histograms.
        let parts = ["_bucket", "_sum", "_count"].iter();
        let mut of = parts.filter_map(|part| name.strip_suffix(part));
        let histogram = of.find(|of| known.contains(&format!("{of}_bucket")));
        histogram.unwrap_or(name).to_owned()
    };
    let there: BTreeSet<String> = known.iter().filter(is_ours).map(family).collect();
    let table = operations::metrics();
    let untold: Vec<_> = there.difference(&table).collect();
    assert!(untold.is_empty(), "there, but not in docs/operations.md: {untold:#?}");
    let gone: Vec<_> =
        table.difference(&there).filter(|name| !RARE.contains(&name.as_str())).collect();
    assert!(gone.is_empty(), "in docs/operations.md, but not there: {gone:#?}");
}

/// What clients do, and what they are refused.
async fn traffic(stack: &Stack) {
    let clinic = stack.api("clinic");
    let created = clinic.post("/patient", &plain_patient()).await.expect(201).json();
    let path = format!("/patient/{}", id_of(&created));
    let (unknown, compliance) = (format!("/patient/{}", unknown_id()), stack.api("compliance"));
    for (answer, status) in [
        (clinic.post(&format!("{path}/tests"), &test(1)).await, 201),
        (clinic.get(&path).await, 200),
        (clinic.post("/patient/search", &json!({})).await, 200),
        (clinic.get(&unknown).await, 404),
        (compliance.get("/audit/records?from=0&limit=10").await, 200),
        // Without the scope, and with a key that nobody has.
        (clinic.get("/audit/records").await, 403),
        (clinic.with_key("wrong").get(&path).await, 401),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

/// The names of the metrics that Prometheus has of these.
async fn names(stack: &Stack, of: &str) -> BTreeSet<String> {
    let Some(answer) = stack.ask("label/__name__/values", &[("match[]", of)]).await else {
        return BTreeSet::new();
    };
    let answer = answer.json();
    files::list(&answer["data"]).iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}
