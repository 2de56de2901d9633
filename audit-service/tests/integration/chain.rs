//! An independent check of stored blocks: none of it uses the code that made them.

use std::collections::HashMap;

use audit_service::block::Block;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use serde_json::Value;
use sha2_for_ct_merkle::{Digest, Sha256};
use tlog_tiles::{HashReader, stored_hash_count, stored_hashes, tlog, tree_hash};

/// The records of some blocks, which were found to be one chain.
pub(crate) struct Chain {
    pub(crate) records: Vec<Value>,
    pub(crate) hashes: Vec<String>,
}

impl Chain {
    /// Checks that blocks are one whole chain from the beginning.
    #[track_caller]
    pub(crate) fn check(blocks: &[Block]) -> Self {
        let mut chain = Self { records: Vec::new(), hashes: Vec::new() };
        let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut tiles = Tiles::default();
        let mut versions: HashMap<String, u64> = HashMap::new();
        let mut commands: HashMap<String, u64> = HashMap::new();
        for block in blocks {
            assert_eq!(block.first, chain.records.len() as u64, "a gap or an overlap");
            assert!((1..=1_000).contains(&block.lines.len()));
            assert!(block.lines.iter().map(String::len).sum::<usize>() <= 1_500_000);
            for line in &block.lines {
                chain.check_line(line);
                tree.push(line.clone().into_bytes());
                tiles.push(line);
                let record = chain.records.last().unwrap();
                if record["kind"] != "access" {
                    let stream = record["stream"].as_str().unwrap().to_owned();
                    let before =
                        versions.insert(stream.clone(), record["version"].as_u64().unwrap());
                    assert_eq!(record["version"], before.unwrap_or(0) + 1, "{stream}");
                }
                if let Some(id) = record["command"]["id"].as_str() {
                    let before = commands.insert(id.to_owned(), record["seq"].as_u64().unwrap());
                    assert_eq!(before, None, "command {id} has two effects");
                }
            }
            assert_eq!(block.root.0, tree.root().as_bytes()[..], "the root by ct-merkle");
            assert_eq!(block.root.0, tiles.root(), "the root by tlog_tiles");
        }
        chain
    }

    #[track_caller]
    fn check_line(&mut self, line: &str) {
        assert!(line.len() <= 65_535);
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_jcs::to_string(&record).unwrap(), line, "not canonical (RFC 8785)");
        assert_eq!(record["seq"], self.records.len());
        let zeros = "0".repeat(64);
        assert_eq!(record["prev"].as_str(), Some(self.hashes.last().unwrap_or(&zeros).as_str()));
        if let Some(before) = self.records.last() {
            let time = |record: &Value| record["recordedAt"].as_str().unwrap().to_owned();
            assert!(time(before) <= time(&record), "time runs backwards");
        }
        self.hashes.push(hash(line));
        self.records.push(record);
    }

    /// The positions at which a command stands.
    pub(crate) fn with_command(&self, id: &str) -> Vec<u64> {
        let of = |record: &&Value| record["command"]["id"] == id;
        self.records.iter().filter(of).map(|record| record["seq"].as_u64().unwrap()).collect()
    }
}

/// SHA-256(0x00 ‖ line), as lower-case hex.
pub(crate) fn hash(line: &str) -> String {
    hex::encode(Sha256::new().chain_update([0]).chain_update(line).finalize())
}

/// The tree as Go's `sumdb/tlog` stores it.
#[derive(Default)]
struct Tiles {
    size: u64,
    stored: Vec<tlog_tiles::Hash>,
}

impl Tiles {
    fn push(&mut self, line: &str) {
        let new = stored_hashes(self.size, line.as_bytes(), self).unwrap();
        self.stored.extend(new);
        self.size += 1;
        assert_eq!(self.stored.len() as u64, stored_hash_count(self.size));
    }

    fn root(&self) -> [u8; 32] {
        tree_hash(self.size, self).unwrap().0
    }
}

impl HashReader for Tiles {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog::Error> {
        let at = |index: &u64| self.stored[usize::try_from(*index).unwrap()];
        Ok(indexes.iter().map(at).collect())
    }
}
