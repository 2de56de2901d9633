//! The subscriptions as requests need them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use domain::actor::{Actor, ActorKind};
use domain::ids::Name;
use runtime::secrets::Secret;
use subtle::ConstantTimeEq;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::keys::{Digest, KeyHasher};
use super::store::{Added, Revision, Snapshot, SubscriptionStore};
use super::usage::{Counted, Period};
use super::{Entry, Meter, SubscriptionsError};
use crate::identity::{Identity, Rules};

/// The longest presented key that is looked up, in bytes; real ones have 32.
const MAX_KEY_BYTES: usize = 256;

/// Between two exchanges of counts with the store.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);

/// Of a digest, what finds an entry; the whole of it is then compared in constant time.
type Prefix = [u8; 16];

#[derive(Default)]
struct Table {
    keys: HashMap<Prefix, (Digest, Arc<Identity>)>,
    meters: HashMap<Name, Meter>,
    /// Subscriptions with changes that the ledger does not have.
    unrecorded: usize,
}

impl Table {
    fn new(entries: Vec<Entry>, before: &Self) -> Result<Self, SubscriptionsError> {
        let mut table = Self::default();
        for entry in entries {
            table.unrecorded += usize::from(entry.unrecorded);
            let actor =
                Actor { id: entry.name.clone(), kind: ActorKind::Subscription, roles: Vec::new() };
            let meter = Meter::new(&entry, before.meters.get(&entry.name));
            let digests = entry.digests()?;
            let Entry { name, scopes, suspended, expires, networks, .. } = entry;
            let rules = Rules { suspended, expires, networks, meter: meter.clone() };
            let identity = Identity::new(&actor, scopes)
                .ok_or_else(|| SubscriptionsError::Unencodable { name: name.clone() })?
                .with_rules(rules);
            let identity = Arc::new(identity);
            table.keys.extend(
                digests.into_iter().map(|key| (prefix(&key), (key, Arc::clone(&identity)))),
            );
            table.meters.insert(name, meter);
        }
        Ok(table)
    }
}

fn prefix(digest: &Digest) -> Prefix {
    std::array::from_fn(|place| digest[place])
}

/// The subscriptions of a store, as they were when they were last good.
pub(crate) struct Subscriptions {
    store: Arc<dyn SubscriptionStore>,
    hasher: KeyHasher,
    table: ArcSwap<Table>,
}

impl Subscriptions {
    /// Reads the store.
    pub(crate) async fn open(
        store: Arc<dyn SubscriptionStore>,
        peppers: &[Secret],
        now: DateTime<Utc>,
    ) -> Result<(Arc<Self>, Revision), SubscriptionsError> {
        let hasher = KeyHasher::new(peppers)?;
        let Snapshot { revision, entries } = store.load(None).await?.unwrap_or_default();
        let table = Table::new(entries, &Table::default())?;
        let table = ArcSwap::from_pointee(table);
        let subscriptions = Self { store, hasher, table };
        subscriptions.resume_usage(now).await?;
        Ok((Arc::new(subscriptions), revision))
    }

    /// The subscription that has this key.
    ///
    /// Finding a digest by half of it tells a caller nothing: who cannot compute digests without
    /// the pepper cannot choose how much of one matches.
    pub(crate) fn find(&self, key: &[u8]) -> Option<Arc<Identity>> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let table = self.table.load();
        self.hasher.digests(key).find_map(|presented| {
            let (stored, identity) = table.keys.get(&prefix(&presented))?;
            bool::from(stored.ct_eq(&presented)).then(|| Arc::clone(identity))
        })
    }

    /// Reads the store again whenever it changes; a bad one leaves the last good one in force.
    pub(crate) async fn watch(self: Arc<Self>, mut seen: Revision, interval: Duration) {
        let mut logged = String::new();
        loop {
            tokio::time::sleep(interval).await;
            let read = match self.store.load(Some(&seen)).await {
                Ok(None) => continue,
                Ok(Some(Snapshot { revision, entries })) => {
                    Table::new(entries, &self.table.load()).map(|table| (revision, table))
                }
                Err(error) => Err(error),
            };
            match read {
                Ok((revision, table)) => {
                    tracing::info!(keys = table.keys.len(), "subscriptions read again");
                    let count = table.unrecorded;
                    if count > self.table.load().unrecorded {
                        tracing::warn!(
                            count,
                            "subscriptions were changed without a record in the ledger"
                        );
                    }
                    self.table.store(Arc::new(table));
                    seen = revision;
                    logged.clear();
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != logged {
                        tracing::error!(
                            error,
                            "subscriptions not read again, the last good ones stay"
                        );
                        logged = error;
                    }
                }
            }
        }
    }

    /// Exchanges counts with the store, again and again, and once more when it is told to stop:
    /// only a crash loses what was counted since the last time.
    pub(crate) async fn watch_usage(self: Arc<Self>, stop: CancellationToken) {
        let mut failing = false;
        let mut last = false;
        while !last {
            // Never in the middle of an exchange, whose outcome would be lost.
            last = timeout(USAGE_INTERVAL, stop.cancelled()).await.is_ok();
            match self.store_usage().await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    tracing::warn!(%error, "usage not stored, it is counted here until it is");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Tells the store what was counted since the last time, and learns what others counted.
    async fn store_usage(&self) -> Result<(), SubscriptionsError> {
        let table = self.table.load_full();
        let mut added = Vec::new();
        for (name, meter) in &table.meters {
            for (period, requests) in meter.usage.take() {
                added.push((Counted { name: name.clone(), period }, requests));
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        let Added { totals, failed } = self.store.add_usage(&added).await;
        for ((counted, _), total) in added.iter().zip(totals) {
            if let Some(meter) = table.meters.get(&counted.name) {
                meter.usage.settle(counted.period, total);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn resume_usage(&self, now: DateTime<Utc>) -> Result<(), SubscriptionsError> {
        let table = self.table.load_full();
        let metered = table.meters.iter().filter(|(_, meter)| meter.has_quota());
        let wanted: Vec<Counted> = metered
            .flat_map(|(name, _)| {
                Period::of(now).map(|period| Counted { name: name.clone(), period })
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        for (counted, stored) in wanted.iter().zip(self.store.usage(&wanted).await?) {
            if let Some(meter) = table.meters.get(&counted.name) {
                meter.usage.resume(counted.period, stored);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{FileStore, Scope, hash_key, write_file};
    use super::*;
    use crate::routes::Access;

    /// A subscription with these digests, as a gateway with these peppers sees it.
    async fn opened(digests: Vec<String>, peppers: &[Secret]) -> Arc<Subscriptions> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("subscriptions.toml");
        let entry = Entry::new("clinic".parse().unwrap(), vec![Scope::PatientRead], digests);
        write_file(&path, &[entry]).unwrap();
        let store = Arc::new(FileStore::new(path));
        Subscriptions::open(store, peppers, DateTime::UNIX_EPOCH).await.unwrap().0
    }

    #[tokio::test]
    async fn a_key_opens_under_each_pepper_that_is_named_and_under_no_other() {
        let [older, newest] = ["0123456789abcdef", "fedcba9876543210"].map(Secret::new);
        let digests = vec![hash_key(&older, "one"), hash_key(&newest, "two")];
        let under = async |peppers: &[&Secret]| {
            let peppers: Vec<Secret> = peppers.iter().map(|&it| it.clone()).collect();
            let subscriptions = opened(digests.clone(), &peppers).await;
            ["one", "two"].map(|key| subscriptions.find(key.as_bytes()).is_some())
        };
        assert_eq!(under(&[&newest, &older]).await, [true, true]);
        assert_eq!(under(&[&older, &newest]).await, [true, true]);
        assert_eq!(under(&[&newest]).await, [false, true]);
        assert_eq!(under(&[&older]).await, [true, false]);
    }

    #[tokio::test]
    async fn both_keys_of_a_subscription_open_it_and_no_other_does() {
        let pepper = Secret::new("0123456789abcdef");
        let keys = ["one", "two"].map(|key| hash_key(&pepper, key)).to_vec();
        let subscriptions = opened(keys, std::slice::from_ref(&pepper)).await;
        for key in ["one", "two"] {
            let found = subscriptions.find(key.as_bytes()).unwrap();
            assert!(found.check(Access::Scope(Scope::PatientRead)).is_ok());
            assert!(found.check(Access::Scope(Scope::PatientWrite)).is_err());
            assert_eq!(found.actor(), r#"{"id":"clinic","kind":"subscription"}"#);
        }
        assert!(subscriptions.find(b"three").is_none());
        assert!(subscriptions.find(b"").is_none());
        assert!(subscriptions.find(hash_key(&pepper, "one").as_bytes()).is_none());
    }
}
