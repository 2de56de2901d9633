//! Reading the ledger as a compliance officer does, and checking it without the services' help.

use domain::{chain::Link, hash::Hash, ids::Name, merkle::Frontier, record::Record};
use sha2::{Digest, Sha256};
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::Checkpoint;

use crate::http::{Api, Receipt};

/// Lines of one request; several requests for a ledger of a few thousand, so that paging is tried.
const PAGE: usize = 1_000;

/// A ledger as far as it was read, every link checked.
#[derive(Debug)]
pub struct Ledger {
    origin: Name,
    verifier_key: String,
    link: Link,
    /// The lines.
    pub lines: Vec<String>,
    /// What they say.
    pub records: Vec<Record>,
}

impl Ledger {
    /// Reads the whole ledger.
    pub async fn read(compliance: &Api) -> Self {
        let verifier_key = compliance.get("/audit/key").await.expect(200).text().trim().to_owned();
        let origin = verifier_key.split('+').next().unwrap_or_default();
        let mut ledger = Self {
            origin: origin.parse().expect("an origin"),
            verifier_key,
            link: Link::genesis(),
            lines: Vec::new(),
            records: Vec::new(),
        };
        ledger.read_on(compliance).await;
        ledger
    }

    /// Reads what has come since; it must continue what was read before.
    pub async fn read_on(&mut self, compliance: &Api) {
        loop {
            let path = format!("/audit/records?from={}&limit={PAGE}", self.lines.len());
            let answer = compliance.get(&path).await.expect(200);
            assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
            if answer.body.is_empty() {
                return;
            }
            for line in answer.text().lines() {
                self.push(line);
            }
        }
    }

    fn push(&mut self, line: &str) {
        let record = self.link.follow(&self.origin, line).expect("an unbroken chain");
        let hash = hash_of(line);
        assert_eq!(hash, self.link.hash.to_string());
        self.records.push(record);
        self.lines.push(line.to_owned());
    }

    /// The record that a receipt names; it must be the very one.
    #[track_caller]
    pub fn record(&self, receipt: &Receipt) -> &Record {
        let seq = usize::try_from(receipt.seq).expect("a position");
        let line = self.lines.get(seq).unwrap_or_else(|| panic!("{receipt:?} is not there"));
        assert_eq!(hash_of(line), receipt.hash, "record {seq}");
        &self.records[seq]
    }

    /// Checks the signed checkpoint against what was read up to its size. What came after the
    /// last look is read first.
    pub async fn check_checkpoint(&mut self, compliance: &Api) {
        let note = compliance.get("/audit/checkpoint").await.expect(200);
        self.read_on(compliance).await;
        let verifier: Box<dyn Verifier> =
            Box::new(StandardVerifier::new(&self.verifier_key).expect("a verifier key"));
        let note = Note::from_bytes(&note.body).expect("a signed note");
        note.verify(&VerifierList::new(vec![verifier])).expect("the ledger's signature");
        let checkpoint = Checkpoint::from_bytes(note.text()).expect("a checkpoint");
        assert_eq!(checkpoint.origin(), self.origin.as_str());
        let mut frontier = Frontier::default();
        let size = usize::try_from(checkpoint.size()).expect("a size");
        assert!(0 < size && size <= self.lines.len(), "{size} of {}", self.lines.len());
        for line in &self.lines[..size] {
            frontier.push(Hash::of_line(line));
        }
        assert_eq!(frontier.root().0, checkpoint.hash().0, "the root at {size}");
    }

    /// Events among the records.
    pub fn events(&self) -> usize {
        let is_event = |record: &&Record| record.record_type.kind() == domain::record::Kind::Event;
        self.records.iter().filter(is_event).count()
    }
}

/// Hash of a line, by hand: SHA-256 of a zero byte and the line.
pub fn hash_of(line: &str) -> String {
    hex::encode(Sha256::new().chain_update([0]).chain_update(line).finalize())
}
