//! The head of a token, which says how to check it (RFC 7515, section 4).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::TokenFault;

/// The longest token, in bytes. Issuers keep them below what servers take as a header.
pub(super) const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Types of access tokens (RFC 9068, section 2.1), and the one that says nothing (RFC 7519,
/// section 5.1).
const TYPES: [&str; 4] = ["at+jwt", "application/at+jwt", "jwt", "application/jwt"];

/// What the head of a token says that has to be known before its signature can be checked.
///
/// Everything else in it is not looked at, above all not the keys and addresses that a head can
/// bring along (`jwk`, `jku`, `x5c`, `x5u`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// One of those allowed.
    pub(super) algorithm: Algorithm,
    /// The key's name at the issuer.
    pub(super) key_id: String,
}

impl Head {
    /// Reads the head of a token of three parts.
    pub(super) fn read(token: &str, allowed: &[Algorithm]) -> Result<Self, TokenFault> {
        let mut parts = token.split('.');
        let (Some(head), Some(_), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed);
        };
        let json = URL_SAFE_NO_PAD.decode(head).map_err(|_| TokenFault::Malformed)?;
        let head: Map<String, Value> =
            serde_json::from_slice(&json).map_err(|_| TokenFault::Malformed)?;
        let text = |name: &str| head.get(name).and_then(Value::as_str);
        if head.contains_key("crit") {
            return Err(TokenFault::Critical);
        }
        if head.contains_key("typ")
            && !text("typ").is_some_and(|typ| TYPES.iter().any(|of| of.eq_ignore_ascii_case(typ)))
        {
            return Err(TokenFault::Type);
        }
        let algorithm = text("alg")
            .and_then(|name| name.parse().ok())
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or(TokenFault::Algorithm)?;
        let key_id = text("kid").filter(|id| !id.is_empty()).ok_or(TokenFault::NoKeyId)?.to_owned();
        Ok(Self { algorithm, key_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

    #[track_caller]
    fn check(json: &str, expected: Result<Algorithm, TokenFault>) {
        let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(json));
        let head = Head::read(&token, &ALLOWED);
        assert_eq!(head.map(|head| head.algorithm), expected, "{json}");
    }

    #[test]
    fn a_head_names_an_allowed_algorithm_and_a_key() {
        use TokenFault::{Algorithm as Alg, Critical, Malformed, NoKeyId, Type};
        check(r#"{"alg":"RS256","kid":"k"}"#, Ok(Algorithm::RS256));
        check(r#"{"alg":"ES256","kid":"k","typ":"JWT"}"#, Ok(Algorithm::ES256));
        check(r#"{"alg":"RS256","kid":"k","typ":"at+jwt","x5t":"a"}"#, Ok(Algorithm::RS256));
        check(r#"{"alg":"RS256","kid":"k","typ":"application/AT+JWT"}"#, Ok(Algorithm::RS256));
        for alg in
            ["none", "None", "NONE", "nOnE", "", "HS256", "HS512", "rs256", "RS512", " RS256"]
        {
            check(&format!(r#"{{"alg":"{alg}","kid":"k"}}"#), Err(Alg));
        }
        for alg in ["null", "256", "[\"RS256\"]", "{}"] {
            check(&format!(r#"{{"alg":{alg},"kid":"k"}}"#), Err(Alg));
        }
        check(r#"{"kid":"k"}"#, Err(Alg));
        for crit in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null"] {
            check(&format!(r#"{{"alg":"RS256","kid":"k","crit":{crit}}}"#), Err(Critical));
        }
        for typ in [r#""logout+jwt""#, r#""id_token""#, r#""dpop+jwt""#, r#""""#, "null", "7"] {
            check(&format!(r#"{{"alg":"RS256","kid":"k","typ":{typ}}}"#), Err(Type));
        }
        for kid in ["", r#","kid":"""#, r#","kid":7"#, r#","kid":["k"]"#] {
            check(&format!(r#"{{"alg":"RS256"{kid}}}"#), Err(NoKeyId));
        }
        for json in ["", "[]", "\"RS256\"", "{", &"[".repeat(2_000)] {
            check(json, Err(Malformed));
        }
    }

    #[test]
    fn a_token_has_three_parts() {
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"k"}"#);
        for token in [
            String::new(),
            head.clone(),
            format!("{head}.e30"),
            format!("{head}.e30.c2ln.c2ln.c2ln"),
            format!("{head}=.e30.c2ln"),
            format!(".{head}.e30"),
            "..".into(),
        ] {
            assert_eq!(Head::read(&token, &ALLOWED), Err(TokenFault::Malformed), "{token}");
        }
    }
}
