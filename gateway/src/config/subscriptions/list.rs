//! Subscriptions as people read them, without their keys.

use std::fmt::{Display, Write};

use chrono::{DateTime, Utc};

use crate::subscriptions::Entry;

/// One line each: name, state, number of keys, scopes, limits, whether the ledger lacks a change.
pub(super) fn render(entries: &[Entry], now: DateTime<Utc>) -> String {
    let width = entries.iter().map(|entry| entry.name.to_string().len()).max().unwrap_or(0);
    let mut text = String::new();
    for entry in entries {
        let name = entry.name.to_string();
        let keys = entry.keys.len();
        // Writing to a string does not fail.
        let _ = write!(text, "{name:<width$}  {:<9}  keys={keys}", state(entry, now));
        list(&mut text, "scopes", &entry.scopes);
        one(&mut text, "rate", entry.rate);
        one(&mut text, "burst", entry.burst);
        one(&mut text, "quota-day", entry.quota_day);
        one(&mut text, "quota-month", entry.quota_month);
        list(&mut text, "networks", &entry.networks);
        one(&mut text, "expires", entry.expires.map(|time| time.to_rfc3339()));
        if entry.unrecorded {
            text.push_str("  UNRECORDED");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn state(entry: &Entry, now: DateTime<Utc>) -> &'static str {
    if entry.suspended {
        "suspended"
    } else if entry.expires.is_some_and(|expires| expires <= now) {
        "expired"
    } else {
        "active"
    }
}

fn one<T: Display>(text: &mut String, name: &str, value: Option<T>) {
    if let Some(value) = value {
        let _ = write!(text, "  {name}={value}");
    }
}

fn list<T: Display>(text: &mut String, name: &str, values: &[T]) {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    one(text, name, (!values.is_empty()).then(|| values.join(",")));
}
