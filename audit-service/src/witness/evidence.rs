//! What a witness keeps when a ledger's own signature stands under two histories.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use audit_verify::checkpoint::TreeHead;
use domain::ids::Name;

/// Files of one kind at most. Anybody may send a genuine checkpoint with a wrong proof, so what
/// that leaves must be bounded; a fork needs the ledger's own signature under two roots.
const MAX_FILES: usize = 1_000;

/// How a checkpoint contradicts the one that the witness holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// Another root at the same size: proof of a fork by itself.
    Fork,
    /// A larger size without a proof that it extends the one held: a fork, or a wrong proof.
    Unproven,
}

impl Contradiction {
    const fn folder(self) -> &'static str {
        match self {
            Self::Fork => "forks",
            Self::Unproven => "unproven",
        }
    }
}

/// Keeps both notes as files below the state's folder, each pair once; the offending one's path.
/// `None` if there are too many already.
pub fn keep(
    folder: &Path,
    kind: Contradiction,
    origin: &Name,
    head: TreeHead,
    offending: &str,
    seen: &str,
) -> io::Result<Option<PathBuf>> {
    let folder = folder.join("evidence").join(kind.folder());
    fs::create_dir_all(&folder)?;
    let base = format!("{origin}.{:020}.{}", head.size, head.root);
    let path = folder.join(format!("{base}.offending.note"));
    if path.exists() {
        return Ok(Some(path));
    }
    if fs::read_dir(&folder)?.count() >= 2 * MAX_FILES {
        return Ok(None);
    }
    write(&folder.join(format!("{base}.held.note")), seen)?;
    write(&path, offending)?;
    fs::File::open(&folder)?.sync_all()?;
    Ok(Some(path))
}

/// A crash may have left a part of it, so what is there is replaced.
fn write(path: &Path, note: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()
}
