//! Checks of a whole shard, for tests.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use crate::dns::cache::entry::Entry;

use super::{Held, POSITION, Rules, Shard, TAG};

impl Shard {
    /// Octets that were allocated.
    pub(in crate::dns::cache) fn allocated(&self) -> usize {
        size_of_val(&*self.ring) + size_of_val(&*self.slots)
    }
}

impl Held<'_> {
    /// Follows every slot to its entry: each lies between tail and head and inside the ring, stands in the bucket of its
    /// own key under its own tag, overlaps no other, and is counted once. Gives the names.
    pub(in crate::dns::cache) fn audit(&self, rules: Rules) -> Vec<Vec<u8>> {
        let (shard, mut keys, mut spans) = (self.shard, HashSet::new(), Vec::new());
        let (mut names, tail) = (Vec::new(), shard.tail.load(Relaxed));
        for (slot, value) in shard.slots.iter().enumerate() {
            let value = value.load(Relaxed);
            let position = value & POSITION;
            if value == 0 {
                continue;
            }
            let head = self.head_at(position);
            let words = self.words_at(position, head.words());
            let entry = Entry { words: &words };
            let hash = Rules::hash(rules.hasher, &entry.key());
            assert_eq!(hash & TAG, value & TAG);
            assert!((shard.bucket(hash)..shard.bucket(hash) + super::WAYS).contains(&slot));
            assert!(position >= tail && shard.offset(position) + head.words() <= shard.ring.len());
            assert!(keys.insert((entry.name().to_vec(), head.rtype(), head.key_bits())), "a key stands there once");
            spans.push((shard.offset(position), head.words()));
            names.push(entry.name().to_vec());
        }
        spans.sort_unstable();
        assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "entries do not overlap");
        let tally = self.tally();
        let words: usize = spans.iter().map(|span| span.1).sum();
        assert_eq!((tally.entries, tally.octets), (spans.len(), 8 * words + super::SLOT * spans.len()));
        names
    }
}
