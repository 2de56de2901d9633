//! Joining what was found of each chunk into a verdict.

use std::{cmp::Reverse, io, mem};

use domain::{
    chain::{ChainError, Link},
    hash::Hash,
    merkle::Frontier,
    record::Record,
    time::Timestamp,
};

use super::{
    Expected, Options, Start,
    chunk::{Broken, Checked, CheckedBlock, Unlinked},
};
use crate::{
    checkpoint::{CheckpointError, LedgerKey, TreeHead},
    key_history::KeyHistory,
    report::{Agreed, BlockProblem, Finding, Problem, Report},
    versions::Versions,
};

/// Findings that are told at most: a rewritten store has one for every block.
const MAX_FINDINGS: usize = 100;

/// Takes checked chunks in the order of the ledger.
pub struct Verifier {
    options: Options,
    state: State,
    link: Link,
    frontier: Frontier,
    from: u64,
    from_time: Option<Timestamp>,
    /// The keys from the first known on; `None` where no key was given.
    keys: Option<KeyHistory>,
    versions: Versions,
    /// Those not reached yet, the next one last.
    expected: Vec<Expected>,
    reached: Vec<Reached>,
    /// The tree before the last chunk, and the records of that chunk.
    last: (Frontier, Vec<Hash>),
    bytes: u64,
    blocks: u64,
    findings: Vec<Finding>,
}

/// A tree head that was compared.
struct Reached {
    expected: Expected,
    agrees: bool,
    /// The size of the last one before that agreed, or where reading began.
    agreed_before: u64,
}

enum State {
    /// Every record so far follows.
    Whole,
    /// A record does not follow; the next one says which of the two is bad.
    Waiting(Unlinked),
    /// A record does not follow: of those after it nothing can be said.
    Broken,
}

impl Verifier {
    /// A verifier that has read nothing yet.
    pub fn new(mut options: Options) -> Self {
        let (link, frontier) = match mem::take(&mut options.start) {
            Start::Genesis => (Link::genesis(), Frontier::default()),
            Start::After { link, frontier } => (link, frontier),
        };
        let mut expected = mem::take(&mut options.expected);
        expected.sort_by_key(|expected| Reverse(expected.head.size));
        let from = frontier.size();
        let mut verifier = Self {
            state: State::Whole,
            keys: options.keys.first().cloned().map(if from == 0 {
                KeyHistory::with
            } else {
                KeyHistory::within
            }),
            options,
            link,
            last: (frontier.clone(), Vec::new()),
            frontier,
            from,
            from_time: None,
            versions: Versions::default(),
            expected,
            reached: Vec::new(),
            bytes: 0,
            blocks: 0,
            findings: Vec::new(),
        };
        verifier.compare(from);
        verifier
    }

    /// Whether more records cannot add anything.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// Records that follow from those before them, so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Bytes of their lines, so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next chunk. Fails only where the temporary file does.
    pub fn push(&mut self, mut chunk: Checked) -> io::Result<()> {
        match mem::replace(&mut self.state, State::Whole) {
            State::Whole => {}
            State::Waiting(unlinked) => {
                let next_names = chunk.first.map(|first| first.hash);
                self.state = State::Broken;
                self.judge(Unlinked { next_names, ..unlinked });
                return Ok(());
            }
            State::Broken => {
                self.state = State::Broken;
                return Ok(());
            }
        }
        let block = chunk.block.take();
        if chunk.first.is_none() && chunk.broken.is_none() {
            if let Some(CheckedBlock { block, .. }) = block {
                self.found_in_store(block.first, "a block without records".to_owned());
            }
            return Ok(());
        }
        if let Err(broken) = self.follows(&mut chunk) {
            self.stop(broken);
            return Ok(());
        }
        let broken = chunk.broken.take();
        self.take(chunk)?;
        match (broken, block) {
            (Some(broken), _) => self.stop(broken),
            (None, Some(block)) => self.check_block(&block),
            (None, None) => {}
        }
        Ok(())
    }

    /// Whether the chunk's first record follows from the last one.
    fn follows(&self, chunk: &mut Checked) -> Result<(), Broken> {
        let seq = self.link.next_seq;
        let Some(first) = &chunk.first else {
            let error = match chunk.broken.take() {
                Some(Broken::Error(ChainError::Parse { source, .. })) => {
                    ChainError::Parse { seq, source }
                }
                _ => ChainError::Prev { seq },
            };
            return Err(Broken::Error(error));
        };
        if first.next_seq != seq {
            return Err(Broken::Error(ChainError::Seq { expected: seq, found: first.next_seq }));
        }
        if chunk.hashes.is_empty() {
            // Of another ledger: the only rule that the first record of a chunk can break.
            return Err(Broken::Error(ChainError::Ledger { seq }));
        }
        if first.hash != self.link.hash {
            let unlinked = chunk.first_unlinked().map(Broken::Unlinked);
            return Err(unlinked.unwrap_or(Broken::Error(ChainError::Prev { seq })));
        }
        if first.at < self.link.at {
            return Err(Broken::Error(ChainError::Time { seq }));
        }
        Ok(())
    }

    fn take(&mut self, chunk: Checked) -> io::Result<()> {
        let first = self.frontier.size();
        self.from_time = self.from_time.or(chunk.first.as_ref().map(|first| first.at));
        self.last = (self.frontier.clone(), chunk.hashes);
        if let (Some(run), Some(link)) = (&chunk.run, chunk.link) {
            // Never refused: the run begins where its first record says, which was checked.
            self.frontier.append(run);
            self.link = link;
        }
        self.bytes += chunk.bytes;
        self.versions.extend(&chunk.versions)?;
        for record in &chunk.rotations {
            self.rotate(record);
        }
        self.compare(first);
        Ok(())
    }

    fn rotate(&mut self, record: &Record) {
        let Some(history) = &mut self.keys else { return };
        if let Err(error) = history.follow(record) {
            self.find(Finding::at(error.seq, error));
        }
    }

    /// Compares the tree heads expected within the last chunk, which begins at `first`.
    fn compare(&mut self, first: u64) {
        let mut tree = self.last.0.clone();
        let end = self.size();
        while let Some(expected) = self.expected.pop_if(|next| next.head.size <= end) {
            let TreeHead { size, root } = expected.head;
            if size < first {
                // Below the place where reading began: nothing to compare it with.
                continue;
            }
            let of_chunk = |place: u64| usize::try_from(place - first).unwrap_or(usize::MAX);
            let hashes = self.last.1.get(of_chunk(tree.size())..of_chunk(size));
            hashes.unwrap_or_default().iter().for_each(|hash| tree.push(*hash));
            let agrees = tree.root() == root;
            let before = self.reached.iter().filter(|reached| reached.agrees);
            let before = before.map(|reached| reached.expected.head.size).max();
            let agreed_before = before.unwrap_or(self.from);
            self.reached.push(Reached { expected, agrees, agreed_before });
        }
    }

    fn check_block(&mut self, checked: &CheckedBlock) {
        let CheckedBlock { block, lines, entries_fit } = checked;
        self.blocks += 1;
        let (end, root) = (self.size(), self.frontier.root());
        let first = end - lines;
        let seal_keys = self.options.seal_keys.as_ref();
        let origin = &self.options.origin;
        let problems = [
            (block.first == first, BlockProblem::Position),
            (block.root == root && block.frontier == self.frontier.hashes(), BlockProblem::Root),
            (
                seal_keys.is_none_or(|key| key.verify(origin, end, root, &block.seal)),
                BlockProblem::Seal,
            ),
            (*entries_fit, BlockProblem::Entries),
        ];
        for (_, what) in problems.into_iter().filter(|(right, _)| !right) {
            let problem = Problem::Block { first, end, what };
            self.find(Finding { first, last: end.saturating_sub(1), problem });
        }
    }

    fn stop(&mut self, broken: Broken) {
        self.state = State::Broken;
        match broken {
            Broken::Unlinked(unlinked) if unlinked.is_last => {
                self.state = State::Waiting(unlinked);
            }
            Broken::Unlinked(unlinked) => self.judge(unlinked),
            Broken::Error(error) => self.find(Finding::at(error.seq(), error)),
        }
    }

    /// Tells which of two records is bad of which the second does not name the first's hash.
    fn judge(&mut self, unlinked: Unlinked) {
        let Unlinked { seq, names, hash, next_names, .. } = unlinked;
        let Some(before) = seq.checked_sub(1).filter(|_| seq > self.from) else {
            return self.find(Finding::at(seq, Problem::Relinked { seq }));
        };
        let changed = match next_names {
            // The next record vouches for this one as it is, and so for the hash that it names.
            Some(next_names) => Some(next_names == hash),
            None => self.would_agree(names, hash).then_some(true),
        };
        self.find(match changed {
            Some(true) => Finding::at(before, Problem::Changed { seq: before }),
            Some(false) => Finding::at(seq, Problem::Relinked { seq }),
            None => Finding { first: before, last: seq, problem: Problem::Unlinked { seq } },
        });
    }

    /// Whether a signed tree head is that of the records if the last one had the hash that the
    /// record after it names, and that record itself.
    fn would_agree(&self, named: Hash, next: Hash) -> bool {
        let (mut tree, hashes) = self.last.clone();
        let Some((_, others)) = hashes.split_last() else { return false };
        others.iter().chain([&named, &next]).for_each(|hash| tree.push(*hash));
        let head = TreeHead { size: tree.size(), root: tree.root() };
        self.expected.iter().any(|expected| expected.head == head)
    }

    fn find(&mut self, finding: Finding) {
        // Of stored blocks there may be millions; all else is bounded by what was expected.
        let is_of_a_block = matches!(finding.problem, Problem::Block { .. });
        if !is_of_a_block || self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    /// Takes a finding about the source itself, such as a row that is no block.
    pub fn found_in_store(&mut self, first: u64, reason: String) {
        if let State::Waiting(unlinked) = mem::replace(&mut self.state, State::Broken) {
            self.judge(unlinked);
        }
        self.find(Finding::at(first, Problem::Store { first, reason }));
    }

    /// The verdict. Fails only where the temporary file does.
    pub fn finish(mut self) -> io::Result<Report> {
        let is_whole = matches!(self.state, State::Whole);
        if let State::Waiting(unlinked) = mem::replace(&mut self.state, State::Broken) {
            self.judge(unlinked);
        }
        let agreed = self.check_heads();
        if is_whole {
            self.check_end();
        }
        let size = self.size();
        let versions = mem::take(&mut self.versions);
        if let Some(seq) = versions.first_wrong(self.from > 0, size)? {
            self.find(Finding::at(seq, Problem::Version { seq }));
        }
        self.findings.sort_by_key(Finding::rank);
        let records = size - self.from;
        Ok(Report {
            origin: self.options.origin,
            from: self.from,
            from_time: self.from_time,
            to_time: (records > 0).then_some(self.link.at),
            head: TreeHead { size, root: self.frontier.root() },
            records,
            bytes: self.bytes,
            blocks: self.blocks,
            seals: self.options.seal_keys.is_some() && self.blocks > 0,
            absent: absent(self.keys.as_ref(), &self.options.keys),
            keys: self.keys.map_or_else(Vec::new, |history| history.keys().to_vec()),
            agreed,
            findings: self.findings,
        })
    }

    /// The tree heads that were reached: first whether they were signed by the ledger's key, then
    /// whether they agree with the records.
    fn check_heads(&mut self) -> Vec<Agreed> {
        let mut agreed = Vec::new();
        for Reached { expected, agrees, agreed_before } in mem::take(&mut self.reached) {
            let size = expected.head.size;
            let signed = self.signed_by(&expected);
            let name = expected.name;
            match signed {
                Ok(key) if agrees => agreed.push(Agreed { name, size, key }),
                Ok(_) => {
                    let last = size.saturating_sub(1);
                    let problem = Problem::Root { name, size };
                    self.find(Finding { first: agreed_before.min(last), last, problem });
                }
                Err(problem) => self.find_unproven(size, problem),
            }
        }
        agreed
    }

    /// The key that signed a tree head; none where that was not to be checked.
    fn signed_by(&self, expected: &Expected) -> Result<Option<LedgerKey>, Problem> {
        let (Some(note), Some(history)) = (&expected.note, &self.keys) else { return Ok(None) };
        let size = expected.head.size;
        let key = history.at(size);
        if let Err(error) = key.open(note) {
            return Err(Problem::Checkpoint { name: expected.name.clone(), error });
        }
        // A key is believed if it is one of those given or comes after one.
        let given = &self.options.keys;
        let mut upto = history.keys().iter().take_while(|(from, _)| *from <= size);
        if upto.any(|(_, key)| given.contains(key)) {
            Ok(Some(key.clone()))
        } else {
            Err(Problem::ForeignKey)
        }
    }

    /// A finding after which nothing that was read is proven.
    fn find_unproven(&mut self, size: u64, problem: Problem) {
        let last = size.saturating_sub(1).max(self.from);
        self.find(Finding { first: self.from, last, problem });
    }

    /// The end of a chain without a break: records that are missing, or not signed.
    fn check_end(&mut self) {
        let size = self.size();
        for missing in mem::take(&mut self.expected) {
            // Which key signed it cannot be known where the rotation to it may be missing as well.
            let signed = self.keys.as_ref().is_none_or(|history| {
                let note = missing.note.as_deref().unwrap_or_default();
                let read = history.keys().iter().map(|(_, key)| key);
                let mut keys = read.chain(&self.options.keys);
                missing.note.is_none() || keys.any(|key| key.open(note).is_ok())
            });
            let (name, signed_size) = (missing.name, missing.head.size);
            let problem = Problem::CutOff { name: name.clone(), signed: signed_size, found: size };
            self.find(Finding::at(size, problem));
            if !signed {
                let error = CheckpointError::Signature;
                self.find(Finding::at(size, Problem::Checkpoint { name, error }));
            }
        }
        let covered = self.options.covers;
        if let Some(covered) = covered.filter(|covered| *covered < size) {
            self.find(Finding::at(covered, Problem::Uncovered { covered }));
        }
    }
}

/// The keys given that did not come up.
fn absent(history: Option<&KeyHistory>, given: &[LedgerKey]) -> Vec<LedgerKey> {
    let known = history.map_or(&[][..], KeyHistory::keys);
    given.iter().filter(|given| !known.iter().any(|(_, key)| key == *given)).cloned().collect()
}
