//! From a delta to the next table. Off the query path; here may be locks and allocations, but no more work than the
//! change is worth.

mod draft;

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::mesh::caller::callers;
use crate::mesh::publish::Body;
use crate::mesh::segment::{DEFAULT, SegmentIx};
use crate::mesh::world::{Delta, World};

use super::key::{Hasher, Key, wire_into};
use super::node::{BELOW, BELOW_ALL, BELOW_CROSS, BELOW_OWN, NodeKind, Written};
use super::services::{self, Services};
use super::shard::{Maker, Shard};
use super::zone::{ZoneKind, Zones};
use super::{SHARDS, SLOTS, Table, shard_of};
use draft::{Draft, Fresh};

/// Keeps what is needed to build the next table from the last one.
#[derive(Debug)]
pub struct Builder {
    table: Arc<Table>,
    /// The next table, once it is begun, and what its shards will be built from.
    next: Option<Table>,
    fresh: Fresh,
    drafts: HashMap<usize, Draft, RandomState>,
    services: Vec<services::Change>,
    /// Names of segments in the order they first came; a segment's place in the counters.
    slots: Vec<Box<str>>,
    /// How many names below a name the callers of its segment see, and those of others (R14).
    below: HashMap<Box<[u8]>, (u32, u32), RandomState>,
}

/// Shards are built on two threads where there are more octets to write than this: a first table, a new Segment.
const MUCH: usize = 1 << 20;

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
            namespaces: world.namespaces(),
            services: Arc::new(Services::of(world, hasher)),
            outside: 0,
            wildcards: 0,
            names: 0,
            slots: Arc::new([]),
            hasher,
            shards: empty_shards(),
        };
        let mut builder = Self {
            table: Arc::new(table),
            next: None,
            fresh: Fresh::default(),
            drafts: HashMap::default(),
            services: Vec::new(),
            slots: Vec::new(),
            below: HashMap::default(),
        };
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
        self.take(world, delta);
        if let Some(mut next) = self.next.take() {
            self.finish(world, &mut next);
            self.table = Arc::new(next);
        }
        self.table()
    }

    /// Takes a part of what the next table has; it is built by [`Builder::apply`], which takes the last part.
    pub fn take(&mut self, world: &World, delta: Delta) {
        let mut next = self.next.take().unwrap_or_else(|| {
            let generation = self.table.generation + 1;
            Table { generation, ..Table::clone(&self.table) }
        });
        if delta.relayout {
            self.relayout(world, &mut next);
        }
        if let Some(callers) = delta.callers {
            next.callers = callers;
        }
        if let Some(namespaces) = delta.namespaces {
            next.namespaces = namespaces;
        }
        let hasher = next.hasher;
        self.services.extend(delta.services.iter().filter_map(|presence| services::change(presence, hasher)));
        let (mut wire, mut key) = (Vec::new(), Key::default());
        for (name, body) in &delta.records {
            wire.clear();
            let is_name = wire_into(name.as_str(), &mut wire);
            wire.push(0);
            if is_name && key.read(&wire).is_some() {
                self.record(&mut next, &key, &wire[..wire.len() - 1], body.as_ref());
            }
        }
        self.next = Some(next);
    }

    fn finish(&mut self, world: &World, next: &mut Table) {
        next.synced = world.synced();
        next.told = world.told();
        next.zones_known = next.synced || !world.settings().zones.is_empty() || next.segments.len() > 1;
        let services = std::mem::take(&mut self.services);
        if !services.is_empty() {
            next.services = Arc::new(next.services.with(services));
        }
        let fresh = std::mem::take(&mut self.fresh);
        let drafts: Vec<(usize, Draft)> = std::mem::take(&mut self.drafts).into_iter().collect();
        for (ix, shard) in self.build(next, &fresh, &drafts) {
            next.shards[ix] = shard;
        }
    }

    fn build(&self, next: &Table, fresh: &Fresh, drafts: &[(usize, Draft)]) -> Vec<(usize, Shard)> {
        let build = |drafts: &[(usize, Draft)]| -> Vec<(usize, Shard)> {
            let mut maker = Maker::default();
            drafts.iter().map(|(ix, draft)| (*ix, self.shard(&mut maker, next, *ix, (fresh, draft)))).collect()
        };
        if fresh.size() < MUCH {
            return build(drafts);
        }
        let (one, two) = drafts.split_at(drafts.len() / 2);
        std::thread::scope(|scope| {
            let other = std::thread::Builder::new().name("table".into()).spawn_scoped(scope, || build(two));
            let mut shards = build(one);
            // Where the system grants no thread, or that one panics, the work is done here.
            shards.extend(other.ok().and_then(|other| other.join().ok()).unwrap_or_else(|| build(two)));
            shards
        })
    }

    fn shard(&self, maker: &mut Maker, next: &Table, ix: usize, (fresh, draft): (&Fresh, &Draft)) -> Shard {
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        let below = |key: &[u8]| {
            let (own, cross) = self.below.get(key).copied().unwrap_or_default();
            flag(own > 0, BELOW_OWN) | flag(cross > 0, BELOW_CROSS)
        };
        draft.build(maker, &next.shards[ix], fresh, next.hasher, below, |key| next.zone_of_wire(key))
    }

    /// Zones, segments or settings changed, and with them what every number in a node means: start over.
    fn relayout(&mut self, world: &World, next: &mut Table) {
        let layout = world.layout();
        if *next.policy != world.settings().policy {
            next.policy = Arc::new(world.settings().policy.clone());
        }
        next.zones = Arc::new(Zones::new(world.settings(), &layout.zones, next.hasher));
        next.segments = layout.segments.clone().into();
        next.slots = layout.segments.iter().map(|s| self.slot(&s.name)).collect();
        next.shards = empty_shards();
        (next.outside, next.wildcards, next.names) = (0, 0, 0);
        self.below.clear();
        self.drafts.clear();
        self.fresh = Fresh::default();
        // The apex of a mesh zone below another answers everyone, so the names between the two exist for everyone.
        let zones = Arc::clone(&next.zones);
        for zone in zones.all().iter().filter(|z| matches!(z.kind, ZoneKind::Mesh(_))) {
            let Some(key) = Key::from_wire(&zone.wire) else { continue };
            let above = next.classify(&key, 1..key.count()).0;
            for between in ancestors(next, &key, above) {
                let (between, hash) = (key.span(between.clone()), next.hasher.of(&key, between));
                self.draft(hash).above(between, true);
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

    fn draft(&mut self, hash: u64) -> &mut Draft {
        self.drafts.entry(shard_of(hash)).or_default()
    }

    /// What stands at a name from now on; `wire` is its key without the root octet.
    fn record(&mut self, next: &mut Table, key: &Key, wire: &[u8], body: Option<&Body>) {
        let (zone, hash) = next.classify(key, key.all());
        let old = next.shards[shard_of(hash)].find(hash, wire);
        let was = old.map(|node| (node.kind, node.seen()));
        let below = old.map_or(0, |node| node.flags & BELOW);
        let draft = self.drafts.entry(shard_of(hash)).or_default();
        let is = body.map(|body| draft.put(&mut self.fresh, hash, (wire, zone), body));
        if was.is_some() {
            draft.remove(wire);
        }
        if below != 0 {
            draft.above(wire, below & BELOW_ALL != 0);
        }
        let mesh = |of: Option<Written>| of.filter(|(k, _)| *k == NodeKind::Mesh).map_or((false, false), |(_, s)| s);
        let (before, after) = (mesh(was), mesh(is));
        if before != after {
            for above in ancestors(next, key, zone) {
                self.count_below(next.hasher, key, above, before, after);
            }
        }
        let counts = |of: Option<Written>| of.is_some_and(|(k, _)| k != NodeKind::Bare);
        let step = |count: &mut usize| {
            *count = (*count + usize::from(counts(is))).saturating_sub(usize::from(counts(was)));
        };
        step(&mut next.names);
        if zone.is_none() {
            step(&mut next.outside);
            if wire.starts_with(b"\x01*") {
                step(&mut next.wildcards);
            }
        }
    }

    fn count_below(
        &mut self,
        hasher: Hasher,
        key: &Key,
        above: std::ops::Range<usize>,
        before: (bool, bool),
        after: (bool, bool),
    ) {
        let name = key.span(above.clone());
        if !self.below.contains_key(name) {
            self.below.insert(name.into(), (0, 0));
        }
        let Some(count) = self.below.get_mut(name) else { return };
        let had = (count.0 > 0, count.1 > 0);
        let step = |n: u32, was: bool, is: bool| (n + u32::from(is)).saturating_sub(u32::from(was));
        *count = (step(count.0, before.0, after.0), step(count.1, before.1, after.1));
        let has = (count.0 > 0, count.1 > 0);
        if has == (false, false) {
            self.below.remove(name);
        }
        if has != had {
            self.draft(hasher.of(key, above)).above(name, false);
        }
    }
}

impl Table {
    /// The zone that a name is in, and whose it is.
    fn zone_of_wire(&self, wire: &[u8]) -> (Option<usize>, SegmentIx) {
        let zone = Key::from_wire(wire).and_then(|key| self.classify(&key, key.all()).0);
        match zone.map(|z| self.zones.get(z).kind) {
            Some(ZoneKind::Mesh(Some(segment))) => (zone, segment),
            _ => (zone, DEFAULT),
        }
    }
}

/// An empty shard in every place: a shard is replaced, never changed.
fn empty_shards() -> Box<[Shard]> {
    (0..SHARDS).map(|_| Shard::default()).collect()
}

/// The names strictly between a name and the apex of the mesh zone that it is in, as labels of its key.
fn ancestors(table: &Table, key: &Key, zone: Option<usize>) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let zone = zone.map(|z| table.zones.get(z)).filter(|z| matches!(z.kind, ZoneKind::Mesh(_)));
    let (count, end) = (key.count(), zone.map_or(0, |z| key.count().saturating_sub(z.labels)));
    (1..end).map(move |ix| ix..count)
}
