//! One shard: a log of entries in a ring of words, and an index into it. Readers take no lock.
//!
//! ```text
//! ring   .... | tail: oldest entry | ...... | newest | head: next one | .... (free up to the tail, one lap behind)
//! slots  buckets of eight: a piece of the key's hash, and the entry's position
//! marks  one for each slot: how often the entry was used
//! ```
//!
//! A position is a lap and an offset, and only grows; an entry never crosses the end of the ring. What lies below the tail
//! is gone. The writer moves the tail *before* it overwrites what was there, and a reader looks at the tail *after* it
//! has copied an entry: if the tail is not past it, what was copied is whole. This is a sequence lock whose sequence is
//! the tail (H. Boehm, "Can seqlocks get along with programming language memory models?", 2012): the words are atomics,
//! and the two fences order them with the tail.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU8, AtomicU64, fence};
use std::sync::{Mutex, PoisonError};

use super::entry::{Head, Key};

#[cfg(test)]
mod audit;
mod write;

use write::Writer;
pub(super) use write::{Held, Rules};

/// Slots of a bucket: one cache line.
const WAYS: usize = 8;
/// Octets of the ring for each slot. An answer of one record takes 90 to 100, so that buckets are seldom full.
const OCTETS_PER_SLOT: usize = 64;
/// Octets of a slot and its mark.
const SLOT: usize = 9;
/// An entry takes at most this part of the ring, lest one answer drive out all others.
const LARGEST: usize = 8;
/// Bits of a slot that hold the position: words that were ever written, 36 million GB.
const POSITION: u32 = 52;
const POSITIONS: u64 = (1 << POSITION) - 1;

/// Uses that are counted.
pub(super) const MOST_USES: u8 = 3;
/// The bits of a mark that count uses.
const USES: u8 = 3;
/// The prefetch of this lifetime is given away.
const CLAIMED: u8 = 0x80;

/// A part of the cache with a lock of its own for those who write.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Shard {
    ring: Box<[AtomicU64]>,
    slots: Box<[AtomicU64]>,
    marks: Box<[AtomicU8]>,
    /// Bits of a position that are the offset.
    lap_bits: u32,
    tail: AtomicU64,
    writer: Mutex<Writer>,
}

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The entry's slot and how many words were copied.
    Hit(usize, usize),
    /// An entry that does not fit into the reader's buffer.
    Large,
    /// Nothing.
    Miss,
}

impl Shard {
    /// A shard of at most `octets`, index included; `None` if that is too little for a single bucket. Its memory is zero
    /// and so not resident until it is used.
    pub(super) fn new(octets: usize) -> Option<Self> {
        let buckets = octets / (WAYS * (OCTETS_PER_SLOT + SLOT));
        if buckets == 0 {
            return None;
        }
        let words = octets.saturating_sub(buckets * WAYS * SLOT) / 8;
        let lap_bits = words.next_power_of_two().trailing_zeros();
        let start = 1 << lap_bits;
        Some(Self {
            ring: bytemuck::zeroed_slice_box(words),
            slots: bytemuck::zeroed_slice_box(buckets * WAYS),
            marks: bytemuck::zeroed_slice_box(buckets * WAYS),
            lap_bits,
            tail: AtomicU64::new(start),
            writer: Mutex::new(Writer::new(start)),
        })
    }

    /// The most words of one entry.
    pub(super) fn largest(&self) -> usize {
        self.ring.len() / LARGEST
    }

    /// The writers' side. A writer that panicked leaves at worst an entry that cannot be found.
    pub(super) fn lock(&self) -> Held<'_> {
        Held { shard: self, writer: self.writer.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Copies the entry of a key to `scratch`, which holds at least [`super::entry::LOCATOR`] words.
    #[inline]
    pub(super) fn read(&self, key: &Key<'_>, hash: u64, scratch: &mut [u64]) -> Read {
        let first = self.bucket(hash);
        let Some(bucket) = self.slots.get(first..first + WAYS) else { return Read::Miss };
        for (way, slot) in bucket.iter().enumerate() {
            let value = slot.load(Acquire);
            if value & !POSITIONS != tag(hash) || value & POSITIONS == 0 {
                continue;
            }
            let Some((words, copied)) = self.copy(value & POSITIONS, scratch) else { continue };
            if key.is_of(&scratch[..copied]) {
                return if copied == words { Read::Hit(first + way, words) } else { Read::Large };
            }
        }
        Read::Miss
    }

    /// Copies as much of an entry as fits; how many words it has and how many were copied. `None` if it was overwritten
    /// meanwhile.
    #[inline]
    fn copy(&self, position: u64, scratch: &mut [u64]) -> Option<(usize, usize)> {
        let at = self.offset(position);
        let first = self.ring.get(at)?.load(Relaxed);
        let words = Head([first, 0, 0, 0, 0]).words();
        // The length may be of anything by now, so that it is only believed as far as the ring goes.
        let copied = words.min(scratch.len()).min(self.ring.len() - at);
        for (to, from) in scratch.iter_mut().zip(&self.ring[at..at + copied]) {
            *to = from.load(Relaxed);
        }
        fence(Acquire);
        (self.tail.load(Relaxed) <= position && copied > 0).then_some((words, copied))
    }

    /// Marks an entry as used; its mark before.
    #[inline]
    pub(super) fn touch(&self, slot: usize) -> u8 {
        let Some(mark) = self.marks.get(slot) else { return 0 };
        let before = mark.load(Relaxed);
        if before & USES < MOST_USES {
            // Should another be faster, one use is not counted.
            let _ = mark.compare_exchange(before, before + 1, Relaxed, Relaxed);
        }
        before
    }

    /// Takes the one prefetch of an entry's lifetime. Nobody gets it before the entry was used often.
    ///
    /// Marks belong to slots: a finder that is so slow that meanwhile another entry came into its slot, and was used often,
    /// takes the prefetch of that one. So it is at most one finder, and nearly always one.
    #[inline]
    pub(super) fn claim(&self, slot: usize) -> bool {
        let claimed = MOST_USES | CLAIMED;
        self.marks.get(slot).is_some_and(|mark| mark.compare_exchange(MOST_USES, claimed, Relaxed, Relaxed).is_ok())
    }

    /// The first slot of a hash's bucket.
    #[inline]
    fn bucket(&self, hash: u64) -> usize {
        let buckets = (self.slots.len() / WAYS) as u64;
        usize::try_from(((hash & 0xffff_ffff) * buckets) >> 32).unwrap_or(0) * WAYS
    }

    #[inline]
    fn offset(&self, position: u64) -> usize {
        usize::try_from(position & ((1 << self.lap_bits) - 1)).unwrap_or(usize::MAX)
    }

    /// The first position of the next lap.
    fn next_lap(&self, position: u64) -> u64 {
        ((position >> self.lap_bits) + 1) << self.lap_bits
    }
}

/// The piece of the hash that stands in a slot; bucket and shard are chosen by other bits.
#[inline]
fn tag(hash: u64) -> u64 {
    hash & !POSITIONS
}
