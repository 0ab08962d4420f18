//! A part of the table that is rebuilt as one: flat octets and an open-addressed index into them.

use super::ahead::fetch;
use super::key::same;
use super::node::{self, Node};

const EMPTY: u32 = u32::MAX;
/// Octets of most nodes: two lines of the processor's cache.
const LINES: usize = 96;

/// Nodes of the names that fall into one shard. Immutable.
#[derive(Debug, Default)]
pub struct Shard {
    /// (upper half of the hash, offset into `data`); the length is a power of two, or 0.
    slots: Box<[(u32, u32)]>,
    data: Box<[u8]>,
}

/// The upper half of a hash tags a node and chooses its slot, the lowest bits choose the shard.
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the upper half is wanted")]
pub fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Shard {
    /// The node of a key.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Node<'_>> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = tag(hash) as usize & mask;
        loop {
            let (have, offset) = self.slots[at];
            if offset == EMPTY {
                return None;
            }
            if have == tag(hash) {
                let node = Node::read_if(self.data.get(offset as usize..)?, |have| same(have, key));
                if node.is_some() {
                    return node;
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Fetches the slot where the search for a hash begins.
    #[inline(always)]
    pub fn fetch_slot(&self, hash: u64) {
        let start = tag(hash) as usize & self.slots.len().wrapping_sub(1);
        if let Some(slot) = self.slots.get(start) {
            fetch(slot);
        }
    }

    /// Fetches the node of a hash, if it stands where the search for it begins.
    #[inline(always)]
    pub fn fetch_node(&self, hash: u64) {
        let start = tag(hash) as usize & self.slots.len().wrapping_sub(1);
        // Where there is another or none, and the search would go on, that is left to the search.
        if let Some((have, offset)) = self.slots.get(start)
            && *have == tag(hash)
            && let Some([first, .., last]) = self.data.get(*offset as usize..).and_then(<[u8]>::first_chunk::<LINES>)
        {
            fetch(first);
            fetch(last);
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

    /// Every node's tag and whole octets, in no order.
    pub fn places(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.slots.iter().filter(|(_, offset)| *offset != EMPTY).filter_map(|(tag, offset)| {
            let bytes = self.data.get(*offset as usize..)?;
            Some((*tag, bytes.get(..node::head(bytes)?.0)?))
        })
    }

    /// Octets held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len() + std::mem::size_of_val(&*self.slots)
    }
}

/// Puts a shard together, node by node.
#[derive(Debug)]
pub struct Maker {
    places: Vec<(u32, u32)>,
    data: Vec<u8>,
}

impl Maker {
    /// With room for all that an old shard has, and for so many nodes and octets more.
    #[must_use]
    pub fn with_capacity(old: &Shard, nodes: usize, octets: usize) -> Self {
        Self {
            places: Vec::with_capacity(old.slots.len() * 3 / 4 + nodes),
            data: Vec::with_capacity(old.data.len() + octets),
        }
    }

    /// Appends a node; where it begins.
    ///
    /// # Panics
    /// There are 4 GiB of nodes.
    pub fn push(&mut self, tag: u32, node: &[u8]) -> usize {
        let at = self.data.len();
        self.places.push((tag, u32::try_from(at).expect("a shard below 4 GiB")));
        self.data.extend_from_slice(node);
        at
    }

    /// The octets from where a node begins.
    pub fn node(&mut self, at: usize) -> &mut [u8] {
        &mut self.data[at..]
    }

    /// Indexes the nodes.
    #[must_use]
    pub fn build(self) -> Shard {
        let Self { places, data } = self;
        if places.is_empty() {
            return Shard::default();
        }
        // At most three quarters full, so that a probe for a name that is not there ends soon.
        let size = (places.len() * 4 / 3 + 1).next_power_of_two();
        let mut slots = vec![(0, EMPTY); size].into_boxed_slice();
        for (tag, offset) in places {
            let mut at = tag as usize & (size - 1);
            while slots[at].1 != EMPTY {
                at = (at + 1) & (size - 1);
            }
            slots[at] = (tag, offset);
        }
        Shard { slots, data: data.into() }
    }
}
