//! An export as chunks of whole lines.

use std::io::{self, Read as _};

use domain::record::MAX_LINE_BYTES;

use super::{Chunk, Read};

/// Bytes of one chunk, about: some thousand records, so that handing it over costs nothing.
const CHUNK_BYTES: usize = 1 << 20;

/// Reads NDJSON in chunks. A line that is too long for a record is given as it is, without the
/// rest of it: memory is bounded whatever is read.
pub struct TextChunks<R> {
    reader: R,
    /// What was read of the next line.
    carried: Vec<u8>,
    ended: bool,
}

impl<R: io::Read> TextChunks<R> {
    /// Begins at the reader's place, which must be the beginning of a line.
    pub fn new(reader: R) -> Self {
        Self { reader, carried: Vec::new(), ended: false }
    }

    fn fill(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut text = std::mem::take(&mut self.carried);
        text.reserve(CHUNK_BYTES);
        let wanted = (CHUNK_BYTES - text.len().min(CHUNK_BYTES)).max(1) as u64;
        let read = self.reader.by_ref().take(wanted).read_to_end(&mut text)?;
        if (read as u64) < wanted {
            self.ended = true;
            return Ok((!text.is_empty()).then_some(text));
        }
        match text.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => self.carried = text.split_off(end + 1),
            // No record is that long, so this is a bad line and nothing after it counts.
            None => self.ended = text.len() > MAX_LINE_BYTES,
        }
        Ok(Some(text))
    }
}

impl<R: io::Read> Iterator for TextChunks<R> {
    type Item = io::Result<Read>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.fill().inspect_err(|_| self.ended = true);
        read.transpose().map(|text| text.map(|text| Read::Chunk(Chunk::of_text(text))))
    }
}
