//! A line of the ledger: whatever parses is the line that it serialises to.
#![no_main]

use domain::{chain::Link, record::Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    if let Ok(record) = Record::parse(line) {
        assert_eq!(record.to_line(), line);
        assert_eq!(Record::parse(line).ok().as_ref(), Some(&record));
        let mut link = Link { next_seq: record.seq, hash: record.prev, at: record.recorded_at };
        assert_eq!(link.follow(&record.ledger, line).ok().as_ref(), Some(&record));
    }
});
