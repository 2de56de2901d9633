//! The text of the file: what it says, and how a change is written into it.

use std::io;
use std::path::Path;

use domain::ids::Name;
use serde::Deserialize;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

use super::super::{Entry, SubscriptionsError, entry};

/// The name of the array.
const SUBSCRIPTION: &str = "subscription";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default, rename = "subscription")]
    subscriptions: Vec<Entry>,
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Entry>, SubscriptionsError> {
    let document: Document = toml_edit::de::from_str(text)
        .map_err(|error| malformed(path, text, error.span().map(|span| span.start)))?;
    entry::check(&document.subscriptions)?;
    Ok(document.subscriptions)
}

fn malformed(path: &Path, text: &str, at: Option<usize>) -> SubscriptionsError {
    let before = at.and_then(|at| text.get(..at));
    let line = before.map_or(0, |before| before.matches('\n').count() + 1);
    SubscriptionsError::Malformed { path: path.to_owned(), line }
}

/// The text with `after` in place of `before`, and all else as it is.
pub(super) fn edit(
    path: &Path,
    mut text: String,
    before: &[Entry],
    after: &[Entry],
) -> Result<String, SubscriptionsError> {
    let find = |name: &Name| after.iter().find(|entry| entry.name == *name);
    if before.iter().any(|old| find(&old.name) != Some(old)) {
        let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            malformed(path, &text, error.span().map(|span| span.start))
        })?;
        // A list of inline tables has no place for comments, so nothing is lost with its form.
        let tables = document.remove(SUBSCRIPTION).unwrap_or_default().into_array_of_tables();
        let mut tables = tables.map_err(|_| malformed(path, &text, None))?;
        // From the end, so that the places before one that is removed stay.
        for (place, old) in before.iter().enumerate().rev() {
            match find(&old.name) {
                None => {
                    tables.remove(place);
                }
                Some(new) if new == old => {}
                Some(new) => {
                    let table =
                        tables.get_mut(place).ok_or_else(|| malformed(path, &text, None))?;
                    update(table, &to_table(path, old)?, to_table(path, new)?);
                }
            }
        }
        document.insert(SUBSCRIPTION, Item::ArrayOfTables(tables));
        text = document.to_string();
    }
    let known = |entry: &&Entry| before.iter().any(|old| old.name == entry.name);
    let added: Vec<Entry> = after.iter().filter(|entry| !known(entry)).cloned().collect();
    if !added.is_empty() {
        if !text.is_empty() {
            // A blank line between entries, and a newline where the last line has none.
            text.push_str(if text.ends_with('\n') { "\n" } else { "\n\n" });
        }
        text.push_str(&render(path, &added)?);
    }
    Ok(text)
}

/// Changes what differs between `old` and `new`.
fn update(table: &mut Table, old: &Table, new: Table) {
    for (key, _) in old {
        if !new.contains_key(key) {
            table.remove(key);
        }
    }
    for (key, item) in new {
        if old.get(&key).map(Item::to_string) != Some(item.to_string()) {
            table[&key] = item;
        }
    }
}

pub(super) fn render(path: &Path, entries: &[Entry]) -> Result<String, SubscriptionsError> {
    let mut tables = ArrayOfTables::new();
    for entry in entries {
        tables.push(to_table(path, entry)?);
    }
    let mut document = DocumentMut::new();
    document.insert(SUBSCRIPTION, Item::ArrayOfTables(tables));
    Ok(document.to_string())
}

fn to_table(path: &Path, entry: &Entry) -> Result<Table, SubscriptionsError> {
    let document = toml_edit::ser::to_document(entry).map_err(|error| {
        let source = io::Error::other(error);
        SubscriptionsError::Unwritable { path: path.to_owned(), source }
    })?;
    Ok(document.as_table().clone())
}
