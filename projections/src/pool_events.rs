//! What a MongoDB driver tells of its connections, as metrics.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mongodb::{
    event::{EventHandler, cmap::CmapEvent},
    options::ServerAddress,
};
use runtime::store_pool::StorePool;

/// Counts the connections of a client to one of our databases.
pub(crate) fn counting(namespace: &'static str) -> EventHandler<CmapEvent> {
    let (pool, opening) = (StorePool::new(namespace), Opening::default());
    EventHandler::callback(move |event| match event {
        CmapEvent::ConnectionCreated(it) => {
            opening.lock().insert((it.address, it.connection_id));
        }
        CmapEvent::ConnectionReady(it) => {
            opening.lock().remove(&(it.address, it.connection_id));
            pool.opened();
        }
        CmapEvent::ConnectionClosed(it) => {
            let never_ready = opening.lock().remove(&(it.address, it.connection_id));
            if !never_ready {
                pool.closed();
            }
        }
        CmapEvent::ConnectionCheckedOut(it) => pool.taken(it.duration),
        CmapEvent::ConnectionCheckedIn(_) => pool.returned(),
        _ => {}
    })
}

/// Connections that are being opened: one that fails is closed without ever having been there.
#[derive(Default)]
struct Opening(Mutex<HashSet<(ServerAddress, u32)>>);

impl Opening {
    fn lock(&self) -> MutexGuard<'_, HashSet<(ServerAddress, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
