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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use domain::hash::Hash;

    use super::*;

    fn keep_one(folder: &Path, kind: Contradiction, size: u64) -> Option<PathBuf> {
        let head = TreeHead { size, root: Hash::ZERO };
        keep(folder, kind, &"ledger".parse().unwrap(), head, "sent", "seen").unwrap()
    }

    #[test]
    fn both_notes_are_kept_once_and_no_kind_takes_the_room_of_the_other() {
        use Contradiction::{Fork, Unproven};
        let folder = tempfile::tempdir().unwrap();
        let path = keep_one(folder.path(), Unproven, 1).unwrap();
        let seen = path.to_str().unwrap().replace(".offending.", ".held.");
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&path), read(Path::new(&seen))), ("sent".into(), "seen".into()));
        for number in 1..2 * MAX_FILES {
            fs::write(path.with_file_name(number.to_string()), "").unwrap();
        }
        assert_eq!(keep_one(folder.path(), Unproven, 1), Some(path));
        assert_eq!(keep_one(folder.path(), Unproven, 2), None);
        assert!(keep_one(folder.path(), Fork, 2).is_some());
    }
}
