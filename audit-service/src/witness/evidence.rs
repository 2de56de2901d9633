//! What a witness keeps when a ledger's own signature stands under two histories.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use audit_verify::checkpoint::TreeHead;
use domain::ids::Name;

/// Pairs of one kind that one process leaves at most, together with those that it found. Anybody
/// may send a genuine checkpoint with a wrong proof, so what that leaves must be bounded; a fork
/// needs the ledger's own signature under two roots.
const MAX_PAIRS: usize = 1_000;

/// How a checkpoint contradicts the one that the witness holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// Another root at the same size: proof of a fork by itself.
    Fork,
    /// A larger size without a proof that it extends the one held: a fork, or a wrong proof.
    Unproven,
}

/// What became of a pair of notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is kept now; the offending note's file.
    New(PathBuf),
    /// It was kept before.
    Before,
    /// There are too many of its kind already.
    Full {
        /// Whether that is so for the first time.
        first: bool,
    },
}

/// The evidence below one folder.
#[derive(Debug)]
pub struct Evidence {
    folder: PathBuf,
    forks: Mutex<Count>,
    unproven: Mutex<Count>,
}

/// How much there is of a kind.
#[derive(Debug, Default)]
struct Count {
    /// Files; counted in the folder once, as that takes long and strangers may ask for it.
    files: Option<usize>,
    full: bool,
}

impl Contradiction {
    const fn folder(self) -> &'static str {
        match self {
            Self::Fork => "forks",
            Self::Unproven => "unproven",
        }
    }
}

impl Evidence {
    /// The evidence of the witness with this state's folder.
    pub fn new(state: &Path) -> Self {
        let folder = state.join("evidence");
        Self { folder, forks: Mutex::default(), unproven: Mutex::default() }
    }

    /// Keeps both notes as files, each pair once.
    pub fn keep(
        &self,
        kind: Contradiction,
        origin: &Name,
        head: TreeHead,
        offending: &str,
        seen: &str,
    ) -> io::Result<Kept> {
        let folder = self.folder.join(kind.folder());
        let base = format!("{origin}.{:020}.{}", head.size, head.root);
        let path = folder.join(format!("{base}.offending.note"));
        if path.exists() {
            return Ok(Kept::Before);
        }
        let count = match kind {
            Contradiction::Fork => &self.forks,
            Contradiction::Unproven => &self.unproven,
        };
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        let files = if let Some(files) = count.files {
            files
        } else {
            fs::create_dir_all(&folder)?;
            fs::read_dir(&folder)?.count()
        };
        count.files = Some(files);
        if files >= 2 * MAX_PAIRS {
            let first = !std::mem::replace(&mut count.full, true);
            return Ok(Kept::Full { first });
        }
        write(&folder.join(format!("{base}.held.note")), seen)?;
        write(&path, offending)?;
        fs::File::open(&folder)?.sync_all()?;
        count.files = Some(files + 2);
        Ok(Kept::New(path))
    }
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

    fn keep_one(evidence: &Evidence, kind: Contradiction, size: u64) -> Kept {
        let head = TreeHead { size, root: Hash::ZERO };
        evidence.keep(kind, &"ledger".parse().unwrap(), head, "sent", "seen").unwrap()
    }

    #[test]
    fn both_notes_are_kept_once_and_no_kind_takes_the_room_of_the_other() {
        use Contradiction::{Fork, Unproven};
        let folder = tempfile::tempdir().unwrap();
        let evidence = Evidence::new(folder.path());
        let Kept::New(path) = keep_one(&evidence, Unproven, 1) else { panic!("it is new") };
        let seen = path.to_str().unwrap().replace(".offending.", ".held.");
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!((read(&path), read(Path::new(&seen))), ("sent".into(), "seen".into()));
        for number in 4..2 * MAX_PAIRS {
            fs::write(path.with_file_name(number.to_string()), "").unwrap();
        }
        let evidence = Evidence::new(folder.path());
        assert_eq!(keep_one(&evidence, Unproven, 1), Kept::Before);
        assert!(matches!(keep_one(&evidence, Unproven, 2), Kept::New(_)));
        for first in [true, false, false] {
            assert_eq!(keep_one(&evidence, Unproven, 3), Kept::Full { first });
        }
        assert_eq!(keep_one(&evidence, Unproven, 2), Kept::Before);
        assert!(matches!(keep_one(&evidence, Fork, 2), Kept::New(_)));
    }

    #[test]
    fn a_folder_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let evidence = Evidence::new(folder.path());
        let Kept::New(path) = keep_one(&evidence, Contradiction::Unproven, 1) else {
            panic!("it is new")
        };
        for number in 0..2 * MAX_PAIRS {
            fs::write(path.with_file_name(number.to_string()), "").unwrap();
        }
        assert!(matches!(keep_one(&evidence, Contradiction::Unproven, 2), Kept::New(_)));
    }
}
