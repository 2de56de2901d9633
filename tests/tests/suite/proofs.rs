//! A client's proof of its own record, end to end, and what the ledger shows to whom.

use audit_verify::{checkpoint::LedgerKey, proof_file::ProofFile};
use domain::{
    hash::Hash,
    merkle::check_consistency,
    wire::{ConsistencyProof, SizedRoot},
};
use reqwest::Method;
use serde_json::json;
use tests::{
    http::{Api, send, text_body},
    samples::{a_place, id_of, patient, unknown_id},
    system::{Store, System},
};

/// The proof that an answer's link leads to, checked with the key that the first start wrote.
async fn check(system: &System, client: &Api, request: reqwest::RequestBuilder) -> u64 {
    let answer = send(request.header("prefer", "proof")).await;
    let receipt = answer.receipt();
    assert_eq!(answer.header("preference-applied"), Some("proof"));
    let link = answer.header("audit-proof").unwrap();
    let path = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    assert_eq!(path, format!("/audit/records/{}/proof", receipt.seq));
    let proof = client.get(path).await.expect(200);
    let key = std::fs::read_to_string(system.data().join("ledger.pub")).unwrap();
    let key: LedgerKey = key.trim().parse().unwrap();
    let file = ProofFile::parse(proof.text()).unwrap();
    let head = file.check(&key, receipt.hash.parse::<Hash>().unwrap()).unwrap();
    assert!(head.size > receipt.seq && file.index == receipt.seq);
    head.size
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_proves_its_own_records_without_reading_anybodys() {
    let _place = a_place().await;
    let system = System::standalone(Store::Sqlite).await;
    let clinic = system.clinic();
    let create = || text_body(clinic.request(Method::POST, "/patient"), &patient("ANNA"));
    let made = send(create()).await.expect(201);
    let path = format!("/patient/{}", id_of(&made.json()));
    let first = check(&system, &clinic, create()).await;
    check(&system, &clinic, clinic.request(Method::GET, &path)).await;
    check(&system, &clinic, clinic.request(Method::GET, &format!("/patient/{}", unknown_id())))
        .await;
    let last = check(&system, &clinic, create()).await;
    assert_eq!(send(create()).await.header("audit-proof"), None);

    let path = format!("/audit/consistency?from={first}&to={last}");
    let proof: ConsistencyProof = serde_json::from_value(clinic.get(&path).await.json()).unwrap();
    let hash = |text: &String| audit_verify::proof_file::hash_from_base64(text).unwrap();
    let tree = |tree: &SizedRoot| (tree.size, hash(&tree.root));
    let hashes: Vec<Hash> = proof.hashes.iter().map(hash).collect();
    check_consistency(tree(&proof.from), tree(&proof.to), &hashes).unwrap();

    // Hashes are for every client, leaves and lines for compliance alone.
    for path in ["/audit/checkpoint", "/audit/key", "/audit/records/0/proof?size=latest"] {
        let _ = system.privacy().get(path).await.expect(200);
    }
    for path in ["/audit/tile/0/000.p/1", "/audit/tile/entries/000.p/1", "/audit/records/0"] {
        clinic.get(path).await.problem(403);
    }
    let compliance = system.compliance();
    let line = compliance.get("/audit/records/0").await.expect(200);
    let line = line.text().trim_end();
    let tile = compliance.get("/audit/tile/0/000.p/1").await.expect(200);
    assert_eq!((tile.header("audit-receipt"), &tile.body[..]), (None, &Hash::of_line(line).0[..]));
    let entries = compliance.get("/audit/tile/entries/000.p/1").await.expect(200);
    let length = u16::try_from(line.len()).unwrap().to_be_bytes();
    assert_eq!(entries.body, [&length, line.as_bytes()].concat());
    assert!(entries.header("cache-control").unwrap().contains("immutable"));
    compliance.get("/audit/tile/7/000").await.problem(404);
    assert_eq!(compliance.post("/audit/consistency", &json!({})).await.status, 405);
    system.finish().await;
}
