//! An anchor in a directory: one file a checkpoint, never overwritten.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use domain::ids::Name;
use runtime::secrets::random_key_hex;
use tokio::sync::Semaphore;

use super::{
    Anchor, AnchorError, MAX_ANCHORED, MAX_NOTE_BYTES, check, file_name, note_from,
    same_checkpoint, size_in,
};

/// Checkpoints of one ledger as files of mode 0444.
///
/// Uses one thread at most, whatever is asked of it: a mount that hangs holds that one, and later
/// calls wait without a thread.
#[derive(Debug, Clone)]
pub struct DirectoryAnchor {
    folder: PathBuf,
    /// One permit, which belongs to the thread that is in the directory.
    thread: Arc<Semaphore>,
}

impl DirectoryAnchor {
    /// A directory, which must exist: a mount that is missing must not go unnoticed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), thread: Arc::new(Semaphore::new(1)) }
    }

    fn write(&self, size: u64, note: &str) -> Result<(), AnchorError> {
        match self.create(size, note) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let kept = self.load(size)?;
                if same_checkpoint(&kept, note) {
                    Ok(())
                } else {
                    Err(AnchorError::Differs { size })
                }
            }
            result => Ok(result?),
        }
    }

    /// Written beside its place and linked there whole: a crash leaves no part of a checkpoint,
    /// and a link never replaces a file.
    fn create(&self, size: u64, note: &str) -> io::Result<()> {
        // Random, as processes of several machines may share the directory.
        let unfinished = self.folder.join(format!(".{}.unfinished", random_key_hex()));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o444).open(&unfinished)?;
        let linked = file
            .write_all(note.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::hard_link(&unfinished, self.folder.join(file_name(size))));
        // Where nothing may be removed, it stays beside the checkpoint; nobody reads it.
        let _ = fs::remove_file(&unfinished);
        linked?;
        fs::File::open(&self.folder)?.sync_all()
    }

    fn load(&self, size: u64) -> Result<String, AnchorError> {
        let file = match fs::File::open(self.folder.join(file_name(size))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(AnchorError::Missing { size });
            }
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_NOTE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(AnchorError::NotANote { size });
        }
        note_from(size, bytes)
    }

    fn list(&self) -> Result<Vec<u64>, AnchorError> {
        let mut sizes = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some(size) = name.to_str().and_then(size_in) else { continue };
            if sizes.len() == MAX_ANCHORED {
                return Err(AnchorError::TooMany { limit: MAX_ANCHORED });
            }
            sizes.push(size);
        }
        sizes.sort_unstable();
        Ok(sizes)
    }

    /// Files are not for the threads that serve requests. A caller may give up waiting at any
    /// time; the thread cannot.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, AnchorError> + Send + 'static,
    ) -> Result<T, AnchorError> {
        let this = self.clone();
        let permit = self.thread.clone().acquire_owned().await.map_err(io::Error::other)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&this)
        })
        .await;
        done.unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }
}

#[async_trait]
impl Anchor for DirectoryAnchor {
    async fn keep(&self, origin: &Name, size: u64, note: &str) -> Result<(), AnchorError> {
        check(origin, size, note)?;
        let note = note.to_owned();
        self.blocking(move |this| this.write(size, &note)).await
    }

    async fn sizes(&self, _: &Name) -> Result<Vec<u64>, AnchorError> {
        self.blocking(Self::list).await
    }

    async fn read(&self, _: &Name, size: u64) -> Result<String, AnchorError> {
        self.blocking(move |this| this.load(size)).await
    }
}
