#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use domain::ids::Name;
use runtime::secrets::Secret;

use super::super::{Scope, hash_key};
use super::*;

fn pepper() -> Secret {
    Secret::new("0123456789abcdef")
}

fn entry(name: &str) -> Entry {
    let keys = vec![hash_key(&pepper(), name)];
    Entry::new(name.parse().unwrap(), vec![Scope::PatientRead], keys)
}

fn snapshot(path: &Path) -> Snapshot {
    match read_text(path) {
        Ok(text) => Snapshot { revision: revision(&text), entries: parse(path, &text).unwrap() },
        Err(_) => Snapshot::default(),
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<Entry>)) {
    let before = snapshot(path);
    let mut entries = before.entries.clone();
    change(&mut entries);
    assert_eq!(replace_entries(path, &before, &entries).unwrap(), Replaced::Done);
    assert_eq!(snapshot(path).entries, entries);
}

#[test]
fn what_a_change_does_not_touch_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("subscriptions.toml");
    change(&path, |entries| entries.push(entry("one")));
    let old_form = format!(
        "# ours\n\n[[subscription]]\nname = \"one\" # the ward\nscopes = []\nkeys = [\n  '{}',\n]\n\n# the laboratory's\n[[subscription]]\nname = \"two\"\nscopes = []\nkeys = [\"{}\"]\n# last",
        hash_key(&pepper(), "one"),
        hash_key(&pepper(), "two"),
    );
    std::fs::write(&path, &old_form).unwrap();
    let read = || std::fs::read_to_string(&path).unwrap();

    change(&path, |entries| entries.push(entry("three")));
    let added = read();
    assert!(added.starts_with(&old_form), "{added}");

    change(&path, |entries| entries[1].suspended = true);
    let suspended = added.replacen("two\")]\n", "two\")]\nsuspended = true\n", 1);
    let line = format!("keys = [\"{}\"]\n", hash_key(&pepper(), "two"));
    let suspended = suspended.replacen(&line, &format!("{line}suspended = true\n"), 1);
    assert_eq!(read(), suspended);

    change(&path, |entries| entries[1].suspended = false);
    assert_eq!(read(), added);

    change(&path, |entries| {
        entries.remove(1);
    });
    let removed = read();
    assert!(removed.starts_with("# ours\n\n[[subscription]]\nname = \"one\" # the ward\n"));
    assert!(removed.contains("three") && !removed.contains("two"), "{removed}");
    let mode = || std::fs::metadata(&path).unwrap().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    change(&path, |entries| entries[0].suspended = true);
    assert_eq!(mode(), 0o640);
}

#[test]
fn of_two_changes_to_one_state_the_second_is_outdated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("subscriptions.toml");
    let before = snapshot(&path);
    assert_eq!(replace_entries(&path, &before, &[entry("one")]).unwrap(), Replaced::Done);
    assert_eq!(replace_entries(&path, &before, &[entry("two")]).unwrap(), Replaced::Outdated);
    assert_eq!(snapshot(&path).entries, [entry("one")]);
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
    let short = "[[subscription]]\nname = \"a\"\nscopes = []\nkeys = [\"canary\"]";
    refused(short, "a key of subscription a is not");
    let upper = digest.to_uppercase();
    refused(
        &format!("[[subscription]]\nname = \"a\"\nscopes = []\nkeys = [\"{upper}\"]"),
        "lower-case",
    );
    let a = format!("[[subscription]]\nname = \"a\"\nscopes = []\nkeys = [\"{digest}\"]\n");
    refused(&format!("{a}{}", a.replace(&digest, &other)), "two subscriptions named a");
    refused(&format!("{a}{}", a.replace("\"a\"", "\"b\"")), "a and b have the same key");
    refused(&format!("{a}burst = 3"), "a burst and no rate");
    for bad in [
        "rate = 0",
        "quota-day = -1",
        "networks = [\"canary\"]",
        "networks = [\"10.0.0.0/33\"]",
        "expires = \"canary\"",
        "expires = \"2027-01-01\"",
        "canary = 1",
    ] {
        refused(&format!("{a}{bad}"), "line 5");
    }
}

#[test]
fn counts_of_past_periods_are_forgotten() {
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    let periods = super::super::usage::Period::of(now);
    let name: Name = "a".parse().unwrap();
    let added = periods.map(|period| (Counted { name: name.clone(), period }, 1));
    let keys = ["a/2026-10", "a/2026-11", "a/2026-11-23", "a/2026-11-24", "b/2026-11-01"];
    let mut counts: Counts = keys.map(|key| (key.to_owned(), 1)).into();
    forget_past_periods(&mut counts, &added);
    assert_eq!(counts.into_keys().collect::<Vec<_>>(), ["a/2026-11", "a/2026-11-24"]);
}
