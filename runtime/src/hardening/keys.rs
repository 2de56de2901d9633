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

/// Whether a key was made by no random generator: one byte again and again, bytes that count up, or
/// a word that stands for a key.
pub(super) fn is_known(key: &[u8]) -> bool {
    let decoded = [hex::decode(key).ok(), STANDARD.decode(key).ok()].map(Zeroizing::new);
    let raw = decoded.iter().filter_map(|it| it.as_deref()).chain([key]);
    let plain: Zeroizing<String> = Zeroizing::new(
        key.iter()
            .filter(|byte| byte.is_ascii_alphanumeric())
            .map(|byte| char::from(byte.to_ascii_lowercase()))
            .collect(),
    );
    raw.into_iter().any(is_pattern) || PLACEHOLDERS.iter().any(|it| plain.starts_with(it))
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
        ] {
            assert!(is_known(known.as_bytes()), "{known}");
        }
        for _ in 0..100 {
            assert!(!is_known(crate::secrets::random_key_hex().as_bytes()));
        }
        assert!(!is_known(b"the-service-key-of-patient-service"));
    }
}
