//! A small ledger of every kind of record, made with the domain's own types.

use std::num::{NonZeroU32, NonZeroU64};

use audit_verify::{
    block::{Block, entries},
    checkpoint::{LedgerSecret, TreeHead},
    key_history,
    report::Report,
    seal::SealKeys,
    verifier::{Chunk, Expected, Options, Read, Start, verify},
};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    chain::Link,
    hash::Hash,
    ids::{KeyId, Mac, Name, PatientId, Stream},
    merkle::Frontier,
    record::{CommandRef, KeyName, Record, RecordType},
    sealed::{JweHeader, write_compact},
    subscription::{Scope, SubscriptionAct, SubscriptionChange, SubscriptionTerms},
    time::Timestamp,
    wire::Proposal,
};
use uuid::Uuid;

pub(crate) const ORIGIN: &str = "sample-ledger";

pub(crate) fn origin() -> Name {
    ORIGIN.parse().unwrap()
}

pub(crate) fn secret(seed: u8) -> LedgerSecret {
    LedgerSecret::new(origin(), &[seed; 32])
}

pub(crate) fn seal_keys() -> SealKeys {
    SealKeys::new([7; 32])
}

/// Lines, the blocks that hold them, and the end of the chain.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) lines: Vec<String>,
    pub(crate) blocks: Vec<Block>,
    frontier: Frontier,
    link: Link,
}

impl Sample {
    /// So many records, in blocks of changing sizes.
    pub(crate) fn of(records: u64) -> Self {
        let mut sample = Self::empty();
        let mut size = 1;
        while sample.size() < records {
            let first = sample.size();
            let count = size.min(records - first);
            let proposals = (first..first + count).map(proposal).collect();
            sample.block(proposals);
            size = size % 11 + 3;
        }
        sample
    }

    /// The first records of another one; blocks are not kept.
    pub(crate) fn of_lines(other: &Self, size: u64) -> Self {
        let mut sample = Self::empty();
        for line in &other.lines[..usize::try_from(size).unwrap()] {
            sample.link.follow(&origin(), line).unwrap();
            sample.frontier.push(sample.link.hash);
            sample.lines.push(line.clone());
        }
        sample
    }

    pub(crate) fn empty() -> Self {
        Self {
            lines: Vec::new(),
            blocks: Vec::new(),
            frontier: Frontier::default(),
            link: Link::genesis(),
        }
    }

    /// Appends one block.
    pub(crate) fn block(&mut self, proposals: Vec<Proposal>) {
        let first = self.size();
        let mut lines = Vec::new();
        let mut records = Vec::new();
        for proposal in proposals {
            let at =
                Timestamp::from_millis(1_700_000_000_000 + i64::try_from(self.size()).unwrap());
            let source = "patient-service".parse().unwrap();
            let record = proposal.into_record(origin(), source, &self.link, at);
            let line = record.to_line();
            self.link.advance(&record, Hash::of_line(&line));
            self.frontier.push(self.link.hash);
            records.push(record);
            lines.push(line);
        }
        let (streams, commands) = entries(&records);
        let root = self.frontier.root();
        let seal = seal_keys().seal(&origin(), self.size(), root);
        let frontier = self.frontier.hashes().to_vec();
        self.lines.extend(lines.clone());
        self.blocks.push(Block { first, lines, streams, commands, frontier, root, seal });
    }

    pub(crate) fn size(&self) -> u64 {
        self.link.next_seq
    }

    pub(crate) fn head(&self) -> TreeHead {
        TreeHead { size: self.size(), root: self.frontier.root() }
    }

    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }

    pub(crate) fn frontier(&self) -> Frontier {
        self.frontier.clone()
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        text(&self.lines)
    }
}

pub(crate) fn text<S: AsRef<str>>(lines: &[S]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_ref().as_bytes(), b"\n"].concat()).collect()
}

fn patient(number: u64) -> Stream {
    Stream::Patient(PatientId::new(Uuid::from_u128(u128::from(number) + 1)))
}

/// Patients are registered, amended and read in turn; searches and reads of the ledger between.
pub(crate) fn proposal(seq: u64) -> Proposal {
    match seq % 8 {
        0 | 3 | 5 => event(seq / 16, seq),
        1 | 6 => Proposal {
            stream: Some(patient(seq / 16)),
            version: Some(1),
            trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
            ..plain(RecordType::PatientRead)
        },
        2 => Proposal {
            data: Some(sealed(None, RecordType::PatientsSearched, None)),
            subjects: vec![PatientId::new(Uuid::from_u128(9))],
            ..plain(RecordType::PatientsSearched)
        },
        4 => Proposal {
            stream: Some(Stream::GatewaySubscriptions),
            version: Some(seq / 8 + 1),
            subscription: Some(limitation(seq)),
            ..plain(RecordType::SubscriptionChanged)
        },
        _ => plain(RecordType::LedgerRead),
    }
}

/// Every other one as records were before they said more.
fn limitation(seq: u64) -> SubscriptionChange {
    let old = SubscriptionChange::new(SubscriptionAct::Limited, "clinic".parse().unwrap());
    if seq % 16 == 4 {
        return old;
    }
    let terms = SubscriptionTerms {
        burst: None,
        expires: Some(Timestamp::EPOCH),
        networks: vec!["10.1.0.0/16".parse().unwrap()],
        quota_day: NonZeroU64::new(1_000),
        quota_month: None,
        rate: NonZeroU32::new(10),
        scopes: [Scope::PatientRead].into(),
        suspended: true,
    };
    SubscriptionChange { claimed_by: "j.doe".parse().ok(), terms: Some(terms), ..old }
}

/// Six events for every patient of sixteen records.
fn event(number: u64, seq: u64) -> Proposal {
    let place = [0, 3, 5, 8, 11, 13].iter().position(|place| *place == seq % 16).unwrap();
    let version = place as u64 + 1;
    versioned(number, version)
}

pub(crate) fn versioned(number: u64, version: u64) -> Proposal {
    let record_type =
        if version == 1 { RecordType::PatientRegistered } else { RecordType::PatientAmended };
    let stream = Some(patient(number));
    let digest = u8::try_from(version % 256).unwrap();
    let mut id = [digest; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Proposal {
        stream,
        version: Some(version),
        schema: Some(1),
        client: Some("2001:db8::1".parse().unwrap()),
        command: Some(CommandRef {
            digest: Mac::new([digest; 32]),
            id: Mac::new(id),
            kid: KeyName::new([3; 4]),
        }),
        data: Some(sealed(stream, record_type, Some(version))),
        ..plain(record_type)
    }
}

/// The next key of the ledger, vouched for by the one before.
pub(crate) fn rotation(version: u64, before: &LedgerSecret, next: &LedgerSecret) -> Proposal {
    Proposal {
        stream: Some(Stream::LedgerKeys),
        version: Some(version),
        key: Some(key_history::rotation(before, &next.public(), version)),
        ..plain(RecordType::KeyRotated)
    }
}

pub(crate) fn plain(record_type: RecordType) -> Proposal {
    let actor = Actor {
        id: "clinic".parse().unwrap(),
        kind: ActorKind::Subscription,
        roles: vec!["nurse".parse().unwrap()],
    };
    Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
}

fn sealed(stream: Option<Stream>, record_type: RecordType, version: Option<u64>) -> String {
    let header = JweHeader::new(KeyId::new(Uuid::nil()), stream, record_type, version);
    write_compact(&header.encode(), &[4; 12], b"sealed", &[5; 16])
}

/// What an auditor gives to the verifier: an export, its checkpoint and the ledger's key.
pub(crate) struct Export {
    pub(crate) text: Vec<u8>,
    pub(crate) checkpoint: String,
    pub(crate) trusted: Vec<String>,
    pub(crate) key: audit_verify::checkpoint::LedgerKey,
}

impl Export {
    pub(crate) fn of(sample: &Sample) -> Self {
        Self {
            text: sample.text(),
            checkpoint: secret(1).sign(sample.head()),
            trusted: Vec::new(),
            key: secret(1).public(),
        }
    }

    pub(crate) fn verify(&self) -> Report {
        self.verify_in_chunks(usize::MAX, 0)
    }

    /// With so many lines a chunk at most.
    pub(crate) fn verify_in_chunks(&self, lines: usize, threads: usize) -> Report {
        let notes = [("the checkpoint", &self.checkpoint)];
        let trusted = self.trusted.iter().map(|note| ("the trusted checkpoint", note));
        let expected: Vec<Expected> =
            notes.into_iter().chain(trusted).map(|(name, note)| expected(name, note)).collect();
        let options = Options { covers: Some(expected[0].head.size), expected, ..self.options() };
        let mut chunks: Vec<Vec<u8>> = vec![Vec::new()];
        let mut count = 0;
        for line in self.text.split_inclusive(|byte| *byte == b'\n') {
            if count == lines {
                chunks.push(Vec::new());
                count = 0;
            }
            chunks.last_mut().unwrap().extend(line);
            count += 1;
        }
        let source = chunks.into_iter().map(|text| Ok::<_, ()>(Read::Chunk(Chunk::of_text(text))));
        verify(options, source, threads, |_| {}).unwrap()
    }

    pub(crate) fn options(&self) -> Options {
        Options {
            origin: origin(),
            keys: vec![self.key.clone()],
            start: Start::Genesis,
            expected: Vec::new(),
            covers: None,
            seal_keys: None,
        }
    }
}

pub(crate) fn expected(name: &str, note: &str) -> Expected {
    // A note that cannot be read is refused before anything is verified.
    let head = audit_verify::checkpoint::read_unverified(note).unwrap().1;
    Expected { name: name.to_owned(), head, note: Some(note.to_owned()) }
}

/// Verifies stored blocks against a signed checkpoint, with the seal key.
pub(crate) fn verify_blocks(blocks: &[Block], checkpoint: &str) -> Report {
    let options = Options {
        origin: origin(),
        keys: vec![secret(1).public()],
        start: Start::Genesis,
        expected: vec![expected("the checkpoint", checkpoint)],
        covers: None,
        seal_keys: Some(seal_keys()),
    };
    let source =
        blocks.iter().map(|block| Ok::<_, ()>(Read::Chunk(Chunk::of_block(block.clone()))));
    verify(options, source, 0, |_| {}).unwrap()
}

/// A record's line parsed.
pub(crate) fn record(line: &str) -> Record {
    Record::parse(line).unwrap()
}
