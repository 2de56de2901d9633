//! How many connections each address has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::networks::{Networks, counted_as};

/// Counts the open connections of each address, of which there are no more than connections.
pub(super) struct Places {
    taken: Mutex<HashMap<IpAddr, usize>>,
    max: usize,
    uncounted: Networks,
}

/// One connection's place; free again when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    /// `None` for an address that is not counted.
    address: Option<IpAddr>,
}

impl Places {
    pub(super) fn new(max: usize, uncounted: Networks) -> Self {
        Self { taken: Mutex::default(), max, uncounted }
    }

    /// A place, unless the address has all that it may have.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let address = counted_as(peer);
        if self.uncounted.contains(peer) {
            return Some(Place { places: Arc::clone(self), address: None });
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), address: Some(address) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&address);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::networks::Network;

    #[test]
    fn an_address_has_its_places_and_no_more() {
        let proxy: Network = "10.0.0.0/8".parse().unwrap();
        let places =
            Arc::new(Places::new(2, Networks::loopback().and(&Networks::from_iter([proxy]))));
        let take = |text: &str| places.take(text.parse().unwrap());
        for free in ["127.0.0.1", "::1", "10.1.1.1", "::ffff:10.1.1.1"] {
            let many: Vec<_> = (0..5).map(|_| take(free).unwrap()).collect();
            drop(many);
        }
        let first = take("2001:db8::1").unwrap();
        let second = take("2001:db8::2").unwrap();
        assert!(take("2001:db8::3").is_none(), "one /64 is one address");
        assert!(take("2001:db8:0:1::1").is_some());
        assert!(take("192.0.2.1").is_some());
        drop(first);
        let third = take("2001:db8::3").unwrap();
        drop((second, third));
        assert!(places.taken.lock().unwrap().is_empty(), "what is free is forgotten");
    }
}
