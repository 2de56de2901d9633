//! Threads that each own a connection, and the queue before them.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{DEADLINE, Failure, MAX_QUEUE, unavailable};
use crate::store::StoreError;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A queue that some threads work off, first come, first served.
#[derive(Clone)]
pub(super) struct Workers {
    queue: mpsc::Sender<Job>,
}

impl Workers {
    /// Starts a thread for each connection. They end when the last clone is dropped and the
    /// queue is empty.
    pub(super) fn start(name: &str, connections: Vec<Connection>) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(MAX_QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for connection in connections {
            let waiting = Arc::clone(&waiting);
            let thread = thread::Builder::new().name(name.to_owned());
            thread.spawn(move || work(connection, &waiting))?;
        }
        Ok(Self { queue })
    }

    /// The same threads, for one that does not keep them from ending.
    pub(super) fn downgrade(&self) -> WeakWorkers {
        WeakWorkers { queue: self.queue.downgrade() }
    }

    /// Runs a job on one of the threads. After [`DEADLINE`] the caller is told so; a job that
    /// has not begun by then is not done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !answer.is_closed() {
                // Nobody may be listening any more; then the answer has no use.
                let _ = answer.send(job(connection));
            }
        });
        let call = async {
            self.queue.send(job).await.map_err(|_| unavailable(Failure::Ended))?;
            answered.await.map_err(|_| unavailable(Failure::Ended))?
        };
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(result) => result,
            Err(_) => Err(unavailable(Failure::Deadline)),
        }
    }
}

/// Threads that end without asking this.
pub(super) struct WeakWorkers {
    queue: mpsc::WeakSender<Job>,
}

impl WeakWorkers {
    /// Runs a job on one of the threads, however long it takes; `None` where they ended. Blocks.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The asker waits, or the program ends.
            let _ = answer.send(job(connection));
        });
        self.queue.upgrade()?.blocking_send(job).ok()?;
        answered.blocking_recv().ok()
    }
}

fn work(mut connection: Connection, waiting: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // One thread waits for a job at a time, the others for the lock.
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match job {
            Some(job) => job(&mut connection),
            None => return,
        }
    }
}
