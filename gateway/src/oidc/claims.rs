//! What a token says, and whom it makes of its bearer.

use std::collections::HashSet;
use std::time::Duration;

use domain::actor::{Actor, ActorKind};
use domain::ids::Name;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, get_current_timestamp};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::keys::Key;
use super::token::Head;
use super::{LEEWAY_S, TokenFault};
use crate::config::OidcSettings;
use crate::identity::Identity;
use crate::subscriptions::Scope;

/// The claim whose names stand in records.
const ROLES: &str = "roles";

/// Roles of one user that stand in records.
const MAX_ROLES: usize = 16;

/// What an id begins with that is made from a subject.
const DIGEST_PREFIX: &str = "sha256-";

/// Hexadecimal digits of such an id: with the prefix they still make a [`Name`].
const DIGEST_DIGITS: usize = 56;

/// Reads tokens as the settings say.
pub(super) struct Reader {
    settings: OidcSettings,
    validation: Validation,
}

/// What a verified token says.
#[derive(Debug)]
pub(super) struct Claims {
    /// In seconds since 1970.
    pub(super) expires: u64,
    all: Map<String, Value>,
}

impl Reader {
    pub(super) fn new(settings: OidcSettings) -> Self {
        let mut validation = Validation::default();
        validation.set_issuer(&[settings.issuer.as_str()]);
        validation.set_audience(&settings.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_S;
        Self { settings, validation }
    }

    /// The algorithms by which tokens may be signed.
    pub(super) fn algorithms(&self) -> &[Algorithm] {
        &self.settings.algorithms
    }

    /// Checks signature and claims.
    pub(super) fn verify(&self, token: &str, head: &Head, key: &Key) -> Result<Claims, TokenFault> {
        let validation = Validation { algorithms: vec![head.algorithm], ..self.validation.clone() };
        let data = decode::<Map<String, Value>>(token, key.decoding(), &validation)
            .map_err(|error| fault(error.kind()))?;
        let all = data.claims;
        // The library takes an array, too, and RFC 7519 knows none.
        if all.get("iss").and_then(Value::as_str) != Some(self.settings.issuer.as_str()) {
            return Err(TokenFault::Issuer);
        }
        let expires = all.get("exp").and_then(seconds).ok_or(TokenFault::Claim)?;
        if let Some(issued) = all.get("iat") {
            let issued = seconds(issued).ok_or(TokenFault::Claim)?;
            if issued > get_current_timestamp().saturating_add(LEEWAY_S) {
                return Err(TokenFault::FromFuture);
            }
        }
        if is_not_for_apis(&all) {
            return Err(TokenFault::NotAccess);
        }
        if all.contains_key("cnf") {
            return Err(TokenFault::Bound);
        }
        Ok(Claims { expires, all })
    }

    /// The user as records name them, with what they may do.
    pub(super) fn identity(&self, claims: &Claims) -> Result<Identity, TokenFault> {
        let subject = self
            .settings
            .subject_claims
            .iter()
            .find_map(|name| claims.all.get(name)?.as_str().filter(|text| !text.is_empty()))
            .ok_or(TokenFault::NoSubject)?;
        let id = subject_name(subject).ok_or(TokenFault::NoSubject)?;
        let roles = texts(claims.all.get(ROLES)).filter_map(|role| role.parse().ok());
        let actor = Actor { id, kind: ActorKind::User, roles: roles.take(MAX_ROLES).collect() };
        Identity::new(&actor, self.scopes(claims)).ok_or(TokenFault::Claim)
    }

    fn scopes(&self, claims: &Claims) -> Vec<Scope> {
        let names = &self.settings.scope_claims;
        let granted: HashSet<Scope> = names
            .iter()
            .flat_map(|name| texts(claims.all.get(name)))
            .filter_map(|text| self.scope(text))
            .collect();
        granted.into_iter().collect()
    }

    /// A scope under its own name, below one of our audiences as a prefix, or mapped.
    fn scope(&self, text: &str) -> Option<Scope> {
        let OidcSettings { audiences, scope_map, .. } = &self.settings;
        let below = |audience: &String| text.strip_prefix(audience.as_str())?.strip_prefix('/');
        let own = audiences.iter().find_map(below).unwrap_or(text);
        let mapped = || scope_map.iter().find(|(from, _)| from == text).map(|(_, scope)| *scope);
        own.parse().ok().or_else(mapped)
    }
}

fn fault(kind: &ErrorKind) -> TokenFault {
    match kind {
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::ExpiredSignature => TokenFault::Expired,
        ErrorKind::ImmatureSignature => TokenFault::NotYet,
        ErrorKind::InvalidIssuer => TokenFault::Issuer,
        ErrorKind::InvalidAudience => TokenFault::Audience,
        ErrorKind::MissingRequiredClaim(name) => match name.as_str() {
            "iss" => TokenFault::Issuer,
            "aud" => TokenFault::Audience,
            _ => TokenFault::NoExpiry,
        },
        ErrorKind::InvalidClaimFormat(_) => TokenFault::Claim,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => TokenFault::OtherKey,
        _ => TokenFault::Malformed,
    }
}

/// Only ID tokens have a nonce or hashes of what came with them (`OpenID` Connect Core 1.0, sections
/// 2 and 3.3.2.11), and some issuers name the kind of token in a claim.
fn is_not_for_apis(claims: &Map<String, Value>) -> bool {
    let kinds = ["ID", "Refresh", "Offline", "Logout"];
    let kind = claims.get("typ").and_then(Value::as_str);
    ["nonce", "at_hash", "c_hash"].iter().any(|name| claims.contains_key(*name))
        || kind.is_some_and(|kind| kinds.iter().any(|other| other.eq_ignore_ascii_case(kind)))
}

/// A time, which need not be a whole number (RFC 7519, section 2).
fn seconds(time: &Value) -> Option<u64> {
    let parts = || Duration::try_from_secs_f64(time.as_f64()?).ok();
    time.as_u64().or_else(|| Some(parts()?.as_secs()))
}

/// The texts of a claim: those of an array, or one with spaces between them.
fn texts(claim: Option<&Value>) -> impl Iterator<Item = &str> {
    let (one, many) = match claim {
        Some(Value::String(text)) => (text.as_str(), &[][..]),
        Some(Value::Array(items)) => ("", items.as_slice()),
        _ => ("", &[][..]),
    };
    one.split_ascii_whitespace().chain(many.iter().filter_map(Value::as_str))
}

/// The subject as records name it.
///
/// Records take names alone, because other texts could be personal data: a subject that is an
/// address of mail has no place in a ledger that nothing can be removed from. Such a one is named
/// by its digest, which is the same each time. So is one that looks like a digest, or its bearer
/// could take the place of another.
fn subject_name(subject: &str) -> Option<Name> {
    match subject.parse() {
        Ok(name) if !subject.starts_with(DIGEST_PREFIX) => Some(name),
        _ => {
            let digest = hex::encode(Sha256::digest(subject));
            format!("{DIGEST_PREFIX}{}", &digest[..DIGEST_DIGITS]).parse().ok()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::routes::Access;
    use serde_json::json;

    fn reader(change: impl FnOnce(&mut OidcSettings)) -> Reader {
        let audiences = vec!["0b5a".to_owned(), "api://vitalog".to_owned()];
        let mut settings = OidcSettings::new("https://login.example".parse().unwrap(), audiences);
        settings.scope_map = vec![("Patient.Read".to_owned(), Scope::PatientRead)];
        change(&mut settings);
        Reader::new(settings)
    }

    fn claims(all: &Value) -> Claims {
        Claims { expires: 0, all: all.as_object().unwrap().clone() }
    }

    #[track_caller]
    fn check_scopes(all: &Value, expected: &[Scope]) {
        let mut all = all.clone();
        all["sub"] = json!("u");
        let identity = reader(|_| {}).identity(&claims(&all)).unwrap();
        for scope in Scope::ALL {
            let has = identity.check(Access::Scope(*scope)).is_ok();
            assert_eq!(has, expected.contains(scope), "{scope} {all}");
        }
    }

    #[test]
    fn scopes_come_from_texts_and_arrays_of_several_claims() {
        use Scope::{AuditRead, PatientErase, PatientRead, PatientWrite};
        let both = &[PatientRead, PatientWrite];
        check_scopes(&json!({"scp": "patient:read patient:write"}), both);
        check_scopes(&json!({"scp": "patient:read openid", "scope": "patient:write"}), both);
        check_scopes(&json!({"scope": ["patient:read", "patient:write"]}), both);
        check_scopes(
            &json!({"roles": ["patient:erase", "audit:read"]}),
            &[PatientErase, AuditRead],
        );
        check_scopes(&json!({"scp": "api://vitalog/patient:read 0b5a/patient:write"}), both);
        check_scopes(&json!({"roles": ["Patient.Read"]}), &[PatientRead]);
        for nothing in [
            json!({}),
            json!({"scp": ""}),
            json!({"scp": "patient:read,patient:write Patient:Read patient:*  patient.read"}),
            json!({"scp": "api://other/patient:read api://vitalogpatient:read /patient:read"}),
            json!({"scp": "patient.read patient:readx xpatient:read api://vitalog/Patient.Read"}),
            json!({"scp": 7, "scope": {"patient:read": true}, "roles": [["patient:read"], null]}),
            json!({"permissions": ["patient:read"], "realm_access": {"roles": ["patient:read"]}}),
        ] {
            check_scopes(&nothing, &[]);
        }
    }

    #[track_caller]
    fn check_actor(all: &Value, expected: Option<&Value>) {
        let identity = reader(|_| {}).identity(&claims(all));
        let actor = identity
            .ok()
            .map(|identity| serde_json::from_slice::<Value>(identity.actor().as_bytes()).unwrap());
        assert_eq!(actor.as_ref(), expected, "{all}");
    }

    #[test]
    fn a_user_is_named_by_the_first_claim_that_is_there() {
        let user = |id: &str| json!({"id": id, "kind": "user"});
        check_actor(&json!({"oid": "6f9619ff", "sub": "pairwise"}), Some(&user("6f9619ff")));
        check_actor(&json!({"sub": "A_b-c.9"}), Some(&user("A_b-c.9")));
        check_actor(&json!({"oid": "", "sub": "s"}), Some(&user("s")));
        check_actor(&json!({"oid": 7, "sub": "s"}), Some(&user("s")));
        check_actor(&json!({"name": "Jane"}), None);
        check_actor(&json!({"oid": "", "sub": ""}), None);
    }

    #[test]
    fn a_subject_that_is_no_name_is_named_by_its_digest() {
        // printf %s jane@clinic.example | sha256sum
        let id = "sha256-469b2636b33bfc1cd678cf4f445dcce6c497cc01cdb6d10e5b757ac6";
        assert_eq!(subject_name("jane@clinic.example").unwrap().as_str(), id);
        // Nobody can call themselves what another's digest is.
        assert_ne!(subject_name(id).unwrap().as_str(), id);
        assert_eq!(subject_name(&"x".repeat(64)).unwrap().as_str(), "x".repeat(64));
        for odd in ["a b", "a|b", "é", "\n", &"x".repeat(65)] {
            assert!(subject_name(odd).unwrap().as_str().starts_with(DIGEST_PREFIX), "{odd}");
        }
    }

    #[test]
    fn roles_stand_in_records_as_far_as_they_are_names_and_few() {
        let role = |roles: Value| json!({"sub": "u", "roles": roles});
        let user = |roles: Value| json!({"id": "u", "kind": "user", "roles": roles});
        check_actor(
            &role(json!(["nurse", "a b", "audit:read", 7, "ward-3"])),
            Some(&user(json!(["nurse", "ward-3"]))),
        );
        let many: Vec<_> = (0..40).map(|number| format!("{number:064}")).collect();
        check_actor(&role(json!(many)), Some(&user(json!(many[..16]))));
    }
}
