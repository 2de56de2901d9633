//! Proofs of a block's records from the tree's frontier before it and the block's own leaves:
//! every hash that such a proof consists of is one of these or made of them. Pure.

use domain::{
    hash::Hash,
    merkle::{Frontier, Node, inclusion_path},
};

use crate::tiles::peak_at;

/// The part of a tree that one block changed.
pub struct BlockTree {
    before: Frontier,
    end: u64,
    /// Of each level the complete nodes that end after the frontier; the first of them is at
    /// `before.size() >> level`.
    levels: Vec<Vec<Hash>>,
}

impl BlockTree {
    /// The tree of `before` with these leaves after it.
    pub fn new(before: Frontier, leaves: Vec<Hash>) -> Self {
        let end = before.size() + leaves.len() as u64;
        let mut tree = Self { before, end, levels: Vec::new() };
        let mut nodes = leaves;
        for level in 0_u8.. {
            if nodes.is_empty() {
                break;
            }
            tree.levels.push(nodes);
            let parents = tree.before.size() >> (level + 1)..end >> (level + 1);
            let child = |index| tree.node(Node { level, index });
            let parent = |index| Some(Hash::of_node(child(2 * index)?, child(2 * index + 1)?));
            nodes = parents.map_while(parent).collect();
        }
        tree
    }

    /// Records in the tree.
    pub fn size(&self) -> u64 {
        self.end
    }

    /// The inclusion proof of a record of the block, from the leaf upwards; `None` for others.
    pub fn proof(&self, seq: u64) -> Option<Vec<Hash>> {
        if seq < self.before.size() {
            return None;
        }
        let path = inclusion_path(seq, self.end)?;
        path.iter().map(|part| part.hash(|node| self.node(node).ok_or(())).ok()).collect()
    }

    fn node(&self, node: Node) -> Option<Hash> {
        let first = self.before.size() >> node.level;
        match node.index.checked_sub(first) {
            Some(place) => {
                let nodes = self.levels.get(usize::from(node.level))?;
                nodes.get(usize::try_from(place).ok()?).copied()
            }
            // Its parent reaches into the block, so it is one of the frontier's own.
            None => peak_at(&self.before, node),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::merkle::check_inclusion;
    use proptest::prelude::*;

    use super::*;

    fn leaf(seq: u64) -> Hash {
        Hash::of_line(&seq.to_string())
    }

    #[track_caller]
    fn check(first: u64, count: u64) {
        let mut tree = Frontier::default();
        (0..first).for_each(|seq| tree.push(leaf(seq)));
        let before = tree.clone();
        (first..first + count).for_each(|seq| tree.push(leaf(seq)));
        let block = BlockTree::new(before, (first..first + count).map(leaf).collect());
        assert_eq!(block.size(), first + count);
        for seq in first..first + count {
            let proof = block.proof(seq).unwrap();
            check_inclusion(leaf(seq), seq, first + count, tree.root(), &proof).unwrap();
        }
        assert_eq!(block.proof(first + count), None);
        assert_eq!(first.checked_sub(1).and_then(|before| block.proof(before)), None);
    }

    #[test]
    fn every_record_of_every_small_block_is_proven() {
        for first in 0..40 {
            for count in 1..20 {
                check(first, count);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn records_of_large_blocks_are_proven(first in 0_u64..9_000, count in 1_u64..1_000) {
            check(first, count);
        }
    }
}
