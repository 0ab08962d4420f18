//! One cluster's objects, filed so that everything about one Service is found in one step.

use std::collections::{BTreeMap, HashMap};

use super::object::{Borrowed, ClusterIx, EndpointSlice, Key, Kind, LOCAL, Namespace, Object, Pod, Segment, Service};
use super::object::{ServiceEntry, WorkloadEntry};

/// A namespace's object and what is in it.
#[derive(Clone, Debug, Default)]
pub struct NamespaceState {
    /// Its object, if it is known.
    pub object: Option<Namespace>,
    /// What is known of each Service name.
    pub units: HashMap<Box<str>, Unit>,
    /// Which Service an EndpointSlice was filed under, for those that are not called after it: see [`likely_service`].
    odd_slices: HashMap<Box<str>, Box<str>>,
}

/// A Service and its EndpointSlices; either may come first.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// The Service, if it is known.
    pub service: Option<Service>,
    /// Its slices.
    pub slices: Vec<EndpointSlice>,
}

impl NamespaceState {
    /// Where the slice of this name is filed: its Service, what is known of that, and the place among its slices.
    fn find_slice(&self, name: &str) -> Option<(&str, &Unit, usize)> {
        let odd: Option<&str> = self.odd_slices.get(name).map(AsRef::as_ref);
        let service = odd.unwrap_or_else(|| likely_service(name));
        let (service, unit) = self.units.get_key_value(service)?;
        let at = unit.slices.iter().position(|slice| &*slice.name == name)?;
        Some((service, unit, at))
    }
}

/// The Service that a slice of this name is likely to be of: the controller adds a hyphen and a few letters. So there is no
/// need to remember it for each.
fn likely_service(slice: &str) -> &str {
    slice.rsplit_once('-').map_or(slice, |(service, _)| service)
}

/// Namespace and name of an object.
pub type Place = (Box<str>, Box<str>);

/// One cluster's objects. Pods, ServiceEntries and WorkloadEntries are kept of the local cluster only: those of peers
/// decide nothing (R6, R15).
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Namespaces by name.
    pub namespaces: HashMap<Box<str>, NamespaceState>,
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
}

impl Cluster {
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

    /// What is known of one Service.
    #[must_use]
    pub fn unit(&self, namespace: &str, name: &str) -> Option<&Unit> {
        self.namespaces.get(namespace)?.units.get(name)
    }

    /// Every object that is kept, Namespaces and Segments before what they decide.
    pub fn objects(&self) -> impl Iterator<Item = Borrowed<'_>> {
        let units = || self.namespaces.values().flat_map(|n| n.units.values());
        let namespaces = self.namespaces.values().filter_map(|n| n.object.as_ref());
        (namespaces.map(Borrowed::Namespace))
            .chain(self.segments.values().map(Borrowed::Segment))
            .chain(units().filter_map(|u| u.service.as_ref()).map(Borrowed::Service))
            .chain(units().flat_map(|u| &u.slices).map(Borrowed::EndpointSlice))
            .chain(self.pods.values().map(Borrowed::Pod))
            .chain(self.entries.values().map(Borrowed::ServiceEntry))
            .chain(self.workloads.values().map(Borrowed::WorkloadEntry))
    }

    /// An object that is kept.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Borrowed<'_>> {
        let place = || (key.namespace.clone(), key.name.clone());
        match key.kind {
            Kind::Namespace => self.namespace(&key.name).map(Borrowed::Namespace),
            Kind::Service => self.unit(&key.namespace, &key.name)?.service.as_ref().map(Borrowed::Service),
            Kind::EndpointSlice => {
                let state = self.namespaces.get(&key.namespace)?;
                let (_, unit, at) = state.find_slice(&key.name)?;
                unit.slices.get(at).map(Borrowed::EndpointSlice)
            }
            Kind::Segment => self.segments.get(&place()).map(Borrowed::Segment),
            Kind::Pod => self.pods.get(&place()).map(Borrowed::Pod),
            Kind::ServiceEntry => self.entries.get(&place()).map(Borrowed::ServiceEntry),
            Kind::WorkloadEntry => self.workloads.get(&place()).map(Borrowed::WorkloadEntry),
            Kind::Source => None,
        }
    }

    /// Files an object; what it replaces is returned.
    pub fn put(&mut self, cluster: ClusterIx, object: Object) -> Option<Object> {
        let place = |namespace: &str, name: &str| (namespace.into(), name.into());
        match object {
            Object::Namespace(o) => {
                let state = self.namespaces.entry(o.name.clone()).or_default();
                state.object.replace(o).map(Object::Namespace)
            }
            Object::Service(o) => {
                let state = self.namespaces.entry(o.namespace.clone()).or_default();
                let unit = state.units.entry(o.name.clone()).or_default();
                unit.service.replace(o).map(Object::Service)
            }
            Object::EndpointSlice(o) => {
                let old = self.take_slice(&o.namespace, &o.name);
                let state = self.namespaces.entry(o.namespace.clone()).or_default();
                if likely_service(&o.name) != &*o.service {
                    state.odd_slices.insert(o.name.clone(), o.service.clone());
                }
                let slices = &mut state.units.entry(o.service.clone()).or_default().slices;
                let at = slices.partition_point(|have| have.name < o.name);
                // Most Services have one slice: room for more would cost as much as all the rest of it.
                slices.reserve_exact(1);
                slices.insert(at, o);
                old.map(Object::EndpointSlice)
            }
            Object::Segment(o) => self.segments.insert(place(&o.namespace, &o.name), o).map(Object::Segment),
            Object::Pod(o) if cluster == LOCAL => self.pods.insert(place(&o.namespace, &o.name), o).map(Object::Pod),
            Object::ServiceEntry(o) if cluster == LOCAL => {
                self.entries.insert(place(&o.namespace, &o.name), o).map(Object::ServiceEntry)
            }
            Object::WorkloadEntry(o) if cluster == LOCAL => {
                self.workloads.insert(place(&o.namespace, &o.name), o).map(Object::WorkloadEntry)
            }
            Object::Pod(_) | Object::ServiceEntry(_) | Object::WorkloadEntry(_) => None,
        }
    }

    /// Takes an object out; what it was is returned.
    pub fn take(&mut self, key: &Key) -> Option<Object> {
        let place = (key.namespace.clone(), key.name.clone());
        match key.kind {
            Kind::Namespace => {
                let old = self.namespaces.get_mut(&key.name)?.object.take();
                self.prune(&key.name, None);
                old.map(Object::Namespace)
            }
            Kind::Service => {
                let state = self.namespaces.get_mut(&key.namespace)?;
                let old = state.units.get_mut(&key.name)?.service.take();
                self.prune(&key.namespace, Some(&key.name));
                old.map(Object::Service)
            }
            Kind::EndpointSlice => self.take_slice(&key.namespace, &key.name).map(Object::EndpointSlice),
            Kind::Segment => self.segments.remove(&place).map(Object::Segment),
            Kind::Pod => self.pods.remove(&place).map(Object::Pod),
            Kind::ServiceEntry => self.entries.remove(&place).map(Object::ServiceEntry),
            Kind::WorkloadEntry => self.workloads.remove(&place).map(Object::WorkloadEntry),
            Kind::Source => None,
        }
    }

    fn take_slice(&mut self, namespace: &str, name: &str) -> Option<EndpointSlice> {
        let state = self.namespaces.get_mut(namespace)?;
        let (service, _, at) = state.find_slice(name)?;
        let service: Box<str> = service.into();
        state.odd_slices.remove(name);
        let old = state.units.get_mut(&service)?.slices.remove(at);
        self.prune(namespace, Some(&service));
        Some(old)
    }

    /// Forgets what has become empty, so that churn does not grow the maps.
    fn prune(&mut self, namespace: &str, unit: Option<&str>) {
        let Some(state) = self.namespaces.get_mut(namespace) else { return };
        if let Some(unit) = unit
            && state.units.get(unit).is_some_and(|u| u.service.is_none() && u.slices.is_empty())
        {
            state.units.remove(unit);
        }
        if state.object.is_none() && state.units.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, service: &str) -> Object {
        let (namespace, name, service) = ("shop".into(), name.into(), service.into());
        Object::EndpointSlice(EndpointSlice { namespace, name, service, endpoints: [].into(), ports: [].into() })
    }

    fn filed(cluster: &Cluster, service: &str) -> Vec<String> {
        let slices = cluster.unit("shop", service).map_or(&[][..], |unit| &unit.slices);
        slices.iter().map(|slice| slice.name.to_string()).collect()
    }

    #[test]
    fn a_slice_is_found_whatever_it_is_called() {
        let mut cluster = Cluster::default();
        // As the controller calls it, by hand, of a Service that another name is like, and without a hyphen.
        let all = [slice("web-x7k2p", "web"), slice("web-1-2", "web"), slice("db-abc", "web"), slice("cache", "cache")];
        for object in &all {
            assert_eq!(cluster.put(LOCAL, object.clone()), None);
            assert_eq!(cluster.get(&object.key()), Some(object.borrowed()));
        }
        assert_eq!(filed(&cluster, "web"), ["db-abc", "web-1-2", "web-x7k2p"]);
        // It moves to another Service, from a name that tells to one that does not, and back.
        for service in ["db", "web", "db"] {
            let moved = slice("db-abc", service);
            assert!(cluster.put(LOCAL, moved.clone()).is_some());
            assert_eq!(cluster.get(&moved.key()), Some(moved.borrowed()), "{service}");
            assert_eq!(filed(&cluster, service).first().map(String::as_str), Some("db-abc"), "{service}");
        }
        assert_eq!(filed(&cluster, "web"), ["web-1-2", "web-x7k2p"]);
        for object in &all {
            assert!(cluster.take(&object.key()).is_some());
            assert_eq!(cluster.get(&object.key()), None);
        }
        assert!(cluster.namespaces.is_empty(), "{cluster:?}");
    }
}
