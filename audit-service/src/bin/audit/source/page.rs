//! Records as a server sends them: NDJSON, which may be anything until it is checked.

/// Consecutive lines, exactly as they were served.
#[derive(Debug)]
pub(crate) struct Page {
    from: u64,
    bytes: Vec<u8>,
}

/// Bytes that are not a line. Nothing after them is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLine {
    /// No newline at its end.
    #[error("record {seq} is cut off: its line does not end")]
    Torn {
        /// The position at which it stands.
        seq: u64,
    },
    /// Not UTF-8.
    #[error("record {seq} is not UTF-8 text")]
    NotText {
        /// The position at which it stands.
        seq: u64,
    },
}

impl BadLine {
    /// The position.
    pub(crate) const fn seq(self) -> u64 {
        match self {
            Self::Torn { seq } | Self::NotText { seq } => seq,
        }
    }
}

impl Page {
    /// What was served for the records from `from` on.
    pub(crate) const fn new(from: u64, bytes: Vec<u8>) -> Self {
        Self { from, bytes }
    }

    /// The bytes as they came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as they came, without a copy.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The lines without their newlines, up to the first that is none.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Result<&str, BadLine>> {
        let mut stopped = false;
        (self.from..).zip(self.bytes.split_inclusive(|byte| *byte == b'\n')).map_while(
            move |(seq, line)| {
                if stopped {
                    return None;
                }
                let line = match line.split_last() {
                    Some((b'\n', line)) => {
                        std::str::from_utf8(line).map_err(|_| BadLine::NotText { seq })
                    }
                    _ => Err(BadLine::Torn { seq }),
                };
                stopped = line.is_err();
                Some(line)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_the_first_that_is_none() {
        let check = |bytes: &[u8], expected: &[Result<&str, BadLine>]| {
            let page = Page::new(7, bytes.to_vec());
            assert_eq!(page.lines().collect::<Vec<_>>(), expected);
        };
        check(b"", &[]);
        check(b"a\nb\n", &[Ok("a"), Ok("b")]);
        check(b"a\n\n", &[Ok("a"), Ok("")]);
        check(b"a\nb", &[Ok("a"), Err(BadLine::Torn { seq: 8 })]);
        check(b"a\n\xff\nb\n", &[Ok("a"), Err(BadLine::NotText { seq: 8 })]);
        check(b"a\n\xff", &[Ok("a"), Err(BadLine::Torn { seq: 8 })]);
    }
}
