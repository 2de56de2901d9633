//! Rows of the ledger on SQLite.

use rusqlite::{Connection, params, types::Value};

use super::{Saved, mongo::spelled_otherwise};

/// Every column of every row changed, and every row taken away.
pub(super) async fn tamper(saved: &Saved) {
    let path = saved.system.data().join("ledger.db");
    let db = Connection::open(path).unwrap();
    let blocks = numbers(&db, "SELECT first, count FROM blocks ORDER BY first");
    assert!(blocks.iter().any(|(_, count)| *count > 1));
    for &(first, count) in &blocks {
        for column in ["first", "count", "frontier", "root", "seal"] {
            // A block that claims one record more has a bad place at its end.
            let end = first + count + i64::from(column == "count");
            change(saved, &db, ("blocks", "first", column), first, (first, end)).await;
        }
        remove(saved, &db, ("blocks", "first"), first, (first, first + count)).await;
        for seq in first..first + count {
            for column in ["seq", "line", "stream", "version", "command"] {
                change(saved, &db, ("records", "seq", column), seq, (seq, first + count)).await;
            }
            remove(saved, &db, ("records", "seq"), seq, (first, first + count)).await;
        }
    }
    saved.expect_intact().await;
    strays(saved, &db, blocks.last().unwrap()).await;
}

/// A row that no block accounts for, but a lookup would find.
async fn strays(saved: &Saved, db: &Connection, last: &(i64, i64)) {
    let end = last.0 + last.1;
    for seq in [end, 1 << 40, -1] {
        let insert = "INSERT INTO records SELECT ?1, line, stream, 900, command FROM records
            WHERE stream IS NOT NULL LIMIT 1";
        assert_eq!(db.execute(insert, [seq]).unwrap(), 1);
        let first = u64::try_from(seq).unwrap_or(0);
        saved.expect_found(first, first + 1, &format!("a record at {seq}")).await;
        assert_eq!(db.execute("DELETE FROM records WHERE seq = ?1", [seq]).unwrap(), 1);
    }
    saved.expect_intact().await;
}

async fn change(
    saved: &Saved,
    db: &Connection,
    (table, key, column): (&str, &str, &str),
    row: i64,
    (first, end): (i64, i64),
) {
    let select = format!("SELECT {column} FROM {table} WHERE {key} = ?1");
    let value: Value = db.query_row(&select, [row], |row| row.get(0)).unwrap();
    let mut others = vec![match &value {
        Value::Integer(number) => Value::Integer(number + if column == key { 1 << 30 } else { 1 }),
        Value::Text(text) => {
            let mut text = text.clone().into_bytes();
            let place = text.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
            text[place] = if text[place] == b'1' { b'2' } else { b'1' };
            Value::Text(String::from_utf8(text).unwrap())
        }
        Value::Blob(bytes) => {
            let mut bytes = bytes.clone();
            bytes[3] ^= 1;
            Value::Blob(bytes)
        }
        // An entry where none belongs.
        Value::Null if column == "stream" => Value::Text("ledger/keys".to_owned()),
        Value::Null if column == "version" => Value::Integer(1),
        Value::Null => Value::Blob(vec![7; 32]),
        Value::Real(_) => panic!("no column is a real number"),
    }];
    if let Value::Text(text) = &value {
        others.extend(spelled_otherwise(text).map(Value::Text));
    }
    if matches!(column, "stream" | "command") && value != Value::Null {
        others.push(Value::Null);
    }
    for other in others {
        let update = |to: &Value, at: i64| {
            let update = format!("UPDATE {table} SET {column} = ?1 WHERE {key} = ?2");
            assert_eq!(db.execute(&update, params![to, at]).unwrap(), 1);
        };
        update(&other, row);
        let what = format!("{column} of row {row} of {table}");
        // Where a line names its own place, that is the first bad one; its lookups are the block's.
        let from = if column == "line" { (first - 1).max(0) } else { first };
        saved.expect_found(unsigned(from), unsigned(end), &what).await;
        let at = if let (true, Value::Integer(at)) = (column == key, &other) { *at } else { row };
        update(&value, at);
    }
}

async fn remove(
    saved: &Saved,
    db: &Connection,
    (table, key): (&str, &str),
    row: i64,
    (first, end): (i64, i64),
) {
    let copy = format!("CREATE TEMP TABLE kept AS SELECT * FROM {table} WHERE {key} = {row}");
    db.execute_batch(&copy).unwrap();
    assert_eq!(db.execute(&format!("DELETE FROM {table} WHERE {key} = ?1"), [row]).unwrap(), 1);
    let what = format!("row {row} of {table} taken away");
    saved.expect_found(unsigned(first), unsigned(end), &what).await;
    let back = format!("INSERT INTO {table} SELECT * FROM kept; DROP TABLE kept");
    db.execute_batch(&back).unwrap();
}

fn numbers(db: &Connection, select: &str) -> Vec<(i64, i64)> {
    let mut select = db.prepare(select).unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap()
}
