//! Inclusion and consistency proofs (RFC 6962 §2.1.1 and §2.1.2), checked as RFC 9162 §2.1.3.2
//! and §2.1.4.2 say.
//!
//! Which hashes a proof consists of is a matter of numbers alone; where they are read from is
//! the caller's.

use crate::hash::Hash;

/// A complete subtree: the leaves from `index << level` up to `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Height above the leaves; at most 63.
    pub level: u8,
    /// Place among the subtrees of this level, from the left.
    pub index: u64,
}

/// One hash of a proof: the root over the leaves `begin .. end`, never empty. At the right edge
/// of a tree it is not a complete subtree but made of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree {
    /// The first leaf.
    pub begin: u64,
    /// The leaf after the last.
    pub end: u64,
}

/// A proof that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The record or the smaller tree is not within the tree.
    #[error("the tree is too small for what is to be proven")]
    Range,
    /// Not the number of hashes that such a proof has.
    #[error("the proof does not have the number of hashes that it must have")]
    Length,
    /// The hashes do not lead to the root.
    #[error("the proof does not lead to the root")]
    Root,
}

impl Subtree {
    /// The complete subtrees that it is made of, largest first.
    pub fn nodes(self) -> impl Iterator<Item = Node> {
        let Self { mut begin, end } = self;
        std::iter::from_fn(move || {
            let left = end.checked_sub(begin).filter(|left| *left > 0)?;
            // `begin` is a multiple of the largest power of two that fits.
            let level = left.ilog2();
            let node = Node { level: u8::try_from(level).ok()?, index: begin >> level };
            begin += 1 << level;
            Some(node)
        })
    }

    /// Its root, from the hashes of its nodes.
    pub fn hash<E>(self, mut read: impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
        let hashes = self.nodes().map(&mut read).collect::<Result<Vec<_>, _>>()?;
        let from_the_right = hashes.into_iter().rev();
        let root = from_the_right.reduce(|right, left| Hash::of_node(left, right));
        Ok(root.unwrap_or_else(Hash::of_nothing))
    }
}

/// What the proof consists of that the record `seq` is in the tree of `size`: from the leaf
/// upwards. `None` if it is not.
pub fn inclusion_path(seq: u64, size: u64) -> Option<Vec<Subtree>> {
    if seq >= size {
        return None;
    }
    let mut path = Vec::new();
    let (mut begin, mut end) = (0, size);
    while end - begin > 1 {
        let middle = split(begin, end);
        if seq < middle {
            path.push(Subtree { begin: middle, end });
            end = middle;
        } else {
            path.push(Subtree { begin, end: middle });
            begin = middle;
        }
    }
    path.reverse();
    Some(path)
}

/// What the proof consists of that the tree of size `new` begins with that of size `old`. `None`
/// if `old` is larger. Empty where the sizes are equal or `old` is 0.
pub fn consistency_path(old: u64, new: u64) -> Option<Vec<Subtree>> {
    if old > new {
        return None;
    }
    let mut path = Vec::new();
    if old == 0 {
        return Some(path);
    }
    let (mut begin, mut end) = (0, new);
    while end != old {
        let middle = split(begin, end);
        if old <= middle {
            path.push(Subtree { begin: middle, end });
            end = middle;
        } else {
            path.push(Subtree { begin, end: middle });
            begin = middle;
        }
    }
    // The old root itself is known to whoever checks.
    if begin > 0 {
        path.push(Subtree { begin, end });
    }
    path.reverse();
    Some(path)
}

/// Checks that a record with this leaf hash is at `seq` in the tree of this size and root.
pub fn check_inclusion(
    leaf: Hash,
    seq: u64,
    size: u64,
    root: Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if seq >= size {
        return Err(ProofError::Range);
    }
    let (mut index, mut last) = (seq, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if index & 1 == 1 || index == last {
            hash = Hash::of_node(*sibling, hash);
            // Levels where the right edge has no sibling.
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            hash = Hash::of_node(hash, *sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if hash == root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the tree `new` begins with the tree `old`; each is a size and a root.
pub fn check_consistency(
    old: (u64, Hash),
    new: (u64, Hash),
    proof: &[Hash],
) -> Result<(), ProofError> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size > new_size {
        return Err(ProofError::Range);
    }
    if old_size == 0 || old_size == new_size {
        if !proof.is_empty() {
            return Err(ProofError::Length);
        }
        let expected = if old_size == 0 { Hash::of_nothing() } else { new_root };
        return if old_root == expected { Ok(()) } else { Err(ProofError::Root) };
    }
    let (mut index, mut last) = (old_size - 1, new_size - 1);
    while index & 1 == 1 {
        index >>= 1;
        last >>= 1;
    }
    let mut hashes = proof.iter().copied();
    // Where the old tree is one complete subtree, its root is the beginning.
    let seed = if old_size.is_power_of_two() { Some(old_root) } else { hashes.next() };
    let seed = seed.ok_or(ProofError::Length)?;
    let (mut old_hash, mut new_hash) = (seed, seed);
    for sibling in hashes {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if index & 1 == 1 || index == last {
            old_hash = Hash::of_node(sibling, old_hash);
            new_hash = Hash::of_node(sibling, new_hash);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Hash::of_node(new_hash, sibling);
        }
        index >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length);
    }
    if old_hash == old_root && new_hash == new_root { Ok(()) } else { Err(ProofError::Root) }
}

/// Where the left subtree ends: the largest power of two below the number of leaves.
fn split(begin: u64, end: u64) -> u64 {
    begin + (1 << (end - begin - 1).ilog2())
}
