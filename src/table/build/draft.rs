//! What becomes of shards: nodes that go, nodes that come, and names below which something came or went.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;

use foldhash::fast::RandomState;

use crate::mesh::publish::Body;
use crate::mesh::segment::SegmentIx;
use crate::table::key::Hasher;
use crate::table::node::{self, BELOW, BELOW_ALL, Written};
use crate::table::shard::{Maker, Shard, tag};

/// The nodes that come, of all shards, one after the other: most shards of a first state get a few out of a hundred thousand.
#[derive(Debug, Default)]
pub struct Fresh {
    places: Vec<Place>,
    octets: Vec<u8>,
}

/// Where a node that comes lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    len: u32,
    tag: u16,
    /// The last one before that is of the same shard.
    before: Option<PlaceIx>,
}

/// Counts the nodes that come, from 1.
type PlaceIx = NonZeroU32;

impl Fresh {
    /// How many octets come.
    #[must_use]
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    /// Tags and octets of the nodes of one shard, of which the last is given.
    fn chain(&self, last: Option<PlaceIx>) -> impl Iterator<Item = (u16, &[u8])> {
        let place = |ix: PlaceIx| self.places.get(ix.get() as usize - 1);
        let places = std::iter::successors(last.and_then(place), move |next| next.before.and_then(place));
        places.map(|place| (place.tag, &self.octets[place.at..place.at + place.len as usize]))
    }
}

/// What becomes of one shard.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Keys of nodes that are in the old shard, and not in the next one as they are.
    gone: HashSet<Box<[u8]>, RandomState>,
    /// The last node that comes, how many come, and how many octets that is.
    last: Option<PlaceIx>,
    nodes: usize,
    octets: usize,
    /// Keys whose flags of what is below may have changed, and whether that is to be everyone's.
    above: HashMap<Box<[u8]>, bool, RandomState>,
}

impl Draft {
    /// A node comes, in the place of one that goes or that never was. Each name comes once.
    pub fn put(&mut self, fresh: &mut Fresh, hash: u64, site: node::Site<'_>, body: &Body) -> Written {
        let at = fresh.octets.len();
        let written = node::write(&mut fresh.octets, site, body);
        let len = fresh.octets.len() - at;
        let place = Place { at, len: u32::try_from(len).unwrap_or(0), tag: tag(hash), before: self.last };
        fresh.places.push(place);
        self.last = u32::try_from(fresh.places.len()).ok().and_then(PlaceIx::new);
        self.nodes += 1;
        self.octets += len;
        written
    }

    /// The node that the old shard has for this key goes.
    pub fn remove(&mut self, key: &[u8]) {
        self.gone.insert(key.into());
    }

    /// What is below this key may be another now; with `all`, there is something for everyone.
    pub fn above(&mut self, key: &[u8], all: bool) {
        match self.above.get_mut(key) {
            Some(had) => *had |= all,
            None => drop(self.above.insert(key.into(), all)),
        }
    }

    /// The shard in place of `old`, with what comes of `fresh`. `below` are the flags of what is counted below a
    /// key, `zone` is the zone that a key is in at which nothing else stands, and whose name it is.
    #[must_use]
    pub fn build(
        &self,
        maker: &mut Maker,
        old: &Shard,
        fresh: &Fresh,
        hasher: Hasher,
        below: impl Fn(&[u8]) -> u8,
        zone: impl Fn(&[u8]) -> (Option<usize>, SegmentIx),
    ) -> Shard {
        maker.reserve(old, self.nodes + self.above.len(), self.octets);
        // What is left of these has no node yet.
        let mut above: HashMap<&[u8], bool, RandomState> = self.above.iter().map(|(key, all)| (&**key, *all)).collect();
        let flags = |key: &[u8], all: bool| below(key) | if all { BELOW_ALL } else { 0 };
        let mut put = |tag: u16, bytes: &[u8]| {
            let key = if above.is_empty() { None } else { node::head(bytes).map(|(_, key)| key) };
            let Some(key) = key.filter(|key| above.contains_key::<[u8]>(key)) else {
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
        fresh.chain(self.last).for_each(|(tag, bytes)| put(tag, bytes));
        for (key, all) in above {
            let flags = flags(key, all);
            if flags & BELOW != 0 {
                let mut bytes = Vec::new();
                let (zone, segment) = zone(key);
                node::write_bare(&mut bytes, (key, zone), segment, flags);
                maker.push(tag(hasher.of_wire(key)), &bytes);
            }
        }
        maker.build()
    }
}
