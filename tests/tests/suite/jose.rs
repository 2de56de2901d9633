//! The `data` of a record: round trips, every change noticed, and an independent JOSE library
//! that opens ours and whose own we open.

use std::{
    collections::HashSet,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    ids::{KeyId, PatientId, Stream},
    record::RecordType,
    sealed::{JweHeader, parse_compact, write_compact},
};
use projections::{
    jwe::{self, JweError},
    key_ring::DataKey,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

const SECRET: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";

fn key() -> DataKey {
    DataKey::from_parts(KeyId::new(Uuid::from_u128(7)), Zeroizing::new(SECRET))
}

fn stream() -> Stream {
    Stream::Patient(PatientId::new(Uuid::from_u128(1)))
}

fn sealed(content: &[u8]) -> String {
    jwe::seal(&key(), Some(stream()), RecordType::PatientRegistered, Some(3), content)
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        secret: [u8; 32],
        content in proptest::collection::vec(any::<u8>(), 0..4_096),
        version in proptest::option::of(1_u64..1 << 53),
    ) {
        let key = DataKey::from_parts(KeyId::new(Uuid::new_v4()), Zeroizing::new(secret));
        let data = jwe::seal(&key, Some(stream()), RecordType::TestRecorded, version, &content);
        let header = parse_compact(&data).unwrap().header;
        let expected = JweHeader::new(key.kid(), Some(stream()), RecordType::TestRecorded, version);
        prop_assert_eq!(header, expected);
        let opened = jwe::open(&key, &data).unwrap();
        prop_assert_eq!(opened.as_slice(), &content[..]);
    }
}

#[test]
fn a_change_of_any_character_is_noticed() {
    let data = sealed(b"{\"firstName\":\"JOAN\"}");
    for at in 0..data.len() {
        for replacement in "AQgwz019-_.=".chars() {
            let mut changed = data.clone();
            changed.replace_range(at..=at, replacement.encode_utf8(&mut [0; 4]));
            if changed != data {
                assert!(jwe::open(&key(), &changed).is_err(), "character {at}");
            }
        }
        let mut shorter = data.clone();
        shorter.remove(at);
        assert!(jwe::open(&key(), &shorter).is_err(), "character {at}");
    }
}

#[test]
fn a_flipped_bit_of_any_part_is_noticed() {
    let data = sealed(b"content");
    let parts = parse_compact(&data).unwrap();
    for bit in 0..8 * parts.nonce.len() {
        let mut nonce = parts.nonce;
        nonce[bit / 8] ^= 1 << (bit % 8);
        unauthentic(&write_compact(parts.aad, &nonce, &parts.ciphertext, &parts.tag));
    }
    for bit in 0..8 * parts.tag.len() {
        let mut tag = parts.tag;
        tag[bit / 8] ^= 1 << (bit % 8);
        unauthentic(&write_compact(parts.aad, &parts.nonce, &parts.ciphertext, &tag));
    }
    for bit in 0..8 * parts.ciphertext.len() {
        let mut ciphertext = parts.ciphertext.clone();
        ciphertext[bit / 8] ^= 1 << (bit % 8);
        unauthentic(&write_compact(parts.aad, &parts.nonce, &ciphertext, &parts.tag));
    }
}

#[track_caller]
fn unauthentic(data: &str) {
    assert_eq!(jwe::open(&key(), data).unwrap_err(), JweError::Unauthentic);
}

#[test]
fn data_cannot_be_given_another_header() {
    let data = sealed(b"content");
    let parts = parse_compact(&data).unwrap();
    let moved = |header: JweHeader| {
        write_compact(&header.encode(), &parts.nonce, &parts.ciphertext, &parts.tag)
    };
    let kid = key().kid();
    let registered = RecordType::PatientRegistered;
    let other = Some(Stream::Patient(PatientId::new(Uuid::from_u128(2))));
    unauthentic(&moved(JweHeader::new(kid, other, registered, Some(3))));
    unauthentic(&moved(JweHeader::new(kid, Some(stream()), registered, Some(4))));
    unauthentic(&moved(JweHeader::new(kid, Some(stream()), RecordType::PatientAmended, Some(3))));
    unauthentic(&moved(JweHeader::new(kid, None, registered, None)));
    let other = KeyId::new(Uuid::from_u128(8));
    let data = moved(JweHeader::new(other, Some(stream()), registered, Some(3)));
    assert_eq!(jwe::open(&key(), &data).unwrap_err(), JweError::OtherKey(other));
}

#[test]
fn another_secret_under_the_same_id_does_not_open() {
    let other = DataKey::from_parts(key().kid(), Zeroizing::new([9; 32]));
    assert_eq!(jwe::open(&other, &sealed(b"content")).unwrap_err(), JweError::Unauthentic);
}

#[test]
fn the_same_content_never_gets_the_same_nonce() {
    let nonces: HashSet<_> =
        (0..10_000).map(|_| parse_compact(&sealed(b"content")).unwrap().nonce).collect();
    assert_eq!(nonces.len(), 10_000);
}

/// Opens a JWE, or makes one, with jwcrypto. Reads a request from stdin, so that no key stands in
/// a command line.
const JWCRYPTO: &str = r#"
import base64, json, sys
from jwcrypto import jwe, jwk

def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

request = json.load(sys.stdin)
key = jwk.JWK(kty="oct", k=request["key"])
answers = []
for item in request["items"]:
    if "jwe" in item:
        token = jwe.JWE()
        token.deserialize(item["jwe"], key)
        answers.append(encoded(token.payload))
    else:
        padded = item["content"] + "=" * (-len(item["content"]) % 4)
        content = base64.urlsafe_b64decode(padded)
        token = jwe.JWE(content, protected=json.dumps(item["header"]))
        token.add_recipient(key)
        answers.append(token.serialize(compact=True))
json.dump(answers, sys.stdout)
"#;

/// Contents of every sort of length, among them the largest that is ever sealed. None is empty:
/// events have content or no data, and jwcrypto takes an empty plaintext for a failure.
fn contents() -> Vec<Vec<u8>> {
    let largest = vec![b'x'; domain::content::MAX_CONTENT_BYTES];
    let mut contents: Vec<_> =
        [1, 15, 16, 17, 1_000].into_iter().map(|length| vec![0xff; length]).collect();
    contents.extend([largest, "{\"firstName\":\"Åsa Ångström\"}".into()]);
    contents
}

#[test]
fn jwcrypto_opens_ours() {
    let contents = contents();
    let mut items: Vec<_> =
        contents.iter().map(|content| json!({ "jwe": sealed(content) })).collect();
    let search = jwe::seal(&key(), None, RecordType::PatientsSearched, None, b"{}");
    items.push(json!({ "jwe": search }));
    let opened: Vec<_> =
        jwcrypto(&items).iter().map(|content| URL_SAFE_NO_PAD.decode(content).unwrap()).collect();
    let (search, opened) = opened.split_last().unwrap();
    assert!(opened == contents);
    assert_eq!(search, b"{}");
}

#[test]
fn we_open_those_of_jwcrypto() {
    let contents = contents();
    let header = JweHeader::new(key().kid(), Some(stream()), RecordType::TestAmended, Some(2));
    let items: Vec<_> = contents
        .iter()
        .map(|content| json!({ "content": URL_SAFE_NO_PAD.encode(content), "header": header }))
        .collect();
    let made = jwcrypto(&items);
    assert_eq!(made.len(), contents.len());
    for (data, content) in made.iter().zip(&contents) {
        assert!(parse_compact(data).unwrap().header == header);
        assert!(jwe::open(&key(), data).unwrap().as_slice() == content);
    }
}

#[track_caller]
fn jwcrypto(items: &[Value]) -> Vec<String> {
    let python = std::env::var_os("VITALOG_PYTHON").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/venv/bin/python")),
        PathBuf::from,
    );
    let mut child = Command::new(&python)
        .args(["-c", JWCRYPTO])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python with jwcrypto: tests/run installs it, VITALOG_PYTHON names another");
    let request = json!({ "key": URL_SAFE_NO_PAD.encode(SECRET), "items": items });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(request.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "jwcrypto failed");
    serde_json::from_slice(&output.stdout).unwrap()
}
