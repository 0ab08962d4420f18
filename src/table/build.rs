//! From a delta to the next table. Off the query path; here may be locks and allocations, but no more work than the
//! change is worth.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::mesh::caller::callers;
use crate::mesh::name::Name;
use crate::mesh::publish::Body;
use crate::mesh::segment::DEFAULT;
use crate::mesh::world::{Delta, World};

use super::key::{Hasher, Key, wire_of};
use super::node::{BELOW, BELOW_ALL, BELOW_CROSS, BELOW_OWN, Encoded, Node, NodeKind};
use super::services::Services;
use super::shard::Shard;
use super::zone::{ZoneKind, Zones};
use super::{SHARDS, SLOTS, Table, shard_of};

/// Keeps what is needed to build the next table from the last one.
#[derive(Debug)]
pub struct Builder {
    table: Arc<Table>,
    /// Names of segments in the order they first came; a segment's place in the counters.
    slots: Vec<Box<str>>,
    /// How many names below a name the callers of its segment see, and those of others (R14).
    below: HashMap<Box<[u8]>, (u32, u32)>,
}

/// What becomes of one name.
#[derive(Debug, Default)]
struct Edit {
    body: Option<Option<Encoded>>,
    below: bool,
}

type Edits = BTreeMap<Box<[u8]>, Edit>;

impl Builder {
    /// Starts with a table without names. `seed` is that of the hash; it should be unpredictable.
    #[must_use]
    pub fn new(world: &World, seed: u64) -> Self {
        let hasher = Hasher::new(seed);
        let settings = world.settings();
        let table = Table {
            generation: 0,
            synced: world.synced(),
            told: world.told(),
            zones_known: !settings.zones.is_empty(),
            zones: Arc::new(Zones::new(settings, &world.layout().zones, hasher)),
            segments: world.layout().segments.clone().into(),
            policy: Arc::new(settings.policy.clone()),
            callers: Arc::new(callers(world).0),
            namespaces: Arc::new(world.namespaces()),
            services: Arc::new(Services::of(world, hasher)),
            outside: 0,
            wildcards: 0,
            names: 0,
            slots: Arc::new([]),
            hasher,
            shards: empty_shards(),
        };
        let mut builder = Self { table: Arc::new(table), slots: Vec::new(), below: HashMap::new() };
        builder.apply(world, Delta { relayout: true, ..Delta::default() });
        builder
    }

    /// The newest table.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// Builds the next table. Nothing changes for those who hold an older one.
    pub fn apply(&mut self, world: &World, delta: Delta) -> Arc<Table> {
        let mut next = Table::clone(&self.table);
        let mut edits = Edits::new();
        next.generation += 1;
        next.synced = world.synced();
        next.told = world.told();
        if delta.relayout {
            self.relayout(world, &mut next, &mut edits);
        }
        next.zones_known = next.synced || !world.settings().zones.is_empty() || next.segments.len() > 1;
        if let Some(callers) = delta.callers {
            next.callers = callers;
        }
        if let Some(namespaces) = delta.namespaces {
            next.namespaces = namespaces;
        }
        if !delta.services.is_empty() {
            next.services = Arc::new(next.services.with(&delta.services, next.hasher));
        }
        for (name, body) in delta.records {
            self.record(&mut next, &name, body, &mut edits);
        }
        self.rebuild(&mut next, edits);
        self.table = Arc::new(next);
        self.table()
    }

    /// Zones or segments changed, and with them what every number in a node means: start over.
    fn relayout(&mut self, world: &World, next: &mut Table, edits: &mut Edits) {
        let layout = world.layout();
        next.zones = Arc::new(Zones::new(world.settings(), &layout.zones, next.hasher));
        next.segments = layout.segments.clone().into();
        next.slots = layout.segments.iter().map(|s| self.slot(&s.name)).collect();
        next.shards = empty_shards();
        (next.outside, next.wildcards, next.names) = (0, 0, 0);
        self.below.clear();
        // The apex of a mesh zone below another answers everyone, so the names between the two exist for everyone.
        for zone in next.zones.all().iter().filter(|z| matches!(z.kind, ZoneKind::Mesh(_))) {
            for between in ancestors(next, &zone.wire, false) {
                edits.entry(between).or_default().below = true;
            }
        }
    }

    fn slot(&mut self, segment: &str) -> u8 {
        let at = self.slots.iter().position(|name| **name == *segment).unwrap_or_else(|| {
            self.slots.push(segment.into());
            self.slots.len() - 1
        });
        u8::try_from(at.min(SLOTS - 1)).unwrap_or(u8::MAX)
    }

    fn record(&mut self, next: &mut Table, name: &Name, body: Option<Body>, edits: &mut Edits) {
        let Some(wire) = wire_of(name.as_str()) else { return };
        let old = next.lookup(&wire);
        let was = old.map(|node| (Encoded::of_node(&node).seen, node.kind));
        let new = body.map(|body| Encoded::new(&body, next.policy.ttl));
        let is = new.as_ref().map(|e| (e.seen, e.kind));
        let mesh = |of: Option<((bool, bool), NodeKind)>| {
            of.filter(|(_, k)| *k == NodeKind::Mesh).map_or((false, false), |(s, _)| s)
        };
        let (before, after) = (mesh(was), mesh(is));
        if before != after {
            for above in ancestors(next, &wire, true) {
                self.count_below(above, before, after, edits);
            }
        }
        let outside = next.zone_of_wire(&wire).is_none();
        let counts = |of: Option<((bool, bool), NodeKind)>| of.is_some_and(|(_, k)| k != NodeKind::Bare);
        let step = |count: &mut usize| {
            *count = (*count + usize::from(counts(is))).saturating_sub(usize::from(counts(was)));
        };
        step(&mut next.names);
        if outside {
            step(&mut next.outside);
            if wire.starts_with(b"\x01*") {
                step(&mut next.wildcards);
            }
        }
        edits.entry(wire.into()).or_default().body = Some(new);
    }

    fn count_below(&mut self, name: Box<[u8]>, before: (bool, bool), after: (bool, bool), edits: &mut Edits) {
        let count = self.below.entry(name.clone()).or_default();
        let had = (count.0 > 0, count.1 > 0);
        let step = |n: u32, was: bool, is: bool| (n + u32::from(is)).saturating_sub(u32::from(was));
        *count = (step(count.0, before.0, after.0), step(count.1, before.1, after.1));
        let has = (count.0 > 0, count.1 > 0);
        if has == (false, false) {
            self.below.remove(&name);
        }
        if has != had {
            edits.entry(name).or_default();
        }
    }

    fn rebuild(&self, next: &mut Table, edits: Edits) {
        let mut by_shard = HashMap::<usize, Vec<_>>::new();
        for (key, edit) in edits {
            by_shard.entry(shard_of(next.hasher.of_wire(&key))).or_default().push((key, edit));
        }
        for (ix, edits) in by_shard {
            next.shards[ix] = Arc::new(self.shard(next, &next.shards[ix], edits));
        }
    }

    fn shard(&self, next: &Table, old: &Shard, edits: Vec<(Box<[u8]>, Edit)>) -> Shard {
        let mut data = Vec::with_capacity(old.size());
        for (key, bytes) in old.iter() {
            if edits.binary_search_by(|(k, _)| (**k).cmp(key)).is_err() {
                data.extend_from_slice(bytes);
            }
        }
        let hash = |key: &[u8]| next.hasher.of_wire(key);
        for (key, edit) in edits {
            let node = old.find(hash(&key), &key);
            let body = match edit.body {
                Some(body) => body,
                None => node.filter(|n| n.kind != NodeKind::Bare).map(|n| Encoded::of_node(&n)),
            };
            let (own, cross) = self.below.get(&key).copied().unwrap_or_default();
            let all = edit.below || node.is_some_and(|n| n.flags & BELOW_ALL != 0);
            let flag = |on: bool, flag: u8| if on { flag } else { 0 };
            let below = flag(own > 0, BELOW_OWN) | flag(cross > 0, BELOW_CROSS) | flag(all, BELOW_ALL);
            if body.is_some() || below & BELOW != 0 {
                body.unwrap_or_else(|| Encoded::bare(next.segment_of_wire(&key))).write(&key, below, &mut data);
            }
        }
        Shard::build(data, hash)
    }
}

impl Table {
    fn lookup(&self, wire: &[u8]) -> Option<Node<'_>> {
        let hash = self.hasher.of_wire(wire);
        self.shards[shard_of(hash)].find(hash, wire)
    }

    fn zone_of_wire(&self, wire: &[u8]) -> Option<usize> {
        let key = Key::from_wire(wire)?;
        self.classify(&key, key.all()).0
    }

    fn segment_of_wire(&self, wire: &[u8]) -> u16 {
        match self.zone_of_wire(wire).map(|z| self.zones.get(z).kind) {
            Some(ZoneKind::Mesh(Some(segment))) => segment,
            _ => DEFAULT,
        }
    }
}

/// One empty shard in every place: a shard is replaced, never changed.
fn empty_shards() -> Box<[Arc<Shard>]> {
    let empty = Arc::new(Shard::default());
    (0..SHARDS).map(|_| Arc::clone(&empty)).collect()
}

/// The names strictly between a name and the apex of its mesh zone. `inside` false: of the zone that the name's parent
/// is in, for a name that is an apex itself.
fn ancestors(table: &Table, wire: &[u8], inside: bool) -> Vec<Box<[u8]>> {
    let Some(key) = Key::from_wire(wire) else { return Vec::new() };
    let from = usize::from(!inside);
    let Some(zone) = table.classify(&key, from..key.count()).0.map(|z| table.zones.get(z)) else { return Vec::new() };
    if !matches!(zone.kind, ZoneKind::Mesh(_)) {
        return Vec::new();
    }
    (1..key.count().saturating_sub(zone.labels)).map(|ix| key.span(ix..key.count()).into()).collect()
}
