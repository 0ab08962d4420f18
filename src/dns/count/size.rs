//! How long messages are, between CoreDNS's edges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::histogram::Reading;

/// Upper edges in octets, CoreDNS's own.
pub const EDGES: [u32; 14] = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];
/// Counters of one histogram: all octets together, a bucket for each edge, and one for what lies beyond. A power of two, so that
/// a place in it needs no comparison.
const CELLS: usize = EDGES.len() + 2;
const _: () = assert!(CELLS.is_power_of_two());
/// Nearly all messages are shorter.
const USUAL: usize = 1024;

/// The place of each usual size.
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
    let mut bucket = 0;
    while bucket < EDGES.len() && size > EDGES[bucket] as usize {
        bucket += 1;
    }
    1 + bucket as u8
}

#[cold]
fn unusual(size: usize) -> usize {
    usize::from(slot_of(size))
}

/// What is written for a usual message lies in one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Sizes([AtomicU64; CELLS]);

impl Sizes {
    /// All octets together.
    #[inline]
    pub(super) fn octets(&self) -> &AtomicU64 {
        &self.0[0]
    }

    /// Where a message of this size is counted.
    #[inline]
    pub(super) fn count(&self, size: usize) -> &AtomicU64 {
        let slot = SLOTS.get(size).map_or_else(|| unusual(size), |slot| usize::from(*slot));
        &self.0[slot % CELLS]
    }

    /// What several writers have counted, together.
    pub(super) fn read<'a>(all: impl Iterator<Item = &'a Self> + Clone) -> Reading {
        let sum = |at: usize| all.clone().map(|sizes| sizes.0[at].load(Relaxed)).sum::<u64>();
        #[allow(clippy::cast_precision_loss, reason = "2^53 octets are 9 PB")]
        Reading::new(EDGES.map(f64::from), (1..CELLS).map(sum), sum(0) as f64)
    }
}
