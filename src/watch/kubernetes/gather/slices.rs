//! Which EndpointSlices are needed: those of Services that are published (R6).

use std::collections::{HashMap, HashSet};

use super::{Phase, State};
use crate::mesh::label::{Export, SCOPE, export};
use crate::mesh::object::{Change, EndpointSlice, Fault, Key, Kind, Labels, Object};

/// Of an EndpointSlice, while its cluster is followed.
#[derive(Debug)]
pub enum Slice {
    /// It was given out.
    Told,
    /// It is not needed: its Service, itself and its faults.
    Packed(Box<[u8]>),
}

impl Slice {
    /// Whether it is not needed, and of a Service that `wanted` says yes to.
    fn is_packed(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let Self::Packed(packed) = self else { return false };
        postcard::take_from_bytes::<&str>(packed).is_ok_and(|(service, _)| wanted(service))
    }
}

/// Which Services are published, as far as labels tell.
#[derive(Debug, Default)]
pub struct Published {
    /// Namespaces whose label publishes the Services without one.
    namespaces: HashSet<Box<str>>,
    /// What the labels of Services that have one say, by namespace and name.
    services: HashMap<Box<str>, HashMap<Box<str>, bool>>,
}

impl Published {
    /// Whether a Service is published, if it exists.
    fn has(&self, namespace: &str, service: &str) -> bool {
        let own = self.services.get(namespace).and_then(|all| all.get(service));
        own.copied().unwrap_or_else(|| self.namespaces.contains(namespace))
    }

    /// Notes the labels of a Namespace or a Service; true if that can have changed what is published.
    pub fn note(&mut self, object: &Object) -> bool {
        match object {
            Object::Namespace(o) => self.set_namespace(&o.name, says(&o.labels) == Some(true)),
            Object::Service(o) => self.set_service(&o.namespace, &o.name, says(&o.labels)),
            _ => false,
        }
    }

    /// A Namespace or a Service is gone; true if that can have changed what is published.
    pub fn forget(&mut self, key: &Key) -> bool {
        match key.kind {
            Kind::Namespace => self.set_namespace(&key.name, false),
            Kind::Service => self.set_service(&key.namespace, &key.name, None),
            _ => false,
        }
    }

    fn set_namespace(&mut self, name: &str, publishes: bool) -> bool {
        if publishes { self.namespaces.insert(name.into()) } else { self.namespaces.remove(name) }
    }

    fn set_service(&mut self, namespace: &str, name: &str, says: Option<bool>) -> bool {
        let before = self.has(namespace, name);
        if let Some(says) = says {
            self.services.entry(namespace.into()).or_default().insert(name.into(), says);
        } else if let Some(all) = self.services.get_mut(namespace) {
            all.remove(name);
            if all.is_empty() {
                self.services.remove(namespace);
            }
        }
        before != self.has(namespace, name)
    }
}

/// Whether a scope label publishes; `None` without one.
fn says(labels: &Labels) -> Option<bool> {
    labels.get(SCOPE).map(|scope| matches!(export(Some(scope)), Export::Published { .. }))
}

impl State {
    /// A slice as it is now. While the first state is read every new one waits: its Service may come later.
    pub(super) fn take_slice(&mut self, key: &Key, slice: EndpointSlice, faults: Vec<Fault>) -> Vec<Change> {
        let first = matches!(self.phase, Phase::First { .. });
        let needed = !first && self.published.has(&slice.namespace, &slice.service);
        let Some(known) = self.known(key) else { return Vec::new() };
        let told = matches!(known.slice, Some(Slice::Told));
        let keep = needed || (first && told);
        let packed = if keep { None } else { pack(&slice, &faults) };
        let object = Object::EndpointSlice(slice);
        let keep = packed.is_none();
        known.slice = Some(packed.map_or(Slice::Told, Slice::Packed));
        let cluster = self.cluster;
        if keep {
            vec![Change::Apply { cluster, object, faults }]
        } else if told {
            vec![Change::Delete { cluster, key: key.clone() }]
        } else {
            Vec::new()
        }
    }

    /// Gives out the slices that are needed now: of all, or of what one Namespace or Service decides. One that is not
    /// needed any more stays where it was told until it changes, which harms nothing.
    pub(super) fn unpack_slices(&mut self, of: Option<&Key>) -> Vec<Change> {
        let Some(kept) = self.kinds.get_mut(&Kind::EndpointSlice) else { return Vec::new() };
        let (namespace, service) = match of {
            None => (None, None),
            Some(key) if key.kind == Kind::Namespace => (Some(&key.name), None),
            Some(key) => (Some(&key.namespace), Some(&key.name)),
        };
        let mut changes = Vec::new();
        let all = match namespace {
            Some(name) => kept.objects.get_mut(name).map(|slices| (name, slices)).into_iter().collect(),
            None => kept.objects.iter_mut().collect::<Vec<_>>(),
        };
        for (namespace, slices) in all {
            for slice in slices.values_mut().filter_map(|known| known.slice.as_mut()) {
                let wanted = |of: &str| service.is_none_or(|one| **one == *of) && self.published.has(namespace, of);
                if slice.is_packed(wanted)
                    && let Slice::Packed(packed) = std::mem::replace(slice, Slice::Told)
                {
                    let told = unpack(&packed).map(|(slice, faults)| (Object::EndpointSlice(slice), faults));
                    let cluster = self.cluster;
                    changes.extend(told.map(|(object, faults)| Change::Apply { cluster, object, faults }));
                }
            }
        }
        // A list of them that is being told may have put aside that they are not needed: this is newer.
        if let Some(news) = &mut kept.news {
            news.extend(changes.iter().cloned());
        }
        changes
    }
}

fn pack(slice: &EndpointSlice, faults: &[Fault]) -> Option<Box<[u8]>> {
    postcard::to_stdvec(&(&slice.service, slice, faults)).ok().map(Vec::into_boxed_slice)
}

fn unpack(packed: &[u8]) -> Option<(EndpointSlice, Vec<Fault>)> {
    let (_, slice, faults): (&str, _, _) = postcard::from_bytes(packed).ok()?;
    Some((slice, faults))
}
