//! Which callers have asked lately, told roughly and for next to nothing.
//!
//! Each worker marks the caller of a query in a table of its own with the number of the present epoch; a mark that is there
//! already is only read, so that a caller costs one write an epoch. Callers whose addresses end alike (in their last 12 bits)
//! share a mark: within a node's range of pods nobody does, and where two do, one counts as having asked because the other has.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

use super::writers::Writers;

/// Marks of a worker: 8 KiB.
const SLOTS: usize = 4096;

/// What all workers have marked.
#[derive(Debug)]
pub struct Seen {
    /// Never 0, which stands for never.
    epoch: Epoch,
    all: Writers<Marks>,
}

/// Alone on its cache line: every query reads it.
#[derive(Debug)]
#[repr(align(128))]
struct Epoch(AtomicU16);

#[derive(Debug)]
struct Marks([AtomicU16; SLOTS]);

/// The marks of one worker.
#[derive(Debug)]
pub struct Own {
    seen: Arc<Seen>,
    marks: Arc<Marks>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { epoch: Epoch(AtomicU16::new(1)), all: Writers::default() }
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "masked to the number of slots")]
fn slot(address: IpAddr) -> usize {
    let low = match address {
        IpAddr::V4(four) => four.to_bits() as usize,
        IpAddr::V6(six) => six.to_bits() as usize,
    };
    low % SLOTS
}

impl Seen {
    /// Marks for one more worker. What a worker has left is another's then.
    #[must_use]
    pub fn register(self: &Arc<Self>) -> Own {
        let marks = self.all.register(|| Marks(std::array::from_fn(|_| AtomicU16::new(0))));
        Own { seen: Arc::clone(self), marks }
    }

    /// Begins the next epoch. One caller only.
    pub fn advance(&self) {
        let next = self.epoch.0.load(Relaxed).checked_add(1).unwrap_or(1);
        self.epoch.0.store(next, Relaxed);
    }

    /// Whether someone with an address that ends like this one has asked in this epoch or the `epochs` before it.
    #[must_use]
    pub fn has_asked(&self, address: IpAddr, epochs: u16) -> bool {
        let (now, slot) = (self.epoch.0.load(Relaxed), slot(address.to_canonical()));
        let all = self.all.all();
        let mut marks = all.iter().map(|marks| marks.0[slot].load(Relaxed));
        marks.any(|mark| mark != 0 && now.wrapping_sub(mark) <= epochs)
    }
}

impl Own {
    /// A query came from this address.
    #[inline]
    pub fn mark(&self, address: IpAddr) {
        let (epoch, mark) = (self.seen.epoch.0.load(Relaxed), &self.marks.0[slot(address)]);
        if mark.load(Relaxed) != epoch {
            mark.store(epoch, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_asked_is_known_for_some_epochs_whichever_worker_was_asked() {
        let seen = Arc::new(Seen::default());
        let (one, other) = (seen.register(), seen.register());
        one.mark(ip("10.1.0.1"));
        other.mark(ip("fd00::1:7"));
        for (address, asked) in [("10.1.0.1", true), ("10.1.0.2", false), ("fd00::1:7", true), ("fd00::1:8", false)] {
            assert_eq!(seen.has_asked(ip(address), 0), asked, "{address}");
        }
        assert!(seen.has_asked(ip("::ffff:10.1.0.1"), 0));
        seen.advance();
        assert!(!seen.has_asked(ip("10.1.0.1"), 0) && seen.has_asked(ip("10.1.0.1"), 1));
        one.mark(ip("10.1.0.1"));
        seen.advance();
        seen.advance();
        assert!(seen.has_asked(ip("10.1.0.1"), 2) && !seen.has_asked(ip("fd00::1:7"), 2));
    }

    #[test]
    fn the_epochs_of_a_long_life_begin_anew_without_a_gap() {
        let seen = Arc::new(Seen::default());
        let own = seen.register();
        (1..u16::MAX).for_each(|_| seen.advance());
        own.mark(ip("10.1.0.1"));
        assert!(seen.has_asked(ip("10.1.0.1"), 0));
        seen.advance();
        assert!(seen.has_asked(ip("10.1.0.1"), 3) && !seen.has_asked(ip("10.1.0.2"), 3));
    }

    #[test]
    fn what_a_worker_leaves_is_the_next_ones() {
        let seen = Arc::new(Seen::default());
        drop(seen.register());
        drop(seen.register());
        let _own = seen.register();
        assert_eq!(seen.all.all().len(), 1);
    }
}
