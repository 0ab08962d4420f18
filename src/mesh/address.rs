//! The addresses of one hostname (R6): a ladder, and the first rung that yields any is the answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cluster::view::{Addresses, EndpointView, PortView, ReachView, ServiceView, Slices};
use super::label::Scope;
use super::name::Name;
use super::object::{ClusterIx, LOCAL, Protocol, ServiceEntry};
use super::segment::SegmentIx;

/// Which rung of R6 (or R10) gave the addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rung {
    /// None of them.
    #[default]
    Nothing,
    /// (a) `spec.addresses` of the generated entry.
    EntrySpec,
    /// (b) `status.addresses` of the generated entry.
    EntryStatus,
    /// (c) the local Service, which has a ready endpoint.
    LocalReady,
    /// (d) ready endpoints of the peers' Services.
    PeerEndpoints,
    /// (e) the local Service's ClusterIPs, ready or not.
    LocalClusterIps,
    /// An ExternalName.
    ExternalName,
    /// R10: `spec.endpoints` of a hand-written entry.
    Inline,
}

impl Rung {
    /// All rungs, by their number.
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::EntrySpec,
        Self::EntryStatus,
        Self::LocalReady,
        Self::PeerEndpoints,
        Self::LocalClusterIps,
        Self::ExternalName,
        Self::Inline,
    ];

    /// The rule of the contract.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Nothing => "R22",
            Self::EntrySpec => "R6a",
            Self::EntryStatus => "R6b",
            Self::LocalReady => "R6c",
            Self::PeerEndpoints => "R6d",
            Self::LocalClusterIps => "R6e",
            Self::ExternalName => "R6",
            Self::Inline => "R10",
        }
    }

    /// Where the addresses come from, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing that publishes it has an address",
            Self::EntrySpec => "spec.addresses of its generated ServiceEntry",
            Self::EntryStatus => "status.addresses of its generated ServiceEntry",
            Self::LocalReady => "the local Service, which has a ready endpoint",
            Self::PeerEndpoints => "ready endpoints of the peers' Services",
            Self::LocalClusterIps => "the local Service's ClusterIPs, though no endpoint is ready",
            Self::ExternalName => "the Service's externalName",
            Self::Inline => "spec.endpoints of the ServiceEntry",
        }
    }
}

/// A named port as SRV answers it: one target per distinct endpoint hostname, the Service's own name for the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrvPort {
    /// The port's name, folded.
    pub name: Box<str>,
    /// Its transport.
    pub protocol: Protocol,
    /// Port number, and the endpoint's hostname (one label) or `None` for the Service's own name.
    pub targets: Vec<(u16, Option<Box<str>>)>,
}

/// What is answered under one name, to one class of callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// A, sorted.
    pub v4: Vec<Ipv4Addr>,
    /// AAAA, sorted.
    pub v6: Vec<Ipv6Addr>,
    /// CNAME, in which case there are no addresses.
    pub cname: Option<Name>,
    /// SRV, below the name.
    pub ports: Vec<SrvPort>,
    /// Which rung gave the addresses.
    pub rung: Rung,
    /// R22: it may yet get its first address, so it is SERVFAIL while its grace lasts. A headless service without ready
    /// endpoints is not: it is NODATA at once.
    pub awaits: bool,
    /// R22: the grace lasts.
    pub pending: bool,
}

impl Answers {
    /// Addresses of one rung.
    #[must_use]
    pub fn of(rung: Rung, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut out = Self::default();
        out.take(rung, addresses);
        out
    }

    /// Whether there is an address of any family.
    #[must_use]
    pub fn has_address(&self) -> bool {
        !self.v4.is_empty() || !self.v6.is_empty()
    }

    fn take(&mut self, rung: Rung, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        for address in addresses {
            match address {
                IpAddr::V4(a) => self.v4.push(a),
                IpAddr::V6(a) => self.v6.push(a),
            }
        }
        self.v4.sort_unstable();
        self.v4.dedup();
        self.v6.sort_unstable();
        self.v6.dedup();
        if self.has_address() {
            self.rung = rung;
        }
        self.has_address()
    }
}

/// A Service that publishes a hostname.
#[derive(Clone, Debug)]
pub struct Publisher<'w> {
    /// Of which cluster.
    pub cluster: ClusterIx,
    /// The Service.
    pub service: ServiceView<'w>,
    /// What is behind it.
    pub slices: Slices<'w>,
    /// Its scope.
    pub scope: Scope,
    /// The target of an ExternalName, checked.
    pub external: Option<Name>,
    /// R19: it takes over the cluster's own name.
    pub takeover: bool,
}

impl<'w> Publisher<'w> {
    /// Its endpoints that count as ready (R6).
    pub fn ready(&self) -> impl Iterator<Item = EndpointView<'w>> + use<'w> {
        let all = self.service.publish_not_ready;
        self.slices.flat_map(|s| s.endpoints).filter(move |e| e.ready || all)
    }

    /// Whether it is headless.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.service.reach == ReachView::Headless
    }

    fn cluster_ips(&self) -> Addresses<'w> {
        match self.service.reach {
            ReachView::ClusterIps(ips) => ips,
            ReachView::Headless | ReachView::ExternalName(_) => Addresses::default(),
        }
    }
}

/// Those of the publishers of a Service name that are of one segment, or of those the ones that callers of other segments
/// may know of (R5).
#[derive(Clone, Copy, Debug)]
pub struct Group<'g, 'w> {
    all: &'g [(SegmentIx, Publisher<'w>)],
    segment: SegmentIx,
    global: bool,
}

impl<'g, 'w> Group<'g, 'w> {
    /// Those of a segment.
    #[must_use]
    pub const fn of(all: &'g [(SegmentIx, Publisher<'w>)], segment: SegmentIx) -> Self {
        Self { all, segment, global: false }
    }

    /// The ones of scope `global` among them.
    #[must_use]
    pub const fn globals(self) -> Self {
        Self { global: true, ..self }
    }

    /// Each of them, by cluster.
    pub fn iter(self) -> impl Iterator<Item = &'g Publisher<'w>> + Clone {
        let ours = move |(of, p): &&(SegmentIx, Publisher<'w>)| {
            *of == self.segment && (!self.global || p.scope == Scope::Global)
        };
        self.all.iter().filter(ours).map(|(_, p)| p)
    }

    fn first(self) -> Option<&'g Publisher<'w>> {
        self.iter().next()
    }

    /// The one of the local cluster.
    #[must_use]
    pub fn local(self) -> Option<&'g Publisher<'w>> {
        self.iter().find(|p| p.cluster == LOCAL)
    }
}

/// Climbs the ladder for `host`: its generated entries (of the local cluster), then those of `publishers`, which are the
/// ones that the class of callers may know of (R5).
#[must_use]
pub fn climb(host: &Name, entries: &[&ServiceEntry], publishers: Group<'_, '_>) -> Answers {
    let local = publishers.local();
    let mut out = Answers::default();
    let entry = entries.iter().find(|e| out.take(Rung::EntrySpec, e.addresses.iter().copied()));
    let entry = entry.or_else(|| entries.iter().find(|e| out.take(Rung::EntryStatus, status_of(e, host))));
    if let Some(entry) = entry {
        out.ports = entry_ports(entry);
        if out.ports.is_empty() {
            out.ports = local.or(publishers.first()).map(|p| service_ports(p.service.ports)).unwrap_or_default();
        }
        return out;
    }
    if climb_services(&mut out, local, publishers) {
        return out;
    }
    out.awaits = publishers.first().is_none() || publishers.iter().any(|p| !p.is_headless());
    out.ports = match (local.or(publishers.first()), entries.first()) {
        (Some(p), _) if p.is_headless() => without_targets(service_ports(p.service.ports)),
        (Some(p), _) => service_ports(p.service.ports),
        (None, Some(entry)) => entry_ports(entry),
        (None, None) => Vec::new(),
    };
    out
}

/// Rungs (c) to (e); true if one held.
fn climb_services(out: &mut Answers, local: Option<&Publisher<'_>>, publishers: Group<'_, '_>) -> bool {
    if let Some(p) = local {
        if let Some(target) = &p.external {
            out.cname = Some(target.clone());
            out.rung = Rung::ExternalName;
            return true;
        }
        let ready = p.ready().any(|e| !e.addresses.is_empty());
        if p.is_headless() && out.take(Rung::LocalReady, p.ready().flat_map(|e| e.addresses)) {
            out.ports = headless_ports([p].into_iter());
            return true;
        }
        if ready && out.take(Rung::LocalReady, p.cluster_ips()) {
            out.ports = service_ports(p.service.ports);
            return true;
        }
    }
    let peers = publishers.iter().filter(|p| p.cluster != LOCAL);
    let endpoints = peers.clone().flat_map(Publisher::ready).flat_map(|e| e.addresses);
    if out.take(Rung::PeerEndpoints, endpoints) {
        out.ports = headless_ports(peers);
        return true;
    }
    if let Some(target) = peers.clone().find_map(|p| p.external.as_ref()) {
        out.cname = Some(target.clone());
        out.rung = Rung::ExternalName;
        return true;
    }
    if let Some(p) = local
        && out.take(Rung::LocalClusterIps, p.cluster_ips())
    {
        out.ports = service_ports(p.service.ports);
        return true;
    }
    false
}

/// R6 (b): the addresses that the control plane gave to this very host.
pub fn status_of<'a>(entry: &'a ServiceEntry, host: &'a Name) -> impl Iterator<Item = IpAddr> + use<'a> {
    let same = move |h: &str| h.eq_ignore_ascii_case(host.as_str());
    entry.status_addresses.iter().filter(move |(h, _)| same(h)).map(|(_, a)| *a)
}

/// SRV of a virtual address that an entry gives.
fn entry_ports(entry: &ServiceEntry) -> Vec<SrvPort> {
    service_ports(entry.ports.iter().map(|p| PortView { name: &p.name, number: p.number, protocol: p.protocol }))
}

/// SRV of a virtual address: the Service's own port numbers.
fn service_ports<'p>(ports: impl Iterator<Item = PortView<'p>> + Clone) -> Vec<SrvPort> {
    let named = ports.filter(|p| !p.name.is_empty());
    let mut out = Vec::with_capacity(named.clone().count());
    out.extend(named.map(|p| SrvPort {
        name: p.name.to_ascii_lowercase().into(),
        protocol: p.protocol,
        targets: vec![(p.number, None)],
    }));
    out.sort();
    out.dedup_by(|b, a| (&a.name, a.protocol) == (&b.name, b.protocol));
    out
}

/// SRV of endpoints that are reached directly: their target ports, and their hostnames where they have one.
fn headless_ports<'g, 'w: 'g>(publishers: impl Iterator<Item = &'g Publisher<'w>>) -> Vec<SrvPort> {
    let mut out: Vec<SrvPort> = Vec::new();
    for p in publishers {
        for slice in p.slices {
            let ready = slice.endpoints.filter(|e| e.ready || p.service.publish_not_ready);
            let hostname =
                |e: EndpointView<'w>| if p.is_headless() { e.hostname.map(Into::into) } else { None::<Box<str>> };
            for port in slice.ports.filter(|port| !port.name.is_empty()) {
                let name: Box<str> = port.name.to_ascii_lowercase().into();
                let targets = ready.clone().map(|e| (port.number, hostname(e)));
                match out.iter_mut().find(|have| have.name == name && have.protocol == port.protocol) {
                    Some(have) => have.targets.extend(targets),
                    None => out.push(SrvPort { name, protocol: port.protocol, targets: targets.collect() }),
                }
            }
        }
    }
    for port in &mut out {
        port.targets.sort_unstable();
        port.targets.dedup();
    }
    out.sort();
    out
}

/// SRV names that exist, with nobody behind them yet.
fn without_targets(mut ports: Vec<SrvPort>) -> Vec<SrvPort> {
    ports.iter_mut().for_each(|p| p.targets.clear());
    ports
}
