//! A fixed number of connections, used from threads for blocking calls.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::open;
use crate::store::BoxError;

/// Work that did not end.
#[derive(Debug)]
pub(super) enum Lost {
    /// It was not begun.
    Before(BoxError),
    /// It broke off somewhere.
    During(BoxError),
}

#[derive(Debug)]
pub(super) struct Pool {
    permits: Arc<Semaphore>,
    idle: Arc<Idle>,
}

#[derive(Debug)]
struct Idle {
    path: PathBuf,
    connections: Mutex<Vec<Connection>>,
}

impl Pool {
    /// A pool of up to `size` connections, which are opened when they are needed.
    pub(super) fn new(path: &Path, size: usize) -> Self {
        let idle = Idle { path: path.to_owned(), connections: Mutex::default() };
        Self { permits: Arc::new(Semaphore::new(size)), idle: Arc::new(idle) }
    }

    /// Adds a connection that is open already.
    pub(super) fn put_back(&self, connection: Connection) {
        self.idle.put_back(connection);
    }

    /// Runs `work` on a connection once one is free, in order of arrival. Work that has begun
    /// is done to its end, also if the caller stops waiting.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|error| Lost::Before(Box::new(error)))?;
        let idle = Arc::clone(&self.idle);
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = idle.take()?;
            let result = work(&mut connection);
            idle.put_back(connection);
            drop(permit);
            Ok(result)
        });
        match done.await {
            Ok(result) => result.map_err(|error: rusqlite::Error| Lost::Before(Box::new(error))),
            Err(panic) => Err(Lost::During(Box::new(panic))),
        }
    }
}

impl Idle {
    fn take(&self) -> Result<Connection, rusqlite::Error> {
        let idle = self.connections().pop();
        idle.map_or_else(|| open::connect(&self.path), Ok)
    }

    fn put_back(&self, connection: Connection) {
        // One whose rollback failed is still inside its transaction: closing it ends that.
        if connection.is_autocommit() {
            self.connections().push(connection);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
