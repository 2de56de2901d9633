//! What a witness must never forget: the latest checkpoint that it cosigned of each ledger.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use domain::ids::Name;

use crate::checkpoint::{CheckpointError, CheckpointFile};

/// Bytes of a remembered note at most; a longer file is none of ours.
const MAX_NOTE_BYTES: u64 = 2 * super::request::MAX_REQUEST_BYTES as u64;

/// A folder with a file for each ledger, which several processes may share.
///
/// Comparing and replacing happen under a lock of the operating system, and what was replaced is
/// on disk before the change is answered: no interleaving brings an older checkpoint back.
#[derive(Debug, Clone)]
pub struct WitnessState {
    folder: PathBuf,
}

/// The remembered checkpoint cannot be read or replaced; nothing may be cosigned then.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refused.
    #[error("the witness's state {path} cannot be used")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be replaced.
    #[error("the witness's state cannot be written")]
    Save(#[from] CheckpointError),
    /// The file holds something else than a checkpoint of this ledger that this witness or the
    /// ledger signed.
    #[error("the witness's state {path} is not a checkpoint that can be trusted: restore it")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// What a decision comes to.
pub struct Change<T> {
    /// The note to remember instead of the one before, if any.
    pub remember: Option<String>,
    /// The answer, given once the note is on disk.
    pub answer: T,
}

impl WitnessState {
    /// A folder, made if it is missing.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, StateError> {
        let folder = folder.into();
        fs::create_dir_all(&folder)
            .map_err(|source| StateError::Io { path: folder.clone(), source })?;
        Ok(Self { folder })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that remembers a ledger.
    pub fn file(&self, origin: &Name) -> PathBuf {
        self.folder.join(format!("{origin}.checkpoint"))
    }

    /// Shows `decide` the remembered note and does what it says, alone among all processes.
    pub fn update<T, E: From<StateError>>(
        &self,
        origin: &Name,
        decide: impl FnOnce(Option<&str>) -> Result<Change<T>, E>,
    ) -> Result<T, E> {
        // Held until it is dropped.
        let _lock = self.lock(origin)?;
        let path = self.file(origin);
        let held = read(&path)?;
        let Change { remember, answer } = decide(held.as_deref())?;
        if let Some(note) = remember {
            CheckpointFile::new(path).save(&note).map_err(StateError::Save)?;
        }
        Ok(answer)
    }

    fn lock(&self, origin: &Name) -> Result<fs::File, StateError> {
        let path = self.folder.join(format!("{origin}.lock"));
        let locked = fs::File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| StateError::Io { path, source })
    }
}

fn read(path: &Path) -> Result<Option<String>, StateError> {
    let failed = |source| StateError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(found) if found.len() > MAX_NOTE_BYTES => {
            return Err(StateError::Damaged { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}
