//! The writers' side of a shard, under its lock: everything that moves the head and the tail, or changes the index.

use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::dns::cache::entry::{Entry, Head, IN_VAIN, Key, is_claimed, locator, set_claimed};
use crate::dns::cache::life::{Phase, phase};
use crate::dns::cache::sync::{MutexGuard, fence};
use crate::table::key::Hasher;

use super::{CLAIMED, POSITION, SLOT, Seen, Shard, TAG, USES, WAYS};

/// Entries that one store carries over at most, so that it ends soon.
const MOST_CARRIED: usize = 32;
/// Words of the queue that stay allocated.
const QUEUE: usize = 1024;

/// What the writer knows of the log.
#[derive(Debug)]
pub(super) struct Writer {
    head: u64,
    /// The offsets at which the last two laps ended; an even lap's first.
    ends: [usize; 2],
    /// Entries to be written: the new one, and those that are carried over to make room for it.
    queue: Vec<u64>,
    carried: usize,
    entries: usize,
    words: usize,
    evictions: u64,
}

impl Writer {
    pub(super) fn new(head: u64) -> Self {
        Self { head, ends: [0; 2], queue: Vec::new(), carried: 0, entries: 0, words: 0, evictions: 0 }
    }
}

/// What the writer has to know to judge entries.
#[derive(Clone, Copy)]
pub(in crate::dns::cache) struct Rules {
    pub(in crate::dns::cache) hasher: Hasher,
    /// Milliseconds since the cache was made.
    pub(in crate::dns::cache) now: u64,
    /// Milliseconds.
    pub(in crate::dns::cache) serve_stale: u64,
}

impl Rules {
    /// The hash of a key: the tag from its upper bits, the shard from its middle, the bucket from its lower half.
    #[inline]
    pub(in crate::dns::cache) fn hash(hasher: Hasher, key: &Key<'_>) -> u64 {
        Self::hash_named(hasher, key, hasher.of_wire(key.name))
    }

    /// The same where the hash of the name is known.
    #[inline]
    pub(in crate::dns::cache) fn hash_named(hasher: Hasher, key: &Key<'_>, name: u64) -> u64 {
        hasher.with(name, u64::from(key.rtype) | u64::from(key.bits) << 16)
    }

    pub(in crate::dns::cache) fn is_usable(&self, head: Head) -> bool {
        phase(head, self.now, self.serve_stale) != Phase::Gone
    }
}

/// Counts of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::dns::cache) struct Tally {
    pub(in crate::dns::cache) entries: usize,
    pub(in crate::dns::cache) octets: usize,
    pub(in crate::dns::cache) evictions: u64,
}

/// A shard whose lock is held: what is found stays.
pub(in crate::dns::cache) struct Held<'s> {
    pub(super) shard: &'s Shard,
    pub(super) writer: MutexGuard<'s, Writer>,
}

/// An entry in a [`Held`] shard.
#[derive(Clone, Copy)]
pub(in crate::dns::cache) struct Place {
    pub(in crate::dns::cache) seen: Seen,
    pub(in crate::dns::cache) head: Head,
}

impl Place {
    fn position(&self) -> u64 {
        self.seen.value & POSITION
    }
}

impl Held<'_> {
    /// The entry of a key.
    pub(in crate::dns::cache) fn locate(&self, key: &Key<'_>, hash: u64) -> Option<Place> {
        let first = self.shard.bucket(hash);
        (first..first + WAYS).find_map(|slot| {
            let value = self.shard.slots[slot].load(Relaxed);
            if value & TAG != hash & TAG || value == 0 {
                return None;
            }
            let head = self.head_at(value & POSITION);
            let is_it = key.is_of(&self.words_at(value & POSITION, locator(head.name_length())));
            is_it.then_some(Place { seen: Seen { slot, value }, head })
        })
    }

    /// The words of an entry.
    pub(in crate::dns::cache) fn words(&self, place: &Place) -> Vec<u64> {
        self.words_at(place.position(), place.head.words())
    }

    /// Tells until when nobody needs to ask again, milliseconds since the cache was made.
    pub(in crate::dns::cache) fn set_in_vain(&self, place: &Place, until: u64) {
        self.shard.ring[self.shard.offset(place.position()) + IN_VAIN].store(until, Relaxed);
    }

    /// Writes an entry of at most [`Shard::largest`] words, in place of the one that has its key.
    pub(in crate::dns::cache) fn put(&mut self, entry: &[u64], before: Option<Place>, rules: Rules) {
        self.writer.queue.clear();
        self.writer.queue.extend_from_slice(entry);
        self.writer.carried = 0;
        let (mut at, mut replaced) = (0, before);
        // The slot of the entry that is stored: what is carried over must not take it.
        let mut mine = before.map(|place| place.seen.slot);
        while at < self.writer.queue.len() {
            let words = Entry { words: &self.writer.queue[at..] }.head().words();
            let position = self.make_room(words, mine, rules);
            let from = self.shard.offset(position);
            // Those who see one of the words that follow must see the tail that was moved for them.
            fence(Release);
            for (to, word) in self.shard.ring[from..from + words].iter().zip(&self.writer.queue[at..]) {
                to.store(*word, Relaxed);
            }
            let slot = self.enter(at, position, replaced.take(), mine, rules);
            mine = mine.or(Some(slot));
            at += words;
        }
        self.writer.queue.clear();
        self.writer.queue.shrink_to(QUEUE);
    }

    /// Forgets an entry.
    pub(in crate::dns::cache) fn forget(&mut self, place: &Place) {
        self.clear(place.seen.slot, place.head);
    }

    /// Forgets what `is_meant` says, given names; how many entries that were.
    pub(in crate::dns::cache) fn flush(&mut self, is_meant: impl Fn(Key<'_>) -> bool) -> usize {
        let mut flushed = 0;
        for slot in 0..self.shard.slots.len() {
            let position = self.shard.slots[slot].load(Relaxed) & POSITION;
            if position != 0 {
                let head = self.head_at(position);
                let words = self.words_at(position, locator(head.name_length()));
                if is_meant(Entry { words: &words }.key()) {
                    self.clear(slot, head);
                    flushed += 1;
                }
            }
        }
        flushed
    }

    pub(in crate::dns::cache) fn tally(&self) -> Tally {
        let Writer { entries, words, evictions, .. } = *self.writer;
        Tally { entries, octets: 8 * words + SLOT * entries, evictions }
    }

    fn word(&self, at: usize) -> u64 {
        self.shard.ring.get(at).map_or(0, |word| word.load(Relaxed))
    }

    pub(super) fn head_at(&self, position: u64) -> Head {
        let at = self.shard.offset(position);
        Head(std::array::from_fn(|word| self.word(at + word)))
    }

    pub(super) fn words_at(&self, position: u64, count: usize) -> Vec<u64> {
        let at = self.shard.offset(position);
        (at..at + count).map(|at| self.word(at)).collect()
    }

    /// Moves the head past `words` words and the tail out of their way; where the words may be written.
    fn make_room(&mut self, words: usize, mine: Option<usize>, rules: Rules) -> u64 {
        let shard = self.shard;
        let mut at = self.writer.head;
        if shard.offset(at) + words > shard.ring.len() {
            // The tail leaves the lap before the one that ends now: two ends are enough to remember.
            let lap = at >> shard.lap_bits;
            self.move_tail(lap << shard.lap_bits, mine, rules);
            self.writer.ends[usize::from(lap % 2 == 1)] = shard.offset(at);
            at = shard.next_lap(at);
        }
        self.writer.head = at + words as u64;
        self.move_tail((at + words as u64).saturating_sub(1 << shard.lap_bits), mine, rules);
        at
    }

    /// Moves the tail to `to` or past it, over whole entries.
    fn move_tail(&mut self, to: u64, mine: Option<usize>, rules: Rules) {
        let shard = self.shard;
        let mut tail = shard.tail.load(Relaxed);
        while tail < to {
            let lap = tail >> shard.lap_bits;
            if shard.offset(tail) >= self.writer.ends[usize::from(lap % 2 == 1)] {
                tail = shard.next_lap(tail);
                continue;
            }
            let head = self.head_at(tail);
            self.leave(tail, head, mine, rules);
            tail += head.words().max(1) as u64;
        }
        shard.tail.store(tail, Relaxed);
    }

    /// The tail passes an entry: it is forgotten, or carried over to the head if it was used and still can be.
    fn leave(&mut self, position: u64, head: Head, mine: Option<usize>, rules: Rules) {
        let words = self.words_at(position, locator(head.name_length()));
        let first = self.shard.bucket(Rules::hash(rules.hasher, &Entry { words: &words }.key()));
        let values = (first..first + WAYS).map(|slot| (slot, self.shard.slots[slot].load(Relaxed)));
        let mut its = values.filter(|(slot, value)| value & POSITION == position && Some(*slot) != mine);
        let Some((slot, value)) = its.next() else { return };
        if rules.is_usable(head) {
            let room = self.writer.queue.len() + head.words() <= 2 * self.shard.largest();
            if value & USES > 0 && self.writer.carried < MOST_CARRIED && room {
                let mut entry = self.words_at(position, head.words());
                set_claimed(&mut entry, value & CLAIMED != 0);
                self.writer.queue.append(&mut entry);
                self.writer.carried += 1;
            } else {
                self.writer.evictions += 1;
            }
        }
        self.clear(slot, head);
    }

    /// Enters the entry that stands at `at` of the queue and at `position` of the ring into the index; its slot.
    fn enter(&mut self, at: usize, position: u64, replaced: Option<Place>, mine: Option<usize>, rules: Rules) -> usize {
        let entry = Entry { words: &self.writer.queue[at..] };
        let (head, claimed) = (entry.head(), is_claimed(entry.words));
        let hash = Rules::hash(rules.hasher, &entry.key());
        let slot = match replaced {
            Some(before) => {
                self.uncount(before.head);
                before.seen.slot
            }
            None => self.free_slot(hash, mine, rules),
        };
        self.writer.entries += 1;
        self.writer.words += head.words();
        let value = hash & TAG | if claimed { CLAIMED } else { 0 } | position;
        self.shard.slots[slot].store(value, Release);
        slot
    }

    /// A slot of a bucket that is empty, or is made so: the one that is of no use, or never used, or the oldest;
    /// but never `mine`.
    fn free_slot(&mut self, hash: u64, mine: Option<usize>, rules: Rules) -> usize {
        let first = self.shard.bucket(hash);
        let mut worst = (3, u64::MAX, first, None);
        for slot in (first..first + WAYS).filter(|slot| Some(*slot) != mine) {
            let value = self.shard.slots[slot].load(Relaxed);
            if value == 0 {
                return slot;
            }
            let position = value & POSITION;
            let head = self.head_at(position);
            let worth = if rules.is_usable(head) { 1 + u8::from(value & USES > 0) } else { 0 };
            if (worth, position) < (worst.0, worst.1) {
                worst = (worth, position, slot, Some(head));
            }
        }
        let (worth, _, slot, head) = worst;
        if let Some(head) = head {
            self.writer.evictions += u64::from(worth > 0);
            self.clear(slot, head);
        }
        slot
    }

    fn clear(&mut self, slot: usize, head: Head) {
        self.shard.slots[slot].store(0, Relaxed);
        self.uncount(head);
    }

    fn uncount(&mut self, head: Head) {
        self.writer.entries -= 1;
        self.writer.words -= head.words();
    }
}
