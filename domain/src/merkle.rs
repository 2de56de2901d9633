//! The RFC 6962 Merkle tree: its right edge, which is all that appending needs, and proofs.

use crate::hash::Hash;

mod proof;
mod run;

pub use proof::{
    Node, ProofError, Subtree, check_consistency, check_inclusion, consistency_path, inclusion_path,
};
pub use run::Run;

/// The roots of the full subtrees of a tree, largest first; one for each bit set in its size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a tree of `size` leaves, if the hashes are as many as it needs.
    pub fn from_parts(size: u64, hashes: Vec<Hash>) -> Option<Self> {
        (hashes.len() == size.count_ones() as usize).then_some(Self { size, hashes })
    }

    /// The tree whose last leaf and its inclusion proof are these: the proof's hashes are then all to
    /// its left. `None` if it has not as many as such a proof has. The root is still to be compared.
    pub fn of_last(leaf: Hash, size: u64, proof: &[Hash]) -> Option<Self> {
        let within = size.checked_sub(1)?.trailing_ones() as usize;
        let (within, before) = proof.split_at_checked(within)?;
        let last = within.iter().fold(leaf, |node, left| Hash::of_node(*left, node));
        Self::from_parts(size, before.iter().rev().copied().chain([last]).collect())
    }

    /// Leaves in the tree.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the full subtrees, largest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing one of the size is a full subtree that the new leaf completes.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                node = Hash::of_node(left, node);
            }
        }
        self.hashes.push(node);
        self.size += 1;
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        let from_the_right = self.hashes.iter().rev().copied();
        from_the_right
            .reduce(|right, left| Hash::of_node(left, right))
            .unwrap_or_else(Hash::of_nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1, word for word.
    fn root_by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of_nothing(),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                Hash::of_node(root_by_definition(left), root_by_definition(right))
            }
        }
    }

    #[test]
    fn the_frontier_gives_the_root_of_rfc_6962_at_every_size() {
        let leaves: Vec<Hash> = (0..600).map(|n| Hash::of_line(&n.to_string())).collect();
        let mut frontier = Frontier::default();
        for size in 0..=leaves.len() {
            assert_eq!(frontier.root(), root_by_definition(&leaves[..size]), "size {size}");
            let again = Frontier::from_parts(frontier.size(), frontier.hashes().to_vec());
            assert_eq!(again.as_ref(), Some(&frontier));
            if let Some(leaf) = leaves.get(size) {
                frontier.push(*leaf);
            }
        }
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_hashes_is_none() {
        assert_eq!(Frontier::from_parts(3, vec![Hash::ZERO]), None);
        assert_eq!(Frontier::from_parts(0, vec![Hash::ZERO]), None);
    }
}
