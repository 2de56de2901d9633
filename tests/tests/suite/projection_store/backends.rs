//! The stores under test, and a look at what they hold beneath the port.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use mongodb::{
    Client,
    bson::{Bson, Document, doc},
};
use projections::{
    documents::{Generation, Office},
    store::{
        ProjectionStore, memory::MemoryStore, mongo::MongoStore, observed::observed,
        sqlite::SqliteStore,
    },
};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy)]
pub(super) enum Backend {
    Memory,
    /// That in memory, as services that serve have theirs.
    Observed,
    Sqlite,
    Mongo,
}

/// One empty store, opened twice as two processes would.
pub(super) struct Stores {
    pub(super) one: Arc<dyn ProjectionStore>,
    pub(super) two: Arc<dyn ProjectionStore>,
    pub(super) raw: Raw,
}

/// What is beneath the port.
pub(super) enum Raw {
    Memory,
    Sqlite(TempDir),
    Mongo(mongodb::Database),
}

impl Backend {
    pub(super) async fn open(self, test: &str) -> Stores {
        match self {
            Self::Memory => {
                let store = MemoryStore::default();
                Stores { one: Arc::new(store.clone()), two: Arc::new(store), raw: Raw::Memory }
            }
            Self::Observed => {
                let store: Arc<dyn ProjectionStore> = Arc::new(MemoryStore::default());
                let open = || observed(store.clone(), "memory");
                Stores { one: open(), two: open(), raw: Raw::Memory }
            }
            Self::Sqlite => {
                let folder = TempDir::new().unwrap();
                let open = || Arc::new(SqliteStore::open(&file(&folder)).unwrap());
                Stores { one: open(), two: open(), raw: Raw::Sqlite(folder) }
            }
            Self::Mongo => {
                let (uri, name) = (tests::mongod::uri().await, tests::mongod::database(test));
                let open = async || Arc::new(MongoStore::connect(uri, &name).await.unwrap());
                let (one, two) = (open().await, open().await);
                let client = Client::with_uri_str(uri).await.unwrap();
                Stores { one, two, raw: Raw::Mongo(client.database(&name)) }
            }
        }
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("patients.db")
}

impl Stores {
    /// The serving generation of a store that may be new.
    pub(super) async fn generation(&self) -> Generation {
        self.one.serving().await.unwrap()
    }

    /// The office of a generation, taken from whoever had it.
    pub(super) async fn in_office(&self, generation: Generation) -> Office {
        let seen = self.one.office(generation).await.unwrap();
        let taken = self.one.take_office(generation, seen, uuid::Uuid::new_v4()).await;
        taken.unwrap().unwrap()
    }
}

impl Raw {
    /// The members of a stored document that have a value, as text; empty for the store that
    /// has no stored form.
    pub(super) async fn members(&self, table: &str, id: &str) -> BTreeMap<String, String> {
        match self {
            Self::Memory => BTreeMap::new(),
            Self::Sqlite(folder) => row(&file(folder), table, id),
            Self::Mongo(database) => {
                let collection = database.collection::<Document>(table);
                let document = collection.find_one(doc! { "_id": id }).await.unwrap().unwrap();
                let text = |value: Bson| value.as_str().map_or(value.to_string(), str::to_owned);
                document.into_iter().map(|(member, value)| (member, text(value))).collect()
            }
        }
    }

    /// The names of all tables or collections.
    pub(super) async fn tables(&self) -> Vec<String> {
        match self {
            Self::Memory => Vec::new(),
            Self::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(file(folder)).unwrap();
                let sql = "SELECT name FROM sqlite_schema WHERE type = 'table'";
                let mut statement = connection.prepare(sql).unwrap();
                let names = statement.query_map((), |row| row.get(0)).unwrap();
                names.collect::<Result<_, _>>().unwrap()
            }
            Self::Mongo(database) => database.list_collection_names().await.unwrap(),
        }
    }

    /// Whether there still is a position, an office or a note of a generation.
    pub(super) async fn mentions_books(&self, generation: Generation) -> bool {
        match self {
            Self::Memory => false,
            Self::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(file(folder)).unwrap();
                let sql = "SELECT count(*) FROM generations WHERE generation = ?1";
                connection.query_row(sql, [generation.0], |row| row.get(0)).unwrap()
            }
            Self::Mongo(database) => {
                let filter = doc! { "_id": { "$regex": format!("_g{}$", generation.0) } };
                database.collection::<Document>("meta").count_documents(filter).await.unwrap() > 0
            }
        }
    }

    /// Copies a collection to where one of a dropped generation was, as a crash leaves it. The
    /// other stores drop a generation in one step.
    pub(super) async fn copy_of_dropped(&self, from: &str, to: &str) {
        if let Self::Mongo(database) = self {
            let from = database.collection::<Document>(from);
            from.aggregate([doc! { "$out": to }]).await.unwrap();
            assert!(self.tables().await.iter().any(|table| table == to));
        }
    }

    /// Whether a text stands anywhere in the files, where the store has files of its own.
    pub(super) fn files_contain(&self, text: &str) -> bool {
        let Self::Sqlite(folder) = self else { return false };
        let files = std::fs::read_dir(folder.path()).unwrap();
        files
            .map(|file| std::fs::read(file.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }
}

fn row(path: &PathBuf, table: &str, id: &str) -> BTreeMap<String, String> {
    use rusqlite::types::Value;
    let connection = rusqlite::Connection::open(path).unwrap();
    // The key is the first column, whatever its name.
    let first = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let key = first.column_name(0).unwrap().to_owned();
    let mut statement =
        connection.prepare(&format!("SELECT * FROM {table} WHERE {key} = ?1")).unwrap();
    let names: Vec<String> = statement.column_names().map(ToString::to_string).collect();
    let read = |row: &rusqlite::Row<'_>| {
        let mut members = BTreeMap::new();
        for (index, name) in names.iter().enumerate() {
            match row.get(index)? {
                Value::Null => None,
                Value::Text(text) => members.insert(name.clone(), text),
                value => members.insert(name.clone(), format!("{value:?}")),
            };
        }
        Ok(members)
    };
    statement.query_row([id], read).unwrap()
}
