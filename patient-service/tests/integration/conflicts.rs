//! Many commands for one patient at once, in two processes.

use std::collections::HashSet;

use domain::record::RecordType;
use futures::future::join_all;
use http::{Method, StatusCode};

use crate::{harness::System, harness::text, samples};

const COMMANDS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn amends_of_one_patient_succeed_or_give_up_and_leave_no_gap() {
    let system = System::with_instances(2).await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    let puts = (0..COMMANDS).map(|turn| {
        let body = samples::moved(&created, &format!("{turn:04}"));
        system.request_to(turn % 2, Method::PUT, &path).json(&body).send()
    });
    let answers = join_all(puts).await;
    let mut revisions = HashSet::new();
    for answer in answers {
        match answer.status {
            StatusCode::OK => {
                assert!(revisions.insert(answer.header("etag").to_owned()));
                assert_eq!(answer.header("x-projection"), "", "{}", answer.text);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(answer.body["outcome"], "nothingStored");
                assert!(!answer.header("retry-after").is_empty());
            }
            other => panic!("{other}: {}", answer.text),
        }
    }
    let amends = system.records_of(RecordType::PatientAmended);
    let versions: Vec<_> = amends.iter().filter_map(|record| record.version).collect();
    let expected: Vec<_> = (2..2 + versions.len() as u64).collect();
    assert_eq!(versions, expected);
    assert_eq!(revisions, expected.iter().map(|version| format!("\"{version}\"")).collect());
    assert!(versions.len() > COMMANDS / 2, "most of them got through: {}", versions.len());

    let one = system.request_to(0, Method::GET, &path).send().await.expect(StatusCode::OK);
    let two = system.request_to(1, Method::GET, &path).send().await.expect(StatusCode::OK);
    assert_eq!(one.body, two.body);
    assert_eq!(one.header("etag"), format!("\"{}\"", expected.last().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_of_one_patient_are_all_kept() {
    let system = System::with_instances(2).await;
    let path = format!("{}/tests", system.any_patient().await);
    let posts = (0..40)
        .map(|turn| system.request_to(turn % 2, Method::POST, &path).json(&samples::test()).send());
    let answers = join_all(posts).await;
    let created = answers.iter().filter(|a| a.status == StatusCode::CREATED).count();
    let listed = system.get(&path).await.expect(StatusCode::OK);
    assert_eq!(listed.body.as_array().unwrap().len(), created);
    let ids: HashSet<_> =
        listed.body.as_array().unwrap().iter().map(|test| text(test, "id")).collect();
    assert_eq!(ids.len(), created);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_the_same_condition_one_wins() {
    let system = System::with_instances(2).await;
    let created = system.registered(&samples::patient()).await;
    let path = format!("/patient/{}", text(&created, "id"));
    let body = samples::moved(&created, "4321");
    let puts = (0..20).map(|turn| {
        let request = system.request_to(turn % 2, Method::PUT, &path);
        request.header("if-match", "\"1\"").json(&body).send()
    });
    let answers = join_all(puts).await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(StatusCode::OK), 1);
    assert_eq!(count(StatusCode::PRECONDITION_FAILED), answers.len() - 1);
}
