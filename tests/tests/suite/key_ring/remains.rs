//! What the embedded key file still holds of keys that were destroyed or wrapped anew: nothing,
//! in any of its files, at the moment of the answer.

use std::{collections::HashSet, path::Path};

use projections::key_ring::{
    kek::WrappedKey,
    sqlite::SqliteKeys,
    store::{KeyStore, Rewrap},
};
use rusqlite::{Connection, params};

use super::{
    rotation::{anew, filled, kids},
    sorted, wrapped,
};

/// Keys of one round, far more than a page holds.
const ROUND: usize = 1_500;

/// The layout of the first version, as it was made. Never changed.
const FORMER: &str = "
    CREATE TABLE data_keys (
        kid TEXT PRIMARY KEY, kek TEXT NOT NULL, wrapped BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE epochs (
        epoch TEXT PRIMARY KEY, kid TEXT NOT NULL UNIQUE, kek TEXT NOT NULL, wrapped BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// Of how many wraps any sixteen bytes stand in the files of a folder.
pub(super) fn remains(folder: &Path, wraps: &[WrappedKey]) -> usize {
    const PART: usize = 16;
    let files = std::fs::read_dir(folder).unwrap();
    let bytes: Vec<_> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    let found: HashSet<&[u8]> = bytes.iter().flat_map(|bytes| bytes.windows(PART)).collect();
    let stands = |key: &&WrappedKey| key.wrapped.chunks_exact(PART).any(|it| found.contains(it));
    wraps.iter().filter(stands).count()
}

#[tokio::test]
async fn keys_destroyed_and_wrapped_anew_among_thousands_leave_no_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteKeys::open(&folder.path().join("keys.db")).unwrap();
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for round in 0..4 {
        let mut made = filled(&store, ROUND).await;
        let epoch = store.claim_epoch(&format!("2025-{round:02}"), wrapped()).await.unwrap();
        made.push(epoch);
        let (mut changes, mut doomed) = (Vec::new(), Vec::new());
        for (number, old) in made.into_iter().enumerate() {
            match number % 10 {
                0 => doomed.push(old),
                1 => {
                    changes.push(anew(&old));
                    doomed.push(changes[changes.len() - 1].new.clone());
                }
                2..5 => {
                    changes.push(anew(&old));
                    left.push(changes[changes.len() - 1].new.clone());
                }
                _ => left.push(old),
            }
        }
        assert_eq!(store.rewrap(&changes).await.unwrap(), changes.len() as u64);
        gone.extend(changes.into_iter().map(|change| change.old));
        for kid in kids(&doomed) {
            store.destroy(kid).await.unwrap();
        }
        assert_eq!(store.get(&kids(&doomed)).await.unwrap(), []);
        gone.extend(doomed);
        assert_eq!(remains(folder.path(), &gone), 0, "round {round}");
        assert_eq!(remains(folder.path(), &left), left.len());
        assert_eq!(sorted(store.get(&kids(&left)).await.unwrap()), sorted(left.clone()));
    }
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.values().sum::<u64>(), left.len() as u64);
}

#[tokio::test]
async fn what_a_file_of_the_former_layout_kept_of_destroyed_keys_goes_when_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let former = former(&path);
    assert!(remains(folder.path(), &former.gone) > 0, "the former layout leaves copies");
    let check = async || {
        let store = SqliteKeys::open(&path).unwrap();
        assert_eq!(remains(folder.path(), &former.gone), 0);
        assert_eq!(
            sorted(store.get(&kids(&former.left)).await.unwrap()),
            sorted(former.left.clone())
        );
        assert_eq!(store.get(&kids(&former.gone)).await.unwrap(), []);
        assert_eq!(store.epochs().await.unwrap(), [("2025-01".to_owned(), former.left[0].kid)]);
        store
    };
    let store = check().await;
    store.destroy(former.left[1].kid).await.unwrap();
    assert_eq!(remains(folder.path(), &former.left[1..2]), 0);
    store.insert_batch(&former.left[1..2]).await.unwrap();
    drop(store);
    check().await;
}

#[tokio::test]
async fn a_file_that_was_moved_to_the_layout_of_today_is_scrubbed_after_a_crash_or_a_busy_moment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let former = former(&path);
    // Another process reads as the file was: it can be moved, but not scrubbed.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM data_keys", [], |_| Ok(())).unwrap();
    let store = SqliteKeys::open(&path).unwrap();
    assert_eq!(store.get(&kids(&former.left)).await.unwrap().len(), former.left.len());
    assert!(remains(folder.path(), &former.gone) > 0);
    drop(store);
    reader.execute_batch("COMMIT").unwrap();
    let store = SqliteKeys::open(&path).unwrap();
    assert_eq!(remains(folder.path(), &former.gone), 0);
    assert_eq!(sorted(store.get(&kids(&former.left)).await.unwrap()), sorted(former.left));
}

struct Former {
    left: Vec<WrappedKey>,
    gone: Vec<WrappedKey>,
}

/// Writes a file as the first version did, and destroys most of its keys without overwriting them.
fn former(path: &Path) -> Former {
    let connection = Connection::open(path).unwrap();
    let wal = "PRAGMA journal_mode = WAL; PRAGMA secure_delete = OFF;";
    connection.execute_batch(wal).unwrap();
    connection.execute_batch(FORMER).unwrap();
    let keys: Vec<_> = (0..2_000).map(|_| wrapped()).collect();
    let epoch = wrapped();
    let (kid, kek) = (epoch.kid.to_string(), epoch.kek.to_string());
    let sql = "INSERT INTO epochs VALUES ('2025-01', ?, ?, ?)";
    connection.execute(sql, params![kid, kek, epoch.wrapped]).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    for key in &keys {
        let (kid, kek) = (key.kid.to_string(), key.kek.to_string());
        let sql = "INSERT INTO data_keys VALUES (?, ?, ?)";
        connection.execute(sql, params![kid, kek, key.wrapped]).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    let (gone, left) = keys.split_at(1_700);
    for key in gone {
        let sql = "DELETE FROM data_keys WHERE kid = ?";
        connection.execute(sql, [key.kid.to_string()]).unwrap();
    }
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(truncate, [], |_| Ok(())).unwrap();
    Former { left: [&[epoch], left].concat(), gone: gone.to_vec() }
}
