//! Storing a block in one transaction.

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use crate::{
    block::Block,
    store::{AppendError, BoxError},
};

/// A block with two entries of one kind for one line, or with one out of its place, cannot be
/// read back as it was.
#[derive(Debug, thiserror::Error)]
#[error("a block's entries must name its lines, in order, each line once")]
struct NotInOrder;

pub(super) fn append(connection: &mut Connection, block: &Block) -> Result<(), AppendError> {
    let first = block.first;
    if !in_order(block) {
        return Err(AppendError::Refused(Box::new(NotInOrder)));
    }
    let begin = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    // Until the commit, whatever happens is rolled back.
    let transaction = begin.map_err(|error| AppendError::Refused(Box::new(error)))?;
    if end(&transaction).map_err(AppendError::Refused)? > first {
        return Err(AppendError::Occupied { first });
    }
    insert(&transaction, block).map_err(AppendError::Refused)?;
    match transaction.commit() {
        Ok(()) => Ok(()),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            Err(AppendError::Refused(Box::new(error)))
        }
        // A full disk or a failing one may have kept the commit all the same.
        Err(error) => Err(AppendError::Ambiguous(Box::new(error))),
    }
}

fn in_order(block: &Block) -> bool {
    let holds = |line: u32| (line as usize) < block.lines.len();
    block.streams.is_sorted_by(|one, next| one.line < next.line)
        && block.commands.is_sorted_by(|one, next| one.line < next.line)
        && block.streams.iter().all(|entry| holds(entry.line))
        && block.commands.iter().all(|entry| holds(entry.line))
}

/// Where the last block ends. A block below it would overlap one that is there.
fn end(transaction: &Transaction<'_>) -> Result<u64, BoxError> {
    let end: i64 = transaction
        .prepare_cached(
            "SELECT ifnull((SELECT first + count FROM blocks ORDER BY first DESC LIMIT 1), 0)",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(u64::try_from(end)?)
}

fn insert(transaction: &Transaction<'_>, block: &Block) -> Result<(), BoxError> {
    let first = i64::try_from(block.first)?;
    let count = i64::try_from(block.lines.len())?;
    let frontier: Vec<u8> = block.frontier.iter().flat_map(|hash| hash.0).collect();
    let mut insert_block = transaction.prepare_cached(
        "INSERT INTO blocks (first, count, frontier, root, seal) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    insert_block.execute(params![first, count, frontier, block.root.0, block.seal.bytes()])?;
    let mut insert_record = transaction.prepare_cached(
        "INSERT INTO records (seq, line, stream, version, command) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut streams = block.streams.iter().peekable();
    let mut commands = block.commands.iter().peekable();
    for ((seq, number), line) in (first..).zip(0..).zip(&block.lines) {
        let stream = streams.next_if(|entry| entry.line == number);
        let version = stream.map(|entry| i64::try_from(entry.version)).transpose()?;
        let stream = stream.map(|entry| entry.stream.to_string());
        let command = commands.next_if(|entry| entry.line == number);
        let command = command.map(|entry| entry.id.bytes());
        insert_record.execute(params![seq, line, stream, version, command])?;
    }
    Ok(())
}
