//! What is known of one Service name, as octets in one allocation: of a hundred thousand Services most are looked at once.
//!
//! ```text
//! unit   length varint | name | part (the Service, or empty) | part (a slice)*
//! part   length varint | postcard of what the unit's and the namespace's names do not tell
//! ```

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use super::{Behind, Unit};
use crate::mesh::object::{Endpoint, EndpointSlice, Labels, Port, Reach, Service};
use crate::mesh::pack::{pack, part_len, put_part, split_part, text, unpack, unpack_first};

/// A [`Unit`], packed; in sets it is found by its name.
#[derive(Clone)]
pub struct Packed(Box<[u8]>);

type ServiceTail = (i64, Labels, Labels, Reach, bool, Box<[Port]>);
type SliceTail = (Box<[Endpoint]>, Box<[Port]>);

impl Packed {
    /// Nothing is known of this name yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut bytes = Vec::with_capacity(name.len() + 3);
        put_part(&mut bytes, name.as_bytes());
        bytes.push(0);
        Self(bytes.into())
    }

    /// The Service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        text(self.key())
    }

    /// Whether the Service itself is known.
    #[must_use]
    pub fn has_service(&self) -> bool {
        !split_part(self.parts()).0.is_empty()
    }

    /// Whether nothing is known any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts() == [0]
    }

    /// The Service, in this namespace.
    #[must_use]
    pub fn service(&self, namespace: &str) -> Option<Service> {
        let (part, _) = split_part(self.parts());
        if part.is_empty() {
            return None;
        }
        let (created, labels, annotations, reach, publish_not_ready, ports): ServiceTail = unpack(part);
        let (namespace, name) = (namespace.into(), self.name().into());
        Some(Service { namespace, name, created, labels, annotations, reach, publish_not_ready, ports })
    }

    /// Its slices, by name.
    pub fn slices(&self, namespace: &str) -> impl Iterator<Item = EndpointSlice> {
        self.slice_parts().map(move |part| {
            let (name, tail) = slice_name(part);
            let (endpoints, ports): SliceTail = unpack(tail);
            EndpointSlice {
                namespace: namespace.into(),
                name: name.into(),
                service: self.name().into(),
                endpoints,
                ports,
            }
        })
    }

    /// The labels of the Service, as they are packed.
    #[must_use]
    pub fn labels(&self) -> Option<&str> {
        let (part, _) = split_part(self.parts());
        (!part.is_empty()).then(|| unpack_first::<(i64, &str)>(part).1)
    }

    /// The endpoints and ports of its slices.
    #[must_use]
    pub fn behind(&self) -> Vec<Behind> {
        let parts = self.slice_parts().map(|part| unpack(slice_name(part).1));
        parts.map(|(endpoints, ports): SliceTail| Behind { endpoints, ports }).collect()
    }

    /// All of it, in this namespace.
    #[must_use]
    pub fn unpack(&self, namespace: &str) -> Unit {
        Unit { service: self.service(namespace), slices: self.slices(namespace).collect() }
    }

    /// Whether the Service is this one.
    #[must_use]
    pub fn has_this_service(&self, service: &Service) -> bool {
        split_part(self.parts()).0 == service_part(service)
    }

    /// Whether this slice is among its slices.
    #[must_use]
    pub fn has_this_slice(&self, slice: &EndpointSlice) -> bool {
        let wanted = slice_part(slice);
        self.slice_parts().any(|part| part == wanted)
    }

    /// Whether a slice of this name is among its slices.
    #[must_use]
    pub fn has_slice(&self, name: &str) -> bool {
        self.slice_parts().any(|part| slice_name(part).0 == name)
    }

    /// The same with this Service, or without one.
    #[must_use]
    pub fn with_service(&self, service: Option<&Service>) -> Self {
        let part = service.map(service_part).unwrap_or_default();
        let (_, slices) = split_part(self.parts());
        let head = self.0.len() - self.parts().len();
        let mut bytes = Vec::with_capacity(head + part.len() + 2 + slices.len());
        bytes.extend_from_slice(&self.0[..head]);
        put_part(&mut bytes, &part);
        bytes.extend_from_slice(slices);
        Self(bytes.into())
    }

    /// The same with one more slice.
    #[must_use]
    pub fn with_slice(&self, slice: &EndpointSlice) -> Self {
        let part = slice_part(slice);
        let first = self.0.len() - split_part(self.parts()).1.len();
        let before = self.slice_parts().take_while(|have| *slice_name(have).0 < *slice.name);
        let at = first + before.map(|have| part_len(have.len())).sum::<usize>();
        let mut bytes = Vec::with_capacity(self.0.len() + part_len(part.len()));
        bytes.extend_from_slice(&self.0[..at]);
        put_part(&mut bytes, &part);
        bytes.extend_from_slice(&self.0[at..]);
        Self(bytes.into())
    }

    /// The same without the slice of this name, and that slice, in this namespace.
    #[must_use]
    pub fn without_slice(&self, namespace: &str, name: &str) -> (Self, Option<EndpointSlice>) {
        let first = self.0.len() - split_part(self.parts()).1.len();
        let mut bytes = self.0[..first].to_vec();
        self.slice_parts().filter(|part| slice_name(part).0 != name).for_each(|part| put_part(&mut bytes, part));
        (Self(bytes.into()), self.slices(namespace).find(|slice| *slice.name == *name))
    }

    fn key(&self) -> &[u8] {
        split_part(&self.0).0
    }

    /// What stands after the name.
    fn parts(&self) -> &[u8] {
        split_part(&self.0).1
    }

    fn slice_parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = split_part(self.parts()).1;
        std::iter::from_fn(move || {
            let (part, after) = (!rest.is_empty()).then(|| split_part(rest))?;
            rest = after;
            Some(part)
        })
    }
}

impl Borrow<[u8]> for Packed {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

impl Hash for Packed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Packed {}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = self.unpack("");
        f.debug_tuple("Packed").field(&self.name()).field(&unit.service).field(&unit.slices).finish()
    }
}

fn service_part(service: &Service) -> Vec<u8> {
    let Service { namespace: _, name: _, created, labels, annotations, reach, publish_not_ready, ports } = service;
    pack(&(created, labels, annotations, reach, publish_not_ready, ports), Vec::new())
}

fn slice_part(slice: &EndpointSlice) -> Vec<u8> {
    let EndpointSlice { namespace: _, name, service: _, endpoints, ports } = slice;
    let mut bytes = Vec::with_capacity(64 + name.len());
    put_part(&mut bytes, name.as_bytes());
    pack(&(endpoints, ports), bytes)
}

/// The name of a packed slice, and the rest of it.
fn slice_name(part: &[u8]) -> (&str, &[u8]) {
    let (name, tail) = split_part(part);
    (text(name), tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::{Key, Kind};

    fn service() -> Service {
        let key = Key { kind: Kind::Service, namespace: "shop".into(), name: "web".into() };
        let ports = [Port { name: "http".into(), number: 80, ..Port::default() }].into();
        let labels = Labels::new([("app", "web"), ("solo.io/service-scope", "global")]);
        Service {
            created: 1_770_091_506,
            reach: Reach::ExternalName("a.example".into()),
            labels,
            ports,
            ..Service::unread(&key)
        }
    }

    fn slice(name: &str, ready: bool) -> EndpointSlice {
        let addresses = ["10.0.0.1", "2001:db8::1"].map(|a| a.parse().unwrap()).into();
        let endpoints = [Endpoint { addresses, ready, hostname: Some("web-0".into()) }].into();
        EndpointSlice {
            namespace: "shop".into(),
            name: name.into(),
            service: "web".into(),
            endpoints,
            ports: [].into(),
        }
    }

    #[test]
    fn what_is_packed_reads_back_whatever_comes_first_and_however_it_goes() {
        let (one, two, service) = (slice("web-a", true), slice("web-b", false), service());
        let all = Unit { service: Some(service.clone()), slices: vec![one.clone(), two.clone()] };
        let empty = Packed::new("web");
        let orders = [
            empty.with_service(Some(&service)).with_slice(&one).with_slice(&two),
            empty.with_slice(&two).with_slice(&one).with_service(Some(&service)),
        ];
        for packed in orders {
            assert_eq!((packed.name(), packed.unpack("shop")), ("web", all.clone()));
            assert_eq!(packed.labels().and_then(|l| Labels::get_packed(l, "app")), Some("web"));
            assert!(packed.has_this_service(&service) && packed.has_this_slice(&one) && packed.has_slice("web-b"));
            assert!(!packed.has_this_slice(&slice("web-a", false)) && !packed.has_slice("web"));
            let (rest, gone) = packed.without_slice("shop", "web-a");
            assert_eq!((rest.slices("shop").collect(), gone), (vec![two.clone()], Some(one.clone())));
            let (rest, _) = rest.with_service(None).without_slice("shop", "web-b");
            assert!(rest.is_empty() && !rest.has_service() && rest.labels().is_none());
            assert_eq!(rest.unpack("shop"), Unit::default());
        }
    }
}
