//! Which command this is: keyed digests of who asks for what, and of the body.
//!
//! A plain hash of personal data can be guessed, and a client's key may contain anything, so
//! only HMACs of them reach the ledger (design §3, `command`).

use std::time::Duration;

use domain::{
    actor::{Actor, ActorKind},
    ids::Mac,
    record::{CommandRef, KeyName},
};
use hmac::{Hmac, Mac as _};
use http::{HeaderMap, HeaderName};
use runtime::{
    key_ages,
    secrets::{Secret, SecretError},
};
use sha2::Sha256;
use uuid::Uuid;

use crate::{action::Action, error::Failure};

/// The header by which a client makes a command safe to send again.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Characters of an `Idempotency-Key` at most: several UUIDs' worth.
pub(crate) const MAX_KEY_CHARACTERS: usize = 255;

/// The client's own name for a command: visible ASCII, 1 to [`MAX_KEY_CHARACTERS`].
#[derive(Clone)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header, which may be absent and may not be repeated.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Failure> {
        let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let bytes = value.as_bytes();
        let visible = bytes.iter().all(u8::is_ascii_graphic);
        if values.next().is_some() || !visible || !(1..=MAX_KEY_CHARACTERS).contains(&bytes.len()) {
            return Err(Failure::IdempotencyKey);
        }
        Ok(Some(Self(String::from_utf8_lossy(bytes).into_owned())))
    }
}

/// The keys that commands are known by: the first one names new commands, and one that a client sends
/// again is known under each.
pub(crate) struct CommandKeys {
    newest: CommandKey,
    older: Vec<CommandKey>,
}

impl CommandKeys {
    /// The newest first.
    pub(crate) fn new(newest: &Secret, older: &[Secret]) -> Result<Self, SecretError> {
        let older = older.iter().map(CommandKey::new).collect::<Result<_, _>>()?;
        let newest = CommandKey::new(newest)?;
        // Nothing says when it was made.
        key_ages::seen("command", "", Duration::ZERO);
        Ok(Self { newest, older })
    }

    /// What a command is called, and what it was called while an older key was the newest.
    pub(crate) fn identify(
        &self,
        actor: &Actor,
        action: &Action,
        key: Option<&IdempotencyKey>,
        body: &[u8],
    ) -> (CommandRef, Vec<CommandRef>) {
        let under = |it: &CommandKey| it.identify(actor, action, key, body);
        // Without a client's key no request is another one sent again.
        let older = self.older.iter().filter(|_| key.is_some());
        (under(&self.newest), older.map(under).collect())
    }
}

/// An HMAC key, and its name in records.
struct CommandKey {
    /// Keyed once; a clone is cheaper than keying again.
    keyed: Hmac<Sha256>,
    kid: KeyName,
}

impl CommandKey {
    fn new(secret: &Secret) -> Result<Self, SecretError> {
        let key = secret.key32()?;
        let keyed =
            Hmac::<Sha256>::new_from_slice(key.as_ref()).expect("an HMAC key has any length");
        let [a, b, c, d, ..] = Tagged::new(&keyed, b"kid").finish();
        Ok(Self { keyed, kid: KeyName::new([a, b, c, d]) })
    }

    /// The identity of one command. Without a client's key it is one that no request had.
    fn identify(
        &self,
        actor: &Actor,
        action: &Action,
        key: Option<&IdempotencyKey>,
        body: &[u8],
    ) -> CommandRef {
        let mut id = Tagged::new(&self.keyed, b"id");
        id.part(kind(actor.kind));
        id.part(actor.id.as_str().as_bytes());
        id.part(action.method().as_str().as_bytes());
        id.part(action.path().as_bytes());
        if let Some(IdempotencyKey(key)) = key {
            id.part(b"key");
            id.part(key.as_bytes());
        } else {
            id.part(b"fresh");
            id.part(Uuid::new_v4().as_bytes());
        }
        let mut digest = Tagged::new(&self.keyed, b"digest");
        digest.part(body);
        CommandRef { digest: Mac::new(digest.finish()), id: Mac::new(id.finish()), kid: self.kid }
    }
}

fn kind(kind: ActorKind) -> &'static [u8] {
    match kind {
        ActorKind::Subscription => b"subscription",
        ActorKind::User => b"user",
        ActorKind::Service => b"service",
    }
}

/// An HMAC over a tag, which keeps the uses of the key apart, and parts, each behind its
/// length, so that no two lists of parts give the same bytes.
struct Tagged(Hmac<Sha256>);

impl Tagged {
    fn new(keyed: &Hmac<Sha256>, tag: &[u8]) -> Self {
        let mut tagged = Self(keyed.clone());
        tagged.part(tag);
        tagged
    }

    fn part(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const PATIENT: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

    fn key(seed: char) -> CommandKey {
        CommandKey::new(&Secret::new(seed.to_string().repeat(64))).unwrap()
    }

    fn actor(id: &str) -> Actor {
        Actor { id: id.parse().unwrap(), kind: ActorKind::Subscription, roles: Vec::new() }
    }

    fn sent(value: &str) -> IdempotencyKey {
        IdempotencyKey(value.to_owned())
    }

    #[test]
    fn the_same_request_has_the_same_identity_and_any_other_has_another() {
        let amend = Action::AmendPatient(PATIENT.parse().unwrap());
        let remove = Action::RemovePatient(PATIENT.parse().unwrap());
        let first = key('a').identify(&actor("clinic"), &amend, Some(&sent("k1")), b"{}");
        let again = key('a').identify(&actor("clinic"), &amend, Some(&sent("k1")), b"{}");
        assert_eq!(first, again);
        for other in [
            key('a').identify(&actor("clinid"), &amend, Some(&sent("k1")), b"{}"),
            key('a').identify(&actor("clinic"), &remove, Some(&sent("k1")), b"{}"),
            key('a').identify(&actor("clinic"), &amend, Some(&sent("k2")), b"{}"),
            key('b').identify(&actor("clinic"), &amend, Some(&sent("k1")), b"{}"),
            key('a').identify(&actor("clinic"), &amend, None, b"{}"),
        ] {
            assert_ne!(first.id, other.id);
        }
    }

    #[test]
    fn the_digest_is_of_the_body_alone_and_is_no_id() {
        let register = Action::Register;
        let one = key('a').identify(&actor("clinic"), &register, Some(&sent("k1")), b"{}");
        let two = key('a').identify(&actor("clinic"), &register, None, b"{}");
        let three = key('a').identify(&actor("clinic"), &register, Some(&sent("k1")), b"{ }");
        assert_eq!(one.digest, two.digest);
        assert_ne!(one.digest, three.digest);
        assert_eq!(one.id, three.id);
        assert_ne!(one.digest, one.id);
    }

    #[test]
    fn without_a_clients_key_no_two_commands_are_the_same() {
        let one = key('a').identify(&actor("clinic"), &Action::Register, None, b"{}");
        let two = key('a').identify(&actor("clinic"), &Action::Register, None, b"{}");
        assert_ne!(one.id, two.id);
    }

    #[test]
    fn a_command_is_known_under_each_key_and_named_under_the_first() {
        let secret = |seed: char| Secret::new(seed.to_string().repeat(64));
        let keys = CommandKeys::new(&secret('b'), &[secret('a')]).unwrap();
        let (clinic, register) = (actor("clinic"), Action::Register);
        let (newest, older) = keys.identify(&clinic, &register, Some(&sent("k1")), b"{}");
        let under = |seed| key(seed).identify(&clinic, &register, Some(&sent("k1")), b"{}");
        assert_eq!((newest, older), (under('b'), vec![under('a')]));
        let (_, older) = keys.identify(&clinic, &register, None, b"{}");
        assert_eq!(older, [], "nothing to look for");
    }

    #[test]
    fn another_key_has_another_name() {
        assert_ne!(key('a').kid, key('b').kid);
        assert_eq!(key('a').kid, key('a').kid);
    }

    #[test]
    fn an_idempotency_key_is_visible_ascii_once() {
        #[track_caller]
        fn check(values: &[&[u8]], accepted: bool) {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            assert_eq!(IdempotencyKey::from_headers(&headers).is_ok(), accepted);
        }
        check(&[], true);
        check(&[b"a"], true);
        check(&["x".repeat(255).as_bytes()], true);
        check(&["x".repeat(256).as_bytes()], false);
        check(&[b""], false);
        check(&[b"a b"], false);
        check(&[b"\xc3\xa9"], false);
        check(&[b"a", b"a"], false);
    }
}
