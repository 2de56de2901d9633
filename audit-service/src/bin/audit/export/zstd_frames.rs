//! An export in Zstandard frames, one for each run of lines: a run that is broken off spoils the
//! last frame alone, and going on adds new ones. Tools that read Zstandard read it as one file.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, Write},
};

use anyhow::anyhow;
use zstd::stream::{read::Decoder, write::Encoder};

use super::{
    chain::Chain,
    file::{Found, Unusable},
    plain::{End, read_lines},
};
use crate::{output::Failure, progress::Progress};

/// Bytes read at once.
const BUFFER: usize = 256 * 1024;

/// The largest window that is accepted, as a power of two: 128 MiB, as the format's own tool.
const MAX_WINDOW_LOG: u32 = 27;

/// Compresses whole lines to one frame with a checksum.
pub(super) fn frame(lines: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.write_all(lines)?;
    encoder.finish()
}

/// Follows the lines of the whole frames of a file.
pub(super) fn read(
    file: &File,
    chain: &mut Chain,
    place: &str,
    progress: &mut Progress,
) -> Result<Found, Unusable> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut whole = 0;
    while !reader.fill_buf()?.is_empty() {
        let mut after = chain.clone();
        let mut decoder = Decoder::with_buffer(reader)?.single_frame();
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        let mut lines = BufReader::with_capacity(BUFFER, decoder);
        let end = read_lines(&mut lines, &mut after, place, |bytes| progress.advance(1, bytes));
        match end {
            Ok(End::Whole) => {}
            Ok(End::Torn) => return Err(damaged(place, whole, "a frame ends within a line")),
            // The last frame was not written to its end.
            Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(Unusable::Io(error)) => return Err(damaged(place, whole, &error.to_string())),
            Err(failure) => return Err(failure),
        }
        reader = lines.into_inner().finish();
        whole = reader.stream_position()?;
        *chain = after;
    }
    Ok(Found { whole })
}

fn damaged(place: &str, from: u64, why: &str) -> Unusable {
    let error = anyhow!("{place}, the bytes from {from} on cannot be decompressed: {why}");
    Unusable::Failure(Failure::CouldNotTell(error))
}
