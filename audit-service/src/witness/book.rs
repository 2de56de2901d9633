//! Cosigned checkpoints, as far as this process collected them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The newest cosigned checkpoint, and the one to show as witnessed.
#[derive(Debug, Default)]
pub struct CosignedBook {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    newest: Option<Cosigned>,
    /// The newest of those with the most cosignatures: of every witness, if there ever was one.
    best: Option<Cosigned>,
}

/// A checkpoint with cosignatures.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cosigned {
    size: u64,
    note: String,
    /// By the witness's place among the configured ones.
    lines: BTreeMap<usize, String>,
}

impl Cosigned {
    fn rank(&self) -> (usize, u64) {
        (self.lines.len(), self.size)
    }

    fn text(&self) -> String {
        let lines: String = self.lines.values().map(String::as_str).collect();
        format!("{}{lines}", self.note)
    }
}

impl CosignedBook {
    /// Adds the cosignature line of a witness to a signed checkpoint of this size.
    pub fn add(&self, size: u64, note: &str, witness: usize, line: String) {
        let mut inner = self.lock();
        let Inner { newest, best } = &mut *inner;
        let fresh = || Cosigned { size, note: note.to_owned(), lines: BTreeMap::new() };
        let entry = newest.get_or_insert_with(fresh);
        if entry.note != note {
            // What comes late for an older one is not needed any more.
            if size < entry.size {
                return;
            }
            *entry = fresh();
        }
        entry.lines.insert(witness, line);
        if best.as_ref().is_none_or(|best| best.rank() <= entry.rank()) {
            *best = Some(entry.clone());
        }
    }

    /// The newest checkpoint that every witness cosigned, else the one that most did.
    pub fn witnessed(&self) -> Option<String> {
        self.lock().best.as_ref().map(Cosigned::text)
    }

    /// The newest checkpoint that any witness cosigned, with its size.
    pub fn newest(&self) -> Option<(u64, String)> {
        self.lock().newest.as_ref().map(|newest| (newest.size, newest.text()))
    }

    /// Adds the cosignatures that this very checkpoint has.
    pub fn with_cosignatures(&self, note: String) -> String {
        let inner = self.lock();
        let known = [&inner.newest, &inner.best].into_iter().flatten();
        let found = known.into_iter().find(|cosigned| cosigned.note == note);
        found.map_or(note, Cosigned::text)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line(witness: usize) -> String {
        format!("— w{witness} x\n")
    }

    #[test]
    fn the_newest_with_the_most_cosignatures_is_shown_as_witnessed() {
        let book = CosignedBook::default();
        assert_eq!((book.witnessed(), book.newest()), (None, None));
        for (size, witness, best) in [
            (5, 0, "five\n— w0 x\n"),
            (5, 1, "five\n— w0 x\n— w1 x\n"),
            (7, 0, "five\n— w0 x\n— w1 x\n"),
            (7, 1, "seven\n— w0 x\n— w1 x\n"),
            (9, 1, "seven\n— w0 x\n— w1 x\n"),
            (7, 1, "seven\n— w0 x\n— w1 x\n"),
        ] {
            let note = match size {
                5 => "five\n",
                7 => "seven\n",
                _ => "nine\n",
            };
            book.add(size, note, witness, line(witness));
            assert_eq!(book.witnessed().as_deref(), Some(best), "{size} {witness}");
        }
        assert_eq!(book.newest(), Some((9, "nine\n— w1 x\n".to_owned())));
    }

    #[test]
    fn cosignatures_are_added_to_the_checkpoint_that_they_are_of() {
        let book = CosignedBook::default();
        book.add(5, "five\n", 0, line(0));
        assert_eq!(book.with_cosignatures("five\n".into()), "five\n— w0 x\n");
        assert_eq!(book.with_cosignatures("six\n".into()), "six\n");
    }
}
