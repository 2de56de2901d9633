//! AES-256-GCM, for sealed content and for wrapped keys.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use domain::sealed::{NONCE_BYTES, TAG_BYTES};
use zeroize::Zeroizing;

/// What encrypting gives.
pub(crate) struct Sealed {
    pub(crate) nonce: [u8; NONCE_BYTES],
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) tag: [u8; TAG_BYTES],
}

/// Encrypts under a nonce made for this call.
///
/// A key may seal 2^32 contents under random nonces (NIST SP 800-38D, 8.3): no patient has as
/// many events, no month as many searches, and no ring as many keys.
pub(crate) fn seal(key: &[u8; 32], aad: &[u8], content: &[u8]) -> Sealed {
    let mut nonce = [0; NONCE_BYTES];
    fill_random(&mut nonce);
    let mut ciphertext = content.to_vec();
    let sealed = aes(key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut ciphertext,
        )
        .expect("content is far below the 64 GiB that a nonce may seal");
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(sealed.as_ref());
    Sealed { nonce, ciphertext, tag }
}

/// Decrypts; `None` where anything was changed or the key is another.
pub(crate) fn open(
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(vec![0; ciphertext.len()]);
    aes(key)
        .open_separate_gather(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            ciphertext,
            tag,
            &mut content,
        )
        .ok()?;
    Some(content)
}

/// Fills a buffer with random bytes for keys and nonces.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system gives randomness");
}

fn aes(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has 32 bytes"))
}
