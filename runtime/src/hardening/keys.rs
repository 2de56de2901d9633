//! Keys that others know.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// What people write where a key should be. Letters and digits alone, in lower case.
const PLACEHOLDERS: [&str; 10] = [
    "changeme",
    "changethis",
    "replaceme",
    "password",
    "placeholder",
    "default",
    "example",
    "insecure",
    "secret",
    "yourkey",
];

/// What begins the text of a signing key (C2SP signed-note): `PRIVATE+KEY+<name>+<id>+<base64>`.
const SIGNING_KEY: &str = "PRIVATE+KEY+";

/// Whether a key was made by no random generator: one byte again and again, bytes that count up, or
/// a word that stands for a key.
pub(super) fn is_known(key: &[u8]) -> bool {
    let decoded =
        [hex::decode(key).ok(), STANDARD.decode(key).ok(), seed_of(key)].map(Zeroizing::new);
    let raw = decoded.iter().filter_map(|it| it.as_deref()).chain([key]);
    let plain: Zeroizing<String> = Zeroizing::new(
        key.iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .map(|byte| char::from(byte.to_ascii_lowercase()))
            .collect(),
    );
    raw.into_iter().any(is_pattern) || PLACEHOLDERS.iter().any(|it| plain.starts_with(it))
}

/// The bytes that a signing key was made of, without the one that says how it signs.
fn seed_of(key: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(key).ok()?.trim().strip_prefix(SIGNING_KEY)?;
    let mut bytes = STANDARD.decode(text.splitn(3, '+').nth(2)?).ok()?;
    (!bytes.is_empty()).then(|| bytes.split_off(1))
}

fn is_pattern(bytes: &[u8]) -> bool {
    let steps = |step: u8| bytes.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(step));
    !bytes.is_empty() && (steps(0) || steps(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_placeholders_are_known_and_random_keys_are_not() {
        for known in [
            "0".repeat(64).as_str(),
            &"ab".repeat(32),
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "changemechangeme",
            "Change-Me-Change-Me",
            "password12345678",
            "xxxxxxxxxxxxxxxx",
            // 32 bytes of zero, and of seven.
            "PRIVATE+KEY+ledger+01020304+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "PRIVATE+KEY+ledger+01020304+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n",
        ] {
            assert!(is_known(known.as_bytes()), "{known}");
        }
        let random = STANDARD.encode([&[1][..], &rand::random::<[u8; 32]>()].concat());
        assert!(!is_known(format!("PRIVATE+KEY+ledger+01020304+{random}").as_bytes()));
        for odd in ["PRIVATE+KEY+", "PRIVATE+KEY+a+b+", "PRIVATE+KEY+a+b+AQ==", "PRIVATE+KEY+a"] {
            assert!(!is_known(odd.as_bytes()), "{odd}");
        }
        for _ in 0..100 {
            assert!(!is_known(crate::secrets::random_key_hex().as_bytes()));
        }
        assert!(!is_known(b"the-service-key-of-patient-service"));
    }
}
