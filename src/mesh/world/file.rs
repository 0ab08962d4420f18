//! Filing a batch of changes, and noting what they touch.

use super::dirty::Dirty;
use super::reports::{Many, Owner};
use super::{Family, World, add_place, change_of, remove_place};
use crate::mesh::cluster::{Cluster, Filed};
use crate::mesh::label;
use crate::mesh::object::{Change, ClusterIx, EndpointSlice, Fault, Key, Kind, LOCAL, Object, Service, WorkloadEntry};
use crate::mesh::report::{ObjectRef, Report, ReportKind};
use crate::mesh::segment::{key_ref, object_ref};

impl World {
    pub(super) fn file_all(&mut self, changes: Vec<Change>) -> Dirty {
        let mut dirty = Dirty::default();
        for change in changes {
            self.file(change, &mut dirty);
        }
        dirty
    }

    fn file(&mut self, change: Change, dirty: &mut Dirty) {
        match change {
            Change::Apply { cluster, object, faults } => {
                let reports =
                    if faults.is_empty() { Vec::new() } else { self.fault_reports(cluster, &object.key(), faults) };
                self.reports.set_one(Many::Faults, || Owner::Fault(cluster, object.key()), reports);
                match object {
                    Object::Service(o) => self.file_service(cluster, &o, dirty),
                    Object::EndpointSlice(o) => self.file_slice(cluster, &o, dirty),
                    object if self.clusters[cluster].holds(&object) => {}
                    object => self.replace(cluster, &object.key(), Some(object), dirty),
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

    /// Files a Service: nearly all objects are Services or slices, so these two take the short way.
    fn file_service(&mut self, cluster: ClusterIx, o: &Service, dirty: &mut Dirty) {
        let filed = self.clusters[cluster].file_service(o);
        if filed == Filed::Same {
            return;
        }
        let was = (cluster == LOCAL).then_some(filed == Filed::Replaced);
        self.touch_service(cluster, &o.namespace, &o.name, was, dirty);
    }

    /// Files a slice, and touches the Service that it was of before, if that is another.
    fn file_slice(&mut self, cluster: ClusterIx, o: &EndpointSlice, dirty: &mut Dirty) {
        if self.clusters[cluster].other_service(o).is_some() {
            let (namespace, name) = (o.namespace.clone(), o.name.clone());
            self.replace(cluster, &Key { kind: Kind::EndpointSlice, namespace, name }, None, dirty);
        }
        if self.clusters[cluster].file_slice(o) != Filed::Same {
            self.touch_unit(&o.namespace, &o.service, None, dirty);
        }
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
        dirty.facts |= cluster == LOCAL && self.is_shadow(name);
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
