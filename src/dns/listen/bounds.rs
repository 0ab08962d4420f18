//! How much there may be at a time (R23, R24); the operator may change it while queries are answered.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicIsize, AtomicUsize};

use super::Options;

/// The bounds of a listener, as they are now.
#[derive(Debug)]
pub struct Bounds {
    /// TCP connections in total.
    pub(super) tcp_connections: AtomicUsize,
    /// TCP connections of one source address.
    pub(super) tcp_per_client: AtomicUsize,
    /// Places on the general path.
    places: AtomicUsize,
    /// Those that are free; below 0 if there are fewer places now than are taken.
    free: AtomicIsize,
}

/// No machine has room for more.
fn signed(count: usize) -> isize {
    isize::try_from(count).unwrap_or(isize::MAX).min(isize::MAX / 2)
}

impl Bounds {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            tcp_connections: AtomicUsize::new(options.tcp_connections),
            tcp_per_client: AtomicUsize::new(options.tcp_per_client),
            places: AtomicUsize::new(options.later_inflight),
            free: AtomicIsize::new(signed(options.later_inflight)),
        }
    }

    /// Takes the bounds among these options. What is above them goes on: TCP connections are closed when the next one comes,
    /// if they are idle, and queries are answered.
    pub fn set(&self, options: &Options) {
        self.tcp_connections.store(options.tcp_connections, Relaxed);
        self.tcp_per_client.store(options.tcp_per_client, Relaxed);
        let before = self.places.swap(options.later_inflight, Relaxed);
        self.free.fetch_add(signed(options.later_inflight) - signed(before), Relaxed);
    }

    /// Takes a place on the general path, if one is free.
    pub(super) fn enter(&self) -> bool {
        self.free.fetch_update(Relaxed, Relaxed, |free| (free > 0).then(|| free - 1)).is_ok()
    }

    /// Gives it back.
    pub(super) fn leave(&self) {
        self.free.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::options;
    use super::*;

    #[test]
    fn places_are_as_many_as_the_last_bound_says_whatever_is_taken() {
        let options = |later_inflight| Options { later_inflight, ..options("127.0.0.1:0") };
        let bounds = Bounds::new(&options(2));
        assert!(bounds.enter() && bounds.enter() && !bounds.enter());
        bounds.set(&options(1));
        bounds.leave();
        assert!(!bounds.enter(), "one is taken, and that is all");
        bounds.set(&options(3));
        assert!(bounds.enter() && bounds.enter() && !bounds.enter());
        bounds.set(&options(usize::MAX));
        assert!(bounds.enter());
    }
}
