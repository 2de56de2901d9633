//! Service keys: how one service knows another.
//!
//! Each caller has its own key in the `x-functions-key` header, and while a key is rotated two of
//! them, the current one and the next.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;
use crate::reloaded::Reloaded;
use crate::secrets::{Secret, SecretError, SecretRef};

/// The header that carries a service key.
pub const SERVICE_KEY_HEADER: &str = "x-functions-key";

/// The fewest bytes of a service key: 128 bits when they are random.
pub const MIN_KEY_BYTES: usize = 16;

/// A caller as a setting names it: `NAME=REF[,NEXT_REF]`.
///
/// The comma separates the current key from the next, so a list of callers in one setting needs
/// another delimiter, such as a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSpec {
    name: Arc<str>,
    keys: Vec<SecretRef>,
}

impl CallerSpec {
    /// The caller's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its keys are: the current one, and the next while there are two.
    pub fn keys(&self) -> &[SecretRef] {
        &self.keys
    }
}

impl FromStr for CallerSpec {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (name, refs) = text.split_once('=').ok_or(SecretError::NotACaller)?;
        if !is_name(name) {
            return Err(SecretError::NotACaller);
        }
        let keys = refs.split(',').map(SecretRef::from_str).collect::<Result<Vec<_>, _>>()?;
        if keys.len() > 2 {
            return Err(SecretError::NotACaller);
        }
        Ok(Self { name: name.into(), keys })
    }
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The service that sent a request; a request extension behind [`require_caller`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

impl Caller {
    /// The name that the settings give this caller.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// How often keys named by reference are read again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Every caller that this service knows, by the digests of their keys; none by default. Clones share
/// them.
#[derive(Clone)]
pub struct Callers {
    entries: Arc<Reloaded<Vec<Entry>>>,
}

impl Default for Callers {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

#[derive(PartialEq)]
struct Entry {
    caller: Caller,
    digest: [u8; 32],
}

impl Callers {
    /// Reads the keys of all callers.
    ///
    /// # Errors
    /// When a key cannot be read, is shorter than [`MIN_KEY_BYTES`], or belongs to two callers.
    pub fn load(specs: &[CallerSpec]) -> Result<Self, SecretError> {
        Ok(Self::of(read(specs)?))
    }

    /// Callers with keys at hand, for a process that composes several services, and for tests.
    ///
    /// A name may come twice, with its current and its next key.
    ///
    /// # Errors
    /// As for [`Callers::load`].
    pub fn from_keys<N: Into<Arc<str>>>(
        keys: impl IntoIterator<Item = (N, Secret)>,
    ) -> Result<Self, SecretError> {
        Ok(Self::of(entries(keys.into_iter().map(|(name, key)| (name.into(), key)))?))
    }

    fn of(entries: Vec<Entry>) -> Self {
        Self { entries: Reloaded::new("the callers' service keys", entries) }
    }

    /// Reads the keys again, so that rotating one needs no restart.
    ///
    /// # Errors
    /// As for [`Callers::load`]; the keys known before stay in force then.
    pub fn reload(&self, specs: &[CallerSpec]) -> Result<(), SecretError> {
        self.entries.set(read(specs)?);
        Ok(())
    }

    /// Reads the keys again every second until `shutdown`; see [`Reloaded`].
    pub async fn keep_reloading(self, specs: Vec<CallerSpec>, shutdown: CancellationToken) {
        let loading = self.entries.keep_loading(RELOAD_INTERVAL, || read(&specs));
        shutdown.run_until_cancelled(loading).await;
    }

    /// The caller that has this key.
    ///
    /// The time taken depends neither on how much of a key matches nor on which one does: digests
    /// of fixed length are compared, and always all of them.
    pub fn identify(&self, presented: &[u8]) -> Option<Caller> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let entries = self.entries.now();
        let mut found = u32::MAX;
        for (index, entry) in (0_u32..).zip(entries.iter()) {
            let same: Choice = entry.digest.ct_eq(&digest);
            found.conditional_assign(&index, same);
        }
        entries.get(usize::try_from(found).ok()?).map(|entry| entry.caller.clone())
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.now();
        f.debug_set().entries(entries.iter().map(|entry| entry.caller.name())).finish()
    }
}

fn read(specs: &[CallerSpec]) -> Result<Vec<Entry>, SecretError> {
    let mut keys = Vec::new();
    for spec in specs {
        for reference in &spec.keys {
            keys.push((Arc::clone(&spec.name), reference.load()?));
        }
    }
    entries(keys)
}

fn entries(keys: impl IntoIterator<Item = (Arc<str>, Secret)>) -> Result<Vec<Entry>, SecretError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (name, key) in keys {
        if key.bytes().len() < MIN_KEY_BYTES {
            return Err(SecretError::KeyTooShort { caller: name.to_string(), min: MIN_KEY_BYTES });
        }
        let digest: [u8; 32] = Sha256::digest(key.bytes()).into();
        if let Some(other) = entries.iter().find(|entry| entry.digest == digest)
            && *other.caller.0 != *name
        {
            return Err(SecretError::SharedKey {
                first: other.caller.name().to_owned(),
                second: name.to_string(),
            });
        }
        entries.push(Entry { caller: Caller(name), digest });
    }
    Ok(entries)
}

/// Middleware that lets only known callers pass, and adds the [`Caller`] as a request extension.
///
/// Use it with `axum::middleware::from_fn_with_state(callers, require_caller)`. A request without
/// exactly one key header with a known key is answered 401.
pub async fn require_caller(
    State(callers): State<Arc<Callers>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut presented = request.headers().get_all(SERVICE_KEY_HEADER).iter();
    let caller = match (presented.next(), presented.next()) {
        (Some(key), None) => callers.identify(key.as_bytes()),
        (None, _) => {
            return Problem::unauthorized(format!("send a service key in {SERVICE_KEY_HEADER}"))
                .into_response();
        }
        (Some(_), Some(_)) => None,
    };
    let Some(caller) = caller else {
        return Problem::unauthorized(format!(
            "the service key in {SERVICE_KEY_HEADER} is not known"
        ))
        .into_response();
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}
