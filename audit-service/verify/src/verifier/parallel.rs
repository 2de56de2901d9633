//! Checking chunks on several threads.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use domain::ids::Name;

use super::{Checked, Chunk, Options, Verifier, check};
use crate::report::Report;

/// Chunks on their way for each thread: enough that none waits, few enough for memory.
const AHEAD: usize = 2;

/// How far a verification is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Records of the ledger that follow from those before them.
    pub size: u64,
    /// Bytes of lines read.
    pub bytes: u64,
}

/// Why a verification ended without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError<E> {
    /// The lines could not be read on.
    #[error(transparent)]
    Source(E),
    /// A temporary file could not be used.
    #[error("a temporary file could not be used")]
    TemporaryFile(#[source] io::Error),
}

/// What a source gives.
pub enum Read {
    /// The next lines.
    Chunk(Chunk),
    /// The source holds something that is no record and no block.
    Bad {
        /// The place, as far as it can be told.
        first: u64,
        /// What is wrong; never content.
        reason: String,
    },
}

/// Verifies what `source` gives; checks chunks on `threads` threads beside this one, which reads
/// and joins, and with 0 on this one alone.
pub fn verify<E>(
    options: Options,
    source: impl Iterator<Item = Result<Read, E>>,
    threads: usize,
    progress: impl FnMut(Progress),
) -> Result<Report, VerifyError<E>> {
    let origin = options.origin.clone();
    let mut joining = Joining { verifier: Verifier::new(options), progress };
    if threads == 0 {
        joining.alone(&origin, source)?;
    } else {
        let (jobs, waiting) = mpsc::sync_channel::<Job>(threads * AHEAD);
        let waiting = Mutex::new(waiting);
        let (waiting, origin) = (&waiting, &origin);
        thread::scope(|scope| {
            // Dropped at the end of this closure, and then the threads end.
            let jobs = jobs;
            for _ in 0..threads {
                scope.spawn(move || work(origin, waiting));
            }
            joining.together(&jobs, threads * AHEAD, source)
        })?;
    }
    joining.verifier.finish().map_err(VerifyError::TemporaryFile)
}

struct Job {
    chunk: Chunk,
    done: mpsc::SyncSender<Checked>,
}

fn work(origin: &Name, waiting: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { chunk, done }) = job else { return };
        // Nobody waits for it once the verdict is known.
        let _ = done.send(check(origin, chunk));
    }
}

struct Joining<P> {
    verifier: Verifier,
    progress: P,
}

impl<P: FnMut(Progress)> Joining<P> {
    fn alone<E>(
        &mut self,
        origin: &Name,
        source: impl Iterator<Item = Result<Read, E>>,
    ) -> Result<(), VerifyError<E>> {
        for read in source {
            match read.map_err(VerifyError::Source)? {
                Read::Chunk(chunk) => self.join(check(origin, chunk))?,
                Read::Bad { first, reason } => self.verifier.found_in_store(first, reason),
            }
            if self.verifier.is_over() {
                break;
            }
        }
        Ok(())
    }

    fn together<E>(
        &mut self,
        jobs: &mpsc::SyncSender<Job>,
        ahead: usize,
        source: impl Iterator<Item = Result<Read, E>>,
    ) -> Result<(), VerifyError<E>> {
        let mut under_way: VecDeque<mpsc::Receiver<Checked>> = VecDeque::new();
        let mut bad = None;
        for read in source {
            match read.map_err(VerifyError::Source)? {
                Read::Chunk(chunk) => {
                    let (done, checked) = mpsc::sync_channel(1);
                    // Refused only if every thread has panicked, which ends this one too.
                    let _ = jobs.send(Job { chunk, done });
                    under_way.push_back(checked);
                }
                Read::Bad { first, reason } => {
                    bad = Some((first, reason));
                    break;
                }
            }
            if under_way.len() > ahead {
                self.join_next(&mut under_way)?;
            }
            if self.verifier.is_over() {
                break;
            }
        }
        while !under_way.is_empty() {
            self.join_next(&mut under_way)?;
        }
        if let Some((first, reason)) = bad.filter(|_| !self.verifier.is_over()) {
            self.verifier.found_in_store(first, reason);
        }
        Ok(())
    }

    fn join_next<E>(
        &mut self,
        under_way: &mut VecDeque<mpsc::Receiver<Checked>>,
    ) -> Result<(), VerifyError<E>> {
        let next = under_way.pop_front().and_then(|next| next.recv().ok());
        next.map_or(Ok(()), |checked| self.join(checked))
    }

    fn join<E>(&mut self, checked: Checked) -> Result<(), VerifyError<E>> {
        self.verifier.push(checked).map_err(VerifyError::TemporaryFile)?;
        (self.progress)(Progress { size: self.verifier.size(), bytes: self.verifier.bytes() });
        Ok(())
    }
}
