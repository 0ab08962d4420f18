//! One cluster's objects, filed so that everything about one Service is found in one step.

mod packed;
pub mod view;

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::object::{ClusterIx, EndpointSlice, Key, Kind, LOCAL, LabelsView, Namespace, Object, Pod, Segment, Service};
use super::object::{ServiceEntry, WorkloadEntry};
use super::pack::Room;
use super::pack::records::Records;
use packed::{Packed, pack_service, pack_slice};
use view::{ServiceView, Slices};

/// A namespace's object and what is in it.
#[derive(Clone, Debug, Default)]
pub struct NamespaceState {
    /// Its object, if it is known.
    pub object: Option<Namespace>,
    /// What is known of each Service name, [`Packed`].
    units: Records,
    /// Which Service an EndpointSlice was filed under, for those that are not called after it: see [`likely_service`].
    odd_slices: HashMap<Box<str>, Box<str>>,
}

/// A Service and its EndpointSlices; either may come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// The Service, if it is known.
    pub service: Option<Service>,
    /// Its slices, by name.
    pub slices: Vec<EndpointSlice>,
}

/// What filing an object has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filed {
    /// Nothing: this very object was there.
    Same,
    /// There was none in its place.
    New,
    /// There was another in its place.
    Replaced,
}

impl NamespaceState {
    /// The names of which a Service or a slice is known.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.units().map(Packed::name)
    }

    /// The names of the Services.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.units().filter(|unit| unit.has_service()).map(Packed::name)
    }

    /// Whether there is a Service of this name.
    #[must_use]
    pub fn has_service(&self, name: &str) -> bool {
        self.unit(name).is_some_and(Packed::has_service)
    }

    /// What is known of one Service name.
    fn unit(&self, name: &str) -> Option<Packed<'_>> {
        self.units.get(name.as_bytes()).map(Packed::of_octets)
    }

    fn units(&self) -> impl Iterator<Item = Packed<'_>> {
        self.units.iter().map(Packed::of_octets)
    }

    /// Gives back room for more Services and slices; see [`Records::trim`].
    pub fn trim(&mut self) {
        self.units.trim();
    }

    /// Under which Service the slice of this name is filed.
    fn service_of_slice(&self, name: &str) -> Option<Packed<'_>> {
        let odd: Option<&str> = self.odd_slices.get(name).map(AsRef::as_ref);
        let service = odd.unwrap_or_else(|| likely_service(name));
        self.unit(service).filter(|unit| unit.slice_part(name).is_some())
    }

    /// Puts what has become of a unit in its place; what has become empty is forgotten, so that churn does not grow the sets.
    fn file(&mut self, unit: Packed<'_>) {
        if unit.is_empty() {
            self.units.remove(unit.name().as_bytes());
        } else {
            self.units.put(unit.octets());
        }
    }
}

/// The Service that a slice of this name is likely to be of: the controller adds a hyphen and a few letters. So there is no
/// need to remember it for each.
fn likely_service(slice: &str) -> &str {
    slice.rsplit_once('-').map_or(slice, |(service, _)| service)
}

/// The Services of a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Services<'c> {
    namespace: &'c str,
    state: &'c NamespaceState,
}

impl<'c> Services<'c> {
    /// One of them and what is behind it, if by its labels it `may` be of interest.
    #[must_use]
    pub fn get_if(
        &self,
        name: &str,
        may: impl FnOnce(LabelsView<'c>) -> bool,
    ) -> Option<(ServiceView<'c>, Slices<'c>)> {
        let unit = self.state.unit(name)?;
        may(unit.labels()?).then(|| Some((unit.service(self.namespace)?, unit.behind())))?
    }
}

/// Namespace and name of an object.
pub type Place = (Box<str>, Box<str>);

/// One cluster's objects. Pods, ServiceEntries and WorkloadEntries are kept of the local cluster only: those of peers
/// decide nothing (R6, R15).
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Namespaces by name.
    pub namespaces: HashMap<Box<str>, NamespaceState, RandomState>,
    /// Segments by namespace and name.
    pub segments: BTreeMap<Place, Segment>,
    /// Pods by namespace and name.
    pub pods: HashMap<Place, Pod>,
    /// ServiceEntries by namespace and name.
    pub entries: HashMap<Place, ServiceEntry>,
    /// WorkloadEntries by namespace and name.
    pub workloads: HashMap<Place, WorkloadEntry>,
    /// Its first complete state has been given.
    pub synced: bool,
    /// No cluster has this index now.
    pub vacant: bool,
    /// Room to pack an object in.
    room: Room,
    /// Room to put it together with what is known of its unit.
    joined: Room,
}

impl Cluster {
    /// None has this index.
    #[must_use]
    pub fn vacant() -> Self {
        Self { vacant: true, ..Self::default() }
    }

    /// A namespace's object.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)?.object.as_ref()
    }

    /// Whether any Namespace object is known; manifests may do without.
    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        self.namespaces.values().any(|n| n.object.is_some())
    }

    /// What is known of one Service name.
    #[must_use]
    pub fn unit(&self, namespace: &str, name: &str) -> Option<Unit> {
        Some(self.namespaces.get(namespace)?.unit(name)?.unpack(namespace))
    }

    /// One Service.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<Service> {
        self.service_view(namespace, name).map(ServiceView::to_owned)
    }

    /// One Service, where it lies.
    #[must_use]
    pub fn service_view(&self, namespace: &str, name: &str) -> Option<ServiceView<'_>> {
        let (namespace, state) = self.namespaces.get_key_value(namespace)?;
        state.unit(name)?.service(namespace)
    }

    /// The Services of a namespace, and its object if it is known.
    #[must_use]
    pub fn services_of(&self, namespace: &str) -> Option<(Services<'_>, Option<&Namespace>)> {
        let (namespace, state) = self.namespaces.get_key_value(namespace)?;
        Some((Services { namespace, state }, state.object.as_ref()))
    }

    /// Whether there is a Service of this name.
    #[must_use]
    pub fn has_service(&self, namespace: &str, name: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|state| state.has_service(name))
    }

    /// Every object that is kept, Namespaces and Segments before what they decide.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let namespaces = self.namespaces.values().filter_map(|n| n.object.as_ref());
        let units = self.namespaces.iter().flat_map(|(name, state)| {
            state.units().flat_map(move |unit| {
                let service = unit.service(name).map(ServiceView::to_owned).map(Object::Service);
                service.into_iter().chain(unit.slices(name).map(Object::EndpointSlice))
            })
        });
        (namespaces.cloned().map(Object::Namespace))
            .chain(self.segments.values().cloned().map(Object::Segment))
            .chain(units)
            .chain(self.pods.values().cloned().map(Object::Pod))
            .chain(self.entries.values().cloned().map(Object::ServiceEntry))
            .chain(self.workloads.values().cloned().map(Object::WorkloadEntry))
    }

    /// Whether this very object is kept.
    #[must_use]
    pub fn holds(&self, object: &Object) -> bool {
        let place = |namespace: &str, name: &str| (namespace.into(), name.into());
        match object {
            Object::Namespace(o) => self.namespace(&o.name) == Some(o),
            Object::Service(o) => {
                let unit = self.namespaces.get(&o.namespace).and_then(|state| state.unit(&o.name));
                unit.is_some_and(|unit| unit.service_part() == pack_service(o, &mut Room::default()))
            }
            Object::EndpointSlice(o) => {
                let unit = self.namespaces.get(&o.namespace).and_then(|state| state.unit(&o.service));
                unit.is_some_and(|unit| unit.slice_part(&o.name) == Some(pack_slice(o, &mut Room::default())))
            }
            Object::Segment(o) => self.segments.get(&place(&o.namespace, &o.name)) == Some(o),
            Object::Pod(o) => self.pods.get(&place(&o.namespace, &o.name)) == Some(o),
            Object::ServiceEntry(o) => self.entries.get(&place(&o.namespace, &o.name)) == Some(o),
            Object::WorkloadEntry(o) => self.workloads.get(&place(&o.namespace, &o.name)) == Some(o),
        }
    }

    /// Files a Service.
    pub fn file_service(&mut self, o: &Service) -> Filed {
        let state = state(&mut self.namespaces, &o.namespace);
        let part = pack_service(o, &mut self.room);
        let room = &mut self.joined;
        let (filed, next) = match state.unit(&o.name) {
            Some(unit) if unit.service_part() == part => return Filed::Same,
            Some(unit) if unit.has_service() => (Filed::Replaced, unit.with_service(part, room)),
            Some(unit) => (Filed::New, unit.with_service(part, room)),
            None => (Filed::New, Packed::of_service(&o.name, part, room)),
        };
        state.units.put(next.octets());
        filed
    }

    /// Files a slice; if it was of another Service before, that one's name is given, too.
    pub fn file_slice(&mut self, o: &EndpointSlice) -> (Filed, Option<Box<str>>) {
        let left: Option<Box<str>> = self.other_service(o).map(Into::into);
        if left.is_some() {
            let (namespace, name) = (o.namespace.clone(), o.name.clone());
            self.take(&Key { kind: Kind::EndpointSlice, namespace, name });
        }
        let state = state(&mut self.namespaces, &o.namespace);
        let part = pack_slice(o, &mut self.room);
        let room = &mut self.joined;
        let (filed, next) = match state.unit(&o.service) {
            Some(unit) => match unit.slice_part(&o.name) {
                Some(have) if have == part => return (Filed::Same, left),
                Some(_) => (Filed::Replaced, unit.with_slice(part, room)),
                None => (Filed::New, unit.with_slice(part, room)),
            },
            None => (Filed::New, Packed::of_slice(&o.service, part, room)),
        };
        state.units.put(next.octets());
        if likely_service(&o.name) != &*o.service {
            state.odd_slices.insert(o.name.clone(), o.service.clone());
        }
        (filed, left)
    }

    /// The other Service that the slice of this name is filed under, if it is.
    fn other_service(&self, o: &EndpointSlice) -> Option<&str> {
        let state = self.namespaces.get(&o.namespace)?;
        if state.odd_slices.is_empty() && likely_service(&o.name) == &*o.service {
            return None;
        }
        state.service_of_slice(&o.name).map(Packed::name).filter(|service| *service != &*o.service)
    }

    /// Files an object whose place is free: see [`Cluster::take`].
    pub fn put(&mut self, cluster: ClusterIx, object: Object) {
        let place = |namespace: &str, name: &str| (namespace.into(), name.into());
        match object {
            Object::Namespace(o) => {
                let state = state(&mut self.namespaces, &o.name);
                state.object = Some(o);
            }
            Object::Service(o) => {
                self.file_service(&o);
            }
            Object::EndpointSlice(o) => {
                self.file_slice(&o);
            }
            Object::Segment(o) => drop(self.segments.insert(place(&o.namespace, &o.name), o)),
            Object::Pod(o) if cluster == LOCAL => drop(self.pods.insert(place(&o.namespace, &o.name), o)),
            Object::ServiceEntry(o) if cluster == LOCAL => {
                self.entries.insert(place(&o.namespace, &o.name), o);
            }
            Object::WorkloadEntry(o) if cluster == LOCAL => {
                self.workloads.insert(place(&o.namespace, &o.name), o);
            }
            Object::Pod(_) | Object::ServiceEntry(_) | Object::WorkloadEntry(_) => {}
        }
    }

    /// Takes an object out; what it was is returned.
    pub fn take(&mut self, key: &Key) -> Option<Object> {
        let place = || (key.namespace.clone(), key.name.clone());
        match key.kind {
            Kind::Namespace => {
                let old = self.namespaces.get_mut(&key.name)?.object.take();
                self.prune(&key.name);
                old.map(Object::Namespace)
            }
            Kind::Service => {
                let state = self.namespaces.get_mut(&key.namespace)?;
                let unit = state.unit(&key.name)?;
                let (old, next) = (unit.service(&key.namespace)?.to_owned(), unit.with_service(&[], &mut self.joined));
                state.file(next);
                self.prune(&key.namespace);
                Some(Object::Service(old))
            }
            Kind::EndpointSlice => {
                let state = self.namespaces.get_mut(&key.namespace)?;
                let unit = state.service_of_slice(&key.name)?;
                let (next, old) = unit.without_slice(&key.namespace, &key.name, &mut self.joined);
                state.file(next);
                state.odd_slices.remove(&key.name);
                self.prune(&key.namespace);
                old.map(Object::EndpointSlice)
            }
            Kind::Segment => self.segments.remove(&place()).map(Object::Segment),
            Kind::Pod => self.pods.remove(&place()).map(Object::Pod),
            Kind::ServiceEntry => self.entries.remove(&place()).map(Object::ServiceEntry),
            Kind::WorkloadEntry => self.workloads.remove(&place()).map(Object::WorkloadEntry),
            Kind::Source => None,
        }
    }

    /// Forgets a namespace that has become empty.
    fn prune(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(|state| state.object.is_none() && state.units.is_empty()) {
            self.namespaces.remove(namespace);
        }
    }
}

/// The state of a namespace, which is put there if it is not.
fn state<'a>(
    namespaces: &'a mut HashMap<Box<str>, NamespaceState, RandomState>,
    namespace: &str,
) -> &'a mut NamespaceState {
    // Most are there already: a name is only copied for one that is not.
    if !namespaces.contains_key(namespace) {
        namespaces.insert(namespace.into(), NamespaceState::default());
    }
    namespaces.get_mut(namespace).expect("it was put there if it was not")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, service: &str) -> Object {
        let (namespace, name, service) = ("shop".into(), name.into(), service.into());
        Object::EndpointSlice(EndpointSlice { namespace, name, service, endpoints: [].into(), ports: [].into() })
    }

    fn filed(cluster: &Cluster, service: &str) -> Vec<String> {
        let slices = cluster.unit("shop", service).map(|unit| unit.slices).unwrap_or_default();
        slices.iter().map(|slice| slice.name.to_string()).collect()
    }

    #[test]
    fn a_slice_is_found_whatever_it_is_called() {
        let mut cluster = Cluster::default();
        // As the controller calls it, by hand, of a Service that another name is like, and without a hyphen.
        let all = [slice("web-x7k2p", "web"), slice("web-1-2", "web"), slice("db-abc", "web"), slice("cache", "cache")];
        for object in &all {
            cluster.put(LOCAL, object.clone());
            assert!(cluster.holds(object));
        }
        assert_eq!(filed(&cluster, "web"), ["db-abc", "web-1-2", "web-x7k2p"]);
        // It moves to another Service, from a name that tells to one that does not, and back.
        for service in ["db", "web", "db"] {
            let moved = slice("db-abc", service);
            assert!(cluster.take(&moved.key()).is_some());
            cluster.put(LOCAL, moved.clone());
            assert!(cluster.holds(&moved), "{service}");
            assert_eq!(filed(&cluster, service).first().map(String::as_str), Some("db-abc"), "{service}");
        }
        assert_eq!(filed(&cluster, "web"), ["web-1-2", "web-x7k2p"]);
        for object in &all {
            let old = cluster.take(&object.key()).expect("it was filed");
            assert_eq!(old.key(), object.key());
            assert!(!cluster.holds(&old) && cluster.take(&object.key()).is_none());
        }
        assert!(cluster.namespaces.is_empty(), "{cluster:?}");
    }
}
