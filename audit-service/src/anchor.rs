//! Anchors: places outside the operator's reach that keep checkpoints for ever.
//!
//! In scope: a directory and an Azure blob container behind one trait, the task that writes, and
//! reading everything back for verification.
//!
//! Out of scope: what makes a place unchangeable. That is an immutability policy of the
//! container, a write-once file system, or other people's permissions.

use async_trait::async_trait;
use audit_verify::checkpoint::{CheckpointError, read_unverified};
use domain::ids::Name;
use futures::{StreamExt, TryStreamExt};

use crate::outside::http::HttpError;

pub mod anchored;
pub mod azure;
pub mod directory;
pub mod keeper;
pub mod location;

/// Bytes of one anchored note at most.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Checkpoints of one anchor at most: at one a minute, 19 years of them. Their sizes take 80 MB.
pub const MAX_ANCHORED: usize = 10_000_000;

/// Checkpoints that [`read_all`] returns at most; [`read_each`] has no such bound.
pub const MAX_IN_MEMORY: usize = 100_000;

/// Reads under way at once.
const READS_AT_ONCE: usize = 16;

/// A place that keeps checkpoints, by origin and size.
///
/// Durability: `keep` returns once the place has the note. What is kept is never overwritten by
/// it. Any number of processes may keep at once.
#[async_trait]
pub trait Anchor: Send + Sync {
    /// Keeps a checkpoint of this size. One that is there already may carry other signatures;
    /// with another text it is [`AnchorError::Differs`].
    async fn keep(&self, origin: &Name, size: u64, note: &str) -> Result<(), AnchorError>;

    /// Sizes of the checkpoints of a ledger, ascending.
    async fn sizes(&self, origin: &Name) -> Result<Vec<u64>, AnchorError>;

    /// The largest of [`Anchor::sizes`], without reading all of them where the place allows that.
    async fn newest(&self, origin: &Name) -> Result<Option<u64>, AnchorError> {
        Ok(self.sizes(origin).await?.pop())
    }

    /// The checkpoint of a size, as it is there: nothing about it is verified.
    async fn read(&self, origin: &Name, size: u64) -> Result<String, AnchorError>;
}

/// Why an anchor cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// Another checkpoint is kept under this size: one of the two histories is not the ledger's.
    #[error("the anchor keeps another checkpoint of size {size}")]
    Differs {
        /// The size.
        size: u64,
    },
    /// A file cannot be used.
    #[error("the anchor's directory cannot be used")]
    Io(#[from] std::io::Error),
    /// The storage service gave no usable answer.
    #[error("the anchor's storage service gave no answer")]
    Http(#[from] HttpError),
    /// The storage service refused.
    #[error("the anchor's storage service answered with status {status} {code}")]
    Status {
        /// The status.
        status: u16,
        /// The service's error code, as far as it is one.
        code: String,
    },
    /// No token for the storage service could be had.
    #[error("no token for the anchor's storage service: {0}")]
    Token(&'static str),
    /// The anchor's secret cannot be loaded.
    #[error("the anchor's secret cannot be loaded")]
    Secret(#[from] runtime::secrets::SecretError),
    /// An answer of the storage service cannot be read.
    #[error("an answer of the anchor's storage service cannot be read")]
    Answer,
    /// There is no checkpoint of this size.
    #[error("the anchor has no checkpoint of size {size}")]
    Missing {
        /// The size.
        size: u64,
    },
    /// What is kept under this size is too long or no text.
    #[error("what the anchor keeps under size {size} is no checkpoint")]
    NotANote {
        /// The size.
        size: u64,
    },
    /// More checkpoints than can be read.
    #[error("the anchor has more than {limit} checkpoints")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// The note to be kept is no checkpoint of this ledger and size.
    #[error("only a checkpoint can be anchored")]
    NotACheckpoint(#[from] CheckpointError),
}

impl AnchorError {
    /// Whether it is about reaching the anchor, and not about what is kept there.
    pub(crate) const fn may_pass(&self) -> bool {
        !matches!(
            self,
            Self::Differs { .. }
                | Self::NotANote { .. }
                | Self::NotACheckpoint(_)
                | Self::TooMany { .. }
        )
    }
}

/// Every anchored checkpoint of a ledger with its size, ascending and not verified.
pub async fn read_all(
    anchor: &dyn Anchor,
    origin: &Name,
) -> Result<Vec<(u64, String)>, AnchorError> {
    let sizes = anchor.sizes(origin).await?;
    if sizes.len() > MAX_IN_MEMORY {
        return Err(AnchorError::TooMany { limit: MAX_IN_MEMORY });
    }
    let mut all = Vec::with_capacity(sizes.len());
    read_each(anchor, origin, sizes, |size, note| all.push((size, note))).await?;
    Ok(all)
}

/// Shows `visit` the anchored checkpoints of these sizes, in their order and not verified; holds
/// a few of them at a time.
pub async fn read_each(
    anchor: &dyn Anchor,
    origin: &Name,
    sizes: Vec<u64>,
    mut visit: impl FnMut(u64, String),
) -> Result<(), AnchorError> {
    let read = async |size| Ok::<_, AnchorError>((size, anchor.read(origin, size).await?));
    let reads = sizes.into_iter().map(read);
    let mut notes = futures::stream::iter(reads).buffered(READS_AT_ONCE);
    while let Some((size, note)) = notes.try_next().await? {
        visit(size, note);
    }
    Ok(())
}

/// The name of the file or blob of a size.
fn file_name(size: u64) -> String {
    format!("{size:020}.checkpoint")
}

/// The size in a name, if it is one of ours.
fn size_in(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".checkpoint")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

/// Whether two notes are of the same checkpoint, whoever signed them.
fn same_checkpoint(one: &str, other: &str) -> bool {
    let text = |note: &str| note.split_once("\n\n").map(|(text, _)| text.to_owned());
    text(one).is_some_and(|one| text(other) == Some(one))
}

/// A note that is a checkpoint of this ledger and size.
fn check(origin: &Name, size: u64, note: &str) -> Result<(), AnchorError> {
    let (of, head) = read_unverified(note)?;
    if of == *origin && head.size == size { Ok(()) } else { Err(CheckpointError::Origin.into()) }
}

fn note_from(size: u64, bytes: Vec<u8>) -> Result<String, AnchorError> {
    String::from_utf8(bytes).map_err(|_| AnchorError::NotANote { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_sort_as_the_sizes_do_and_are_read_back() {
        for size in [0, 9, 10, u64::MAX] {
            assert_eq!(size_in(&file_name(size)), Some(size));
        }
        assert!(file_name(9) < file_name(10));
        for other in ["", "1.checkpoint", ".checkpoint", "0000000000000000000x.checkpoint"] {
            assert_eq!(size_in(other), None, "{other}");
        }
        assert_eq!(size_in("99999999999999999999.checkpoint"), None);
    }

    #[test]
    fn signatures_do_not_make_another_checkpoint() {
        assert!(same_checkpoint("o\n1\nr\n\n— a x\n", "o\n1\nr\n\n— a x\n— w y\n"));
        assert!(!same_checkpoint("o\n1\nr\n\n— a x\n", "o\n1\nq\n\n— a x\n"));
        assert!(!same_checkpoint("", ""));
    }
}
