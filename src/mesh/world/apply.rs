//! Applying a batch: file the objects, then work off what they touched.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::dirty::Dirty;
use super::reports::{Many, Owner};
use super::threads::{MANY, run_beside};
use super::{Delta, EntryState, Family, Now, Presence, World};
use super::{add_place, change_of, remove_place};
use crate::mesh::address::Answers;
use crate::mesh::caller::callers;
use crate::mesh::cluster::Place;
use crate::mesh::entry::{HostClaim, Unit, UnitKey, judge, parent_of};
use crate::mesh::label;
use crate::mesh::name::Name;
use crate::mesh::object::{Change, ClusterIx, Kind, LOCAL};
use crate::mesh::publish::{Body, Compiled, Cross, Rank, Record, compile_all};
use crate::mesh::report::ObjectRef;
use crate::mesh::rival::Claim;
use crate::mesh::segment::{ClusterFacts, Layout, Standing, label_report, object_ref, own_label};
use crate::mesh::settings::Settings;

/// So many units are compiled in one piece at most: of each name there is much more before it is in the table than then.
const PIECE: usize = 4_000;

/// A thread takes so many of them at a time.
const RUN: usize = 64;

/// A unit to compile; if the local cluster's Service of that name came, changed or went: whether it was there before.
type Work<'a> = (Unit<'a>, Option<bool>);

/// Takes the pieces of a [`Delta`] that is too large to be held as a whole, as they come.
pub type Pieces<'a> = &'a mut dyn FnMut(&World, Delta);

impl World {
    /// Applies a batch of changes, in order; the result becomes visible as one.
    pub fn apply(&mut self, changes: Vec<Change>, now: Now) -> Delta {
        let dirty = self.file_all(changes);
        self.work_off(dirty, now, None)
    }

    /// As [`World::apply`], where a large result comes in pieces; what is returned is the last one.
    pub fn apply_in_pieces(&mut self, changes: Vec<Change>, now: Now, pieces: Pieces<'_>) -> Delta {
        let dirty = self.file_all(changes);
        self.work_off(dirty, now, Some(pieces))
    }

    /// Takes the node's own addresses (R15).
    pub fn set_node_addresses(&mut self, addresses: Vec<IpAddr>, now: Now) -> Delta {
        let changed = self.node_addresses != addresses;
        self.node_addresses = addresses;
        self.work_off(Dirty { callers: changed, ..Dirty::default() }, now, None)
    }

    /// Takes other settings: what the same objects come to is worked out anew, as if they had been there from the start. The
    /// clusters and the mesh root namespace stay, since objects are filed by them; a grace that has begun stays as long as it
    /// was. `pieces` as in [`World::apply_in_pieces`].
    pub fn set_settings(&mut self, settings: Settings, now: Now, pieces: Option<Pieces<'_>>) -> Delta {
        let Settings { clusters, root_namespace, .. } = self.settings.clone();
        let settings = Settings { clusters, root_namespace, ..settings };
        if settings == self.settings {
            return Delta::default();
        }
        self.grace.set(settings.grace_ms);
        self.settings = settings;
        let clusters = (0..self.clusters.len()).collect();
        let all = Dirty { layout: true, void: true, clusters, callers: true, all_facts: true, ..Dirty::default() };
        self.work_off(all, now, pieces)
    }

    /// Lets graces end (R22).
    pub fn tick(&mut self, now: Now) -> Delta {
        let mut dirty = Dirty::default();
        self.grace.end(now).iter().for_each(|unit| dirty.units.insert(unit));
        self.work_off(dirty, now, None)
    }

    fn work_off(&mut self, mut dirty: Dirty, now: Now, mut pieces: Option<Pieces<'_>>) -> Delta {
        let relayout = dirty.layout && self.relayout(&mut dirty);
        let mut delta = Delta { relayout: relayout || dirty.void, ..Delta::default() };
        self.spread(&mut dirty);
        for place in std::mem::take(&mut dirty.entries) {
            self.judge_entry(&place, &mut dirty);
        }
        let mut names = BTreeSet::new();
        let (services, hosts) = std::mem::take(&mut dirty.units).into_sorted();
        let services = services
            .iter()
            .flat_map(|(namespace, all)| all.iter().map(move |t| (Unit::Service { namespace, name: &t.name }, t.was)));
        let mut units = services.chain(hosts.iter().map(|host| (Unit::Host(host), None)));
        let mut many = false;
        loop {
            let piece: Vec<Work<'_>> = units.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                break;
            }
            many |= piece.len() >= MANY;
            // What the last piece came to is put into the table while others compile the next one.
            let compiled = match &mut pieces {
                Some(pieces) if !delta.records.is_empty() || !delta.services.is_empty() => {
                    let last = std::mem::take(&mut delta);
                    self.compile_all(&piece, || pieces(self, last))
                }
                _ => self.compile_all(&piece, || ()),
            };
            delta.records.reserve(piece.len());
            for ((unit, was), compiled) in piece.into_iter().zip(compiled) {
                delta.services.extend(was.and_then(|was| self.presence(unit, was)));
                self.recompile(unit, compiled, now, &mut names, &mut delta.records);
            }
        }
        if many {
            self.given.trim();
        }
        for name in names {
            self.settle(name, &mut delta.records);
        }
        if dirty.all_facts {
            self.look_at_all();
        } else if !dirty.facts.is_empty() {
            self.look_at(&dirty.facts);
        }
        delta.namespaces = (dirty.all_facts || !dirty.facts.is_empty()).then(|| self.namespaces());
        if dirty.callers {
            let (callers, reports) = callers(self);
            self.reports.set(Owner::Callers, reports);
            delta.callers = Some(Arc::new(callers));
        }
        delta
    }

    /// Judges zones and segments anew; true if that changed any. Where they stayed, only the clusters that are something
    /// else now have to be worked off.
    pub(super) fn relayout(&mut self, dirty: &mut Dirty) -> bool {
        let root = &self.settings.root_namespace;
        let facts: Vec<_> = self
            .clusters
            .iter()
            .map(|c| ClusterFacts { segments: c.segments.values().collect(), root: c.namespace(root) })
            .collect();
        let (layout, reports) = Layout::judge(&self.settings, &facts);
        self.reports.set(Owner::Layout, reports);
        let old = std::mem::replace(&mut self.layout, layout);
        let new = &self.layout;
        let all = old.segments != new.segments || old.zones != new.zones;
        let changed = (0..new.clusters.len()).filter(|ix| all || old.clusters.get(*ix) != new.clusters.get(*ix));
        dirty.clusters.extend(changed);
        if dirty.clusters.contains(&LOCAL) {
            // Also where no namespace is known: callers and rules name segments by their place in the layout.
            (dirty.callers, dirty.all_facts) = (true, true);
        }
        all
    }

    /// From clusters to namespaces, from namespaces to units and entries.
    fn spread(&mut self, dirty: &mut Dirty) {
        for cluster in std::mem::take(&mut dirty.clusters) {
            let all = self.clusters[cluster].namespaces.keys().map(|n| (cluster, n.clone()));
            dirty.namespaces.extend(all);
            if cluster == LOCAL {
                dirty.all_facts = true;
                dirty.entries.extend(self.clusters[LOCAL].entries.keys().cloned());
                self.given.services().for_each(|(namespace, name)| dirty.units.touch(namespace, name, None));
                self.given.hosts().for_each(|host| dirty.units.insert(&UnitKey::Host(host.clone())));
            }
        }
        for (cluster, name) in std::mem::take(&mut dirty.namespaces) {
            self.judge_namespace(cluster, &name);
            if let Some(state) = self.clusters[cluster].namespaces.get(&name) {
                for service in state.names() {
                    self.touch_unit(&name, service, None, dirty);
                }
            }
            if cluster == LOCAL {
                dirty.callers = true;
                dirty.facts.insert(name.clone());
                let theirs = self.by_parent.get(&name).into_iter().flat_map(|all| all.values());
                dirty.entries.extend(theirs.flat_map(|f| f.entries.iter().cloned()));
            }
        }
    }

    /// R3, and the other labels of one namespace.
    fn judge_namespace(&mut self, cluster: ClusterIx, name: &str) {
        let owner = Owner::Namespace(cluster, name.into());
        let Some(namespace) = self.clusters[cluster].namespace(name) else {
            return self.reports.set(owner, Vec::new());
        };
        let object = object_ref(&self.settings, cluster, Kind::Namespace, "", name);
        let mut reports = label::faults(label::Marks::of(namespace.labels.view()), || object.clone());
        let label = own_label(&self.settings, namespace);
        if let Some(label) = label.filter(|_| self.standing(cluster, name) == Standing::Invalid) {
            reports.push(label_report(&self.settings, object, label, cluster));
        }
        self.reports.set(owner, reports);
    }

    fn judge_entry(&mut self, place: &Place, dirty: &mut Dirty) {
        let old = self.entries.remove(place).unwrap_or_default();
        for claim in &old.claims {
            self.link(&claim.unit, |places| remove_place(places, place));
            dirty.units.insert(&claim.unit);
        }
        if let Some((namespace, name)) = &old.parent {
            let change = |family: &mut Family| remove_place(&mut family.entries, place);
            change_of(&mut self.by_parent, (namespace, name), change, Family::is_empty);
        }
        let Some(entry) = self.clusters[LOCAL].entries.get(place) else {
            return self.reports.set(Owner::Entry(place.clone()), Vec::new());
        };
        let parent: Option<Place> = parent_of(&self.settings, entry).map(|(ns, name)| (ns.into(), name.into()));
        let namespace = parent.as_ref().and_then(|(ns, _)| self.clusters[LOCAL].namespace(ns));
        let (claims, reports) = judge(&self.settings, &self.layout, entry, namespace);
        if let Some((namespace, name)) = &parent {
            let change = |family: &mut Family| add_place(&mut family.entries, place);
            change_of(&mut self.by_parent, (namespace, name), change, Family::is_empty);
        }
        for HostClaim { unit, .. } in &claims {
            self.link(unit, |places| add_place(places, place));
            dirty.units.insert(unit);
        }
        self.entries.insert(place.clone(), EntryState { claims, parent });
        self.reports.set(Owner::Entry(place.clone()), reports);
    }

    /// Changes which entries have a host that is compiled in a unit.
    fn link(&mut self, unit: &UnitKey, change: impl FnOnce(&mut Vec<Place>)) {
        match unit {
            UnitKey::Service { namespace, name } => {
                change_of(&mut self.by_service, (namespace, name), change, Vec::is_empty);
            }
            UnitKey::Host(host) => {
                let places = self.by_host.entry(host.clone()).or_default();
                change(places);
                if places.is_empty() {
                    self.by_host.remove(host);
                }
            }
        }
    }

    /// Whether the local cluster's Service has come, or has gone, where one `was` there before or not.
    fn presence(&self, unit: Unit<'_>, was: bool) -> Option<Presence> {
        let Unit::Service { namespace, name } = unit else { return None };
        let here = self.clusters[LOCAL].has_service(namespace, name);
        (here != was).then(|| Presence { namespace: namespace.into(), name: name.into(), here })
    }

    /// Compiles units, from the objects of one moment; many of them on several threads, while this one does what can be done
    /// `beside`.
    fn compile_all(&self, units: &[Work<'_>], beside: impl FnOnce()) -> Vec<Compiled> {
        let compile = |run: &[Work<'_>]| compile_all(self, run.iter().map(|(unit, _)| *unit));
        if units.len() < MANY {
            beside();
            return compile(units);
        }
        let runs: Vec<_> = units.chunks(RUN).map(|run| (run, OnceLock::new())).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((run, compiled)) = runs.get(next.fetch_add(1, Relaxed)) {
                compiled.get_or_init(|| compile(run));
            }
        };
        run_beside(runs.len(), work, beside);
        runs.into_iter().flat_map(|(_, compiled)| compiled.into_inner().unwrap_or_default()).collect()
    }

    /// Files what one unit compiles to; names that only it can have go straight into `records`, others into `contested`.
    fn recompile(
        &mut self,
        unit: Unit<'_>,
        compiled: Compiled,
        now: Now,
        contested: &mut BTreeSet<Name>,
        records: &mut Vec<(Name, Option<Body>)>,
    ) {
        self.reports.set_one(Many::Units, || Owner::Unit(unit.key()), compiled.reports);
        let old = self.given.get(unit);
        if !old.is_empty() || !compiled.records.is_empty() {
            self.given.put(unit, compiled.records.iter().map(|r| (&r.name, r.rank == Rank::Service)));
        }
        for (name, _) in old.iter().filter(|(n, _)| compiled.records.binary_search_by(|r| r.name.cmp(n)).is_err()) {
            self.grace.vanish(&unit.key(), name);
            self.rivals.take(name, unit);
            contested.insert(name.clone());
        }
        for mut record in compiled.records {
            if awaits(&record.body) {
                let key = unit.key();
                if !old.iter().any(|(name, _)| *name == record.name) {
                    self.grace.appear(&key, &record.name, now);
                }
                set_pending(&mut record.body, self.grace.lasts(&key, &record.name, now));
            }
            self.rivals.take(&record.name, unit);
            if record.rank != Rank::Service || self.rivals.claim(&record.name) {
                contested.insert(record.name.clone());
            }
            self.contend(unit, record, records);
        }
    }

    fn contend(&mut self, unit: Unit<'_>, record: Record, records: &mut Vec<(Name, Option<Body>)>) {
        if record.rank == Rank::Service {
            records.push((record.name, Some(record.body)));
        } else {
            let object = self.claimant(unit, &record.rank);
            self.rivals.put(&record.name, record.rank, Claim { unit: unit.key(), body: record.body, object });
        }
    }

    /// The object behind a claim that may be lost.
    fn claimant(&self, unit: Unit<'_>, rank: &Rank) -> ObjectRef {
        match unit {
            Unit::Service { namespace, name } => {
                let remote = matches!(rank, Rank::Alias(true, ..));
                let has = |ix: &ClusterIx| self.clusters[*ix].has_service(namespace, name);
                let cluster = (usize::from(remote)..self.clusters.len()).find(has).unwrap_or(LOCAL);
                object_ref(&self.settings, cluster, Kind::Service, namespace, name)
            }
            Unit::Host(_) => {
                let first = self.claims_of(unit).first().map(|(e, _)| (e.namespace.clone(), e.name.clone()));
                let (namespace, name) = first.unwrap_or_default();
                object_ref(&self.settings, LOCAL, Kind::ServiceEntry, &namespace, &name)
            }
        }
    }

    /// Decides who has a name that one unit has lost or several want.
    fn settle(&mut self, name: Name, records: &mut Vec<(Name, Option<Body>)>) {
        let service = self.service_has(&name);
        let reports = self.rivals.losers(&name, service);
        self.reports.set(Owner::Rivals(name.clone()), reports);
        if !service {
            let body = self.rivals.winner(&name).map(|claim| claim.body.clone());
            records.push((name, body));
        }
    }

    /// Whether a Service, or an endpoint of one, has this name: its unit can be read from the name.
    fn service_has(&self, name: &Name) -> bool {
        let zone = self.layout.zone_of(name).map(|z| &self.layout.zones[z].0);
        let svc = || name.as_str().strip_suffix(self.settings.cluster_domain.as_str())?.strip_suffix(".svc.");
        let Some(prefix) = zone.and_then(|z| name.prefix_of(z)).or_else(svc) else { return false };
        let mut labels = prefix.rsplit('.');
        let (Some(namespace), Some(service)) = (labels.next(), labels.next()) else { return false };
        let unit = Unit::Service { namespace, name: service };
        self.given.get(unit).iter().any(|(n, only)| n == name && *only)
    }
}

fn awaits(body: &Body) -> bool {
    matches!(body, Body::Mesh { own, cross, .. } if own.awaits || cross.or(own).is_some_and(|a| a.awaits))
}

/// R22: a name that awaits its first address is pending while its grace lasts.
fn set_pending(body: &mut Body, lasts: bool) {
    let set = |a: &mut Answers| a.pending = lasts && a.awaits;
    match body {
        Body::Mesh { own, cross, .. } => {
            set(own);
            if let Cross::Other(cross) = cross {
                set(cross);
            }
        }
        Body::Public(_) | Body::Cluster(_) => {}
    }
}
