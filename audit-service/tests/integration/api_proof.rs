//! Proofs and tiles over HTTP, as clients and third-party readers see them.

use std::collections::HashMap;

use audit_client::{AuditClient, Options, ProofSize};
use audit_service::store::{StoredTile, memory::MemoryLedger};
use audit_verify::{
    checkpoint::{LedgerKey, TreeHead},
    proof_file::{ProofFile, hash_from_base64},
};
use domain::{
    hash::Hash,
    merkle::{Frontier, check_consistency},
    wire::{ConsistencyProof, Proposal},
};
use runtime::secrets::Secret;
use serde_json::{Value, json};
use tlog_tiles::{Error, HashReader, Tile, TileHashReader, TileReader};

use crate::{
    chain::Chain,
    fixture::{event, eventually, read},
    server::{Server, key},
};

pub(crate) async fn append(server: &Server, items: &[Proposal]) -> Vec<Value> {
    let body = json!({ "items": items }).to_string();
    let answer = server.post("patient-service", "/records/batch", body).await;
    let results = answer.json()["results"].as_array().unwrap().clone();
    assert!(results.iter().all(|result| result["status"] == "appended"), "{results:?}");
    results
}

/// A server with 600 records in blocks of 90, all complete tiles stored.
async fn with_600() -> Server {
    let server = Server::start().await;
    for block in 0..7_u64 {
        let first = block * 90;
        let items: Vec<_> =
            (first..(first + 90).min(600)).map(|n| event(n % 3, n / 3 + 1)).collect();
        append(&server, &items).await;
    }
    eventually(|| {
        let mut stored = 0;
        server.store.change_tiles(|tiles| stored = tiles.len());
        stored == 3
    })
    .await;
    server
}

struct Ledger {
    lines: Vec<String>,
    key: LedgerKey,
}

impl Ledger {
    async fn of(server: &Server) -> Self {
        let lines = server.store.blocks().into_iter().flat_map(|block| block.lines).collect();
        let key = server.get("audit", "/key").await.text.trim_end().parse().unwrap();
        Self { lines, key }
    }

    fn leaf(&self, seq: u64) -> Hash {
        Hash::of_line(&self.lines[usize::try_from(seq).unwrap()])
    }

    fn root(&self, size: u64) -> Hash {
        let mut tree = Frontier::default();
        (0..size).for_each(|seq| tree.push(self.leaf(seq)));
        tree.root()
    }

    #[track_caller]
    fn check(&self, proof: &str, seq: u64, size: u64) {
        let file = ProofFile::parse(proof).unwrap();
        assert_eq!((file.index, &file.extra), (seq, &None));
        let head = file.check(&self.key, self.leaf(seq)).unwrap();
        assert_eq!(head, TreeHead { size, root: self.root(size) });
        assert_eq!(file.to_string(), proof);
        assert!(file.check(&self.key, Hash::of_line("another")).is_err());
    }
}

#[tokio::test]
async fn a_record_is_proven_to_the_end_of_its_block_or_to_any_size() {
    let server = with_600().await;
    let ledger = Ledger::of(&server).await;
    for (seq, query, size) in [
        (0, "", 90),
        (89, "", 90),
        (90, "", 180),
        (599, "", 600),
        (0, "?size=1", 1),
        (3, "?size=latest", 600),
        (255, "?size=256", 256),
        (255, "?size=257", 257),
        (300, "?size=512", 512),
        (511, "?size=600", 600),
    ] {
        let answer = server.get("gateway", &format!("/records/{seq}/proof{query}")).await;
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!((answer.status, answer.header("audit-receipt")), (200, None));
        ledger.check(&answer.text, seq, size);
    }
    for (path, status) in [
        ("/records/5/proof?size=5", 400),
        ("/records/5/proof?size=0", 400),
        ("/records/5/proof?size=x", 400),
        ("/records/5/proof?size=", 400),
        ("/records/5/proof?until=7", 400),
        ("/records/x/proof", 400),
        ("/records/5/proof?size=601", 404),
        ("/records/600/proof", 404),
        ("/records/600/proof?size=latest", 404),
        ("/records/9007199254740991/proof", 404),
    ] {
        server.get("audit", path).await.is_problem(status);
    }
    server.stop().await;
}

#[tokio::test]
async fn trees_of_two_sizes_are_proven_consistent() {
    let server = with_600().await;
    let ledger = Ledger::of(&server).await;
    for (from, to) in [("0", "600"), ("1", "1"), ("90", "180"), ("255", "512"), ("256", "latest")] {
        let path = format!("/consistency?from={from}&to={to}");
        let proof: ConsistencyProof =
            serde_json::from_value(server.get("gateway", &path).await.json()).unwrap();
        let root = |text: &str| hash_from_base64(text).unwrap();
        let (from, to) = (&proof.from, &proof.to);
        let hashes: Vec<Hash> = proof.hashes.iter().map(|hash| root(hash)).collect();
        let (old, new) = ((from.size, root(&from.root)), (to.size, root(&to.root)));
        check_consistency(old, new, &hashes).unwrap();
        assert_eq!((old.1, new.1), (ledger.root(old.0), ledger.root(new.0)), "{path}");
    }
    for (query, status) in [
        ("", 400),
        ("from=1", 400),
        ("to=1", 400),
        ("from=2&to=1", 400),
        ("from=latest&to=latest", 400),
        ("from=-1&to=1", 400),
        ("from=1&to=601", 404),
        ("from=601&to=601", 404),
        ("from=1&to=2&more=3", 400),
    ] {
        server.get("audit", &format!("/consistency?{query}")).await.is_problem(status);
    }
    server.stop().await;
}

/// What a client without any of our code fetches.
struct Fetched(HashMap<String, Vec<u8>>);

impl TileReader for Fetched {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile: &Tile| self.0.get(&tile.path()).cloned().ok_or(Error::InvalidTile);
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

/// The tiles of a tree by another implementation's reckoning, from `GET /tile/…`.
async fn fetch(server: &Server, size: u64) -> Fetched {
    let mut fetched = HashMap::new();
    // A tile of each width that was the edge's once is replaced by the widest one.
    for tile in Tile::new_tiles(8, 0, size) {
        let path = tile.path();
        // Go's paths name the height.
        let url = format!("/tile/{}", path.strip_prefix("tile/8/").unwrap());
        let request = server.request("gateway", "GET", &url);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
        assert_eq!(response.headers()["content-type"], "application/octet-stream");
        let caching = response.headers()["cache-control"].to_str().unwrap();
        assert!(caching.contains("immutable") && caching.contains("private"), "{caching}");
        assert!(!response.headers().contains_key("audit-receipt"));
        fetched.insert(path, response.bytes().await.unwrap().to_vec());
    }
    Fetched(fetched)
}

#[tokio::test]
async fn a_third_partys_reader_proves_records_and_trees_from_the_tiles() {
    let server = with_600().await;
    let ledger = Ledger::of(&server).await;
    let note = server.get("gateway", "/checkpoint").await.text;
    let note = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.size(), 600);
    let tiles = fetch(&server, 600).await;
    let reader = TileHashReader::new(600, *checkpoint.hash(), &tiles);
    for seq in [0, 1, 89, 255, 256, 511, 512, 599] {
        let proof = tlog_tiles::prove_record(600, seq, &reader).unwrap();
        let leaf = tlog_tiles::Hash(ledger.leaf(seq).0);
        tlog_tiles::check_record(&proof, 600, *checkpoint.hash(), seq, leaf).unwrap();
    }
    for size in [1, 90, 256, 511, 512, 600] {
        let proof = tlog_tiles::prove_tree(600, size, &reader).unwrap();
        let root = tlog_tiles::Hash(ledger.root(size).0);
        tlog_tiles::check_tree(&proof, 600, *checkpoint.hash(), size, root).unwrap();
    }
    let past = tlog_tiles::stored_hash_index(0, 600);
    assert!(reader.read_hashes(&[past]).is_err());
    server.stop().await;
}

#[tokio::test]
async fn entries_are_the_lines_with_their_lengths() {
    let server = with_600().await;
    let ledger = Ledger::of(&server).await;
    for (path, from, to) in [
        ("entries/000", 0, 256),
        ("entries/001", 256, 512),
        ("entries/002.p/88", 512, 600),
        ("entries/002.p/3", 512, 515),
        ("entries/000.p/1", 0, 1),
    ] {
        let response = server.request("audit", "GET", &format!("/tile/{path}")).send().await;
        let octets = response.unwrap().bytes().await.unwrap();
        let mut expected = Vec::new();
        for line in &ledger.lines[from..to] {
            expected.extend(u16::try_from(line.len()).unwrap().to_be_bytes());
            expected.extend(line.as_bytes());
        }
        assert_eq!(octets, expected, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_tile_of_the_tree_is_not_found() {
    let server = with_600().await;
    for path in [
        "0/002",
        "0/002.p/89",
        "0/003",
        "0/003.p/1",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/0",
        "0/x000/000",
        "00/000",
        "1/000",
        "1/000.p/3",
        "1/001.p/1",
        "2/000.p/1",
        "6/000.p/1",
        "7/000.p/1",
        "8/000.p/1",
        "63/000.p/1",
        "255/000",
        "entries/002",
        "entries/002.p/89",
        "entries/003.p/1",
        "data/000",
        "-1/000",
        "0/x018/x446/x744/x073/x709/x551/615",
        "0",
        "0/",
        "0/000/",
    ] {
        server.get("audit", &format!("/tile/{path}")).await.is_problem(404);
    }
    // The narrower ones that the tree once had are still there.
    for path in ["0/000.p/7", "1/000.p/1", "1/000.p/2", "0/002.p/88"] {
        let response = server.request("audit", "GET", &format!("/tile/{path}")).send().await;
        assert_eq!(response.unwrap().status(), 200, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn hashes_are_for_readers_and_entries_are_recorded() {
    let server = with_600().await;
    let hashes = ["/records/0/proof", "/consistency?from=1&to=2", "/tile/0/000", "/checkpoint"];
    for path in hashes.iter().chain(&["/tile/entries/000"]) {
        server.get("old-clinic", path).await.is_problem(403);
        server.get_with_key("none", path).await.is_problem(401);
        assert_eq!(server.request("audit", "GET", path).send().await.unwrap().status(), 200);
    }
    // The gateway names no client for hashes; for entries it must.
    for path in hashes {
        assert_eq!(server.request("gateway", "GET", path).send().await.unwrap().status(), 200);
    }
    server.get("gateway", "/tile/entries/000").await.is_problem(400);
    assert_eq!(Chain::check(&server.store.blocks()).records.len(), 600);
    let entries = server.get_for("auditor", "/tile/entries/000.p/1").await;
    assert_eq!((entries.status, entries.header("audit-receipt").is_some()), (200, true));
    let missing = server.get_for("another", "/tile/entries/009").await;
    missing.is_problem(404);
    assert!(missing.header("audit-receipt").is_some());
    assert_eq!(server.get_for("auditor", "/tile/entries/001").await.status, 200);
    let records = Chain::check(&server.store.blocks()).records.split_off(600);
    let readers: Vec<_> = records.iter().map(|r| (&r["type"], &r["actor"]["id"])).collect();
    let reading = json!("LedgerRead");
    assert_eq!(readers, [(&reading, &json!("auditor")), (&reading, &json!("another"))]);
    server.stop().await;
}

#[tokio::test]
async fn bad_tiles_over_bad_blocks_are_503_and_good_ones_are_served() {
    let server = with_600().await;
    let ledger = Ledger::of(&server).await;
    let harm = |store: &MemoryLedger| {
        store.change_tiles(|tiles| {
            for tile in tiles.values_mut() {
                *tile = StoredTile::Hashes(vec![Hash::ZERO; 256]);
            }
        });
    };
    harm(&server.store);
    let proof = server.get("audit", "/records/100/proof?size=400").await;
    ledger.check(&proof.text, 100, 400);
    harm(&server.store);
    let mut block = server.store.blocks()[0].clone();
    block.lines.swap(3, 4);
    server.store.replace_block(block);
    for path in ["/records/100/proof?size=400", "/tile/0/000", "/tile/entries/000"] {
        let problem = server.get("audit", path).await.is_problem(503);
        assert!(!problem["detail"].as_str().unwrap().contains("AAAA"), "{problem}");
    }
    // What does not hang on the forged record is served.
    let last = server.request("audit", "GET", "/tile/0/002.p/88").send().await.unwrap();
    assert_eq!(last.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn the_client_reads_proofs_and_tiles() {
    let server = Server::start().await;
    let options = Options::new(&server.url, Secret::new(key("patient-service")));
    let client = AuditClient::start(options);
    let receipt = client.append_with_proof(read(1)).await.unwrap();
    let other = client.append(read(2)).await.unwrap();
    assert_eq!(other.proof, None);
    let ledger = Ledger::of(&server).await;
    ledger.check(receipt.proof.as_deref().unwrap(), 0, 1);
    let auditor = Options::new(&server.url, Secret::new(key("audit")));
    let client = AuditClient::start(auditor);
    for (size, expected) in
        [(ProofSize::Commit, 1), (ProofSize::Exactly(2), 2), (ProofSize::Latest, 2)]
    {
        ledger.check(&client.proof(0, size).await.unwrap(), 0, expected);
    }
    let consistency = client.consistency(1, None).await.unwrap();
    assert_eq!((consistency.from.size, consistency.to.size), (1, 2));
    assert_eq!(client.consistency(1, Some(2)).await.unwrap(), consistency);
    let tile = client.tile("0/000.p/2").await.unwrap().unwrap();
    assert_eq!(tile, [ledger.leaf(0).0, ledger.leaf(1).0].concat());
    assert_eq!(client.tile("0/000.p/3").await.unwrap(), None);
    server.stop().await;
}
