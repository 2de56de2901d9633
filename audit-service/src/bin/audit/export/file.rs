//! The file of an export: what an earlier run left in it, and what is added.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use domain::record::{MAX_LINE_BYTES, Record};
use runtime::files::sync_folder_of;

use super::{chain::Chain, plain, zstd_frames};
use crate::{output::Failure, progress::Progress};

/// What a Zstandard frame begins with (RFC 8878 §3.1.1).
pub(crate) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The file of an export, which no other run writes meanwhile.
pub(crate) struct ExportFile {
    path: PathBuf,
    file: File,
    zstd: bool,
}

/// What is in a file already.
pub(crate) struct Found {
    /// Bytes of whole records.
    pub(crate) whole: u64,
}

/// Why a file that is there cannot be gone on with.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// It cannot be read.
    Io(io::Error),
    /// Its records are not what they should be.
    Failure(Failure),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Failure> for Unusable {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl ExportFile {
    /// Opens or makes the file.
    pub(crate) fn open(path: &Path, zstd: bool) -> anyhow::Result<Self> {
        let cannot = || format!("{} cannot be opened", path.display());
        let options = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = options.with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(anyhow!("another export writes {} now", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Self { path: path.to_owned(), file, zstd })
    }

    /// Reads the records that an earlier run left, and takes away what it left unfinished.
    /// Returns how many bytes that were.
    pub(crate) fn resume(
        &mut self,
        chain: &mut Chain,
        mut progress: Progress,
    ) -> Result<u64, Failure> {
        let cannot = || format!("{} cannot be read", self.path.display());
        let length = self.file.metadata().with_context(cannot)?.len();
        let magic = magic(&self.file).with_context(cannot)?;
        let is_zstd = ZSTD_MAGIC.starts_with(&magic);
        if !magic.is_empty() && is_zstd != self.zstd {
            return Err(self.other_form().into());
        }
        let place = format!("in {}", self.path.display());
        let read = if self.zstd { zstd_frames::read } else { plain::read };
        let found = match read(&self.file, chain, &place, &mut progress) {
            Ok(found) => found,
            Err(Unusable::Failure(failure)) => return Err(failure),
            Err(Unusable::Io(error)) => {
                return Err(anyhow::Error::new(error).context(cannot()).into());
            }
        };
        if found.whole < length {
            self.file.set_len(found.whole).with_context(cannot)?;
        }
        Ok(length - found.whole)
    }

    /// Adds whole lines.
    pub(crate) fn append(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let written = if self.zstd {
            zstd_frames::frame(lines).and_then(|frame| self.file.write_all(&frame))
        } else {
            self.file.write_all(lines)
        };
        written.with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// Makes durable what was written.
    pub(crate) fn complete(&self) -> anyhow::Result<()> {
        let synced = self.file.sync_all().and_then(|()| sync_folder_of(&self.path));
        synced.with_context(|| format!("{} cannot be made durable", self.path.display()))
    }

    fn other_form(&self) -> anyhow::Error {
        let path = self.path.display();
        if self.zstd {
            anyhow!("{path} is there and is not compressed: leave --zstd out or give another --out")
        } else {
            anyhow!("{path} is compressed: give --zstd or another --out")
        }
    }
}

/// The first four bytes of a file, or fewer in a shorter one; leaves it at its beginning.
pub(crate) fn magic(mut file: &File) -> io::Result<Vec<u8>> {
    let mut magic = Vec::new();
    file.take(ZSTD_MAGIC.len() as u64).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(magic)
}

/// Takes a line of a file: a record of this ledger, after those before. What is no export of it
/// at all is not tampered with, but the wrong file.
pub(super) fn follow(chain: &mut Chain, line: &[u8], place: &str) -> Result<(), Failure> {
    let text = std::str::from_utf8(line);
    if chain.size() == 0 {
        let record = text.ok().and_then(|line| Record::parse(line).ok());
        let first = record.filter(|record| record.seq == 0 && record.ledger == *chain.ledger());
        if first.is_none() {
            return Err(other_file(chain, place));
        }
    }
    let seq = chain.size();
    let text = text
        .map_err(|_| Failure::tampered(seq, format!("{place}, record {seq} is not UTF-8 text")))?;
    chain.follow(text, None, place)
}

/// A line that is longer than any record.
pub(super) fn too_long(chain: &Chain, place: &str) -> Failure {
    let seq = chain.size();
    if seq == 0 {
        return other_file(chain, place);
    }
    let words = format!("{place}, record {seq} is longer than {MAX_LINE_BYTES} bytes");
    Failure::tampered(seq, words)
}

/// A file that holds something else.
pub(super) fn other_file(chain: &Chain, place: &str) -> Failure {
    let ledger = chain.ledger();
    anyhow!(
        "{place} there is something else than records of the ledger {ledger}: give another --out"
    )
    .into()
}
