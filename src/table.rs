//! The table: one immutable snapshot of names, callers and policy, and the decision over it.
//!
//! ```text
//! key    a question's name, folded and split        zone   the longest zone it is in
//! node   what stands at one name, as flat octets    shard  an index of nodes, rebuilt as one
//! services  which Services the local cluster has, published or not
//! build  from a mesh::world::Delta to the next table: only the shards it touches are built anew
//! keeper objects in, newest table out               snapshot  where the newest table is
//! autopath  what a search list makes of a name      ahead  what is about to be looked up is fetched from memory
//! decide (caller, question, table) -> decision: no lock, no allocation, no log
//! ```

pub mod ahead;
pub mod autopath;
pub mod build;
pub mod decide;
pub mod keeper;
pub mod key;
pub mod node;
pub mod reason;
pub mod services;
pub mod shard;
pub mod snapshot;
pub mod zone;

use std::sync::Arc;

pub use crate::mesh::caller::Caller;
use crate::mesh::caller::Callers;
pub use crate::mesh::name::Name;
use crate::mesh::segment::{SegmentIx, ValidSegment};
use crate::mesh::settings::Policy;
use crate::mesh::world::Namespaces;

use key::{Hasher, Key, Span};
use node::Node;
use services::Services;
use shard::Shard;
use zone::Zones;

/// How many shards a table has: one change rebuilds one of them.
pub const SHARDS: usize = 1024;

/// Segments that are counted by name; further ones share the last place.
pub const SLOTS: usize = 32;

/// Everything a decision needs, of one moment. Swapped as a whole, so that no query sees two worlds.
#[derive(Clone, Debug)]
pub struct Table {
    /// Counts the tables of this process.
    pub generation: u64,
    /// The first complete state is in (R22).
    pub synced: bool,
    /// The local cluster's Services and Namespaces are all told, as they are now: what is not told does not exist.
    pub told: bool,
    /// Mesh zones are known, from Segments or from `segments.zones` (R22).
    pub zones_known: bool,
    /// The zones.
    pub zones: Arc<Zones>,
    /// The segments that zones and callers point at.
    pub segments: Arc<[ValidSegment]>,
    /// The operator's policy.
    pub policy: Arc<Policy>,
    /// Who asks.
    pub callers: Arc<Callers>,
    /// The local cluster's namespaces.
    pub namespaces: Arc<Namespaces>,
    /// The local cluster's Services, published or not.
    pub services: Arc<Services>,
    /// How many names lie outside every zone: aliases and hosts of hand-written entries.
    pub outside: usize,
    /// How many of those are wildcards.
    pub wildcards: usize,
    /// How many names there are.
    pub names: usize,
    /// Which place each segment has in the counters; a name keeps its place for as long as the process lives.
    slots: Arc<[u8]>,
    hasher: Hasher,
    shards: Box<[Shard]>,
}

impl Table {
    /// The node of some labels of a key, whose hash is `hash`.
    #[inline(always)]
    #[must_use]
    pub fn node(&self, hash: u64, key: &Key, span: Span) -> Option<Node<'_>> {
        self.shards[shard_of(hash)].find(hash, key.span(span))
    }

    /// The hash of a name, as [`decide::Question`] has it. It is the same for all tables of a process.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self, key: &Key) -> u64 {
        self.hasher.of(key, key.all())
    }

    /// What hashes names, the same for all tables of a process.
    #[must_use]
    pub fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// The longest zone that some labels of a key are in, and their hash.
    #[inline(always)]
    #[must_use]
    pub fn classify(&self, key: &Key, span: Span) -> (Option<usize>, u64) {
        self.zones.classify(self.hasher, key, span)
    }

    /// The same where it is asked less often.
    #[inline(never)]
    #[must_use]
    pub fn zone_of(&self, key: &Key, span: Span) -> (Option<usize>, u64) {
        self.classify(key, span)
    }

    /// The node of some labels of a key.
    #[must_use]
    pub fn node_of(&self, key: &Key, span: Span) -> Option<Node<'_>> {
        self.node(self.hasher.of(key, span.clone()), key, span)
    }

    /// The wildcard that stands just above some labels of a key.
    #[must_use]
    pub fn wildcard(&self, key: &Key, span: Span) -> Option<Node<'_>> {
        let mut name = [0; 256];
        let rest = key.span(span);
        name[..2].copy_from_slice(b"\x01*");
        name.get_mut(2..2 + rest.len())?.copy_from_slice(rest);
        let name = &name[..2 + rest.len()];
        let hash = self.hasher.of_wire(name);
        self.shards[shard_of(hash)].find(hash, name)
    }

    /// Whether the local cluster may have the Service that two labels of a key name, `<svc>.<ns>`; if it has, this is true.
    #[inline]
    #[must_use]
    pub fn has_service(&self, key: &Key, ix: usize) -> bool {
        self.services.may_have(self.hasher.of(key, ix..ix + 2))
    }

    /// Every node, with its key as wire without root octet.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], Node<'_>)> {
        let places = self.shards.iter().flat_map(Shard::places);
        places.filter_map(|(_, bytes)| Some((node::head(bytes)?.1, Node::read(bytes)?)))
    }

    /// Which place a segment has in the counters.
    #[inline]
    #[must_use]
    pub fn slot(&self, segment: SegmentIx) -> u8 {
        self.slots.get(usize::from(segment)).copied().unwrap_or(u8::MAX)
    }

    /// Octets that names take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.shards.iter().map(|s| s.size()).sum()
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "masked to the number of shards")]
fn shard_of(hash: u64) -> usize {
    hash as usize & (SHARDS - 1)
}
