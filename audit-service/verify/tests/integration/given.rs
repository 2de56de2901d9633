//! Fixtures.

use std::convert::Infallible;

use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret, TreeHead},
    proof_file::ProofFile,
};
use domain::{
    hash::Hash,
    ids::Name,
    merkle::{Frontier, Node, inclusion_path},
};

pub(crate) fn origin() -> Name {
    "test-ledger".parse().unwrap()
}

pub(crate) fn secret() -> LedgerSecret {
    LedgerSecret::new(origin(), &[1; 32])
}

pub(crate) fn key() -> LedgerKey {
    secret().public()
}

pub(crate) fn leaf(seq: u64) -> Hash {
    Hash::of_line(&format!("record {seq}"))
}

pub(crate) fn root(begin: u64, end: u64) -> Hash {
    let mut frontier = Frontier::default();
    for seq in begin..end {
        frontier.push(leaf(seq));
    }
    frontier.root()
}

pub(crate) fn head(size: u64) -> TreeHead {
    TreeHead { size, root: root(0, size) }
}

/// The proof of one record, to the signed checkpoint of this size.
pub(crate) fn proof(index: u64, size: u64) -> ProofFile {
    let read = |node: Node| {
        Ok::<_, Infallible>(root(node.index << node.level, (node.index + 1) << node.level))
    };
    let path = inclusion_path(index, size).unwrap().into_iter();
    let hashes = path.map(|part| part.hash(read).unwrap()).collect();
    ProofFile { extra: None, index, hashes, checkpoint: secret().sign(head(size)) }
}

/// A signature line of somebody else, of whom the reader knows nothing.
pub(crate) fn foreign_line() -> String {
    let other = LedgerSecret::new("somebody.else".parse().unwrap(), &[9; 32]);
    last_line(&other.sign(head(3)))
}

/// The last signature line of a note, with its newline.
pub(crate) fn last_line(note: &str) -> String {
    format!("{}\n", note.lines().last().unwrap())
}
