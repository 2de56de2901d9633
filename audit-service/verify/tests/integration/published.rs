//! What others published: the examples of the specifications, and the keys and the note of Go's
//! `golang.org/x/mod/sumdb/note`.

use audit_verify::{
    checkpoint::{CheckpointError, LedgerKey, read_unverified},
    cosignature::WitnessKey,
    keys::{Algorithm, NoteKey, NoteSecret},
    proof_file::ProofFile,
};

const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const PETERS_SECRET: &str =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
const PETERS_LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
const ENOCHS_LINE: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=";

/// C2SP tlog-checkpoint and tlog-cosignature.
const CHECKPOINT: &str = "\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
";

#[test]
fn keys_of_go_are_read_and_written_the_same() {
    for text in [PETER, ENOCH] {
        let key = NoteKey::parse(text, Algorithm::Note).unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(format!("{:08x}", key.id()), text.split('+').nth(1).unwrap());
        assert_eq!(text.parse::<LedgerKey>().unwrap().to_string(), text);
    }
    let secret = NoteSecret::parse(PETERS_SECRET, Algorithm::Note).unwrap();
    assert_eq!(*secret.to_text(), PETERS_SECRET);
    assert_eq!(secret.public().to_string(), PETER);
}

#[test]
fn a_note_of_go_is_signed_the_same_and_verifies() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let secret = NoteSecret::parse(PETERS_SECRET, Algorithm::Note).unwrap();
    let signed = [&secret.public().id().to_be_bytes(), &secret.sign(TEXT.as_bytes())[..]].concat();
    assert_eq!(format!("— PeterNeumann {}", STANDARD.encode(signed)), PETERS_LINE);
    for (key, line) in [(PETER, PETERS_LINE), (ENOCH, ENOCHS_LINE)] {
        let signature = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap();
        let key = NoteKey::parse(key, Algorithm::Note).unwrap();
        assert!(key.verifies(TEXT.as_bytes(), &signature[4..]));
        assert!(!key.verifies(&TEXT.as_bytes()[1..], &signature[4..]));
    }
    // A genuine note, and no checkpoint.
    let note = format!("{TEXT}\n{PETERS_LINE}\n{ENOCHS_LINE}\n");
    let peter: LedgerKey = PETER.parse().unwrap();
    assert_eq!(peter.open(&note), Err(CheckpointError::Malformed));
}

#[test]
fn the_example_of_a_note_has_the_form_and_is_no_checkpoint() {
    // C2SP signed-note: an empty line within the text, and letters beyond ASCII.
    let note = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito \
                sera.\n\n— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC\
                +EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
    let witness = audit_verify::cosignature::WitnessSecret::new("w", &[1; 32]).unwrap();
    assert_eq!(witness.public().cosigned_at(note), Ok(None));
    assert_eq!(witness.cosign(note, 1), Err(CheckpointError::Malformed));
    assert_eq!(read_unverified(note), Err(CheckpointError::Malformed));
}

#[test]
fn the_example_of_a_checkpoint_has_the_form() {
    // Its origin is no ledger's of this system; the same text with a name that is one is read.
    assert_eq!(read_unverified(CHECKPOINT), Err(CheckpointError::Origin));
    let (origin, head) =
        read_unverified(&CHECKPOINT.replace("example.com/behind-the-sofa", "sofa")).unwrap();
    assert_eq!((origin.as_str(), head.size), ("sofa", 20_852_163));
    let root = "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62";
    assert_eq!(head.root.to_string(), root);
}

/// The specification gives no key for its example; the key's id in it shows where the time is.
#[test]
fn the_example_of_a_cosignature_has_its_time_where_we_read_it() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let line = CHECKPOINT.lines().last().unwrap();
    let bytes = STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap();
    assert_eq!(bytes.len(), 4 + 8 + 64);
    assert_eq!(bytes[4..12], 1_679_315_147_u64.to_be_bytes());
    // Another witness of the same name did not cosign it: the name alone is nobody.
    let other =
        audit_verify::cosignature::WitnessSecret::new("witness.example.com/w1", &[1; 32]).unwrap();
    assert_eq!(other.public().cosigned_at(CHECKPOINT), Ok(None));
    let key: WitnessKey = other.public().to_string().parse().unwrap();
    let mine = other.cosign(CHECKPOINT, 1_679_315_147).unwrap();
    assert_eq!(key.cosigned_at(&format!("{CHECKPOINT}{mine}")), Ok(Some(1_679_315_147)));
}

/// C2SP tlog-proof. Two of its lines are shortened there or not base64, and are left out here.
#[test]
fn the_example_of_a_proof_has_the_form() {
    let text = "c2sp.org/tlog-proof@v1\n\
                index 73894\n\
                gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n\
                B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\
                EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\n\
                RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\n\
                AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=\n\
                \n\
                example.com/fancylog\n\
                109482\n\
                sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\
                \n\
                — example.com/fancylog hI2DJw\n";
    let proof = ProofFile::parse(text).unwrap();
    assert_eq!((proof.index, proof.hashes.len(), &proof.extra), (73_894, 5, &None));
    assert!(proof.checkpoint.starts_with("example.com/fancylog\n109482\n"));
    assert_eq!(proof.to_string(), text);
}
