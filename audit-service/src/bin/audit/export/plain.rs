//! An export as it is: one line a record.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
};

use domain::record::MAX_LINE_BYTES;

use super::{
    chain::Chain,
    file::{Found, Unusable, follow, other_file, too_long},
};
use crate::progress::Progress;

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// What a stream of lines ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A whole line, or nothing.
    Whole,
    /// A line without a newline.
    Torn,
}

/// Follows the whole lines of a file.
pub(super) fn read(
    file: &File,
    chain: &mut Chain,
    place: &str,
    progress: &mut Progress,
) -> Result<Found, Unusable> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut whole = 0;
    read_lines(&mut reader, chain, place, |bytes| {
        whole += bytes;
        progress.advance(1, bytes);
    })?;
    Ok(Found { whole })
}

/// Follows the whole lines of a stream; says the bytes of each, with its newline.
pub(super) fn read_lines(
    reader: &mut impl BufRead,
    chain: &mut Chain,
    place: &str,
    mut done: impl FnMut(u64),
) -> Result<End, Unusable> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = read_line(reader, &mut line)?;
        if read == 0 {
            return Ok(End::Whole);
        }
        match line.split_last() {
            Some((b'\n', text)) => follow(chain, text, place)?,
            _ if line.len() > MAX_LINE_BYTES => return Err(too_long(chain, place).into()),
            // What could not have become a record is somebody's file, and not to be cut.
            _ if chain.size() == 0 && !begins_like_a_record(&line) => {
                return Err(other_file(chain, place).into());
            }
            _ => return Ok(End::Torn),
        }
        done(read as u64);
    }
}

/// Reads a line with its newline, or as much as a record and a newline may have.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    reader.take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', line)
}

fn begins_like_a_record(fragment: &[u8]) -> bool {
    const BEGINNING: &[u8] = br#"{"actor":{"#;
    fragment.starts_with(BEGINNING) || BEGINNING.starts_with(fragment)
}
