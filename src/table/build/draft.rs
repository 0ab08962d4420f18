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
        &self,
        old: &Shard,
        hasher: Hasher,
        below: impl Fn(&[u8]) -> u8,
        segment: impl Fn(&[u8]) -> SegmentIx,
    ) -> Shard {
        let (places, data) = &self.fresh;
        let mut maker = Maker::with_capacity(old, places.len() + self.above.len(), data.len());
        // What is left of these has no node yet.
        let mut above: HashMap<&[u8], bool, RandomState> = self.above.iter().map(|(key, all)| (&**key, *all)).collect();
        let flags = |key: &[u8], all: bool| below(key) | if all { BELOW_ALL } else { 0 };
        let mut put = |tag: u32, bytes: &[u8]| {
            let of = node::head(bytes).map(|(_, key)| key).filter(|key| above.contains_key::<[u8]>(key));
            let Some(key) = of else {
                maker.push(tag, bytes);
                return;
            };
            let had = node::flags(bytes).is_some_and(|flags| flags & BELOW_ALL != 0);
            if node::is_bare(bytes) {
                // Written at the end, if it is still needed.
                above.get_mut::<[u8]>(key).into_iter().for_each(|all| *all |= had);
            } else if let Some(all) = above.remove::<[u8]>(key) {
                let at = maker.push(tag, bytes);
                node::set_below(maker.node(at), flags(key, all || had));
            }
        };
        for (tag, bytes) in old.places() {
            if self.gone.is_empty() || !node::head(bytes).is_some_and(|(_, key)| self.gone.contains(key)) {
                put(tag, bytes);
            }
        }
        let mut rest = &**data;
        for (tag, len) in places {
            let (bytes, after) = rest.split_at(*len as usize);
            put(*tag, bytes);
            rest = after;
        }
        for (key, all) in above {
            let flags = flags(key, all);
            if flags & BELOW != 0 {
                let mut bytes = Vec::new();
                Encoded::bare(segment(key)).write(key, flags, &mut bytes);
                maker.push(tag(hasher.of_wire(key)), &bytes);
            }
        }
        maker.build()
    }
}
