//! Writes the seeds that the fuzz targets begin with: `cargo run --example seeds`. The same ones
//! every time.

use std::{convert::Infallible, error::Error, fs, path::Path};

use audit_fuzz::{
    RECORDS, fixed_ledger,
    ledger::{Ledger, entries},
    ledger_key, ledger_secret, origin, resumed, seal_keys,
    store::{decode, encode},
    witness_key, witness_secret,
};
use audit_verify::{checkpoint::TreeHead, proof_file::ProofFile};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    hash::Hash,
    ids::{KeyId, Mac, ObjectRef, PatientId, Stream, TestId},
    merkle::{Frontier, Node, inclusion_path},
    record::{CommandRef, External, HexBytes, KeyName, KeyRotation, RecordType},
    sealed::{JweHeader, write_compact},
    time::Timestamp,
    wire::Proposal,
};
use uuid::Uuid;

type Outcomes<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcomes<()> {
    let ledger = Ledger::genesis(ledger_key().clone(), seal_keys());
    let (lines, first) = block(ledger, proposals()?)?;
    for (number, line) in lines.iter().enumerate() {
        write("line", &number.to_string(), line.as_bytes())?;
    }
    write("block", "first", &first)?;
    let (_, later) = block(resumed(RECORDS), proposals()?.split_off(4))?;
    write("block", "later", &later)?;
    notes_and_proofs()?;
    for (number, path) in
        ["0/000", "0/x001/234.p/7", "1/067.p/5", "7/000.p/255", "entries/x123/x456/789.p/1"]
            .into_iter()
            .enumerate()
    {
        write("tile", &number.to_string(), path.as_bytes())?;
    }
    Ok(())
}

fn write(target: &str, name: &str, bytes: &[u8]) -> Outcomes<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

/// One record of each sort of shape.
fn proposals() -> Outcomes<Vec<Proposal>> {
    let patient = PatientId::new(Uuid::from_u128(1));
    let stream = Some(Stream::Patient(patient));
    let actor = Actor {
        id: "clinic".parse()?,
        kind: ActorKind::Subscription,
        roles: vec!["nurse".parse()?],
    };
    let plain = |kind| Proposal::new(kind, actor.clone(), Purpose::Treatment, Outcome::Success);
    let data = |kind, stream, version| {
        let header = JweHeader::new(KeyId::new(Uuid::nil()), stream, kind, version);
        Some(write_compact(&header.encode(), &[4; 12], b"sealed", &[5; 16]))
    };
    let registered = Proposal {
        stream,
        version: Some(1),
        schema: Some(1),
        client: Some("2001:db8::1".parse()?),
        command: Some(CommandRef {
            digest: Mac::new([1; 32]),
            id: Mac::new([2; 32]),
            kid: KeyName::new([3; 4]),
        }),
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".parse()?),
        data: data(RecordType::PatientRegistered, stream, Some(1)),
        ..plain(RecordType::PatientRegistered)
    };
    let tested = Proposal {
        stream,
        version: Some(2),
        schema: Some(1),
        object: Some(ObjectRef(TestId::new(Uuid::from_u128(9)))),
        data: data(RecordType::TestRecorded, stream, Some(2)),
        ..plain(RecordType::TestRecorded)
    };
    let searched = Proposal {
        subjects: vec![patient, PatientId::new(Uuid::from_u128(2))],
        data: data(RecordType::PatientsSearched, None, None),
        ..plain(RecordType::PatientsSearched)
    };
    let read = Proposal { stream, version: Some(2), ..plain(RecordType::PatientRead) };
    let external = Proposal {
        external: Some(External {
            id: Some("4711".parse()?),
            operation: None,
            system: "lab:1".parse()?,
            resource_type: Some("Report".parse()?),
        }),
        ..plain(RecordType::ExternalAccess)
    };
    let (next, previous) = (HexBytes([1; 32]), HexBytes([2; 32]));
    let rotated = Proposal {
        stream: Some(Stream::LedgerKeys),
        version: Some(1),
        key: Some(KeyRotation { next, previous, voucher: HexBytes([3; 64]) }),
        ..plain(RecordType::KeyRotated)
    };
    let refused = Proposal { outcome: Outcome::Denied, ..plain(RecordType::AccessRefused) };
    Ok(vec![registered, tested, searched, read, external, rotated, refused])
}

fn block(mut ledger: Ledger, proposals: Vec<Proposal>) -> Outcomes<(Vec<String>, Vec<u8>)> {
    let first = ledger.size();
    let mut before = ledger.clone();
    let (mut lines, mut records) = (Vec::new(), Vec::new());
    for proposal in proposals {
        let at = Timestamp::from_millis(1_700_000_000_000);
        let source = "patient-service".parse()?;
        let record = proposal.into_record(origin().clone(), source, ledger.link(), at);
        record.check()?;
        let line = record.to_line();
        ledger.push(&record, &line)?;
        records.push(record);
        lines.push(line);
    }
    let block = ledger.close_block(first, lines.clone(), entries(&records));
    let document = encode(&block).map_err(|error| error.to_string())?;
    // A seed that is refused at once leads nowhere.
    before.fold(&decode(&document)?)?;
    Ok((lines, document.as_bytes().to_vec()))
}

fn notes_and_proofs() -> Outcomes<()> {
    let hashes = fixed_ledger();
    let note = ledger_secret().sign(TreeHead { size: RECORDS, root: root(0, RECORDS) });
    let cosigned = note.clone() + &witness_secret().cosign(&note, 1_700_000_000)?;
    write("note", "checkpoint", note.as_bytes())?;
    write("note", "cosigned", cosigned.as_bytes())?;
    write("note", "ledger-key", ledger_key().to_string().as_bytes())?;
    write("note", "witness-key", witness_key().to_string().as_bytes())?;
    for (index, hash) in (0..).zip(hashes) {
        let path = inclusion_path(index, RECORDS).ok_or("no such record")?;
        let read = |node: Node| {
            Ok::<_, Infallible>(root(node.index << node.level, (node.index + 1) << node.level))
        };
        let hashes = path.into_iter().map(|part| part.hash(read)).collect::<Result<_, _>>()?;
        let extra = (index == 3).then(|| b"extra".to_vec());
        let proof = ProofFile { extra, index, hashes, checkpoint: cosigned.clone() };
        proof.check(ledger_key(), *hash)?;
        write("proof", &index.to_string(), proof.to_string().as_bytes())?;
    }
    Ok(())
}

/// The root over a complete subtree, or over the whole ledger.
fn root(begin: u64, end: u64) -> Hash {
    let mut frontier = Frontier::default();
    for hash in fixed_ledger().iter().skip(begin as usize).take((end - begin) as usize) {
        frontier.push(*hash);
    }
    frontier.root()
}
