//! Files that several processes open for the first time at the same moment.

use std::{
    error::Error,
    path::Path,
    sync::{Arc, Barrier},
    thread,
};

use audit_service::store::sqlite::SqliteLedger;
use projections::{key_ring::sqlite::SqliteKeys, store::sqlite::SqliteStore};

/// Each with a connection of its own, as processes have.
const AT_ONCE: usize = 8;

/// They do not meet in each round.
const ROUNDS: usize = 40;

/// Opens a file and closes it.
type Open = fn(&Path) -> Result<(), Box<dyn Error>>;

#[track_caller]
fn check(what: &str, open: Open) {
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let begin = Arc::new(Barrier::new(AT_ONCE));
        let opening = [(); AT_ONCE].map(|()| {
            let (path, begin) = (folder.path().join("file.db"), begin.clone());
            thread::spawn(move || {
                begin.wait();
                open(&path).map_err(|error| format!("{error} {error:?}"))
            })
        });
        for opened in opening {
            assert_eq!(opened.join().unwrap(), Ok(()), "{what}, round {round}");
        }
    }
}

#[test]
fn a_new_ledger_is_opened_by_all_who_open_it_first() {
    check("ledger", |path| Ok(SqliteLedger::open(path).map(drop)?));
}

#[test]
fn a_new_key_ring_is_opened_by_all_who_open_it_first() {
    check("key ring", |path| Ok(SqliteKeys::open(path).map(drop)?));
}

#[test]
fn new_read_models_are_opened_by_all_who_open_them_first() {
    check("read models", |path| Ok(SqliteStore::open(path).map(drop)?));
}
