//! Documents of the ledger on MongoDB.

use futures::TryStreamExt;
use mongodb::{
    Client, Collection,
    bson::{Bson, Document, doc},
};

use super::Saved;

/// Every field, every element, at every depth: changed, and taken away.
pub(super) async fn tamper(saved: &Saved, uri: &str) {
    let client = Client::with_uri_str(uri).await.unwrap();
    let database = client.database(&format!("{}_ledger", saved.system.prefix()));
    let blocks: Collection<Document> = database.collection("blocks");
    let found = blocks.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
    let documents: Vec<Document> = found.try_collect().await.unwrap();
    assert!(documents.iter().any(|block| block.get_array("lines").unwrap().len() > 1));
    for whole in &documents {
        let id = whole.get_i64("_id").unwrap();
        let first = u64::try_from(id).unwrap();
        let end = first + whole.get_array("lines").unwrap().len() as u64;
        for (what, changed) in changes(whole) {
            let _ = blocks.delete_one(doc! { "_id": id }).await.unwrap();
            // Another block's place is taken; that change is one that the store itself refuses.
            let stored = match changed {
                Some(changed) => blocks.insert_one(changed.clone()).await.map(|_| Some(changed)),
                None => Ok(None),
            };
            if let Ok(stored) = stored {
                saved.expect_found(first, end, &format!("{what} of the block at {id}")).await;
                if let Some(stored) = stored {
                    let id = stored.get("_id").unwrap();
                    let _ = blocks.delete_one(doc! { "_id": id }).await.unwrap();
                }
            }
            let _ = blocks.insert_one(whole).await.unwrap();
        }
    }
    saved.expect_intact().await;
    for whole in &documents {
        let (first, count) = (whole.get_i64("_id").unwrap(), whole.get_i64("count").unwrap());
        if count > 1 {
            // A good block but for its place: its lookups would be found.
            let mut within = whole.clone();
            within.insert("_id", first + 1);
            let _ = blocks.insert_one(&within).await.unwrap();
            let from = u64::try_from(first).unwrap();
            let end = u64::try_from(first + count).unwrap();
            saved.expect_found(from, end + 1, &format!("a block within that at {first}")).await;
            let _ = blocks.delete_one(doc! { "_id": first + 1 }).await.unwrap();
        }
    }
    strays(saved, &blocks, &documents).await;
}

/// What no block accounts for, but a lookup would find.
async fn strays(saved: &Saved, blocks: &Collection<Document>, documents: &[Document]) {
    let last = documents.last().unwrap();
    let end = last.get_i64("_id").unwrap() + last.get_i64("count").unwrap();
    let end = u64::try_from(end).unwrap();
    for (id, first) in [
        (Bson::String("zzz".to_owned()), 0),
        (Bson::Int64(-7), 0),
        (Bson::Int64(1 << 40), end),
        (Bson::Int64(i64::try_from(end).unwrap() + 1), end),
        (Bson::Double(0.5), 0),
        (Bson::Null, 0),
    ] {
        let mut stray = last.clone();
        stray.insert("_id", id.clone());
        let _ = blocks.insert_one(&stray).await.unwrap();
        saved.expect_found(first, first + 1, &format!("a document {id}")).await;
        let _ = blocks.delete_one(doc! { "_id": id }).await.unwrap();
    }
    saved.expect_intact().await;
}

/// A patient's stream with the digits of its id in upper case.
pub(super) fn spelled_otherwise(text: &str) -> Option<String> {
    let id = text.strip_prefix("patient/")?.to_ascii_uppercase();
    Some(format!("patient/{id}")).filter(|other| other != text)
}

/// The document with each of its parts changed in turn, and with each taken away; last without
/// itself.
fn changes(whole: &Document) -> Vec<(String, Option<Document>)> {
    let mut changes = Vec::new();
    for (name, value) in whole {
        for (path, changed) in changed(value) {
            let mut document = whole.clone();
            document.insert(name, changed);
            changes.push((format!("{name}{path}"), Some(document)));
        }
        if name != "_id" {
            let mut document = whole.clone();
            document.remove(name);
            changes.push((format!("{name} taken away"), Some(document)));
        }
    }
    changes.push(("everything".to_owned(), None));
    changes
}

fn changed(value: &Bson) -> Vec<(String, Bson)> {
    match value {
        Bson::Int64(number) => vec![(" + 1".to_owned(), Bson::Int64(number + 1))],
        Bson::String(text) => {
            // The last digit or letter of a line, a stream's id: still a text of the same form.
            let place = text.rfind(|c: char| c.is_ascii_alphanumeric()).unwrap();
            let other = if text.as_bytes()[place] == b'1' { "2" } else { "1" };
            let whole = text;
            let mut text = text.clone();
            text.replace_range(place..=place, other);
            let mut all = vec![(" changed".to_owned(), Bson::String(text))];
            // The same stream for whoever parses it, another one for whoever looks it up.
            all.extend(
                spelled_otherwise(whole).map(|s| (" spelled otherwise".to_owned(), s.into())),
            );
            all
        }
        Bson::Binary(binary) => {
            let mut binary = binary.clone();
            binary.bytes[3] ^= 1;
            vec![(" changed".to_owned(), Bson::Binary(binary))]
        }
        Bson::Array(elements) => {
            let mut all = Vec::new();
            for place in 0..elements.len() {
                for (path, element) in changed(&elements[place]) {
                    let mut array = elements.clone();
                    array[place] = element;
                    all.push((format!("[{place}]{path}"), Bson::Array(array)));
                }
                let mut array = elements.clone();
                array.remove(place);
                all.push((format!("[{place}] taken away"), Bson::Array(array)));
            }
            if let Some(last) = elements.last() {
                let array = [elements.as_slice(), std::slice::from_ref(last)].concat();
                all.push((" with one more".to_owned(), Bson::Array(array)));
            }
            all
        }
        Bson::Document(document) => document
            .iter()
            .flat_map(|(name, value)| {
                changed(value).into_iter().map(move |(path, value)| (name, path, value))
            })
            .map(|(name, path, value)| {
                let mut document = document.clone();
                document.insert(name, value);
                (format!(".{name}{path}"), Bson::Document(document))
            })
            .collect(),
        other => panic!("a value of another kind: {other}"),
    }
}
