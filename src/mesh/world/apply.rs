//! Applying a batch: file the objects, then work off what they touched.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::dirty::{Dirty, Touched};
use super::{Delta, EntryState, NamespaceFacts, Namespaces, Now, Owner, Presence, World, add_place, remove_place};
use crate::mesh::address::Answers;
use crate::mesh::caller::callers;
use crate::mesh::cluster::{Cluster, Place};
use crate::mesh::entry::{HostClaim, UnitKey, judge, parent_of};
use crate::mesh::label;
use crate::mesh::name::Name;
use crate::mesh::object::{Change, ClusterIx, Fault, Key, Kind, LOCAL, Object, WorkloadEntry};
use crate::mesh::publish::{Body, Compiled, Rank, Record, compile};
use crate::mesh::report::{ObjectRef, Report, ReportKind};
use crate::mesh::rival::Claim;
use crate::mesh::segment::{ClusterFacts, Layout, Standing, key_ref, label_report, object_ref, own_label};

/// So many units are compiled in one piece at most: of each name there is much more before it is in the table than then.
const PIECE: usize = 4_000;

/// From so many units on, two threads are worth their start.
const MANY: usize = 1_000;

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

    /// Lets graces end (R22).
    pub fn tick(&mut self, now: Now) -> Delta {
        let mut dirty = Dirty::default();
        self.grace.end(now).iter().for_each(|unit| dirty.units.insert(unit));
        self.work_off(dirty, now, None)
    }

    fn file_all(&mut self, changes: Vec<Change>) -> Dirty {
        let mut dirty = Dirty::default();
        for change in changes {
            self.file(change, &mut dirty);
        }
        dirty
    }

    fn file(&mut self, change: Change, dirty: &mut Dirty) {
        match change {
            Change::Apply { cluster, object, faults } => {
                let key = object.key();
                let faults = self.fault_reports(cluster, &key, faults);
                if !self.clusters[cluster].holds(&object) {
                    self.replace(cluster, &key, Some(object), dirty);
                }
                self.report(Owner::Fault(cluster, key), faults);
            }
            Change::Delete { cluster, key } => {
                self.replace(cluster, &key, None, dirty);
                self.report(Owner::Fault(cluster, key), Vec::new());
            }
            Change::Source { cluster, place, faults } => {
                let object = object_ref(&self.settings, cluster, Kind::Source, "", &place);
                let reports = faults.into_iter().map(|f| fault_report(ReportKind::SourceFault, object.clone(), f));
                let reports = reports.collect();
                self.report(Owner::Source(cluster, place), reports);
            }
            Change::Joined { cluster, name } => self.join(cluster, name, dirty),
            Change::Left { cluster } => self.leave(cluster, dirty),
            Change::Told { all } => self.told = all,
            Change::Synced { cluster } => {
                if !std::mem::replace(&mut self.clusters[cluster].synced, true) {
                    // The local cluster's objects count before; what they are answered with does not hang on it.
                    dirty.clusters.extend((cluster != LOCAL).then_some(cluster));
                    dirty.callers = true;
                }
            }
        }
    }

    fn join(&mut self, cluster: ClusterIx, name: Box<str>, dirty: &mut Dirty) {
        if cluster < self.clusters.len() {
            self.leave(cluster, dirty);
            self.clusters[cluster] = Cluster::default();
            self.settings.clusters[cluster] = name;
        } else {
            self.clusters.push(Cluster::default());
            self.settings.clusters.push(name);
        }
        dirty.layout = true;
    }

    fn leave(&mut self, cluster: ClusterIx, dirty: &mut Dirty) {
        let nothing = Cluster { vacant: true, ..Cluster::default() };
        let old = std::mem::replace(&mut self.clusters[cluster], nothing);
        for (namespace, state) in &old.namespaces {
            for service in state.names() {
                self.touch_unit(namespace, service, dirty);
            }
        }
        let count = self.reports.len();
        self.reports.retain(|owner, _| owner.cluster() != Some(cluster));
        self.revision += u64::from(self.reports.len() != count);
        dirty.layout = true;
    }

    /// Files an object, or takes one out, and notes what it and the one before it decide. It is moved, never copied: copies
    /// of all objects of a first state would leave holes in the memory for as long as the process lives.
    fn replace(&mut self, cluster: ClusterIx, key: &Key, new: Option<Object>, dirty: &mut Dirty) {
        let had = self.clusters[cluster].has_namespaces();
        if (cluster, key.kind) == (LOCAL, Kind::Service) {
            let was = self.clusters[LOCAL].has_service(&key.namespace, &key.name);
            dirty.units.touch(&key.namespace, &key.name, Some(was));
        }
        if let Some(old) = self.clusters[cluster].take(key) {
            self.touch(cluster, &old, false, dirty);
        }
        if let Some(new) = new {
            self.touch(cluster, &new, true, dirty);
            self.clusters[cluster].put(cluster, new);
        }
        if had != self.clusters[cluster].has_namespaces() {
            dirty.clusters.insert(cluster);
        }
    }

    /// Notes what an object decides, one that comes or one that was there.
    fn touch(&mut self, cluster: ClusterIx, object: &Object, comes: bool, dirty: &mut Dirty) {
        match object {
            Object::Namespace(o) => {
                dirty.layout |= o.name == self.settings.root_namespace;
                dirty.namespaces.insert((cluster, o.name.clone()));
            }
            Object::Service(o) => {
                self.touch_unit(&o.namespace, &o.name, dirty);
                dirty.facts |= cluster == LOCAL && self.shadows().any(|s| *s == *o.name);
            }
            Object::EndpointSlice(o) => self.touch_unit(&o.namespace, &o.service, dirty),
            Object::Pod(_) => dirty.callers |= cluster == LOCAL,
            Object::Segment(_) => dirty.layout = true,
            Object::ServiceEntry(o) if cluster == LOCAL => {
                dirty.entries.insert((o.namespace.clone(), o.name.clone()));
            }
            Object::WorkloadEntry(o) if cluster == LOCAL => self.touch_workload(o, comes, dirty),
            Object::ServiceEntry(_) | Object::WorkloadEntry(_) => {}
        }
    }

    /// A Service name, and the hosts of entries that take their scope from it (R7).
    fn touch_unit(&self, namespace: &str, name: &str, dirty: &mut Dirty) {
        dirty.units.touch(namespace, name, None);
        let entries = self.family(namespace, name).into_iter().flat_map(|f| &f.entries);
        for claim in entries.filter_map(|p| self.entries.get(p)).flat_map(|state| &state.claims) {
            dirty.units.insert(&claim.unit);
        }
    }

    fn touch_workload(&mut self, object: &WorkloadEntry, comes: bool, dirty: &mut Dirty) {
        let labels = &object.labels;
        let (Some(namespace), Some(name)) = (labels.get(label::PARENT_NAMESPACE), labels.get(label::PARENT_SERVICE))
        else {
            return;
        };
        let place = (object.namespace.clone(), object.name.clone());
        let counts = object.namespace == self.settings.root_namespace;
        self.with_family(namespace, name, |family| {
            if counts && comes {
                add_place(&mut family.workloads, &place);
            } else {
                remove_place(&mut family.workloads, &place);
            }
        });
        self.touch_unit(namespace, name, dirty);
    }

    /// Names of Services that a search-path form could mean: the last labels of the mesh zones (R21).
    fn shadows(&self) -> impl Iterator<Item = &str> {
        self.layout.zones.iter().filter_map(|(zone, _)| zone.as_str().rsplit('.').next())
    }

    fn work_off(&mut self, mut dirty: Dirty, now: Now, mut pieces: Option<Pieces<'_>>) -> Delta {
        let mut delta = Delta { relayout: dirty.layout && self.relayout(&mut dirty), ..Delta::default() };
        self.spread(&mut dirty);
        for place in std::mem::take(&mut dirty.entries) {
            self.judge_entry(&place, &mut dirty);
        }
        let mut names = BTreeSet::new();
        let (services, hosts) = std::mem::take(&mut dirty.units).into_sorted();
        let services = services.into_iter().flat_map(|(namespace, all)| {
            let unit = move |t: Touched| (UnitKey::Service { namespace: namespace.clone(), name: t.name }, t.was);
            all.into_iter().map(unit)
        });
        let mut units = services.chain(hosts.into_iter().map(|host| (UnitKey::Host(host), None)));
        loop {
            let piece: Vec<(UnitKey, Option<bool>)> = units.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                break;
            }
            if let Some(pieces) = pieces.as_mut().filter(|_| !delta.records.is_empty() || !delta.services.is_empty()) {
                pieces(self, std::mem::take(&mut delta));
            }
            for ((unit, was), compiled) in piece.iter().zip(self.compile_all(&piece)) {
                delta.services.extend(was.and_then(|was| self.presence(unit, was)));
                self.recompile(unit, compiled, now, &mut names, &mut delta.records);
            }
        }
        for name in names {
            self.settle(name, &mut delta.records);
        }
        if dirty.facts {
            delta.namespaces = Some(Arc::new(self.namespaces()));
        }
        if dirty.callers {
            let (callers, reports) = callers(self);
            self.report(Owner::Callers, reports);
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
        self.report(Owner::Layout, reports);
        let old = std::mem::replace(&mut self.layout, layout);
        let new = &self.layout;
        let all = old.segments != new.segments || old.zones != new.zones;
        let changed = (0..new.clusters.len()).filter(|ix| all || old.clusters.get(*ix) != new.clusters.get(*ix));
        dirty.clusters.extend(changed);
        if dirty.clusters.contains(&LOCAL) {
            // Also where no namespace is known: callers and rules name segments by their place in the layout.
            (dirty.callers, dirty.facts) = (true, true);
        }
        all
    }

    /// From clusters to namespaces, from namespaces to units and entries.
    fn spread(&mut self, dirty: &mut Dirty) {
        for cluster in std::mem::take(&mut dirty.clusters) {
            let all = self.clusters[cluster].namespaces.keys().map(|n| (cluster, n.clone()));
            dirty.namespaces.extend(all);
            if cluster == LOCAL {
                dirty.entries.extend(self.clusters[LOCAL].entries.keys().cloned());
                self.given.services().for_each(|(namespace, name)| dirty.units.touch(namespace, name, None));
                self.given.hosts().for_each(|host| dirty.units.insert(&UnitKey::Host(host.clone())));
            }
        }
        for (cluster, name) in std::mem::take(&mut dirty.namespaces) {
            self.judge_namespace(cluster, &name);
            if let Some(state) = self.clusters[cluster].namespaces.get(&name) {
                for service in state.names() {
                    self.touch_unit(&name, service, dirty);
                }
            }
            if cluster == LOCAL {
                dirty.callers = true;
                dirty.facts = true;
                let theirs = self.by_parent.get(&name).into_iter().flat_map(|all| all.values());
                dirty.entries.extend(theirs.flat_map(|f| f.entries.iter().cloned()));
            }
        }
    }

    /// R3, and the other labels of one namespace.
    fn judge_namespace(&mut self, cluster: ClusterIx, name: &str) {
        let owner = Owner::Namespace(cluster, name.into());
        let Some(namespace) = self.clusters[cluster].namespace(name) else { return self.report(owner, Vec::new()) };
        let object = object_ref(&self.settings, cluster, Kind::Namespace, "", name);
        let mut reports = label::faults(&namespace.labels, || object.clone());
        let label = own_label(&self.settings, namespace);
        if let Some(label) = label.filter(|_| self.standing(cluster, name) == Standing::Invalid) {
            reports.push(label_report(&self.settings, object, label, cluster));
        }
        self.report(owner, reports);
    }

    fn judge_entry(&mut self, place: &Place, dirty: &mut Dirty) {
        let old = self.entries.remove(place).unwrap_or_default();
        for claim in &old.claims {
            self.unlink(&claim.unit, place);
            dirty.units.insert(&claim.unit);
        }
        if let Some((namespace, name)) = &old.parent {
            self.with_family(namespace, name, |f| remove_place(&mut f.entries, place));
        }
        let Some(entry) = self.clusters[LOCAL].entries.get(place) else {
            return self.report(Owner::Entry(place.clone()), Vec::new());
        };
        let parent: Option<Place> = parent_of(&self.settings, entry).map(|(ns, name)| (ns.into(), name.into()));
        let namespace = parent.as_ref().and_then(|(ns, _)| self.clusters[LOCAL].namespace(ns));
        let (claims, reports) = judge(&self.settings, &self.layout, entry, namespace);
        if let Some((namespace, name)) = &parent {
            self.with_family(namespace, name, |f| add_place(&mut f.entries, place));
        }
        for HostClaim { unit, .. } in &claims {
            add_place(self.by_unit.entry(unit.clone()).or_default(), place);
            dirty.units.insert(unit);
        }
        self.entries.insert(place.clone(), EntryState { claims, parent });
        self.report(Owner::Entry(place.clone()), reports);
    }

    fn unlink(&mut self, unit: &UnitKey, place: &Place) {
        if let Some(places) = self.by_unit.get_mut(unit) {
            remove_place(places, place);
            if places.is_empty() {
                self.by_unit.remove(unit);
            }
        }
    }

    /// Whether the local cluster's Service has come, or has gone, where one `was` there before or not.
    fn presence(&self, unit: &UnitKey, was: bool) -> Option<Presence> {
        let UnitKey::Service { namespace, name } = unit else { return None };
        let here = self.clusters[LOCAL].has_service(namespace, name);
        (here != was).then(|| Presence { namespace: namespace.clone(), name: name.clone(), here })
    }

    /// Compiles units, from the objects of one moment; many of them on two threads.
    fn compile_all(&self, units: &[(UnitKey, Option<bool>)]) -> Vec<Compiled> {
        let all = |units: &[(UnitKey, Option<bool>)]| units.iter().map(|(unit, _)| compile(self, unit)).collect();
        if units.len() < MANY {
            return all(units);
        }
        let (one, two) = units.split_at(units.len() / 2);
        std::thread::scope(|scope| {
            let other = std::thread::Builder::new().name("compile".into()).spawn_scoped(scope, || all(two));
            let mut compiled: Vec<Compiled> = all(one);
            // Where the system grants no thread, or that one panics, the work is done here.
            compiled.extend(other.ok().and_then(|other| other.join().ok()).unwrap_or_else(|| all(two)));
            compiled
        })
    }

    /// Files what one unit compiles to; names that only it can have go straight into `records`, others into `contested`.
    fn recompile(
        &mut self,
        unit: &UnitKey,
        compiled: Compiled,
        now: Now,
        contested: &mut BTreeSet<Name>,
        records: &mut Vec<(Name, Option<Body>)>,
    ) {
        if !compiled.reports.is_empty() || !self.reports.is_empty() {
            self.report(Owner::Unit(unit.clone()), compiled.reports);
        }
        let old = self.given.get(unit);
        if !old.is_empty() || !compiled.records.is_empty() {
            self.given.put(unit, compiled.records.iter().map(|r| (&r.name, r.rank == Rank::Service)));
        }
        for (name, _) in old.iter().filter(|(n, _)| compiled.records.binary_search_by(|r| r.name.cmp(n)).is_err()) {
            self.grace.vanish(unit, name);
            self.rivals.take(name, unit);
            contested.insert(name.clone());
        }
        for mut record in compiled.records {
            if awaits(&record.body) && !old.iter().any(|(name, _)| *name == record.name) {
                self.grace.appear(unit, &record.name, now);
            }
            set_pending(&mut record.body, self.grace.lasts(unit, &record.name, now));
            self.rivals.take(&record.name, unit);
            if record.rank != Rank::Service || self.rivals.claim(&record.name) {
                contested.insert(record.name.clone());
            }
            self.contend(unit, record, records);
        }
    }

    fn contend(&mut self, unit: &UnitKey, record: Record, records: &mut Vec<(Name, Option<Body>)>) {
        if record.rank == Rank::Service {
            records.push((record.name, Some(record.body)));
        } else {
            let object = self.claimant(unit, &record.rank);
            self.rivals.put(&record.name, record.rank, Claim { unit: unit.clone(), body: record.body, object });
        }
    }

    /// The object behind a claim that may be lost.
    fn claimant(&self, unit: &UnitKey, rank: &Rank) -> ObjectRef {
        match unit {
            UnitKey::Service { namespace, name } => {
                let remote = matches!(rank, Rank::Alias(true, ..));
                let has = |ix: &ClusterIx| self.clusters[*ix].has_service(namespace, name);
                let cluster = (usize::from(remote)..self.clusters.len()).find(has).unwrap_or(LOCAL);
                object_ref(&self.settings, cluster, Kind::Service, namespace, name)
            }
            UnitKey::Host(_) => {
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
        self.report(Owner::Rivals(name.clone()), reports);
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
        let unit = UnitKey::service(namespace, service);
        self.given.get(&unit).iter().any(|(n, only)| n == name && *only)
    }

    /// What is known of the local cluster's namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        let known = self.clusters[LOCAL].namespaces.iter().filter(|(_, state)| state.object.is_some());
        let candidates: BTreeSet<&str> = self.shadows().collect();
        let known = known
            .map(|(name, state)| {
                let has = |s: &&str| state.has_service(s);
                let facts = NamespaceFacts {
                    standing: self.standing(LOCAL, name),
                    shadows: candidates.iter().copied().filter(has).map(Into::into).collect(),
                };
                (name.clone(), facts)
            })
            .collect();
        // Of a namespace that nobody has told, as of any that is missing: its cluster's segment where there are no objects.
        let others = if self.clusters[LOCAL].has_namespaces() {
            Standing::Missing
        } else {
            self.layout.clusters[LOCAL].standing
        };
        Namespaces { known, others }
    }

    fn fault_reports(&self, cluster: ClusterIx, key: &Key, faults: Vec<Fault>) -> Vec<Report> {
        let object = key_ref(&self.settings, cluster, key);
        faults.into_iter().map(|f| fault_report(ReportKind::ObjectFault, object.clone(), f)).collect()
    }

    fn report(&mut self, owner: Owner, reports: Vec<Report>) {
        if self.reports.get(&owner).map_or(&[][..], Vec::as_slice) == reports.as_slice() {
            return;
        }
        self.revision += 1;
        if reports.is_empty() {
            self.reports.remove(&owner);
        } else {
            self.reports.insert(owner, reports);
        }
    }
}

fn fault_report(kind: ReportKind, object: ObjectRef, fault: Fault) -> Report {
    Report { kind, rule: "section 5", object, text: fault.text, remedy: fault.remedy }
}

fn awaits(body: &Body) -> bool {
    matches!(body, Body::Mesh { own, cross, .. } if own.iter().chain(cross).any(|a| a.awaits))
}

/// R22: a name that awaits its first address is pending while its grace lasts.
fn set_pending(body: &mut Body, lasts: bool) {
    let set = |a: &mut Answers| a.pending = lasts && a.awaits;
    match body {
        Body::Mesh { own, cross, .. } => own.iter_mut().chain(cross).for_each(set),
        Body::Public(_) | Body::Cluster(_) => {}
    }
}
