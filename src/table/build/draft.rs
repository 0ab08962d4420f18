//! What becomes of one shard: nodes that go, nodes that come, and names below which something came or went.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::mesh::segment::SegmentIx;
use crate::table::key::Hasher;
use crate::table::node::{self, BELOW, BELOW_ALL, Encoded};
use crate::table::shard::{Maker, Shard, tag};

/// See the module's page. Each name comes, or goes, once.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Keys of nodes that are in the old shard, and not in the next one as they are.
    gone: HashSet<Box<[u8]>, RandomState>,
    /// Tags and lengths of the nodes that come, and their octets one after the other.
    fresh: (Vec<(u32, u32)>, Vec<u8>),
    /// Keys whose flags of what is below may have changed, and whether that is to be everyone's.
    above: HashMap<Box<[u8]>, bool, RandomState>,
}

impl Draft {
    /// The node that the old shard has for this key goes.
    pub fn remove(&mut self, key: &[u8]) {
        self.gone.insert(key.into());
    }

    /// A node comes, in the place of one that goes or that never was.
    pub fn put(&mut self, hash: u64, key: &[u8], node: &Encoded) {
        let (places, data) = &mut self.fresh;
        let len = node.write(key, 0, data);
        places.push((tag(hash), len));
    }

    /// What is below this key may be another now; with `all`, there is something for everyone.
    pub fn above(&mut self, key: &[u8], all: bool) {
        match self.above.get_mut(key) {
            Some(had) => *had |= all,
            None => drop(self.above.insert(key.into(), all)),
        }
    }

    /// How many octets come.
    #[must_use]
    pub fn size(&self) -> usize {
        self.fresh.1.len()
    }

    /// The shard in place of `old`. `below` are the flags of what is counted below a key, `segment` is whose name a key is
    /// at which nothing else stands.
    #[must_use]
    pub fn build(
        mut self,
        old: &Shard,
        hasher: Hasher,
        below: impl Fn(&[u8]) -> u8,
        segment: impl Fn(&[u8]) -> SegmentIx,
    ) -> Shard {
        let (places, data) = std::mem::take(&mut self.fresh);
        let mut maker = Maker::with_capacity(old, places.len() + self.above.len(), data.len());
        let mut written: HashSet<Box<[u8]>, RandomState> = HashSet::default();
        let mut put = |above: &mut HashMap<Box<[u8]>, bool, RandomState>, tag: u32, bytes: &[u8]| {
            let node = maker.push(tag, bytes);
            if above.is_empty() {
                return;
            }
            let Some((key, flags)) = node::head(bytes).map(|(_, key)| key).zip(node::flags(bytes)) else { return };
            let Some(all) = above.get_mut(key) else { return };
            *all |= flags & BELOW_ALL != 0;
            let flags = below(key) | if *all { BELOW_ALL } else { 0 };
            if node::is_bare(bytes) {
                // Written at the end, if it is still needed.
                return maker.pop(node);
            }
            node::set_below(maker.node(node), flags);
            written.insert(key.into());
        };
        for (tag, bytes) in old.places() {
            if self.gone.is_empty() || !node::head(bytes).is_some_and(|(_, key)| self.gone.contains(key)) {
                put(&mut self.above, tag, bytes);
            }
        }
        let mut rest = &*data;
        for (tag, len) in places {
            let (bytes, after) = rest.split_at(len as usize);
            put(&mut self.above, tag, bytes);
            rest = after;
        }
        for (key, all) in self.above {
            let flags = below(&key) | if all { BELOW_ALL } else { 0 };
            if flags & BELOW != 0 && !written.contains(&key) {
                let mut bytes = Vec::new();
                Encoded::bare(segment(&key)).write(&key, flags, &mut bytes);
                maker.push(tag(hasher.of_wire(&key)), &bytes);
            }
        }
        maker.build()
    }
}
