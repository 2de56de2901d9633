//! The keys that an issuer publishes (RFC 7517), as far as tokens may be signed with them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations,
    PublicKeyUse,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The shortest RSA key, in bits (RFC 7518, section 3.3), and the longest, which bounds what one
/// signature costs.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A public key.
#[derive(Debug)]
pub(super) struct Key {
    id: String,
    /// The one algorithm that it is for, where the issuer says so.
    algorithm: Option<Algorithm>,
    public: AlgorithmParameters,
    decoding: DecodingKey,
}

/// The same key, whenever it was fetched.
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (&self.id, self.algorithm, &self.public) == (&other.id, other.algorithm, &other.public)
    }
}

impl Key {
    /// `None` for whatever no token may be signed with.
    fn of(value: &Value) -> Option<Self> {
        let Jwk { common, algorithm: public } = Jwk::deserialize(value).ok()?;
        let for_signatures = common.public_key_use.is_none_or(|of| of == PublicKeyUse::Signature)
            && common.key_operations.is_none_or(|all| all.contains(&KeyOperations::Verify));
        let known = match &public {
            AlgorithmParameters::RSA(rsa) => RSA_BITS.contains(&bits(&rsa.n)?),
            AlgorithmParameters::EllipticCurve(point) => {
                let length = match point.curve {
                    EllipticCurve::P256 => 32,
                    EllipticCurve::P384 => 48,
                    _ => return None,
                };
                decoded(&point.x)?.len() == length && decoded(&point.y)?.len() == length
            }
            AlgorithmParameters::OctetKeyPair(pair) => {
                pair.curve == EllipticCurve::Ed25519 && decoded(&pair.x)?.len() == 32
            }
            _ => false,
        };
        if !for_signatures || !known {
            return None;
        }
        let algorithm = match common.key_algorithm {
            None => None,
            Some(KeyAlgorithm::UNKNOWN_ALGORITHM) => return None,
            Some(named) => Some(Algorithm::try_from(named).ok()?),
        };
        let decoding = DecodingKey::try_from(&Jwk {
            common: CommonParameters::default(),
            algorithm: public.clone(),
        })
        .ok()?;
        let key = Self { id: common.key_id?, algorithm, public, decoding };
        algorithm.is_none_or(|algorithm| key.fits(algorithm)).then_some(key)
    }

    /// Whether tokens of an algorithm may be signed with it.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let of_its_kind = match &self.public {
            AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
            AlgorithmParameters::EllipticCurve(point) => match point.curve {
                EllipticCurve::P256 => algorithm == Algorithm::ES256,
                EllipticCurve::P384 => algorithm == Algorithm::ES384,
                _ => false,
            },
            AlgorithmParameters::OctetKeyPair(_) => algorithm == Algorithm::EdDSA,
            _ => false,
        };
        of_its_kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    /// For checking signatures.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn bits(modulus: &str) -> Option<usize> {
    let bytes = decoded(modulus)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    let leading = bytes[first].leading_zeros() as usize;
    Some((bytes.len() - first) * 8 - leading)
}

/// All usable keys of an issuer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct KeySet {
    keys: Vec<Arc<Key>>,
    /// How many others were published besides.
    skipped: usize,
}

/// A key set document.
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// `None` where the document is no key set. Keys that cannot be used are left out, as RFC 7517,
    /// section 5, asks for.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        let published = serde_json::from_slice::<Document>(json).ok()?.keys;
        let keys: Vec<_> = published.iter().filter_map(Key::of).map(Arc::new).collect();
        Some(Self { skipped: published.len() - keys.len(), keys })
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many were left out.
    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// Every key of this id; an issuer may have several of different kinds.
    pub(super) fn named<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Arc<Key>> {
        self.keys.iter().filter(move |key| key.id == id)
    }

    /// Whether this very key is among them.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.named(&key.id).any(|other| **other == *key)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rsa(bits: usize) -> Value {
        let mut modulus = vec![0xff; bits / 8];
        modulus.insert(0, 0);
        json!({"kty": "RSA", "kid": "k", "use": "sig", "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(modulus)})
    }

    fn ec(curve: &str, length: usize) -> Value {
        let coordinate = URL_SAFE_NO_PAD.encode(vec![1; length]);
        json!({"kty": "EC", "kid": "k", "crv": curve, "x": coordinate, "y": coordinate})
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn parse(key: &Value) -> KeySet {
        KeySet::parse(&serde_json::to_vec(&json!({"keys": [key]})).unwrap()).unwrap()
    }

    #[test]
    fn keys_for_signatures_of_known_kinds_are_taken() {
        use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
        let ed = json!({"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([1; 32])});
        for (key, fitting) in [
            (rsa(2048), &[RS256, PS256][..]),
            (with(rsa(4096), "use", Value::Null), &[RS256, PS256]),
            (with(rsa(2048), "alg", json!("PS256")), &[PS256]),
            (with(rsa(2048), "x5c", json!(["MII"])), &[RS256, PS256]),
            (with(rsa(2048), "key_ops", json!(["verify"])), &[RS256, PS256]),
            (ec("P-256", 32), &[ES256]),
            (ec("P-384", 48), &[ES384]),
            (ed, &[EdDSA]),
        ] {
            let set = parse(&key);
            let parsed = set.named("k").next().expect("a key");
            for algorithm in [RS256, PS256, ES256, ES384, EdDSA, Algorithm::HS256] {
                let fits = fitting.contains(&algorithm);
                assert_eq!(parsed.fits(algorithm), fits, "{algorithm:?} {key}");
            }
            assert!(set.has(parsed) && parse(&key).has(parsed));
        }
    }

    #[test]
    fn every_other_key_is_left_out_and_counted() {
        let mut nameless = rsa(2048);
        nameless.as_object_mut().unwrap().remove("kid");
        for key in [
            rsa(1024),
            rsa(2040),
            rsa(16_384),
            nameless,
            with(rsa(2048), "use", json!("enc")),
            with(rsa(2048), "use", json!("other")),
            with(rsa(2048), "key_ops", json!(["encrypt"])),
            with(rsa(2048), "alg", json!("HS256")),
            with(rsa(2048), "alg", json!("ES256")),
            with(rsa(2048), "alg", json!("RSA-OAEP")),
            with(rsa(2048), "alg", json!("none")),
            with(rsa(2048), "kty", json!("ROT13")),
            with(rsa(2048), "kid", json!(7)),
            with(rsa(2048), "n", json!("not base64!")),
            with(rsa(2048), "n", json!("")),
            ec("P-256", 31),
            ec("P-384", 32),
            ec("P-521", 66),
            ec("secp256k1", 32),
            json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}),
            json!({"kty": "OKP", "kid": "k", "crv": "X25519", "x": "AAAA"}),
            json!("a key"),
            json!({}),
        ] {
            let set = parse(&key);
            assert_eq!((set.len(), set.skipped()), (0, 1), "{key}");
        }
        for garbage in ["", "[]", "{}", "{\"keys\":{}}", "<html>"] {
            assert!(KeySet::parse(garbage.as_bytes()).is_none(), "{garbage}");
        }
    }

    #[test]
    fn another_key_of_the_same_name_is_another_key() {
        let before = parse(&ec("P-256", 32));
        let mut other = ec("P-256", 32);
        other["x"] = json!(URL_SAFE_NO_PAD.encode([2; 32]));
        let key = Arc::clone(before.named("k").next().unwrap());
        assert!(!parse(&other).has(&key));
        assert!(!parse(&with(ec("P-256", 32), "kid", json!("l"))).has(&key));
    }
}
