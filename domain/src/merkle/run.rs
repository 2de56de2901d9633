//! A run of leaves as the complete subtrees that it is made of: runs that meet can be joined, so
//! that parts of a tree can be computed apart from each other.

use super::Frontier;
use crate::hash::Hash;

/// The largest complete subtrees within the leaves `begin .. end`, from left to right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    begin: u64,
    end: u64,
    nodes: Vec<(u32, Hash)>,
}

impl Run {
    /// The empty run at a position.
    pub fn at(begin: u64) -> Self {
        Self { begin, end: begin, nodes: Vec::new() }
    }

    /// The first leaf.
    pub const fn begin(&self) -> u64 {
        self.begin
    }

    /// The leaf after the last.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_node(0, leaf);
    }

    /// Adds a complete subtree of `1 << level` leaves, which must be at its place: `end` is a
    /// multiple of its size.
    fn push_node(&mut self, mut level: u32, mut hash: Hash) {
        let position = self.end;
        self.end += 1 << level;
        // A right child, whose left sibling is within this run as well.
        while (position >> level) & 1 == 1 && (position >> (level + 1)) << (level + 1) >= self.begin
        {
            let Some((_, left)) = self.nodes.pop() else { break };
            hash = Hash::of_node(left, hash);
            level += 1;
        }
        self.nodes.push((level, hash));
    }
}

impl Frontier {
    /// Adds a run that begins where this tree ends; otherwise changes nothing and is `None`.
    pub fn append(&mut self, run: &Run) -> Option<()> {
        if run.begin != self.size {
            return None;
        }
        for &(level, hash) in &run.nodes {
            let mut node = hash;
            let mut bit = level;
            while (self.size >> bit) & 1 == 1 {
                node = Hash::of_node(self.hashes.pop()?, node);
                bit += 1;
            }
            self.hashes.push(node);
            self.size += 1 << level;
        }
        Some(())
    }
}
