//! What the appender remembers of the ledger, so that most checks need no store.

use std::num::NonZeroUsize;

use domain::{
    hash::Hash,
    ids::{Mac, Stream},
    record::Record,
    wire::Receipt,
};
use lru::LruCache;

/// Streams whose version is remembered: about 50 MB.
const STREAMS: NonZeroUsize = NonZeroUsize::new(400_000).unwrap();

/// Commands remembered: about 30 MB. Older ones are looked up in the store.
const COMMANDS: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// A command that the ledger holds.
#[derive(Debug, Clone)]
pub struct KnownCommand {
    /// Digest of its body.
    pub digest: Mac,
    /// The receipt that was or will be returned.
    pub receipt: Receipt,
}

/// Recent stream versions and command ids. What is not here may still be in the ledger.
pub struct Recent {
    versions: LruCache<Stream, u64>,
    commands: LruCache<Mac, KnownCommand>,
}

impl Default for Recent {
    fn default() -> Self {
        Self::remembering(STREAMS, COMMANDS)
    }
}

impl Recent {
    /// Remembers so many streams and commands.
    pub fn remembering(streams: NonZeroUsize, commands: NonZeroUsize) -> Self {
        Self { versions: LruCache::new(streams), commands: LruCache::new(commands) }
    }

    /// The stream's version, 0 if it is known to have none; `None` if nothing is known.
    pub fn version(&self, stream: &Stream) -> Option<u64> {
        self.versions.peek(stream).copied()
    }

    /// The command, if it is remembered.
    pub fn command(&self, id: &Mac) -> Option<&KnownCommand> {
        self.commands.peek(id)
    }

    /// Remembers a stream's version; an older one than is known changes nothing.
    pub fn set_version(&mut self, stream: Stream, version: u64) {
        match self.versions.get_mut(&stream) {
            Some(known) => *known = version.max(*known),
            None => drop(self.versions.put(stream, version)),
        }
    }

    /// Remembers a command that the ledger holds.
    pub fn set_command(&mut self, id: Mac, known: KnownCommand) {
        self.commands.put(id, known);
    }

    /// Remembers a durable record.
    pub fn learn(&mut self, record: &Record, hash: Hash) {
        if let Some((stream, version)) = record.stream_version() {
            self.set_version(stream, version);
        }
        if let Some(command) = record.command {
            let known = KnownCommand { digest: command.digest, receipt: receipt(record, hash) };
            self.set_command(command.id, known);
        }
    }
}

/// The receipt of a durable record.
pub fn receipt(record: &Record, hash: Hash) -> Receipt {
    Receipt {
        seq: record.seq,
        hash,
        stream: record.stream,
        version: record.version,
        recorded_at: record.recorded_at,
        current_version: None,
        replayed: false,
        proof: None,
        span: None,
    }
}
