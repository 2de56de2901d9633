//! Subscriptions in a TOML file, which may be edited by hand: what a command does not change
//! stays as it is, comments included.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runtime::files;
use runtime::secrets::write_secret_file;
use sha2::{Digest as _, Sha256};

use self::text::{edit, parse, render};
use super::store::{Added, Replaced, Revision, Snapshot, SubscriptionStore};
use super::usage::Counted;
use super::{Entry, SubscriptionsError, entry};

/// The largest file that is read, in bytes: some ten thousand subscriptions.
pub(super) const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// How long a command waits for others that change the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries to get the lock; it is held for about one write.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A file of subscriptions; `<file>.usage` beside it has the counts of the one gateway that
/// uses it.
#[derive(Clone, Debug)]
pub(crate) struct FileStore {
    path: PathBuf,
    /// Read at first use.
    usage: Arc<Mutex<Option<Counts>>>,
}

/// Counts by name and period.
type Counts = BTreeMap<String, u64>;

impl FileStore {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, usage: Arc::default() }
    }

    /// Runs what blocks where it may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SubscriptionsError> + Send + 'static,
    ) -> Result<T, SubscriptionsError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|error| {
            let (path, source) = (self.path.clone(), io::Error::other(error));
            Err(SubscriptionsError::Unreadable { path, source })
        })
    }

    fn usage_path(&self) -> PathBuf {
        with_suffix(&self.path, ".usage")
    }

    fn read_counts(&self) -> Result<Counts, SubscriptionsError> {
        let path = self.usage_path();
        let text = match read_text(&path) {
            Err(error) if error.is_missing() => return Ok(Counts::new()),
            text => text?,
        };
        // Counts that cannot be read must not keep everybody out.
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| {
            tracing::error!(path = %path.display(), "counts of usage cannot be read, they begin anew");
            Counts::new()
        }))
    }

    fn with_counts<T>(
        &self,
        work: impl FnOnce(&mut Counts) -> Result<T, SubscriptionsError>,
    ) -> Result<T, SubscriptionsError> {
        let mut kept = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = match kept.take() {
            Some(counts) => counts,
            None => self.read_counts()?,
        };
        let done = work(&mut counts);
        *kept = Some(counts);
        done
    }

    fn write_counts(&self, counts: &Counts) -> Result<(), SubscriptionsError> {
        let path = self.usage_path();
        let written = serde_json::to_vec(counts)
            .map_err(io::Error::other)
            .and_then(|text| files::replace(&path, &text));
        written.map_err(|source| SubscriptionsError::Unwritable { path, source })
    }
}

#[async_trait]
impl SubscriptionStore for FileStore {
    async fn load(&self, known: Option<&Revision>) -> Result<Option<Snapshot>, SubscriptionsError> {
        let known = known.cloned();
        self.blocking(move |store| {
            let text = read_text(&store.path)?;
            let revision = revision(&text);
            if known.as_ref() == Some(&revision) {
                return Ok(None);
            }
            Ok(Some(Snapshot { revision, entries: parse(&store.path, &text)? }))
        })
        .await
    }

    async fn replace(
        &self,
        before: &Snapshot,
        entries: &[Entry],
    ) -> Result<Replaced, SubscriptionsError> {
        let (before, entries) = (before.clone(), entries.to_vec());
        self.blocking(move |store| replace_entries(&store.path, &before, &entries)).await
    }

    async fn add_usage(&self, added: &[(Counted, u64)]) -> Added {
        let (count, added) = (added.len(), added.to_vec());
        let written = self.blocking(move |store| {
            store.with_counts(|counts| {
                let mut new = counts.clone();
                forget_past_periods(&mut new, &added);
                let mut totals = Vec::with_capacity(added.len());
                for (counted, requests) in &added {
                    let total = new.entry(counted.to_string()).or_default();
                    *total = total.saturating_add(*requests);
                    totals.push(Some(*total));
                }
                store.write_counts(&new)?;
                *counts = new;
                Ok(totals)
            })
        });
        match written.await {
            Ok(totals) => Added { totals, failed: None },
            // They are one file.
            Err(error) => Added { totals: vec![None; count], failed: Some(error) },
        }
    }

    async fn usage(&self, wanted: &[Counted]) -> Result<Vec<u64>, SubscriptionsError> {
        let wanted = wanted.to_vec();
        self.blocking(move |store| {
            store.with_counts(|counts| {
                let stored = |counted: &Counted| counts.get(&counted.to_string()).copied();
                Ok(wanted.iter().map(|counted| stored(counted).unwrap_or(0)).collect())
            })
        })
        .await
    }
}

/// Removes counts of periods that are older than those that are counted now.
fn forget_past_periods(counts: &mut Counts, added: &[(Counted, u64)]) {
    let periods: BTreeSet<String> =
        added.iter().map(|(counted, _)| counted.period.to_string()).collect();
    counts.retain(|key, _| {
        let (_, period) = key.rsplit_once('/').unwrap_or_default();
        // Days and months have texts of different lengths, and grow as time does.
        !periods.iter().any(|now| now.len() == period.len() && period < now.as_str())
    });
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn revision(text: &str) -> Revision {
    Revision(hex::encode(Sha256::digest(text)))
}

fn read_text(path: &Path) -> Result<String, SubscriptionsError> {
    let unreadable = |source| SubscriptionsError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(SubscriptionsError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

/// Writes a file with these subscriptions in place of what was there, atomically and durably. A
/// new file is readable by its owner alone; one that is replaced keeps owner and mode.
pub fn write_file(path: &Path, entries: &[Entry]) -> Result<(), SubscriptionsError> {
    entry::check(entries)?;
    let _lock = lock(path)?;
    replace_text(path, &render(path, entries)?)
}

fn replace_entries(
    path: &Path,
    before: &Snapshot,
    entries: &[Entry],
) -> Result<Replaced, SubscriptionsError> {
    entry::check(entries)?;
    let _lock = lock(path)?;
    let (text, now) = match read_text(path) {
        Err(error) if error.is_missing() => (String::new(), Revision::default()),
        text => text.map(|text| (text.clone(), revision(&text)))?,
    };
    if now != before.revision {
        return Ok(Replaced::Outdated);
    }
    let text = edit(path, text, &before.entries, entries)?;
    parse(path, &text)?;
    replace_text(path, &text)?;
    Ok(Replaced::Done)
}

/// Keeps other processes from replacing the file until it is dropped. The lock is on a file beside
/// it, because the file itself is another one after each change.
fn lock(path: &Path) -> Result<File, SubscriptionsError> {
    let lock = with_suffix(path, ".lock");
    let unwritable = |source| SubscriptionsError::Unwritable { path: lock.clone(), source };
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).open(&lock).map_err(unwritable)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(SubscriptionsError::Locked(path.to_owned()));
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
    }
}

/// A reader sees the old file or the new one, never a part. Under the lock.
fn replace_text(path: &Path, text: &str) -> Result<(), SubscriptionsError> {
    let new = files::beside(path);
    let unwritable =
        |path: &Path, source| SubscriptionsError::Unwritable { path: path.to_owned(), source };
    // What a process that was killed left there.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unwritable(&new, error));
        }
        _ => {}
    }
    write_secret_file(&new, text).map_err(|source| unwritable(&new, source))?;
    keep_owner(path, &new).map_err(|source| unwritable(&new, source))?;
    let renamed = std::fs::rename(&new, path).and_then(|()| files::sync_folder_of(path));
    renamed.map_err(|source| unwritable(path, source))
}

/// A gateway that may read the file now may read it afterwards, whoever changed it.
fn keep_owner(old: &Path, new: &Path) -> io::Result<()> {
    let old = match std::fs::metadata(old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        old => old?,
    };
    let made = std::fs::metadata(new)?;
    if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
        chown(new, Some(old.uid()), Some(old.gid()))?;
    }
    std::fs::set_permissions(new, old.permissions())
}

#[cfg(test)]
mod tests;
