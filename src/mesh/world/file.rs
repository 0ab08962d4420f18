//! Filing a batch of changes, and noting what they touch.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use super::dirty::Dirty;
use super::reports::{Many, Owner};
use super::threads::{share, threads};
use super::{Family, World, add_place, change_of, remove_place};
use crate::mesh::cluster::{Cluster, Filed, NamespaceState};
use crate::mesh::label;
use crate::mesh::object::{Change, ClusterIx, Fault, Key, Kind, LOCAL, Object, WorkloadEntry};
use crate::mesh::report::{ObjectRef, Report, ReportKind};
use crate::mesh::segment::{key_ref, object_ref};

/// From so many changes on, it is worth to take all namespaces apart and put them together again.
const APART: usize = 5_000;

/// The namespaces that one thread files objects of.
struct Part {
    ix: u64,
    /// Only these namespaces of every cluster.
    clusters: Vec<Cluster>,
    dirty: Dirty,
}

impl Part {
    fn new(ix: u64, clusters: usize) -> Self {
        Self { ix, clusters: vec![Cluster::default(); clusters], dirty: Dirty::default() }
    }
}

impl World {
    pub(super) fn file_all(&mut self, mut changes: Vec<Change>) -> Dirty {
        let mut dirty = Dirty::default();
        // Where nothing goes and nothing is wrong, those of one namespace may be filed before those of another.
        let plain = |change: &Change| match change {
            Change::Apply { faults, .. } => faults.is_empty(),
            Change::Synced { .. } | Change::Source { .. } | Change::Told { .. } => true,
            Change::Delete { .. } | Change::Joined { .. } | Change::Left { .. } => false,
        };
        if changes.len() >= APART && !self.reports.any(Many::Faults) && changes.iter().all(plain) {
            self.file_apart(&mut changes, &mut dirty);
        }
        for change in changes {
            self.file(change, &mut dirty);
        }
        dirty
    }

    /// Files the Services and slices of a large batch on several threads, each of some namespaces, and takes them out of it.
    fn file_apart(&mut self, changes: &mut Vec<Change>, dirty: &mut Dirty) {
        let threads = threads();
        let hasher = RandomState::default();
        let part_of = |namespace: &str| hasher.hash_one(namespace) % threads as u64;
        let mut parts: Vec<Part> = (0..threads as u64).map(|ix| Part::new(ix, self.clusters.len())).collect();
        for (ix, cluster) in self.clusters.iter_mut().enumerate() {
            for (name, state) in cluster.namespaces.drain() {
                let at = usize::try_from(part_of(&name)).unwrap_or(0);
                parts[at].clusters[ix].namespaces.insert(name, state);
            }
        }
        let file = |part: &mut Part| {
            for change in &*changes {
                let Change::Apply { cluster, object, .. } = change else { continue };
                let namespace = match object {
                    Object::Service(o) => &o.namespace,
                    Object::EndpointSlice(o) => &o.namespace,
                    _ => continue,
                };
                if part_of(namespace) == part.ix {
                    self.file_short(&mut part.clusters, *cluster, object, &mut part.dirty);
                }
            }
            part.clusters.iter_mut().flat_map(|cluster| cluster.namespaces.values_mut()).for_each(NamespaceState::trim);
        };
        share(&mut parts, file);
        for part in parts {
            for (cluster, theirs) in self.clusters.iter_mut().zip(part.clusters) {
                cluster.namespaces.extend(theirs.namespaces);
            }
            dirty.units.append(part.dirty.units);
            dirty.facts.extend(part.dirty.facts);
        }
        let other = |change: &Change| {
            !matches!(change, Change::Apply { object: Object::Service(_) | Object::EndpointSlice(_), .. })
        };
        let mut halves = [changes.split_off(changes.len() / 2), std::mem::take(changes)];
        share(&mut halves, |half| half.retain(other));
        let [second, first] = halves;
        changes.extend(first.into_iter().chain(second));
    }

    fn file(&mut self, change: Change, dirty: &mut Dirty) {
        match change {
            Change::Apply { cluster, object, faults } => {
                let reports =
                    if faults.is_empty() { Vec::new() } else { self.fault_reports(cluster, &object.key(), faults) };
                self.reports.set_one(Many::Faults, || Owner::Fault(cluster, object.key()), reports);
                let mut clusters = std::mem::take(&mut self.clusters);
                let filed = self.file_short(&mut clusters, cluster, &object, dirty);
                self.clusters = clusters;
                if !filed && !self.clusters[cluster].holds(&object) {
                    self.replace(cluster, &object.key(), Some(object), dirty);
                }
            }
            Change::Delete { cluster, key } => {
                self.replace(cluster, &key, None, dirty);
                self.reports.set_one(Many::Faults, || Owner::Fault(cluster, key), Vec::new());
            }
            Change::Source { cluster, place, faults } => {
                let object = object_ref(&self.settings, cluster, Kind::Source, "", &place);
                let reports = faults.into_iter().map(|f| fault_report(ReportKind::SourceFault, object.clone(), f));
                let reports = reports.collect();
                self.reports.set(Owner::Source(cluster, place), reports);
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
        let old = std::mem::replace(&mut self.clusters[cluster], Cluster::vacant());
        for (namespace, state) in &old.namespaces {
            for service in state.names() {
                self.touch_unit(namespace, service, None, dirty);
            }
        }
        self.reports.forget(cluster);
        dirty.layout = true;
    }

    /// Files a Service or a slice in `clusters`, which nearly all objects are, and notes what that decides; false for any
    /// other object.
    fn file_short(&self, clusters: &mut [Cluster], cluster: ClusterIx, object: &Object, dirty: &mut Dirty) -> bool {
        match object {
            Object::Service(o) => {
                let filed = clusters[cluster].file_service(o);
                if filed != Filed::Same {
                    let was = (cluster == LOCAL).then_some(filed == Filed::Replaced);
                    self.touch_service(cluster, &o.namespace, &o.name, was, dirty);
                }
            }
            Object::EndpointSlice(o) => {
                let (filed, left) = clusters[cluster].file_slice(o);
                left.into_iter().for_each(|service| self.touch_unit(&o.namespace, &service, None, dirty));
                if filed != Filed::Same {
                    self.touch_unit(&o.namespace, &o.service, None, dirty);
                }
            }
            _ => return false,
        }
        true
    }

    /// Files an object, or takes one out, and notes what it and the one before it decide. It is moved, never copied: copies
    /// of all objects of a first state would leave holes in the memory for as long as the process lives.
    fn replace(&mut self, cluster: ClusterIx, key: &Key, new: Option<Object>, dirty: &mut Dirty) {
        let had = self.clusters[cluster].has_namespaces();
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
                let was = (cluster == LOCAL).then_some(!comes);
                self.touch_service(cluster, &o.namespace, &o.name, was, dirty);
            }
            Object::EndpointSlice(o) => self.touch_unit(&o.namespace, &o.service, None, dirty),
            Object::Pod(_) => dirty.callers |= cluster == LOCAL,
            Object::Segment(_) => dirty.layout = true,
            Object::ServiceEntry(o) if cluster == LOCAL => {
                dirty.entries.insert((o.namespace.clone(), o.name.clone()));
            }
            Object::WorkloadEntry(o) if cluster == LOCAL => self.touch_workload(o, comes, dirty),
            Object::ServiceEntry(_) | Object::WorkloadEntry(_) => {}
        }
    }

    /// A Service has come, changed or gone; `was` says of the local cluster's whether it was there before.
    fn touch_service(&self, cluster: ClusterIx, namespace: &str, name: &str, was: Option<bool>, dirty: &mut Dirty) {
        self.touch_unit(namespace, name, was, dirty);
        if cluster == LOCAL && self.is_shadow(name) {
            dirty.facts.insert(namespace.into());
        }
    }

    /// A Service name, and the hosts of entries that take their scope from it (R7).
    pub(super) fn touch_unit(&self, namespace: &str, name: &str, was: Option<bool>, dirty: &mut Dirty) {
        dirty.units.touch(namespace, name, was);
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
        let change = |family: &mut Family| {
            if counts && comes {
                add_place(&mut family.workloads, &place);
            } else {
                remove_place(&mut family.workloads, &place);
            }
        };
        change_of(&mut self.by_parent, (namespace, name), change, Family::is_empty);
        self.touch_unit(namespace, name, None, dirty);
    }

    /// Names of Services that a search-path form could mean: the last labels of the mesh zones (R21).
    pub(super) fn shadows(&self) -> impl Iterator<Item = &str> {
        self.layout.zones.iter().filter_map(|(zone, _)| zone.as_str().rsplit('.').next())
    }

    fn is_shadow(&self, service: &str) -> bool {
        let ends = |zone: &str| zone.strip_suffix(service).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.layout.zones.iter().any(|(zone, _)| ends(zone.as_str())) && !service.contains('.')
    }

    fn fault_reports(&self, cluster: ClusterIx, key: &Key, faults: Vec<Fault>) -> Vec<Report> {
        let object = key_ref(&self.settings, cluster, key);
        faults.into_iter().map(|f| fault_report(ReportKind::ObjectFault, object.clone(), f)).collect()
    }
}

fn fault_report(kind: ReportKind, object: ObjectRef, fault: Fault) -> Report {
    Report { kind, rule: "section 5", object, text: fault.text, remedy: fault.remedy }
}
