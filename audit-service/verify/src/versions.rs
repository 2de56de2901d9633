//! Whether the versions of every stream are 1, 2, 3 … in the order of the ledger, in bounded
//! memory: what was seen is sorted in runs, and runs beyond the first go to a temporary file.

use std::{
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
};

use domain::ids::Stream;

/// Entries held in memory: 40 bytes each.
const RUN: usize = 1 << 20;

/// Bytes of one entry in the file.
const ENTRY_BYTES: usize = 33;

/// One version of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    stream: [u8; 17],
    /// Second, so that a stream's entries are in the order of the ledger.
    seq: u64,
    version: u64,
}

impl Entry {
    pub(crate) fn new(stream: Stream, version: u64, seq: u64) -> Self {
        let mut name = [0; 17];
        match stream {
            Stream::Patient(id) => name[1..].copy_from_slice(id.uuid().as_bytes()),
            Stream::LedgerKeys => name[0] = 1,
            Stream::GatewaySubscriptions => name[0] = 2,
        }
        Self { stream: name, seq, version }
    }

    fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.stream)?;
        to.write_all(&self.seq.to_be_bytes())?;
        to.write_all(&self.version.to_be_bytes())
    }

    fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; ENTRY_BYTES];
        from.read_exact(&mut bytes)?;
        let (stream, rest) = bytes.split_at(17);
        let (seq, version) = rest.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |all, b| all << 8 | u64::from(*b));
        let mut name = [0; 17];
        name.copy_from_slice(stream);
        Ok(Self { stream: name, seq: number(seq), version: number(version) })
    }
}

/// Every version seen so far.
pub(crate) struct Versions {
    run: Vec<Entry>,
    limit: usize,
    /// The sorted runs that memory did not hold, one after the other, with their lengths.
    spilled: Option<(File, Vec<u64>)>,
}

impl Default for Versions {
    fn default() -> Self {
        Self::holding(RUN)
    }
}

impl Versions {
    fn holding(limit: usize) -> Self {
        Self { run: Vec::new(), limit, spilled: None }
    }

    /// Takes the entries of some records.
    pub(crate) fn extend(&mut self, entries: &[Entry]) -> io::Result<()> {
        for entry in entries {
            if self.run.len() == self.limit {
                self.spill()?;
            }
            self.run.push(*entry);
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        let (file, lengths) = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert((tempfile::tempfile()?, Vec::new())),
        };
        let mut file = BufWriter::new(file);
        for entry in &self.run {
            entry.write(&mut file)?;
        }
        file.flush()?;
        lengths.push(self.run.len() as u64);
        self.run.clear();
        Ok(())
    }

    /// The first record below `end` that does not take the next version of its stream. Where
    /// reading began `within` the ledger, the first version of each stream is taken as it is.
    pub(crate) fn first_wrong(mut self, within: bool, end: u64) -> io::Result<Option<u64>> {
        self.run.sort_unstable();
        let mut check = Check { within, end, last: None, wrong: None };
        let Some((file, lengths)) = self.spilled.take() else {
            self.run.iter().for_each(|entry| check.see(entry));
            return Ok(check.wrong);
        };
        let mut runs = vec![Run::Memory(self.run.into_iter())];
        let mut begin = 0;
        for length in lengths {
            runs.push(Run::spilled(&file, begin, length)?);
            begin += length;
        }
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next(&file)?.map(|entry| std::cmp::Reverse((entry, number))));
        }
        while let Some(std::cmp::Reverse((entry, number))) = heads.pop() {
            check.see(&entry);
            let next = runs.get_mut(number).map(|run| run.next(&file)).transpose()?.flatten();
            heads.extend(next.map(|entry| std::cmp::Reverse((entry, number))));
        }
        Ok(check.wrong)
    }
}

/// Sees all entries in order.
struct Check {
    within: bool,
    end: u64,
    last: Option<Entry>,
    wrong: Option<u64>,
}

impl Check {
    fn see(&mut self, entry: &Entry) {
        let right = match self.last {
            Some(last) if last.stream == entry.stream => entry.version == last.version + 1,
            _ => self.within || entry.version == 1,
        };
        if !right && entry.seq < self.end {
            self.wrong = Some(self.wrong.map_or(entry.seq, |wrong| wrong.min(entry.seq)));
        }
        self.last = Some(*entry);
    }
}

enum Run {
    Memory(std::vec::IntoIter<Entry>),
    /// A part of the file, some of it read ahead.
    File {
        next: u64,
        left: u64,
        ahead: std::vec::IntoIter<Entry>,
    },
}

impl Run {
    /// Entries read ahead of each run.
    const AHEAD: u64 = 16 * 1024;

    fn spilled(file: &File, begin: u64, length: u64) -> io::Result<Self> {
        let mut run = Self::File { next: begin, left: length, ahead: Vec::new().into_iter() };
        run.fill(file)?;
        Ok(run)
    }

    fn fill(&mut self, file: &File) -> io::Result<()> {
        let Self::File { next, left, ahead } = self else { return Ok(()) };
        let count = (*left).min(Self::AHEAD);
        let mut file = file;
        file.seek(SeekFrom::Start(*next * ENTRY_BYTES as u64))?;
        let mut reader = BufReader::new(file);
        let entries: io::Result<Vec<Entry>> =
            (0..count).map(|_| Entry::read(&mut reader)).collect();
        *ahead = entries?.into_iter();
        *next += count;
        *left -= count;
        Ok(())
    }

    fn next(&mut self, file: &File) -> io::Result<Option<Entry>> {
        if let Self::File { left, ahead, .. } = self
            && ahead.len() == 0
            && *left > 0
        {
            self.fill(file)?;
        }
        Ok(match self {
            Self::Memory(entries) | Self::File { ahead: entries, .. } => entries.next(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::ids::PatientId;
    use proptest::prelude::*;

    use super::*;

    fn patient(number: u8) -> Stream {
        let digits = format!("00000000-0000-4000-8000-0000000000{number:02x}");
        Stream::Patient(digits.parse::<PatientId>().unwrap())
    }

    /// By the definition: one pass with every stream's version in memory.
    fn oracle(entries: &[(u8, u64)], within: bool, end: u64) -> Option<u64> {
        let mut versions = std::collections::HashMap::new();
        for (seq, (stream, version)) in (0..).zip(entries) {
            let before = versions.insert(stream, *version);
            let right = before.map_or(within || *version == 1, |before| *version == before + 1);
            if !right && seq < end {
                return Some(seq);
            }
        }
        None
    }

    proptest! {
        #[test]
        fn memory_and_file_find_what_the_definition_finds(
            steps in prop::collection::vec((0u8..12, 0u8..40), 0..200),
            limit in 1usize..40,
            within: bool,
            end in 0u64..220,
        ) {
            // Mostly right versions, so that runs of them are long.
            let mut versions = [0u64; 12];
            let entries: Vec<(u8, u64)> = steps
                .iter()
                .map(|(stream, slip)| {
                    let version = &mut versions[usize::from(*stream)];
                    *version += 1;
                    (*stream, if *slip == 0 { *version + 1 } else { *version })
                })
                .collect();
            let mut seen = Versions::holding(limit);
            for (seq, (stream, version)) in (0..).zip(&entries) {
                seen.extend(&[Entry::new(patient(*stream), *version, seq)]).unwrap();
            }
            let found = seen.first_wrong(within, end).unwrap();
            prop_assert_eq!(found, oracle(&entries, within, end));
        }
    }

    #[test]
    fn streams_of_the_ledger_itself_are_apart_from_patients() {
        let mut seen = Versions::default();
        let streams = [Stream::LedgerKeys, Stream::GatewaySubscriptions, patient(0), patient(1)];
        for (seq, stream) in (0..).zip(streams) {
            seen.extend(&[Entry::new(stream, 1, seq)]).unwrap();
        }
        assert_eq!(seen.first_wrong(false, 4).unwrap(), None);
    }
}
