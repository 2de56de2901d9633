//! Merkle trees and proofs against published roots, the definition, and an independent library.

use std::convert::Infallible;

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use domain::{
    hash::Hash,
    merkle::{
        Frontier, Node, ProofError, Run, Subtree, check_consistency, check_inclusion,
        consistency_path, inclusion_path,
    },
};
use proptest::prelude::*;
use sha2_for_ct_merkle::Sha256;

fn line(seq: u64) -> String {
    format!("record {seq}")
}

type Check<'a> = &'a dyn Fn(&[Hash]) -> Result<(), ProofError>;

/// A tree by its leaves, from which every node can be computed by the definition.
struct Tree(Vec<Hash>);

impl Tree {
    fn of(size: u64) -> Self {
        Self((0..size).map(|seq| Hash::of_line(&line(seq))).collect())
    }

    /// RFC 6962 §2.1, word for word.
    fn root(&self, begin: u64, end: u64) -> Hash {
        let leaves = end - begin;
        match leaves {
            0 => Hash::of_nothing(),
            1 => self.0[usize::try_from(begin).unwrap()],
            _ => {
                let split = begin + leaves.next_power_of_two() / 2;
                Hash::of_node(self.root(begin, split), self.root(split, end))
            }
        }
    }

    fn node(&self, node: Node) -> Hash {
        self.root(node.index << node.level, (node.index + 1) << node.level)
    }

    fn hashes(&self, path: &[Subtree]) -> Vec<Hash> {
        let hash = |part: &Subtree| part.hash(|node| Ok::<_, Infallible>(self.node(node)));
        path.iter().map(|part| hash(part).unwrap()).collect()
    }

    fn inclusion(&self, seq: u64, size: u64) -> Vec<Hash> {
        self.hashes(&inclusion_path(seq, size).unwrap())
    }

    fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        self.hashes(&consistency_path(old, new).unwrap())
    }
}

fn oracle(size: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
    let mut tree = MemoryBackedTree::new();
    for seq in 0..size {
        tree.push(line(seq).into_bytes());
    }
    tree
}

/// The test vectors of Certificate Transparency's reference implementation: eight leaves, and the
/// root at every size.
#[test]
fn the_published_roots_of_sizes_0_to_8_agree() {
    let leaves =
        ["", "\u{0}", "\u{10}", "\u{20}\u{21}", "01", "@ABC", "PQRSTUVW", "`abcdefghijklmno"];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::default();
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(frontier.root().to_string(), *root, "size {size}");
        if let Some(leaf) = leaves.get(size) {
            frontier.push(Hash::of_line(leaf));
        }
    }
}

#[test]
fn every_proof_of_every_small_tree_checks_and_no_other_size_or_place_does() {
    const MAX: u64 = 20;
    let tree = Tree::of(MAX);
    for size in 1..=MAX {
        let root = tree.root(0, size);
        for seq in 0..size {
            let proof = tree.inclusion(seq, size);
            let leaf = tree.0[usize::try_from(seq).unwrap()];
            check_inclusion(leaf, seq, size, root, &proof).unwrap();
            for other in (0..MAX).filter(|other| *other != seq) {
                check_inclusion(leaf, other, size, root, &proof).unwrap_err();
            }
        }
        for old in 0..=size {
            let proof = tree.consistency(old, size);
            let before = (old, tree.root(0, old));
            check_consistency(before, (size, root), &proof).unwrap();
            for other in (0..=MAX).filter(|other| *other != old) {
                let wrong = (other, before.1);
                check_consistency(wrong, (size, root), &proof).unwrap_err();
                // The proofs from nothing and from the tree itself are both empty.
                if !proof.is_empty() || other > 0 && other != size {
                    let wrong = (other, tree.root(0, other));
                    check_consistency(wrong, (size, root), &proof).unwrap_err();
                }
            }
        }
    }
}

#[test]
fn the_proof_of_the_last_leaf_is_the_right_edge_of_the_tree() {
    let tree = Tree::of(140);
    let mut frontier = Frontier::default();
    for (size, leaf) in (1..).zip(&tree.0) {
        frontier.push(*leaf);
        let proof = tree.inclusion(size - 1, size);
        assert_eq!(Frontier::of_last(*leaf, size, &proof).as_ref(), Some(&frontier), "{size}");
        let longer = [proof.as_slice(), &[Hash::ZERO]].concat();
        assert_eq!(Frontier::of_last(*leaf, size, &longer), None);
    }
    assert_eq!(Frontier::of_last(Hash::ZERO, 0, &[]), None);
    assert_eq!(Frontier::of_last(Hash::ZERO, 7, &[]), None);
}

#[test]
fn a_proof_with_any_hash_changed_removed_or_added_is_refused() {
    let tree = Tree::of(50);
    for (old, new) in [(1, 50), (17, 50), (32, 50), (49, 50), (7, 8)] {
        let roots = ((old, tree.root(0, old)), (new, tree.root(0, new)));
        let leaf = tree.0[usize::try_from(old - 1).unwrap()];
        let inclusion = tree.inclusion(old - 1, new);
        let consistency = tree.consistency(old, new);
        let checks: [(&[Hash], Check<'_>); 2] = [
            (&inclusion, &|proof| check_inclusion(leaf, old - 1, new, roots.1.1, proof)),
            (&consistency, &|proof| check_consistency(roots.0, roots.1, proof)),
        ];
        for (proof, check) in checks {
            assert_eq!(check(proof), Ok(()));
            for place in 0..proof.len() {
                let mut changed = proof.to_vec();
                changed[place].0[7] ^= 1;
                assert_eq!(check(&changed), Err(ProofError::Root));
                let mut shorter = proof.to_vec();
                shorter.remove(place);
                check(&shorter).unwrap_err();
                let mut longer = proof.to_vec();
                longer.insert(place, Hash::ZERO);
                check(&longer).unwrap_err();
            }
        }
    }
}

#[test]
fn sizes_at_the_end_of_the_numbers_do_not_overflow() {
    let proof = [Hash::ZERO; 80];
    for size in [u64::MAX, 1 << 63, (1 << 63) + 1] {
        for seq in [0, 1, size / 2, size - 1] {
            check_inclusion(Hash::ZERO, seq, size, Hash::ZERO, &proof).unwrap_err();
            let old = (seq + 1, Hash::ZERO);
            check_consistency(old, (size, Hash::of_nothing()), &proof).unwrap_err();
            inclusion_path(seq, size).unwrap();
            consistency_path(seq, size).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn proofs_are_those_of_an_independent_library(size in 1u64..400, other in any::<u64>()) {
        let (tree, oracle) = (Tree::of(size), oracle(size));
        let seq = other % size;
        let expected = oracle.prove_inclusion(usize::try_from(seq).unwrap());
        let proof: Vec<u8> = tree.inclusion(seq, size).iter().flat_map(|hash| hash.0).collect();
        prop_assert_eq!(proof.as_slice(), expected.as_bytes());

        let root = oracle.root();
        prop_assert_eq!(tree.root(0, size).0.to_vec(), root.as_bytes().to_vec());
        let ours = InclusionProof::<Sha256>::from_bytes(proof);
        prop_assert!(root.verify_inclusion(&line(seq).into_bytes(), seq, &ours).is_ok());

        let old = other % size + 1;
        let proof: Vec<u8> = tree.consistency(old, size).iter().flat_map(|hash| hash.0).collect();
        let before = RootHash::<Sha256>::new(tree.root(0, old).0.into(), old);
        let ours = ConsistencyProof::<Sha256>::try_from_bytes(proof);
        prop_assert!(root.verify_consistency(&before, &ours.unwrap()).is_ok());
    }

    #[test]
    fn runs_joined_anywhere_give_the_same_tree(
        size in 0u64..700,
        cuts in prop::collection::vec(any::<u64>(), 0..8),
    ) {
        let tree = Tree::of(size);
        let mut cuts: Vec<u64> = cuts.into_iter().map(|cut| cut % (size + 1)).collect();
        cuts.push(size);
        cuts.sort_unstable();
        let mut frontier = Frontier::default();
        for end in cuts {
            let mut run = Run::at(frontier.size());
            for leaf in &tree.0[usize::try_from(run.begin()).unwrap()..usize::try_from(end).unwrap()] {
                run.push(*leaf);
            }
            prop_assert_eq!(run.end(), end);
            prop_assert_eq!(frontier.append(&run), Some(()));
            prop_assert_eq!(frontier.size(), end);
            prop_assert_eq!(frontier.root(), tree.root(0, end));
        }
        prop_assert_eq!(frontier.append(&Run::at(size + 1)), None);
    }
}
