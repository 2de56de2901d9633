//! `cargo bench -p audit-verify [-- RECORDS…]`: full verification of an export (hash, chain,
//! canonical form, Merkle root, signature, stream versions) as a ratio to `sha256sum` of the same
//! file in the same run, on one and two threads; and the memory that it takes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
    process::Command,
    time::Instant,
};

use audit_verify::{
    checkpoint::{LedgerKey, LedgerSecret, TreeHead},
    verifier::{Expected, Options, Start, TextChunks, verify},
};
use domain::{
    actor::{Actor, ActorKind, Outcome, Purpose},
    chain::Link,
    hash::Hash,
    ids::{KeyId, Mac, Name, PatientId, Stream},
    merkle::Frontier,
    record::{CommandRef, KeyName, RecordType},
    sealed::{JweHeader, write_compact},
    time::Timestamp,
    wire::Proposal,
};
use uuid::Uuid;

/// Runs of each measurement, of which the median counts; one where a run takes a minute.
fn runs(records: u64) -> usize {
    if records > 2_000_000 { 1 } else { 3 }
}

/// Bytes of an event's content: an observation of the sample cohort, sealed.
const CONTENT: usize = 400;

fn main() {
    let mut sizes: Vec<u64> =
        std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.push(1_000_000);
    }
    for size in sizes {
        measure(size);
    }
}

fn measure(records: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.ndjson");
    let (head, key, note) = write_export(&path, records);
    let bytes = fs::metadata(&path).unwrap().len();
    println!("{records} records, {bytes} bytes, {} a record", bytes / records);
    let runs = runs(records);
    let sha = median(runs, || {
        let output = Command::new("sha256sum").arg(&path).output().unwrap();
        assert!(output.status.success());
    });
    show("sha256sum", records, bytes, sha, sha);
    for (name, threads) in [("verify, one thread", 0), ("verify, two threads", 2)] {
        let time = median(runs, || run(&path, head, &key, &note, threads));
        show(name, records, bytes, time, sha);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown");
    println!("  most memory of the whole run: {peak}");
}

fn run(path: &Path, head: TreeHead, key: &LedgerKey, note: &str, threads: usize) {
    let options = Options {
        origin: key.origin().clone(),
        keys: vec![key.clone()],
        start: Start::Genesis,
        expected: vec![Expected {
            name: "the checkpoint".to_owned(),
            head,
            note: Some(note.to_owned()),
        }],
        covers: Some(head.size),
        seal_keys: None,
    };
    let source = TextChunks::new(File::open(path).unwrap());
    let report = verify(options, source, threads, |_| {}).unwrap();
    assert!(report.is_intact() && report.agreed.len() == 1, "{:?}", report.findings);
}

fn median(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

#[allow(clippy::cast_precision_loss)]
fn show(name: &str, records: u64, bytes: u64, time: f64, sha: f64) {
    let (rate, megabytes) = (records as f64 / time, bytes as f64 / time / 1e6);
    println!("  {name}: {rate:.0} records/s, {megabytes:.0} MB/s, ratio {:.2}", sha / time);
}

fn write_export(path: &Path, records: u64) -> (TreeHead, LedgerKey, String) {
    let origin: Name = "bench-ledger".parse().unwrap();
    let secret = LedgerSecret::new(origin.clone(), &[1; 32]);
    let (mut link, mut frontier) = (Link::genesis(), Frontier::default());
    let mut file = BufWriter::new(File::create(path).unwrap());
    for seq in 0..records {
        let at = Timestamp::from_millis(1_700_000_000_000 + i64::try_from(seq).unwrap());
        let source = "patient-service".parse().unwrap();
        let record = proposal(seq).into_record(origin.clone(), source, &link, at);
        let text = record.to_line();
        link.advance(&record, Hash::of_line(&text));
        frontier.push(link.hash);
        writeln!(file, "{text}").unwrap();
    }
    file.flush().unwrap();
    let head = TreeHead { size: records, root: frontier.root() };
    (head, secret.public(), secret.sign(head))
}

/// As in the sample cohort: a patient has some 26 events, and as many accesses.
fn proposal(seq: u64) -> Proposal {
    let (patient, place) = (seq / 52, seq % 52);
    let stream = Some(Stream::Patient(PatientId::new(Uuid::from_u128(
        u128::from(patient).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
    ))));
    let version = Some(place / 2 + 1);
    if place % 2 == 1 {
        return Proposal { stream, version, ..plain(RecordType::PatientRead) };
    }
    let record_type =
        if place == 0 { RecordType::PatientRegistered } else { RecordType::PatientAmended };
    let header =
        JweHeader::new(KeyId::new(Uuid::from_u128(seq.into())), stream, record_type, version);
    let mut id = [0; 32];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    Proposal {
        stream,
        version,
        schema: Some(1),
        command: Some(CommandRef {
            digest: Mac::new([9; 32]),
            id: Mac::new(id),
            kid: KeyName::new([3; 4]),
        }),
        data: Some(write_compact(&header.encode(), &[4; 12], &[6; CONTENT], &[5; 16])),
        ..plain(record_type)
    }
}

fn plain(record_type: RecordType) -> Proposal {
    let actor =
        Actor { id: "clinic".parse().unwrap(), kind: ActorKind::Subscription, roles: vec![] };
    Proposal {
        client: Some("192.0.2.17".parse().unwrap()),
        trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().ok(),
        ..Proposal::new(record_type, actor, Purpose::Treatment, Outcome::Success)
    }
}
