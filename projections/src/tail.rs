//! Reading the ledger by `seq` over HTTP, every link checked.

use std::time::Duration;

use audit_client::AuditClient;
use domain::{chain::Link, hash::Hash, ids::Name, record::Record};

use crate::{documents::Position, error::TailError};

/// Looks for a record that was followed before and is not served now, before the ledger counts
/// as cut off: a replica of the audit service that has just started may be behind the others.
const CONFIRM_TRIES: u32 = 5;

/// Between those looks.
const CONFIRM_PAUSE: Duration = Duration::from_secs(2);

/// A place in the ledger from which it is read on.
pub struct Tail {
    audit: AuditClient,
    ledger: Name,
    link: Link,
}

/// A record that follows from all before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The record.
    pub record: Record,
    /// Hash of its line.
    pub hash: Hash,
}

impl Tail {
    /// A tail of the ledger of this origin, after the last record followed.
    pub fn resume(audit: AuditClient, ledger: Name, position: Option<Position>) -> Self {
        let link = position.map_or_else(Link::genesis, Link::from);
        Self { audit, ledger, link }
    }

    /// `seq` of the next record.
    pub fn next_seq(&self) -> u64 {
        self.link.next_seq
    }

    /// The place after the last record that [`Tail::next`] returned; `None` before the first.
    pub fn position(&self) -> Option<Position> {
        let Link { next_seq, hash, at } = self.link;
        (next_seq > 0).then_some(Position { next_seq, hash, at })
    }

    /// The next records, at most `limit`; waits up to `wait` for the first, and returns none if
    /// there is none yet.
    ///
    /// Of a run with a broken link those before it are returned; the next call fails and names
    /// it. A call that failed or was dropped moved nothing.
    pub async fn next(&mut self, limit: usize, wait: Duration) -> Result<Vec<Verified>, TailError> {
        let lines = self.audit.records(self.link.next_seq, limit, wait).await?;
        let mut records = Vec::with_capacity(lines.len().min(limit));
        for line in lines.iter().take(limit) {
            match self.link.follow(&self.ledger, line) {
                Ok(record) => records.push(Verified { record, hash: self.link.hash }),
                Err(error) if records.is_empty() => return Err(error.into()),
                Err(_) => break,
            }
        }
        Ok(records)
    }

    /// Checks that the last record followed is still what the ledger holds there: a ledger that
    /// was cut off or replaced has nothing to follow, and would otherwise look like a quiet one.
    pub async fn confirm(&self) -> Result<(), TailError> {
        let Some(seq) = self.link.next_seq.checked_sub(1) else { return Ok(()) };
        for attempt in 1..=CONFIRM_TRIES {
            match self.audit.record(seq).await? {
                Some(line) if Hash::of_line(&line) == self.link.hash => return Ok(()),
                Some(_) => return Err(TailError::Rewritten { seq }),
                None if attempt < CONFIRM_TRIES => tokio::time::sleep(CONFIRM_PAUSE).await,
                None => {}
            }
        }
        Err(TailError::CutOff { seq })
    }
}

impl From<Position> for Link {
    fn from(position: Position) -> Self {
        let Position { next_seq, hash, at } = position;
        Self { next_seq, hash, at }
    }
}
