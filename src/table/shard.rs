//! A part of the table that is rebuilt as one: flat octets and an open-addressed index into them.

use super::node::{self, Node};

const EMPTY: u32 = u32::MAX;

/// Nodes of the names that fall into one shard. Immutable.
#[derive(Debug, Default)]
pub struct Shard {
    /// (upper half of the hash, offset into `data`); the length is a power of two, or 0.
    slots: Box<[(u32, u32)]>,
    data: Box<[u8]>,
}

/// The upper half tags a slot, the lower half chooses shard and slot.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the upper half is wanted")]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "masked by the caller")]
fn place(hash: u64) -> usize {
    (hash >> 10) as usize & 0x003f_ffff
}

impl Shard {
    /// The node of a key.
    #[inline]
    #[must_use]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Node<'_>> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = place(hash) & mask;
        loop {
            let (have, offset) = self.slots[at];
            if offset == EMPTY {
                return None;
            }
            if have == tag(hash) {
                let bytes = self.data.get(offset as usize..)?;
                if node::head(bytes)?.1 == key {
                    return Node::read(bytes);
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Every node with its key and its whole octets.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &*self.data;
        std::iter::from_fn(move || {
            let (len, key) = node::head(rest)?;
            let (bytes, after) = rest.split_at_checked(len)?;
            rest = after;
            Some((key, bytes))
        })
    }

    /// Indexes nodes that stand one after the other; `hash` is that of a key.
    #[must_use]
    pub fn build(data: Vec<u8>, hash: impl Fn(&[u8]) -> u64) -> Self {
        let mut shard = Self { slots: Box::new([]), data: data.into() };
        let places: Vec<(u64, u32)> = shard
            .iter()
            .scan(0u32, |at, (key, bytes)| {
                let here = *at;
                *at += u32::try_from(bytes.len()).ok()?;
                Some((hash(key), here))
            })
            .collect();
        if places.is_empty() {
            return shard;
        }
        // At most three quarters full, so that a probe for a name that is not there ends soon.
        let size = (places.len() * 4 / 3 + 1).next_power_of_two();
        let mut slots = vec![(0, EMPTY); size].into_boxed_slice();
        for (hash, offset) in places {
            let mut at = place(hash) & (size - 1);
            while slots[at].1 != EMPTY {
                at = (at + 1) & (size - 1);
            }
            slots[at] = (tag(hash), offset);
        }
        shard.slots = slots;
        shard
    }

    /// Octets held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len() + std::mem::size_of_val(&*self.slots)
    }
}
