//! One shard: a log of entries in a ring of words, and an index into it. Readers take no lock.
//!
//! ```text
//! ring   .... | tail: oldest entry | ...... | newest | head: next one | .... (free up to the tail, one lap behind)
//! slots  buckets of eight: a piece of the key's hash, how often the entry was used, and its position
//! ```
//!
//! A position is a lap and an offset, and only grows; an entry never crosses the end of the ring. What lies below the tail
//! is gone. The writer moves the tail *before* it overwrites what was there, and a reader looks at the tail *after* it
//! has copied an entry: if the tail is not past it, what was copied is whole. This is a sequence lock whose sequence is
//! the tail (H. Boehm, "Can seqlocks get along with programming language memory models?", 2012): the words are atomics,
//! and the two fences order them with the tail.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::entry::{Head, Key};
use super::sync::{AtomicU64, Mutex, fence, zeroed};
use crate::table::ahead::fetch as fetch_ahead;

// Named by path, as `tests/orders.rs` compiles this file from another place.
#[cfg(test)]
#[path = "ring/audit.rs"]
mod audit;
#[path = "ring/write.rs"]
mod write;

use write::Writer;
pub(super) use write::{Held, Rules};

/// Slots of a bucket: one cache line.
const WAYS: usize = 8;
/// Octets of the ring for each slot. An answer of one record takes 90 to 100, so that buckets are seldom full.
const OCTETS_PER_SLOT: usize = 64;
/// Octets of a slot.
const SLOT: usize = 8;
/// Slots more than the buckets need, so that each can be in one cache line.
const SPARE: usize = WAYS - 1;
/// An entry takes at most this part of the ring, lest one answer drive out all others.
const LARGEST: usize = 8;

/// A slot: 12 bits of the hash, whether the prefetch is given away, two bits that count uses, and the position, in words
/// that were ever written: 4.5 million GB.
const TAG: u64 = !0 << 52;
const CLAIMED: u64 = 1 << 51;
const USES: u64 = 3 << 49;
const USE: u64 = 1 << 49;
const POSITION: u64 = USE - 1;

/// A part of the cache with a lock of its own for those who write.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Shard {
    ring: Box<[AtomicU64]>,
    slots: Box<[AtomicU64]>,
    /// The first slot of the first bucket.
    first: usize,
    buckets: usize,
    /// Bits of a position that are the offset.
    lap_bits: u32,
    tail: AtomicU64,
    writer: Mutex<Writer>,
}

/// The slot of an entry, and what stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    slot: usize,
    value: u64,
}

impl Seen {
    /// Whether nobody has taken the prefetch.
    #[inline]
    pub(super) fn is_to_be_had(self) -> bool {
        self.value & CLAIMED == 0
    }
}

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// The entry's slot and how many words were copied.
    Hit(Seen, usize),
    /// An entry that does not fit into the reader's buffer.
    Large,
    /// Nothing.
    Miss,
}

impl Shard {
    /// A shard of at most `octets`, index included; `None` if that is too little for a single bucket, or not granted. Its
    /// memory is zero and so not resident until it is used.
    pub(super) fn new(octets: usize) -> Option<Self> {
        let buckets = octets.checked_sub(SPARE * SLOT)? / (WAYS * (OCTETS_PER_SLOT + SLOT));
        if buckets == 0 {
            return None;
        }
        let slots = zeroed(buckets * WAYS + SPARE)?;
        let words = octets.saturating_sub(slots.len() * SLOT) / 8;
        // A lap has an offset more than there are words: one that is full to the last still ends before the next begins.
        let lap_bits = (words + 1).next_power_of_two().trailing_zeros();
        let start = 1 << lap_bits;
        Some(Self {
            ring: zeroed(words)?,
            first: slots.as_ptr().align_offset(WAYS * SLOT).min(SPARE),
            buckets,
            slots,
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

    /// Fetches where the index has a hash.
    #[inline]
    pub(super) fn fetch(&self, hash: u64) {
        if let Some(slot) = self.slots.get(self.bucket(hash)) {
            fetch_ahead(slot);
        }
    }

    /// Copies the entry of a key to `scratch`, which holds at least [`super::entry::LOCATOR`] words.
    #[inline]
    pub(super) fn read(&self, key: &Key<'_>, hash: u64, scratch: &mut [u64]) -> Read {
        let first = self.bucket(hash);
        let Some(bucket) = self.slots.get(first..first + WAYS) else { return Read::Miss };
        for (way, slot) in bucket.iter().enumerate() {
            let value = slot.load(Acquire);
            if value & TAG != hash & TAG || value == 0 {
                continue;
            }
            let Some((words, copied)) = self.copy(value & POSITION, scratch) else { continue };
            if key.is_of(&scratch[..copied]) {
                let seen = Seen { slot: first + way, value };
                return if copied == words { Read::Hit(seen, words) } else { Read::Large };
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

    /// Counts a use of an entry; whether it was used often before.
    #[inline]
    pub(super) fn touch(&self, seen: Seen) -> bool {
        let often = seen.value & USES == USES;
        if !often {
            // Should another be faster, one use is not counted.
            let _ = self.exchange(seen, seen.value + USE);
        }
        often
    }

    /// Takes the prefetch of an entry, which one finder gets in its lifetime: the slot says so in the same word that says
    /// which entry it is.
    #[inline]
    pub(super) fn claim(&self, seen: Seen) -> bool {
        seen.is_to_be_had() && self.exchange(seen, seen.value | CLAIMED)
    }

    #[inline]
    fn exchange(&self, seen: Seen, value: u64) -> bool {
        let slot = self.slots.get(seen.slot);
        // Relaxed is enough: an exchange goes on with what the writer released.
        slot.is_some_and(|slot| slot.compare_exchange(seen.value, value, Relaxed, Relaxed).is_ok())
    }

    /// The first slot of a hash's bucket.
    #[inline]
    fn bucket(&self, hash: u64) -> usize {
        let bucket = ((hash & 0xffff_ffff) * self.buckets as u64) >> 32;
        self.first + usize::try_from(bucket).unwrap_or(0) * WAYS
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
