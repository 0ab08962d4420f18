//! How many questions may wait for upstreams at once: in all, and per client (R23).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Limits;

/// The count of waiting questions; clones count together.
#[derive(Clone, Debug)]
pub(super) struct Inflight(Arc<Mutex<Counts>>);

#[derive(Debug)]
struct Counts {
    limits: Limits,
    total: usize,
    clients: HashMap<IpAddr, usize, foldhash::quality::RandomState>,
}

/// One place; given back when dropped, so also when the asker's future is cancelled.
#[derive(Debug)]
pub(super) struct Place {
    inflight: Inflight,
    client: IpAddr,
}

impl Inflight {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(Counts { limits, total: 0, clients: HashMap::default() })))
    }

    /// Takes other limits; who is above them keeps its places.
    pub(super) fn set_limits(&self, limits: Limits) {
        self.counts().limits = limits;
    }

    /// A place for one question of `client`; `None` if all, or all of its own, are taken.
    pub(super) fn enter(&self, client: IpAddr) -> Option<Place> {
        let client = client.to_canonical();
        let mut counts = self.counts();
        let limits = counts.limits;
        if counts.total >= limits.inflight {
            return None;
        }
        match counts.clients.entry(client) {
            Entry::Occupied(mut own) if *own.get() < limits.per_client => *own.get_mut() += 1,
            Entry::Vacant(free) if limits.per_client > 0 => drop(free.insert(1)),
            _ => return None,
        }
        counts.total += 1;
        Some(Place { inflight: self.clone(), client })
    }

    /// How many wait now.
    pub(super) fn total(&self) -> usize {
        self.counts().total
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.inflight.counts();
        counts.total = counts.total.saturating_sub(1);
        if let Entry::Occupied(mut own) = counts.clients.entry(self.client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_per_client_and_come_back() {
        let inflight = Inflight::new(Limits { inflight: 3, per_client: 2 });
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let first = inflight.enter(a).unwrap();
        let _second = inflight.enter(mapped).unwrap();
        assert!(inflight.enter(a).is_none(), "its own limit");
        let _third = inflight.enter(b).unwrap();
        assert!(inflight.enter(c).is_none(), "the limit of all");
        drop(first);
        assert_eq!(inflight.total(), 2);
        let _fourth = inflight.enter(a).unwrap();
        inflight.set_limits(Limits { inflight: 2, per_client: 2 });
        assert!(inflight.enter(c).is_none(), "fewer than there are");
        drop(_third);
        assert!(inflight.enter(c).is_none(), "as many as there are");
        inflight.set_limits(Limits { inflight: 4, per_client: 3 });
        let _third = inflight.enter(a).unwrap();
        drop((_second, _third, _fourth));
        assert_eq!(inflight.total(), 0);
        assert!(inflight.counts().clients.is_empty(), "nothing is kept of clients that are gone");
    }
}
