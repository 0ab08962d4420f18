//! How long messages are, between CoreDNS's edges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::histogram::Reading;

/// Upper edges in octets, CoreDNS's own.
pub const EDGES: [u32; 14] = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];
/// The last is what lies beyond all edges.
const BUCKETS: usize = EDGES.len() + 1;
/// Nearly all messages are shorter.
const USUAL: usize = 1024;

/// The bucket of each usual size.
const SLOTS: [u8; USUAL] = {
    let mut slots = [0; USUAL];
    let mut size = 0;
    while size < USUAL {
        slots[size] = slot_of(size);
        size += 1;
    }
    slots
};

const fn slot_of(size: usize) -> u8 {
    let mut slot = 0;
    while slot < EDGES.len() && size > EDGES[slot] as usize {
        slot += 1;
    }
    slot as u8
}

#[cold]
fn unusual(size: usize) -> usize {
    usize::from(slot_of(size))
}

/// The counters of one histogram; what is written for a usual message lies in one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Sizes {
    pub(super) octets: AtomicU64,
    pub(super) counts: [AtomicU64; BUCKETS],
}

impl Sizes {
    /// Where a message of this size is counted.
    #[inline]
    pub(super) fn count(&self, size: usize) -> &AtomicU64 {
        let slot = SLOTS.get(size).map_or_else(|| unusual(size), |slot| usize::from(*slot));
        &self.counts[slot.min(BUCKETS - 1)]
    }

    /// What several writers have counted, together.
    pub(super) fn read<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Reading {
        let sum = |of: &dyn Fn(&Self) -> &AtomicU64| all.clone().map(|sizes| of(sizes).load(Relaxed)).sum::<u64>();
        let counts = (0..BUCKETS).map(|slot| sum(&|sizes| &sizes.counts[slot]));
        #[allow(clippy::cast_precision_loss, reason = "2^53 octets are 9 PB")]
        Reading::new(EDGES.map(f64::from), counts, sum(&|sizes| &sizes.octets) as f64)
    }
}
