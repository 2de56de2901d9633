//! What `docs/verification.md` tells auditors to run, run as it stands there: the Python script,
//! and the shell's `sha256sum`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use domain::record::Record;

use tests::programs::built;

use crate::signed_export::{relink, secret, sign, signed_export, write};

const DOCS: &str = include_str!("../../../docs/verification.md");

/// Records of the ledger: not a power of two, and not one less.
const COUNT: u64 = 83;

/// The block of this language in the docs that begins with these words.
fn block(language: &str, begins: &str) -> &'static str {
    let fence = format!("```{language}\n");
    let mut blocks = DOCS.split(fence.as_str()).skip(1);
    let found = blocks.find(|block| block.starts_with(begins)).expect("the block is in the docs");
    found.split("```").next().unwrap()
}

fn run_script(folder: &Path) -> Output {
    let python = std::env::var_os("VITALOG_PYTHON").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/venv/bin/python")),
        PathBuf::from,
    );
    std::fs::write(folder.join("verify.py"), block("python", "import base64")).unwrap();
    Command::new(&python)
        .current_dir(folder)
        .args(["verify.py", "ledger.ndjson", "checkpoint", "ledger.pub"])
        .output()
        .expect("Python with cryptography: tests/run installs it, VITALOG_PYTHON names another")
}

#[track_caller]
fn verdict(lines: &[String], note: &str, vkey: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), lines, note, vkey);
    let output = run_script(folder.path());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    agrees(folder.path(), output.status.code(), &said);
    (output.status.code(), said)
}

/// Our own tool comes to the same verdict. Where a record does not follow from the one before, the
/// script cannot tell which of the two was changed.
#[track_caller]
fn agrees(folder: &Path, code: Option<i32>, said: &str) {
    let output = Command::new(built("audit").unwrap())
        .current_dir(folder)
        .args(["--json", "verify", "--file", "ledger.ndjson", "--checkpoint", "checkpoint"])
        .args(["--verifier-key", "ledger.pub"])
        .output()
        .unwrap();
    let verdict = String::from_utf8(output.stdout).unwrap();
    // What is no key or no checkpoint at all is not evidence of tampering: code 2.
    let ours = output.status.code();
    assert!(ours == code || ours == Some(2) && code == Some(1), "{said} {verdict}");
    let seq = said.strip_prefix("NOT PROVEN at record ").and_then(|said| said.split_once(':'));
    if let (Some((seq, _)), Some(1)) = (seq, ours) {
        let json: serde_json::Value = serde_json::from_str(&verdict).unwrap();
        let finding = |name: &str| json["findings"][0][name].as_u64().unwrap();
        let seq: u64 = seq.parse().unwrap();
        let (first, last) = (finding("first"), finding("last"));
        assert!(first <= seq && seq <= last + 1, "{said} {verdict}");
    }
}

#[track_caller]
fn refused(lines: &[String], note: &str, vkey: &str, expected: &str) {
    let verdict = verdict(lines, note, vkey);
    assert_eq!(verdict, (Some(1), format!("NOT PROVEN at {expected}\n")));
}

#[test]
fn the_script_finds_intact_ledgers_intact() {
    for count in [0, 1, 2, 3, 64, COUNT] {
        let (lines, note, vkey) = signed_export(count);
        let (code, said) = verdict(&lines, &note, &vkey);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with(&format!("INTACT: {count} records of clinic-ledger")), "{said}");
    }
}

#[test]
fn the_script_passes_over_signatures_of_others() {
    let (lines, note, vkey) = signed_export(COUNT);
    let witness = audit_verify::cosignature::WitnessSecret::new("witness", &[2; 32]).unwrap();
    let cosigned = note.clone() + &witness.cosign(&note, 1_764_000_000).unwrap();
    assert_eq!(verdict(&lines, &cosigned, &vkey).0, Some(0));
}

#[test]
fn the_script_finds_changed_records() {
    let (lines, note, vkey) = signed_export(COUNT);
    let changed = |seq: usize, from: &str, to: &str| {
        let mut lines = lines.clone();
        assert!(lines[seq].contains(from));
        lines[seq] = lines[seq].replace(from, to);
        lines
    };
    let broken = "record 41: it or the record before it was changed";
    refused(&changed(40, "\"TREAT\"", "\"TREAS\""), &note, &vkey, broken);
    refused(
        &changed(40, "\"v\":1,", "\"v\":1,\"v\":1,"),
        &note,
        &vkey,
        "record 40: its line is not in canonical form",
    );
    refused(
        &changed(40, "\"seq\":40", "\"seq\": 40"),
        &note,
        &vkey,
        "record 40: its line is not in canonical form",
    );
    refused(
        &changed(40, "\"seq\":40", "\"seq\":40.0"),
        &note,
        &vkey,
        "record 40: it belongs to another place",
    );
    refused(
        &changed(1, "\"seq\":1,", "\"seq\":true,"),
        &note,
        &vkey,
        "record 1: it belongs to another place",
    );
    refused(
        &changed(40, "\"seq\":40", "\"seq\":41"),
        &note,
        &vkey,
        "record 40: it belongs to another place",
    );
    refused(
        &changed(40, "clinic-ledger", "other-ledger"),
        &note,
        &vkey,
        "record 40: it belongs to another place",
    );
    refused(
        &changed(40, "T16:", "T15:"),
        &note,
        &vkey,
        "record 40: it is earlier than the record before it",
    );
    let root = "record 83: the records before it are not those that were signed";
    refused(&changed(82, "\"TREAT\"", "\"TREAS\""), &note, &vkey, root);
    // Rewritten with correct links: the root alone shows it.
    let mut rewritten = changed(40, "\"nurse\"", "\"nurze\"");
    relink(&mut rewritten, 41);
    refused(&rewritten, &note, &vkey, root);
}

#[test]
fn the_script_finds_records_deleted_doubled_swapped_and_cut_off() {
    let (lines, note, vkey) = signed_export(COUNT);
    let mut deleted = lines.clone();
    deleted.remove(40);
    refused(&deleted, &note, &vkey, "record 40: it belongs to another place");
    let mut doubled = lines.clone();
    doubled.insert(40, lines[40].clone());
    refused(&doubled, &note, &vkey, "record 41: it belongs to another place");
    let mut swapped = lines.clone();
    swapped.swap(40, 60);
    refused(&swapped, &note, &vkey, "record 40: it belongs to another place");
    let short = "record 82: it is missing: 83 records were signed";
    refused(&lines[..82], &note, &vkey, short);
    refused(&[], &note, &vkey, "record 0: it is missing: 83 records were signed");
    // Cut off within the last line.
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &lines, &note, &vkey);
    let export = folder.path().join("ledger.ndjson");
    let bytes = std::fs::read(&export).unwrap();
    std::fs::write(&export, &bytes[..bytes.len() - 1]).unwrap();
    let output = run_script(folder.path());
    let expected = b"NOT PROVEN at record 82: its line is cut off or too long\n";
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &expected[..]));
}

#[test]
fn the_script_refuses_other_keys_and_checkpoints() {
    let (lines, note, vkey) = signed_export(COUNT);
    let stranger = secret(9);
    let unsigned = "the checkpoint: it is not signed by this key";
    refused(&lines, &note, &stranger.public().to_string(), unsigned);
    // A whole ledger rewritten and signed by somebody else.
    refused(&lines, &sign(&stranger, &lines), &vkey, unsigned);
    let damaged = vkey.replace('+', "+0");
    let (code, said) = verdict(&lines, &note, &damaged);
    assert_eq!(code, Some(1), "{said}");
    let older = sign(&secret(1), &lines[..60]);
    refused(
        &lines,
        &older,
        &vkey,
        "record 60: the checkpoint does not cover it and those after it",
    );
    // The text of one checkpoint under the signature of another.
    let (text, _) = older.split_once("\n\n").unwrap();
    let (_, signature) = note.split_once("\n\n").unwrap();
    let mixed = format!("{text}\n\n{signature}");
    // Characters that some readers of base64 pass over.
    let padded = note.replace(" Mz", " M!z").replace("=\n", " =\n");
    let (code, said) = verdict(&lines, &padded, &vkey);
    assert_eq!(code, Some(1), "{said}");
    refused(&lines[..60], &mixed, &vkey, "the checkpoint: InvalidSignature");
    for damage in ["", "\n", "rubbish", &note[..note.len() / 2]] {
        let (code, said) = verdict(&lines, damage, &vkey);
        assert_eq!(code, Some(1), "{damage:?}: {said}");
        assert!(said.starts_with("NOT PROVEN at the checkpoint: "), "{damage:?}: {said}");
    }
}

#[test]
fn one_link_is_checked_with_sha256sum_as_the_docs_say() {
    let (lines, note, vkey) = signed_export(COUNT);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &lines, &note, &vkey);
    let output = Command::new("bash")
        .current_dir(folder.path())
        .args(["-ec", block("bash", "seq=41")])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let prev = Record::parse(&lines[42]).unwrap().prev.to_string();
    assert_eq!(said.matches(&prev).count(), 2, "{said}");
}

/// What the threat list of the docs names as the test that shows it is there.
#[test]
fn every_test_that_the_docs_name_exists() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folders = [
        ("suite", "tests/tests/suite"),
        ("audit", "audit-service/tests/integration"),
        ("verify", "audit-service/verify/tests/integration"),
        ("domain", "domain/tests/integration"),
        ("patient", "patient-service/tests/integration"),
    ];
    let named: Vec<_> = DOCS.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 40, "{}", named.len());
    assert!(!DOCS.contains("TEST:"), "a test that is still to be named");
    for (file, function) in named {
        let (short, rest) = file.split_once('/').unwrap();
        let folder = folders.iter().find(|(name, _)| *name == short).unwrap().1;
        let path = root.join(folder).join(format!("{rest}.rs"));
        let source = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{file}.rs"));
        assert!(source.contains(&format!("fn {function}(")), "{file}.rs::{function}");
    }
}
