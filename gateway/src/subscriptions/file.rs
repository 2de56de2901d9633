//! The file of subscriptions.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use domain::ids::Name;
use runtime::files;
use runtime::secrets::{SecretError, write_secret_file};
use serde::{Deserialize, Serialize};

use super::{Digest, Scope};

/// The largest file that is read, in bytes: some ten thousand subscriptions.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Keys of one subscription: the primary and the secondary, so that one can be rotated while the
/// other is in use.
const MAX_KEYS: usize = 2;

/// One subscription as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Stands in records as the actor's id; no two subscriptions share one.
    pub name: Name,
    /// What it may do; with none only `/echo/resource`.
    pub scopes: Vec<Scope>,
    /// One or two digests from [`hash_key`](super::hash_key), the primary key's first.
    pub keys: Vec<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, rename = "subscription")]
    subscriptions: Vec<Entry>,
}

#[derive(Serialize)]
struct DocumentRef<'a> {
    #[serde(rename = "subscription")]
    subscriptions: &'a [Entry],
}

/// What is wrong with the file of subscriptions. Never repeats what it holds but names.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionsError {
    /// The pepper could not be loaded.
    #[error("the pepper cannot be loaded")]
    Pepper(#[source] SecretError),
    /// The pepper is too short to resist guessing.
    #[error("the pepper is shorter than {min} bytes: make a longer one", min = super::MIN_PEPPER_BYTES)]
    PepperTooShort,
    /// The file could not be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The file could not be written.
    #[error("{} cannot be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any real one.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes: it should hold subscriptions", .0.display())]
    TooLarge(PathBuf),
    /// The file is not TOML, or not of this form. The parser's message is left out: it repeats
    /// values, and someone may have written a key where its digest belongs.
    #[error(
        "{} is not a list of [[subscription]] with name, scopes and keys (line {line})",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1; 0 when the parser does not say.
        line: usize,
    },
    /// Two subscriptions have one name.
    #[error("there are two subscriptions named {name}: records could not tell them apart")]
    DuplicateName {
        /// The name.
        name: Name,
    },
    /// A subscription has no key, or too many.
    #[error("subscription {name} must have one or two keys")]
    KeyCount {
        /// The subscription.
        name: Name,
    },
    /// A key is not a digest.
    #[error("a key of subscription {name} is not 64 lower-case hex digits of an HMAC-SHA256")]
    NotADigest {
        /// The subscription.
        name: Name,
    },
    /// One key belongs to two subscriptions, or stands twice.
    #[error("{first} and {second} have the same key: give each its own")]
    SharedKey {
        /// The subscription that comes first.
        first: Name,
        /// The one that comes later.
        second: Name,
    },
    /// The actor header for the subscription could not be made.
    #[error("subscription {name} has no form as a header")]
    Unencodable {
        /// The subscription.
        name: Name,
    },
}

impl Entry {
    /// The digests as bytes.
    pub(super) fn digests(&self) -> Result<Vec<Digest>, SubscriptionsError> {
        let name = || self.name.clone();
        if !(1..=MAX_KEYS).contains(&self.keys.len()) {
            return Err(SubscriptionsError::KeyCount { name: name() });
        }
        let digest = |text: &String| {
            let mut digest = Digest::default();
            let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
            match hex::decode_to_slice(text, &mut digest) {
                Ok(()) if lower => Ok(digest),
                _ => Err(SubscriptionsError::NotADigest { name: name() }),
            }
        };
        self.keys.iter().map(digest).collect()
    }
}

impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// By what a changed file is told from the one that was read. A file that is replaced, as
/// [`append`] does, has another inode even within one tick of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Signature {
    pub(super) fn of(path: &Path) -> Result<Self, SubscriptionsError> {
        let metadata = std::fs::metadata(path)
            .map_err(|source| SubscriptionsError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// Reads and checks the whole file.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, SubscriptionsError> {
    parse(path, &read_text(path)?)
}

fn read_text(path: &Path) -> Result<String, SubscriptionsError> {
    let unreadable = |source| SubscriptionsError::Unreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(SubscriptionsError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, SubscriptionsError> {
    let document: Document = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(0, |before| before.matches('\n').count() + 1);
        SubscriptionsError::Malformed { path: path.to_owned(), line }
    })?;
    check(&document.subscriptions)?;
    Ok(document.subscriptions)
}

fn check(entries: &[Entry]) -> Result<(), SubscriptionsError> {
    let mut names = HashSet::new();
    let mut owners = HashMap::new();
    for entry in entries {
        if !names.insert(&entry.name) {
            return Err(SubscriptionsError::DuplicateName { name: entry.name.clone() });
        }
        for digest in entry.digests()? {
            if let Some(first) = owners.insert(digest, &entry.name) {
                return Err(SubscriptionsError::SharedKey {
                    first: first.clone(),
                    second: entry.name.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Writes a file with these subscriptions in place of what was there, atomically, durably, and
/// readable by its owner alone.
pub fn write_file(path: &Path, entries: &[Entry]) -> Result<(), SubscriptionsError> {
    check(entries)?;
    replace(path, &render(path, entries)?)
}

/// Adds one subscription at the end of a file, which keeps everything else as it is, comments
/// included. Makes the file if there is none.
pub fn append(path: &Path, entry: &Entry) -> Result<(), SubscriptionsError> {
    let mut text = match read_text(path) {
        Err(SubscriptionsError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            String::new()
        }
        text => text?,
    };
    if !text.is_empty() {
        // A blank line between entries, and a newline where the last line has none.
        text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
    }
    text.push_str(&render(path, std::slice::from_ref(entry))?);
    parse(path, &text)?;
    replace(path, &text)
}

fn render(path: &Path, entries: &[Entry]) -> Result<String, SubscriptionsError> {
    toml::to_string(&DocumentRef { subscriptions: entries }).map_err(|error| {
        let source = io::Error::other(error);
        SubscriptionsError::Unwritable { path: path.to_owned(), source }
    })
}

/// A reader sees the old file or the new one, never a part.
fn replace(path: &Path, text: &str) -> Result<(), SubscriptionsError> {
    let new = files::beside(path);
    write_secret_file(&new, text)
        .map_err(|source| SubscriptionsError::Unwritable { path: new.clone(), source })?;
    let renamed = std::fs::rename(&new, path).and_then(|()| files::sync_folder_of(path));
    renamed.map_err(|source| SubscriptionsError::Unwritable { path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use runtime::secrets::Secret;

    use super::super::{hash_key, new_key};
    use super::*;

    fn pepper() -> Secret {
        Secret::new("0123456789abcdef")
    }

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.parse().unwrap(),
            scopes: vec![Scope::PatientRead],
            keys: vec![hash_key(&pepper(), &new_key())],
        }
    }

    #[test]
    fn adding_keeps_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("subscriptions.toml");
        append(&path, &entry("one")).unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("# the laboratory's");
        std::fs::write(&path, &text).unwrap();
        append(&path, &entry("two")).unwrap();
        let names: Vec<_> = read(&path).unwrap().iter().map(|e| e.name.to_string()).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(&text));
        assert!(matches!(
            append(&path, &entry("one")),
            Err(SubscriptionsError::DuplicateName { .. })
        ));
        let mode = std::fs::metadata(&path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = parse(Path::new("s.toml"), text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }

    #[test]
    fn a_bad_file_is_refused_without_repeating_what_it_holds() {
        let digest = hash_key(&pepper(), "canary");
        let other = hash_key(&pepper(), "other");
        refused("name = \"canary\"", "line 1");
        refused("[[subscription]]\nname = \"a\"\nscopes = [\"canary:read\"]\nkeys = []", "line 3");
        refused("[[subscription]]\nname = \"a b canary\"\nscopes = []\nkeys = []", "line 2");
        refused("[[subscription]]\nname = \"a\"\nscopes = []\nkeys = []", "one or two keys");
        refused(
            "[[subscription]]\nname = \"a\"\nscopes = []\nkeys = [\"canary\"]",
            "a key of subscription a is not",
        );
        let upper = digest.to_uppercase();
        refused(
            &format!("[[subscription]]\nname = \"a\"\nscopes = []\nkeys = [\"{upper}\"]"),
            "lower-case",
        );
        let a = format!("[[subscription]]\nname = \"a\"\nscopes = []\nkeys = [\"{digest}\"]\n");
        refused(&format!("{a}{}", a.replace(&digest, &other)), "two subscriptions named a");
        refused(&format!("{a}{}", a.replace("\"a\"", "\"b\"")), "a and b have the same key");
    }
}
