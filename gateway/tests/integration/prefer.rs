//! `Prefer: proof`: where the proof of an answer's record is.

use axum::response::IntoResponse;
use http::{Method, StatusCode};

use crate::harness::{Door, Upstream, got};

const RECEIPT: &str = "seq=17, hash=\"00ff\"";
const LINK: &str = "</audit/records/17/proof>; rel=\"describedby\"; type=\"text/plain\"";

async fn door(status: StatusCode, receipt: Option<&'static str>) -> Door {
    let patients = Upstream::answering(move |_| {
        let mut response = if status.is_success() {
            status.into_response()
        } else {
            crate::harness::problem(status)
        };
        let headers = response.headers_mut();
        headers.insert("preference-applied", "return=minimal".parse().unwrap());
        if let Some(receipt) = receipt {
            headers.insert("audit-receipt", receipt.parse().unwrap());
        }
        response
    });
    Door::before(patients.await, |_| {}).await
}

#[tokio::test]
async fn a_client_that_prefers_a_proof_is_told_where_it_is() {
    for status in [StatusCode::OK, StatusCode::CREATED, StatusCode::NOT_FOUND] {
        let door = door(status, Some(RECEIPT)).await;
        for (prefer, asked) in [
            (&["proof"][..], true),
            (&["return=minimal, proof"], true),
            (&["respond-async; proof", "PROOF"], true),
            (&["proof=\"\"; x"], true),
            (&["return=minimal"], false),
            (&["proofs"], false),
            (&["respond-async; proof"], false),
            (&[], false),
        ] {
            let mut request = door.clinic(Method::GET, "/patient/1");
            for value in prefer {
                request = request.header("prefer", *value);
            }
            let answer = got(request).await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("audit-proof"), asked.then_some(LINK), "{prefer:?}");
            let applied: Vec<_> = answer.headers.get_all("preference-applied").iter().collect();
            let expected: &[&str] =
                if asked { &["return=minimal", "proof"] } else { &["return=minimal"] };
            assert_eq!(applied, expected, "{prefer:?}");
        }
    }
}

#[tokio::test]
async fn without_a_receipt_there_is_no_proof() {
    for receipt in [None, Some("seq=, hash=\"\""), Some("seq=-1, hash=\"00\""), Some("hash")] {
        let door = door(StatusCode::OK, receipt).await;
        let answer = got(door.clinic(Method::GET, "/patient/1").header("prefer", "proof")).await;
        assert_eq!((answer.status, answer.header("audit-proof")), (200, None), "{receipt:?}");
        assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
    }
    // What the gateway refuses itself was not recorded.
    let door = door(StatusCode::OK, Some(RECEIPT)).await;
    let answer = got(door.request(Method::GET, "/patient/1").header("prefer", "proof")).await;
    assert_eq!((answer.status, answer.header("audit-proof")), (401, None));
}
