//! The addresses of one hostname (R6): a ladder, and the first rung that yields any is the answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cluster::Behind;
use super::label::Scope;
use super::name::Name;
use super::object::{ClusterIx, Endpoint, LOCAL, Port, Protocol, Reach, Service, ServiceEntry};

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
pub struct Publisher {
    /// Of which cluster.
    pub cluster: ClusterIx,
    /// The Service.
    pub service: Service,
    /// What is behind it.
    pub slices: Vec<Behind>,
    /// Its scope.
    pub scope: Scope,
    /// The target of an ExternalName, checked.
    pub external: Option<Name>,
    /// R19: it takes over the cluster's own name.
    pub takeover: bool,
}

impl Publisher {
    /// Its endpoints that count as ready (R6).
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        let all = self.service.publish_not_ready;
        self.slices.iter().flat_map(|s| s.endpoints.iter()).filter(move |e| e.ready || all)
    }

    fn is_headless(&self) -> bool {
        self.service.reach == Reach::Headless
    }

    fn cluster_ips(&self) -> &[IpAddr] {
        match &self.service.reach {
            Reach::ClusterIps(ips) => ips,
            Reach::Headless | Reach::ExternalName(_) => &[],
        }
    }
}

/// Climbs the ladder for `host`: its generated entries (of the local cluster), then those of `publishers`, which are the
/// ones that the class of callers may know of (R5).
#[must_use]
pub fn climb(host: &Name, entries: &[&ServiceEntry], publishers: &[&Publisher]) -> Answers {
    let local = publishers.iter().find(|p| p.cluster == LOCAL).copied();
    let mut out = Answers::default();
    let entry = entries.iter().find(|e| out.take(Rung::EntrySpec, e.addresses.iter().copied()));
    let entry = entry.or_else(|| entries.iter().find(|e| out.take(Rung::EntryStatus, status_of(e, host))));
    if let Some(entry) = entry {
        out.ports = service_ports(&entry.ports);
        if out.ports.is_empty() {
            out.ports =
                local.or(publishers.first().copied()).map(|p| service_ports(&p.service.ports)).unwrap_or_default();
        }
        return out;
    }
    if climb_services(&mut out, local, publishers) {
        return out;
    }
    out.awaits = publishers.is_empty() || publishers.iter().any(|p| !p.is_headless());
    out.ports = match (local.or(publishers.first().copied()), entries.first()) {
        (Some(p), _) if p.is_headless() => without_targets(service_ports(&p.service.ports)),
        (Some(p), _) => service_ports(&p.service.ports),
        (None, Some(entry)) => service_ports(&entry.ports),
        (None, None) => Vec::new(),
    };
    out
}

/// Rungs (c) to (e); true if one held.
fn climb_services(out: &mut Answers, local: Option<&Publisher>, publishers: &[&Publisher]) -> bool {
    if let Some(p) = local {
        if let Some(target) = &p.external {
            out.cname = Some(target.clone());
            out.rung = Rung::ExternalName;
            return true;
        }
        let ready = p.ready().any(|e| !e.addresses.is_empty());
        if p.is_headless() && out.take(Rung::LocalReady, p.ready().flat_map(|e| e.addresses.iter().copied())) {
            out.ports = headless_ports(&[p]);
            return true;
        }
        if ready && out.take(Rung::LocalReady, p.cluster_ips().iter().copied()) {
            out.ports = service_ports(&p.service.ports);
            return true;
        }
    }
    let peers: Vec<_> = publishers.iter().filter(|p| p.cluster != LOCAL).copied().collect();
    let endpoints = peers.iter().flat_map(|p| p.ready()).flat_map(|e| e.addresses.iter().copied());
    if out.take(Rung::PeerEndpoints, endpoints) {
        out.ports = headless_ports(&peers);
        return true;
    }
    if let Some(target) = peers.iter().find_map(|p| p.external.as_ref()) {
        out.cname = Some(target.clone());
        out.rung = Rung::ExternalName;
        return true;
    }
    if let Some(p) = local
        && out.take(Rung::LocalClusterIps, p.cluster_ips().iter().copied())
    {
        out.ports = service_ports(&p.service.ports);
        return true;
    }
    false
}

/// R6 (b): the addresses that the control plane gave to this very host.
pub fn status_of<'a>(entry: &'a ServiceEntry, host: &'a Name) -> impl Iterator<Item = IpAddr> + use<'a> {
    let same = move |h: &str| h.eq_ignore_ascii_case(host.as_str());
    entry.status_addresses.iter().filter(move |(h, _)| same(h)).map(|(_, a)| *a)
}

/// SRV of a virtual address: the Service's own port numbers.
#[must_use]
pub fn service_ports(ports: &[Port]) -> Vec<SrvPort> {
    let named = ports.iter().filter(|p| !p.name.is_empty());
    let mut out: Vec<SrvPort> = named
        .map(|p| SrvPort {
            name: p.name.to_ascii_lowercase().into(),
            protocol: p.protocol,
            targets: vec![(p.number, None)],
        })
        .collect();
    out.sort();
    out.dedup_by(|b, a| (&a.name, a.protocol) == (&b.name, b.protocol));
    out
}

/// SRV of endpoints that are reached directly: their target ports, and their hostnames where they have one.
fn headless_ports(publishers: &[&Publisher]) -> Vec<SrvPort> {
    let mut out: Vec<SrvPort> = Vec::new();
    for p in publishers {
        for slice in &p.slices {
            let ready: Vec<_> = slice.endpoints.iter().filter(|e| e.ready || p.service.publish_not_ready).collect();
            let hostname = |e: &&Endpoint| if p.is_headless() { e.hostname.clone() } else { None };
            for port in slice.ports.iter().filter(|port| !port.name.is_empty()) {
                let name: Box<str> = port.name.to_ascii_lowercase().into();
                let targets = ready.iter().map(|e| (port.number, hostname(e)));
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
