//! The issuer's keys as they were last seen, and when to look again.
//!
//! One task fetches, so that fetching is single-flight and nobody who goes away breaks it off.
//! Requests only say that they miss a key, and wait for a fetch that began after they said so.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runtime::health::Component;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::discovery::{FetchError, IssuerClientError, Source};
use super::keys::{Key, KeySet};
use super::token::Head;
use super::{Rejected, TokenFault};
use crate::config::OidcSettings;

/// Between two tries while the issuer does not answer: the first, doubled up to the last.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// Requests that wait for a fetch at once; more are told to come back.
const MAX_WAITING: usize = 1_024;

/// Keys of one issuer.
pub(super) struct Keyring {
    source: Source,
    state: watch::Sender<State>,
    demand: Mutex<Demand>,
    wanted: Notify,
    waiting: Semaphore,
    floor: Duration,
    interval: Duration,
    max_age: Duration,
    patience: Duration,
}

/// What fetching has come to.
#[derive(Default)]
struct State {
    /// The last good ones, unless they are too old.
    keys: Option<Arc<KeySet>>,
    /// When keys were fetched last.
    fetched: Option<Instant>,
    /// The last fetch failed.
    failed: bool,
    /// Every demand up to this one had a fetch that began after it.
    served: u64,
}

/// What requests want.
#[derive(Default)]
struct Demand {
    asked: u64,
    last: Option<Instant>,
}

impl Keyring {
    pub(super) fn new(settings: &OidcSettings) -> Result<Self, IssuerClientError> {
        Ok(Self {
            source: Source::new(settings)?,
            state: watch::Sender::default(),
            demand: Mutex::default(),
            wanted: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            floor: settings.fetch_floor,
            interval: settings.refresh_interval.min(settings.keys_max_age),
            max_age: settings.keys_max_age,
            // A fetch may be under way, and its own follows.
            patience: 2 * settings.fetch_timeout + Duration::from_secs(1),
        })
    }

    /// Whether the issuer still publishes a key.
    pub(super) fn still_has(&self, key: &Key) -> bool {
        self.state.borrow().keys.as_ref().is_some_and(|keys| keys.has(key))
    }

    /// The key that a token names, fetched again if it is not known.
    pub(super) async fn find(&self, head: &Head) -> Result<Arc<Key>, Rejected> {
        if let Some(found) = self.state.borrow().look_up(head) {
            return found;
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Err(Rejected::NoKeys) };
        let mut fetched = self.state.subscribe();
        // The first fetch is under way already where there never were any keys.
        let ticket = if fetched.borrow().keys.is_some() { self.demand() } else { 0 };
        let served = fetched.wait_for(|state| state.tried() && state.served >= ticket);
        match timeout(self.patience, served).await {
            Ok(Ok(state)) => match state.look_up(head) {
                Some(found) => found,
                None if state.failed => Err(Rejected::NoKeys),
                None => Err(TokenFault::UnknownKey.into()),
            },
            _ => Err(Rejected::NoKeys),
        }
    }

    /// Asks for a fetch, unless the last one was asked for too shortly before; returns the number
    /// of the demand that counts.
    fn demand(&self) -> u64 {
        let mut demand = self.demand.lock().unwrap_or_else(PoisonError::into_inner);
        if demand.last.is_none_or(|last| last.elapsed() >= self.floor) {
            demand.last = Some(Instant::now());
            demand.asked += 1;
            self.wanted.notify_one();
        }
        demand.asked
    }

    /// Fetches at once, on demand, and now and then. An outage leaves the last good keys in force, up
    /// to their greatest age.
    pub(super) async fn watch(self: Arc<Self>, component: Component) {
        let mut retry = *RETRY.start();
        loop {
            let asked = self.demand.lock().unwrap_or_else(PoisonError::into_inner).asked;
            let fetched = self.source.fetch().await;
            let mut pause = if fetched.is_ok() {
                retry = *RETRY.start();
                self.interval
            } else {
                let next = (2 * retry).min(*RETRY.end());
                std::mem::replace(&mut retry, next).min(self.interval)
            };
            self.take(fetched, asked, &component);
            if let State { keys: Some(_), fetched: Some(at), .. } = &*self.state.borrow() {
                // The last try before they are too old.
                pause = pause.min(self.max_age.saturating_sub(at.elapsed()));
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    fn take(&self, fetched: Result<KeySet, FetchError>, asked: u64, component: &Component) {
        self.state.send_modify(|state| {
            state.served = asked;
            let failed_before = std::mem::replace(&mut state.failed, fetched.is_err());
            match fetched {
                Ok(keys) => {
                    let same = state.keys.as_deref() == Some(&keys);
                    if !same || failed_before {
                        let (usable, skipped) = (keys.len(), keys.skipped());
                        tracing::info!(usable, skipped, "keys of the token issuer fetched");
                    }
                    if !same {
                        state.keys = Some(Arc::new(keys));
                    }
                    state.fetched = Some(Instant::now());
                    component.ready();
                }
                Err(error) => {
                    let too_old = |at: Instant| at.elapsed() >= self.max_age;
                    if state.fetched.is_none() {
                        component.not_ready("no keys of the token issuer yet");
                    } else if state.keys.is_some() && state.fetched.is_some_and(too_old) {
                        state.keys = None;
                        component.not_ready("the keys of the token issuer are too old");
                        tracing::error!(
                            max_age_s = self.max_age.as_secs(),
                            "keys of the token issuer are too old, no token is taken"
                        );
                    }
                    if !failed_before {
                        tracing::error!(
                            reason = reasons(&error),
                            "keys of the token issuer not fetched, the last good ones stay if there are any"
                        );
                    }
                }
            }
        });
    }
}

impl State {
    /// Whether a fetch has ended, well or not.
    fn tried(&self) -> bool {
        self.failed || self.keys.is_some()
    }

    /// `None` where only a fetch can tell.
    fn look_up(&self, head: &Head) -> Option<Result<Arc<Key>, Rejected>> {
        let Some(keys) = &self.keys else {
            return self.tried().then_some(Err(Rejected::NoKeys));
        };
        let mut named = keys.named(&head.key_id).peekable();
        named.peek()?;
        let fitting = named.find(|key| key.fits(head.algorithm)).map(Arc::clone);
        Some(fitting.ok_or(TokenFault::OtherKey.into()))
    }
}

/// An error and what caused it, in one line.
fn reasons(error: &FetchError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
