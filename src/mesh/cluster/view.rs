//! Services and their slices where they lie packed: nothing is copied to look at them.
//!
//! ```text
//! service   number (created, signed) | bits u8 | part (labels) | part (annotations) | part (reach) | port*
//! slice     part (its name) | part (endpoint*) | port*
//! endpoint  bits u8 | part (address*) | part (hostname)
//! address   4 or 16 u8 | octets
//! port      part (name) | protocol u8 | number u16
//! reach     address*, or the target of an ExternalName; the bits of the service say which
//! signed    twice what it is if that is not negative, else one less than twice the opposite
//! ```

use std::net::IpAddr;

use crate::mesh::object::{Endpoint, EndpointSlice, LabelsView, Port, Protocol, Reach, Service};
use crate::mesh::pack::{part_len, put_number, put_part, split_number, split_part, text};

const NOT_READY_TOO: u8 = 1;
const HEADLESS: u8 = 2;
const EXTERNAL_NAME: u8 = 4;

const READY: u8 = 1;
const HOSTNAME: u8 = 2;

/// A [`Service`] where it lies.
#[derive(Clone, Copy, Debug)]
pub struct ServiceView<'p> {
    /// `metadata.namespace`
    pub namespace: &'p str,
    /// `metadata.name`
    pub name: &'p str,
    /// Seconds since the epoch.
    pub created: i64,
    /// All labels.
    pub labels: LabelsView<'p>,
    /// Annotations.
    pub annotations: LabelsView<'p>,
    /// How it is reached.
    pub reach: ReachView<'p>,
    /// `spec.publishNotReadyAddresses`
    pub publish_not_ready: bool,
    /// `spec.ports`
    pub ports: Ports<'p>,
}

/// A [`Reach`] where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReachView<'p> {
    /// `spec.clusterIPs`
    ClusterIps(Addresses<'p>),
    /// `clusterIP: None`
    Headless,
    /// The target, as written.
    ExternalName(&'p str),
}

/// What is behind a Service, by one of its slices.
#[derive(Clone, Copy, Debug)]
pub struct Behind<'p> {
    /// Its endpoints.
    pub endpoints: Endpoints<'p>,
    /// Its ports; their numbers are the target ports.
    pub ports: Ports<'p>,
}

/// An [`Endpoint`] where it lies.
#[derive(Clone, Copy, Debug)]
pub struct EndpointView<'p> {
    /// Its addresses.
    pub addresses: Addresses<'p>,
    /// Whether it is ready.
    pub ready: bool,
    /// Its hostname, if it has one.
    pub hostname: Option<&'p str>,
}

/// A [`Port`] where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortView<'p> {
    /// Its name, or empty.
    pub name: &'p str,
    /// Its number.
    pub number: u16,
    /// Its transport.
    pub protocol: Protocol,
}

/// Addresses, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses<'p>(&'p [u8]);

/// Endpoints, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Endpoints<'p>(&'p [u8]);

/// Ports, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ports<'p>(&'p [u8]);

/// What is behind a Service, slice by slice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slices<'p>(&'p [u8]);

impl<'p> ServiceView<'p> {
    /// Of a part that [`put_service`] wrote.
    #[must_use]
    pub fn read(namespace: &'p str, name: &'p str, part: &'p [u8]) -> Self {
        let (created, rest) = split_number(part);
        let (bits, rest) = (rest[0], &rest[1..]);
        let (labels, rest) = split_part(rest);
        let (annotations, rest) = split_part(rest);
        let (reach, ports) = split_part(rest);
        let reach = match bits {
            _ if bits & HEADLESS != 0 => ReachView::Headless,
            _ if bits & EXTERNAL_NAME != 0 => ReachView::ExternalName(text(reach)),
            _ => ReachView::ClusterIps(Addresses(reach)),
        };
        Self {
            namespace,
            name,
            created: signed(created),
            labels: LabelsView::of_part(labels, name),
            annotations: LabelsView::of_part(annotations, name),
            reach,
            publish_not_ready: bits & NOT_READY_TOO != 0,
            ports: Ports(ports),
        }
    }

    /// The labels alone, of such a part.
    #[must_use]
    pub fn labels_of(name: &'p str, part: &'p [u8]) -> LabelsView<'p> {
        let (_, rest) = split_number(part);
        LabelsView::of_part(split_part(&rest[1..]).0, name)
    }

    /// The Service itself.
    #[must_use]
    pub fn to_owned(self) -> Service {
        let reach = match self.reach {
            ReachView::ClusterIps(addresses) => Reach::ClusterIps(addresses.collect()),
            ReachView::Headless => Reach::Headless,
            ReachView::ExternalName(target) => Reach::ExternalName(target.into()),
        };
        Service {
            namespace: self.namespace.into(),
            name: self.name.into(),
            created: self.created,
            labels: self.labels.to_owned(),
            annotations: self.annotations.to_owned(),
            reach,
            publish_not_ready: self.publish_not_ready,
            ports: self.ports.to_owned(),
        }
    }
}

impl<'p> Slices<'p> {
    /// Of parts that [`put_slice`] wrote, each with its length.
    #[must_use]
    pub const fn of_parts(parts: &'p [u8]) -> Self {
        Self(parts)
    }
}

impl<'p> Iterator for Slices<'p> {
    type Item = Behind<'p>;

    fn next(&mut self) -> Option<Behind<'p>> {
        let (part, rest) = (!self.0.is_empty()).then(|| split_part(self.0))?;
        self.0 = rest;
        Some(behind(split_part(part).1))
    }
}

/// A slice, after its name.
fn behind(tail: &[u8]) -> Behind<'_> {
    let (endpoints, ports) = split_part(tail);
    Behind { endpoints: Endpoints(endpoints), ports: Ports(ports) }
}

impl<'p> Iterator for Endpoints<'p> {
    type Item = EndpointView<'p>;

    fn next(&mut self) -> Option<EndpointView<'p>> {
        let (bits, rest) = self.0.split_first()?;
        let (addresses, rest) = split_part(rest);
        let (hostname, rest) = split_part(rest);
        self.0 = rest;
        let hostname = (bits & HOSTNAME != 0).then(|| text(hostname));
        Some(EndpointView { addresses: Addresses(addresses), ready: bits & READY != 0, hostname })
    }
}

impl Addresses<'_> {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Iterator for Addresses<'_> {
    type Item = IpAddr;

    fn next(&mut self) -> Option<IpAddr> {
        let (len, rest) = self.0.split_first()?;
        let (octets, rest) = rest.split_at(usize::from(*len));
        self.0 = rest;
        let four = octets.first_chunk::<4>().filter(|_| *len == 4).copied().map(IpAddr::from);
        four.or_else(|| octets.first_chunk::<16>().copied().map(IpAddr::from))
    }
}

impl Ports<'_> {
    fn to_owned(self) -> Box<[Port]> {
        self.map(|p| Port { name: p.name.into(), number: p.number, protocol: p.protocol }).collect()
    }
}

impl<'p> Iterator for Ports<'p> {
    type Item = PortView<'p>;

    fn next(&mut self) -> Option<PortView<'p>> {
        let (name, rest) = (!self.0.is_empty()).then(|| split_part(self.0))?;
        let ([protocol, high, low], rest) = rest.split_first_chunk()?;
        self.0 = rest;
        let protocol = match protocol {
            0 => Protocol::Tcp,
            1 => Protocol::Udp,
            _ => Protocol::Sctp,
        };
        Some(PortView { name: text(name), number: u16::from_be_bytes([*high, *low]), protocol })
    }
}

/// Appends all of a Service but its namespace and name.
pub fn put_service(out: &mut Vec<u8>, service: &Service) {
    let Service { namespace: _, name, created, labels, annotations, reach, publish_not_ready, ports } = service;
    put_number(out, ((created << 1) ^ (created >> 63)).cast_unsigned());
    let bits = match reach {
        Reach::ClusterIps(_) => 0,
        Reach::Headless => HEADLESS,
        Reach::ExternalName(_) => EXTERNAL_NAME,
    };
    out.push(bits | if *publish_not_ready { NOT_READY_TOO } else { 0 });
    labels.view().put_in(out, name);
    annotations.view().put_in(out, name);
    match reach {
        Reach::ClusterIps(addresses) => put_addresses(out, addresses),
        Reach::Headless => out.push(0),
        Reach::ExternalName(target) => put_part(out, target.as_bytes()),
    }
    put_ports(out, ports);
}

/// Appends all of a slice but its namespace and its Service.
pub fn put_slice(out: &mut Vec<u8>, slice: &EndpointSlice) {
    let EndpointSlice { namespace: _, name, service: _, endpoints, ports } = slice;
    put_part(out, name.as_bytes());
    let len = endpoints.iter().map(|endpoint| {
        let hostname = endpoint.hostname.as_deref().unwrap_or_default();
        1 + part_len(addresses_len(&endpoint.addresses)) + part_len(hostname.len())
    });
    put_number(out, len.sum::<usize>() as u64);
    for Endpoint { addresses, ready, hostname } in endpoints {
        out.push(if *ready { READY } else { 0 } | if hostname.is_some() { HOSTNAME } else { 0 });
        put_addresses(out, addresses);
        put_part(out, hostname.as_deref().unwrap_or_default().as_bytes());
    }
    put_ports(out, ports);
}

/// The slice of a part that [`put_slice`] wrote.
#[must_use]
pub fn slice_of(namespace: &str, service: &str, part: &[u8]) -> EndpointSlice {
    let (name, tail) = split_part(part);
    let Behind { endpoints, ports } = behind(tail);
    let endpoints = endpoints.map(|e| Endpoint {
        addresses: e.addresses.collect(),
        ready: e.ready,
        hostname: e.hostname.map(Into::into),
    });
    EndpointSlice {
        namespace: namespace.into(),
        name: text(name).into(),
        service: service.into(),
        endpoints: endpoints.collect(),
        ports: ports.to_owned(),
    }
}

fn addresses_len(addresses: &[IpAddr]) -> usize {
    addresses.iter().map(|address| if address.is_ipv4() { 5 } else { 17 }).sum()
}

fn put_addresses(out: &mut Vec<u8>, addresses: &[IpAddr]) {
    put_number(out, addresses_len(addresses) as u64);
    for address in addresses {
        match address {
            IpAddr::V4(address) => {
                out.push(4);
                out.extend_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                out.push(16);
                out.extend_from_slice(&address.octets());
            }
        }
    }
}

fn put_ports(out: &mut Vec<u8>, ports: &[Port]) {
    for Port { name, number, protocol } in ports {
        put_part(out, name.as_bytes());
        let [high, low] = number.to_be_bytes();
        let protocol = match protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1,
            Protocol::Sctp => 2,
        };
        out.extend_from_slice(&[protocol, high, low]);
    }
}

/// What a number means that is signed.
fn signed(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
