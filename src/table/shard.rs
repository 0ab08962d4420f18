//! A part of the table that is rebuilt as one: flat octets of nodes, and behind them an open-addressed index into them.

use std::sync::Arc;

use super::ahead::fetch;
use super::key::same;
use super::node::{self, Node};

/// A slot of the index: the tag of a node, and where it begins in units of the shard; little-endian, one after the other.
type Slot = [u8; SLOT];
const SLOT: usize = 4;
/// No node begins there.
const NOWHERE: u16 = u16::MAX;
const EMPTY: Slot = [0xff; SLOT];
/// The most slots of an index: a tag says everything about where a search begins.
const MOST: usize = 1 << 16;
/// Octets of most nodes: two lines of the processor's cache.
const LINES: usize = 96;

/// Nodes of the names that fall into one shard. Immutable; a clone is the same octets.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    /// Nodes, then the index, so that both are one step away from the table.
    octets: Arc<[u8]>,
    /// Where the index begins.
    index: u32,
    /// The number of slots, which is a power of two, less one.
    mask: u16,
    /// Nodes begin at multiples of this power of two.
    unit: u8,
}

/// The upper half of a hash tags a node and chooses its slot, the lowest bits choose the shard.
#[inline]
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the lower half of the upper half is wanted")]
pub fn tag(hash: u64) -> u16 {
    (hash >> 32) as u16
}

/// Tag and place of a slot that is taken.
#[inline(always)]
fn taken([t1, t2, a1, a2]: Slot) -> Option<(u16, u16)> {
    let at = u16::from_le_bytes([a1, a2]);
    (at != NOWHERE).then_some((u16::from_le_bytes([t1, t2]), at))
}

impl Shard {
    #[inline(always)]
    fn slot(&self, at: u16) -> Option<&Slot> {
        self.octets.get(self.index as usize + SLOT * usize::from(at & self.mask)..)?.first_chunk()
    }

    /// What is from a place on.
    #[inline(always)]
    fn octets_from(&self, at: u16) -> Option<&[u8]> {
        self.octets.get(usize::from(at) << self.unit..)
    }

    /// Where the next node may begin that has this tag, as the index has it from `slot` on, and the slot behind.
    #[inline(always)]
    fn next(&self, mut slot: u16, tag: u16) -> Option<(u16, u16)> {
        loop {
            let (have, at) = taken(*self.slot(slot)?)?;
            slot = slot.wrapping_add(1);
            if have == tag {
                return Some((at, slot));
            }
        }
    }

    /// The node of a key.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Node<'_>> {
        let mut slot = tag(hash);
        loop {
            let (at, behind) = self.next(slot, tag(hash))?;
            let node = Node::read_if(self.octets_from(at)?, |have| same(have, key));
            if node.is_some() {
                return node;
            }
            slot = behind;
        }
    }

    /// Fetches the slot where the search for a hash begins.
    #[inline(always)]
    pub fn fetch_slot(&self, hash: u64) {
        if let Some(slot) = self.slot(tag(hash)) {
            fetch(slot);
        }
    }

    /// Fetches the node of a hash; whether there may be one.
    #[inline(always)]
    pub fn fetch_node(&self, hash: u64) -> bool {
        let found = self.next(tag(hash), tag(hash));
        // Where it is another's, whose tag is the same, the search goes on without help.
        if let Some((at, _)) = found
            && let Some([first, .., last]) = self.octets_from(at).and_then(<[u8]>::first_chunk::<LINES>)
        {
            fetch(first);
            fetch(last);
        }
        found.is_some()
    }

    /// Every node's tag and whole octets, in no order.
    pub fn places(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let index = self.octets.get(self.index as usize..).unwrap_or_default();
        index.as_chunks().0.iter().copied().filter_map(taken).filter_map(|(tag, at)| {
            let bytes = self.octets_from(at)?;
            Some((tag, bytes.get(..node::head(bytes)?.0)?))
        })
    }

    /// Octets held.
    #[must_use]
    pub fn size(&self) -> usize {
        self.octets.len()
    }
}

/// Puts shards together, node by node, one after the other in the same room: what a shard keeps is allocated once, as large
/// as it is.
#[derive(Debug, Default)]
pub struct Maker {
    /// Tags, and where nodes begin in `octets`.
    places: Vec<(u16, u32)>,
    octets: Vec<u8>,
}

impl Maker {
    /// Makes room for all that an old shard has, and for so many nodes and octets more.
    pub fn reserve(&mut self, old: &Shard, nodes: usize, octets: usize) {
        self.places.reserve((usize::from(old.mask) + 1) * 3 / 4 + nodes);
        self.octets.reserve(old.octets.len() + octets + 2 * SLOT * nodes);
    }

    /// Appends a node; where it begins.
    ///
    /// # Panics
    /// There are 4 GiB of nodes.
    pub fn push(&mut self, tag: u16, node: &[u8]) -> usize {
        let at = self.octets.len();
        self.places.push((tag, whole(at)));
        self.octets.extend_from_slice(node);
        at
    }

    /// The octets from where a node begins.
    pub fn node(&mut self, at: usize) -> &mut [u8] {
        &mut self.octets[at..]
    }

    /// Indexes the nodes; the next shard begins.
    ///
    /// # Panics
    /// There are 49,151 of them: 50 million names in a table.
    pub fn build(&mut self) -> Shard {
        if self.places.is_empty() {
            return Shard::default();
        }
        // At most three quarters full, so that a probe for a name that is not there ends soon.
        let slots = (self.places.len() * 4 / 3 + 1).next_power_of_two();
        assert!(slots <= MOST, "a shard below 49,152 names");
        let unit = self.spread();
        let Self { places, octets } = self;
        octets.resize(octets.len().next_multiple_of(SLOT), 0);
        let index = octets.len();
        octets.resize(index + slots * SLOT, 0xff);
        let (all, _) = octets[index..].as_chunks_mut();
        for (tag, offset) in places.drain(..) {
            let mut at = usize::from(tag) & (slots - 1);
            while all[at] != EMPTY {
                at = (at + 1) & (slots - 1);
            }
            let ([t1, t2], [a1, a2]) = (tag.to_le_bytes(), small(offset >> unit).to_le_bytes());
            all[at] = [t1, t2, a1, a2];
        }
        let shard = Shard { octets: octets[..].into(), index: whole(index), mask: small((slots - 1) as u32), unit };
        octets.clear();
        shard
    }

    /// Puts nodes at multiples of the least power of two by which all places can be told; which one that is.
    fn spread(&mut self) -> u8 {
        if self.octets.len() < usize::from(NOWHERE) {
            return 0;
        }
        let begins = self.places.iter().map(|(_, at)| *at as usize);
        let ends = begins.clone().skip(1).chain([self.octets.len()]);
        let spans: Vec<_> = begins.zip(ends).map(|(begin, end)| begin..end).collect();
        let units = |unit: u32| spans.iter().map(|span| span.len().div_ceil(1 << unit)).sum::<usize>();
        let unit = (0..u32::BITS).find(|unit| units(*unit) < usize::from(NOWHERE)).unwrap_or(0);
        let mut spread = Vec::with_capacity(units(unit) << unit);
        for ((_, at), span) in self.places.iter_mut().zip(spans) {
            *at = whole(spread.len());
            spread.extend_from_slice(&self.octets[span]);
            spread.resize(spread.len().next_multiple_of(1 << unit), 0);
        }
        self.octets = spread;
        unit as u8
    }
}

fn whole(octets: usize) -> u32 {
    u32::try_from(octets).expect("a shard below 4 GiB")
}

#[allow(clippy::cast_possible_truncation, reason = "what is given is below 65,536")]
fn small(n: u32) -> u16 {
    n as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::key::Hasher;

    /// A node without payload but for so many octets.
    fn bare(key: &[u8], more: usize) -> Vec<u8> {
        let mut node = Vec::new();
        node::write_bare(&mut node, (key, Some(7)), 3, 0);
        node.resize(node.len() + more, 0xee);
        let length = u32::try_from(node.len()).unwrap();
        node[..4].copy_from_slice(&length.to_le_bytes());
        node
    }

    fn key(n: usize) -> Vec<u8> {
        let text = format!("{n:06}");
        [&[6], text.as_bytes()].concat()
    }

    #[test]
    fn every_node_is_found_whatever_their_number_and_their_length() {
        let (hasher, mut maker) = (Hasher::new(7), Maker::default());
        for (nodes, more) in
            [(0, 0), (1, 0), (3, 5), (4, 0), (150, 60), (1000, 70), (3000, 200), (40, 50_000), (49_151, 0)]
        {
            for n in 0..nodes {
                maker.push(tag(hasher.of_wire(&key(n))), &bare(&key(n), more + n % 7));
            }
            let shard = maker.build();
            for n in (0..nodes).chain([999_999]) {
                let node = shard.find(hasher.of_wire(&key(n)), &key(n));
                assert_eq!(
                    node.map(|node| (node.zone, node.segment)),
                    (n < nodes).then_some((Some(7), 3)),
                    "{n} of {nodes}"
                );
            }
            let mut all: Vec<Vec<u8>> = shard.places().map(|(_, bytes)| bytes.to_vec()).collect();
            let mut expected: Vec<Vec<u8>> = (0..nodes).map(|n| bare(&key(n), more + n % 7)).collect();
            all.sort_unstable();
            expected.sort_unstable();
            assert!(all == expected, "{nodes}");
        }
    }

    #[test]
    fn nodes_of_one_tag_are_told_by_their_keys() {
        let mut maker = Maker::default();
        for n in 0..5 {
            maker.push(u16::MAX, &bare(&key(n), 0));
        }
        let shard = maker.build();
        let hash = u64::from(u16::MAX) << 32;
        for n in 0..6 {
            assert_eq!(shard.find(hash, &key(n)).is_some(), n < 5);
        }
    }
}
