//! What is known of one Service name, as octets in one piece: of a hundred thousand Services most are looked at once.
//!
//! ```text
//! unit   part (its name) | part (the Service, or empty) | part (a slice)*
//! ```

use std::fmt;

use super::Unit;
use super::view::{ServiceView, Slices, put_service, put_slice, slice_of};
use crate::mesh::object::{EndpointSlice, LabelsView, Service};
use crate::mesh::pack::{Room, part_len, put_part, split_part, text};

/// A [`Unit`] where it lies packed.
#[derive(Clone, Copy)]
pub struct Packed<'p>(&'p [u8]);

/// A Service, packed without its namespace and name.
pub fn pack_service<'r>(service: &Service, room: &'r mut Room) -> &'r [u8] {
    let bytes = room.empty();
    put_service(bytes, service);
    bytes
}

/// A slice, packed without its namespace and its Service.
pub fn pack_slice<'r>(slice: &EndpointSlice, room: &'r mut Room) -> &'r [u8] {
    let bytes = room.empty();
    put_slice(bytes, slice);
    bytes
}

/// Octets around a part.
fn joined<'r>(before: &[u8], part: &[u8], after: &[u8], room: &'r mut Room) -> Packed<'r> {
    let bytes = room.empty();
    bytes.extend_from_slice(before);
    put_part(bytes, part);
    bytes.extend_from_slice(after);
    Packed(bytes)
}

impl<'p> Packed<'p> {
    /// Of octets that are those of another; see [`Packed::octets`].
    #[must_use]
    pub const fn of_octets(octets: &'p [u8]) -> Self {
        Self(octets)
    }

    /// All of it; it begins with its name as a part.
    #[must_use]
    pub const fn octets(self) -> &'p [u8] {
        self.0
    }

    /// Of a Service that is the first that is known of its name; see [`pack_service`].
    #[must_use]
    pub fn of_service(name: &str, part: &[u8], room: &'p mut Room) -> Self {
        let bytes = room.empty();
        put_part(bytes, name.as_bytes());
        put_part(bytes, part);
        Self(bytes)
    }

    /// Of a slice that is the first that is known of its Service; see [`pack_slice`].
    #[must_use]
    pub fn of_slice(service: &str, part: &[u8], room: &'p mut Room) -> Self {
        let bytes = room.empty();
        put_part(bytes, service.as_bytes());
        put_part(bytes, &[]);
        put_part(bytes, part);
        Self(bytes)
    }

    /// The Service's name.
    #[must_use]
    pub fn name(self) -> &'p str {
        text(split_part(self.0).0)
    }

    /// Whether the Service itself is known.
    #[must_use]
    pub fn has_service(self) -> bool {
        !self.service_part().is_empty()
    }

    /// Whether nothing is known any more.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.parts() == [0]
    }

    /// The Service, in this namespace.
    #[must_use]
    pub fn service(self, namespace: &'p str) -> Option<ServiceView<'p>> {
        let part = self.service_part();
        (!part.is_empty()).then(|| ServiceView::read(namespace, self.name(), part))
    }

    /// Its slices, by name.
    pub fn slices(self, namespace: &str) -> impl Iterator<Item = EndpointSlice> + use<'p, '_> {
        self.slice_parts().map(move |part| slice_of(namespace, self.name(), part))
    }

    /// The labels of the Service.
    #[must_use]
    pub fn labels(self) -> Option<LabelsView<'p>> {
        let part = self.service_part();
        (!part.is_empty()).then(|| ServiceView::labels_of(self.name(), part))
    }

    /// The endpoints and ports of its slices.
    #[must_use]
    pub fn behind(self) -> Slices<'p> {
        Slices::of_parts(split_part(self.parts()).1)
    }

    /// All of it, in this namespace.
    #[must_use]
    pub fn unpack(self, namespace: &str) -> Unit {
        let service = self.service(namespace).map(ServiceView::to_owned);
        Unit { service, slices: self.slices(namespace).collect() }
    }

    /// The Service as [`pack_service`] packs it; empty if it is not known.
    #[must_use]
    pub fn service_part(self) -> &'p [u8] {
        split_part(self.parts()).0
    }

    /// The slice of this name as [`pack_slice`] packs it.
    #[must_use]
    pub fn slice_part(self, name: &str) -> Option<&'p [u8]> {
        self.slice_parts().find(|part| slice_name(part) == name)
    }

    /// The same with this Service, or without one; see [`pack_service`].
    #[must_use]
    pub fn with_service<'r>(self, part: &[u8], room: &'r mut Room) -> Packed<'r> {
        let (_, slices) = split_part(self.parts());
        joined(&self.0[..self.0.len() - self.parts().len()], part, slices, room)
    }

    /// The same with this slice, in place of one of its name or as one more; see [`pack_slice`].
    #[must_use]
    pub fn with_slice<'r>(self, part: &[u8], room: &'r mut Room) -> Packed<'r> {
        let name = slice_name(part);
        let first = self.0.len() - split_part(self.parts()).1.len();
        let before = self.slice_parts().take_while(|have| slice_name(have) < name);
        let at = first + before.map(|have| part_len(have.len())).sum::<usize>();
        let rest = &self.0[at..];
        let old = (!rest.is_empty()).then(|| split_part(rest)).filter(|(have, _)| slice_name(have) == name);
        joined(&self.0[..at], part, old.map_or(rest, |(_, after)| after), room)
    }

    /// The same without the slice of this name, and that slice, in this namespace.
    #[must_use]
    pub fn without_slice<'r>(
        self,
        namespace: &str,
        name: &str,
        room: &'r mut Room,
    ) -> (Packed<'r>, Option<EndpointSlice>) {
        let first = self.0.len() - split_part(self.parts()).1.len();
        let bytes = room.empty();
        bytes.extend_from_slice(&self.0[..first]);
        self.slice_parts().filter(|part| slice_name(part) != name).for_each(|part| put_part(bytes, part));
        (Packed(bytes), self.slices(namespace).find(|slice| *slice.name == *name))
    }

    /// What stands after the name.
    fn parts(self) -> &'p [u8] {
        split_part(self.0).1
    }

    fn slice_parts(self) -> impl Iterator<Item = &'p [u8]> + use<'p> {
        let mut rest = split_part(self.parts()).1;
        std::iter::from_fn(move || {
            let (part, after) = (!rest.is_empty()).then(|| split_part(rest))?;
            rest = after;
            Some(part)
        })
    }
}

/// The name of a packed slice.
fn slice_name(part: &[u8]) -> &str {
    text(split_part(part).0)
}

impl fmt::Debug for Packed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unpack("");
        f.debug_tuple("Packed").field(&self.name()).field(&unit.service).field(&unit.slices).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::object::{Endpoint, Key, Kind, Labels, Port, Protocol, Reach};

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

    /// Nothing is known of `web` yet.
    const EMPTY: &[u8] = b"\x03web\0";

    fn with_service(octets: &[u8], service: &Service) -> Vec<u8> {
        let part = &mut Room::default();
        Packed(octets).with_service(pack_service(service, part), &mut Room::default()).0.to_vec()
    }

    fn with_slice(octets: &[u8], slice: &EndpointSlice) -> Vec<u8> {
        let part = &mut Room::default();
        Packed(octets).with_slice(pack_slice(slice, part), &mut Room::default()).0.to_vec()
    }

    #[test]
    fn what_is_packed_reads_back_whatever_comes_first_and_however_it_goes() {
        let (one, two, service) = (slice("web-a", true), slice("web-b", false), service());
        let all = Unit { service: Some(service.clone()), slices: vec![one.clone(), two.clone()] };
        let room = &mut Room::default();
        let first = Packed::of_service("web", pack_service(&service, &mut Room::default()), room).0.to_vec();
        let orders = [
            with_slice(&with_slice(&first, &one), &two),
            with_slice(&with_slice(&with_service(EMPTY, &service), &one), &two),
            with_service(&with_slice(&with_slice(EMPTY, &two), &one), &service),
            with_service(
                &with_slice(Packed::of_slice("web", pack_slice(&two, &mut Room::default()), room).0, &one),
                &service,
            ),
        ];
        for octets in &orders {
            let packed = Packed(octets);
            assert_eq!((packed.name(), packed.unpack("shop")), ("web", all.clone()));
            assert_eq!(packed.labels().and_then(|l| l.get("app")), Some("web"));
            assert_eq!(packed.slice_part("web-b"), Some(pack_slice(&two, &mut Room::default())));
            assert_eq!(packed.slice_part("web"), None);
            let changed = with_slice(octets, &slice("web-a", false));
            assert_eq!(Packed(&changed).slices("shop").collect::<Vec<_>>(), [slice("web-a", false), two.clone()]);
            let (room, other, third) = (&mut Room::default(), &mut Room::default(), &mut Room::default());
            let (rest, gone) = packed.without_slice("shop", "web-a", room);
            assert_eq!((rest.slices("shop").collect(), gone), (vec![two.clone()], Some(one.clone())));
            let (rest, _) = rest.with_service(&[], other).without_slice("shop", "web-b", third);
            assert!(rest.is_empty() && !rest.has_service() && rest.labels().is_none());
            assert_eq!(rest.unpack("shop"), Unit::default());
        }
    }

    #[test]
    fn every_field_reads_back_at_its_edges() {
        let port = |name: &str, number, protocol| Port { name: name.into(), number, protocol };
        let ports =
            [port("", 1, Protocol::Tcp), port("dns", 65_535, Protocol::Udp), port("sigtran", 256, Protocol::Sctp)];
        let ips = ["10.0.0.1", "::", "255.255.255.255"].map(|a| a.parse().unwrap());
        let reaches = [
            Reach::ClusterIps([].into()),
            Reach::ClusterIps(ips.into()),
            Reach::Headless,
            Reach::ExternalName("".into()),
            Reach::ExternalName("x".repeat(300).into()),
        ];
        for (created, reach) in [0, -1, 1, i64::MIN, i64::MAX].into_iter().zip(reaches) {
            for publish_not_ready in [false, true] {
                let service = Service {
                    created,
                    reach: reach.clone(),
                    publish_not_ready,
                    ports: ports.clone().into(),
                    ..service()
                };
                let octets = with_service(EMPTY, &service);
                assert_eq!(Packed(&octets).unpack("shop").service, Some(service));
            }
        }
        let endpoint = |addresses: &[_], hostname: Option<&str>| Endpoint {
            addresses: addresses.into(),
            ready: hostname.is_none(),
            hostname: hostname.map(Into::into),
        };
        let many = (0..60_000_u32).map(|n| std::net::Ipv4Addr::from(n).into()).collect::<Vec<_>>();
        let endpoints = [endpoint(&[], None), endpoint(&ips, Some("")), endpoint(&many, Some("web-0"))].into();
        let slice = EndpointSlice { endpoints, ports: ports.into(), ..slice("web-a", true) };
        assert_eq!(Packed(&with_slice(EMPTY, &slice)).unpack("shop").slices, [slice]);
    }
}
