//! Every name that a caller's segment sees, with what it has for that segment (R6, R9, R18, R22).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::mesh::{Endpoint, Port, Reach, Service, Slice};
use super::rules::{Host, Model, Publisher, given};

/// What a name has.
#[derive(Clone, Debug)]
pub enum What {
    /// Addresses of both families; none is a name without data.
    Addresses(Vec<IpAddr>),
    /// No address yet, within the grace (R22).
    Fresh,
    /// An ExternalName's target.
    Link(String),
    /// Port, target, and the target's addresses.
    Services(Vec<(u16, String, Vec<IpAddr>)>),
}

/// Where the addresses of a host come from, for callers of one segment (R6).
enum Source<'m> {
    /// (a), (b)
    Entry(Vec<IpAddr>, &'m [Port]),
    /// (c), (e)
    ClusterIps(Vec<IpAddr>, &'m [Port]),
    /// (c) of a headless Service, (d): those that are ready, and all slices that they are of
    Endpoints(Vec<(&'m Slice, &'m Endpoint)>, Vec<&'m Slice>),
    /// An ExternalName.
    Link(String),
    /// None. A headless Service without endpoints is so by intent.
    Nothing { headless: bool },
}

impl<'m> Model<'m> {
    /// The slices of a publisher.
    fn slices(&self, p: &Publisher<'m>) -> Vec<&'m Slice> {
        let Service { namespace, name, .. } = p.service;
        let all = self.mesh.clusters[p.cluster].slices();
        all.filter(|s| s.namespace == *namespace && s.service == *name).collect()
    }

    /// The ready endpoints of a publisher.
    fn ready(&self, p: &Publisher<'m>) -> Vec<(&'m Slice, &'m Endpoint)> {
        let all = self.slices(p).into_iter().flat_map(|s| s.endpoints.iter().map(move |e| (s, e)));
        all.filter(|(_, e)| p.service.publish_not_ready || e.ready.unwrap_or(true)).collect()
    }

    /// R6 for callers of a segment: of the publishers only those that they see.
    fn source(&self, host: &Host<'m>, segment: &str) -> Source<'m> {
        let seen: Vec<_> = host.publishers.iter().filter(|p| self.lets(segment, &host.segment, p.scope)).collect();
        if let Some((all, entry)) = given(&host.entries, &host.name) {
            let of_service = seen.first().map(|p| &*p.service.ports).filter(|_| entry.ports.is_empty());
            return Source::Entry(all, of_service.unwrap_or(&entry.ports));
        }
        let here = seen.iter().find(|p| p.cluster == 0);
        if let Some(here) = here {
            let ready = self.ready(here);
            match &here.service.reach {
                Reach::External(to) => return Source::Link(target(to)),
                Reach::Headless if !ready.is_empty() => return Source::Endpoints(ready, self.slices(here)),
                Reach::Ips(ips) if !ready.is_empty() && !ips.is_empty() => {
                    return Source::ClusterIps(ips.clone(), &here.service.ports);
                }
                _ => {}
            }
        }
        let peers = || seen.iter().filter(|p| p.cluster > 0);
        let of_peers: Vec<_> = peers().flat_map(|p| self.ready(p)).collect();
        if !of_peers.is_empty() {
            return Source::Endpoints(of_peers, peers().flat_map(|p| self.slices(p)).collect());
        }
        if let Some(Reach::External(to)) = peers().find(|p| is_external(p)).map(|p| &p.service.reach) {
            return Source::Link(target(to));
        }
        if let Some(Reach::Ips(ips)) = here.map(|p| &p.service.reach).filter(|r| **r != Reach::Ips(Vec::new())) {
            return Source::ClusterIps(ips.clone(), &here.expect("it is there").service.ports);
        }
        let headless = !seen.is_empty() && seen.iter().all(|p| p.service.reach == Reach::Headless);
        Source::Nothing { headless }
    }

    /// The addresses of a host.
    #[must_use]
    pub fn addresses_of(&self, host: &Host<'m>, segment: &str) -> Vec<IpAddr> {
        match self.source(host, segment) {
            Source::Entry(all, _) | Source::ClusterIps(all, _) => all,
            Source::Endpoints(all, _) => unique(all.iter().map(|(_, e)| e.address).collect()),
            Source::Link(_) | Source::Nothing { .. } => Vec::new(),
        }
    }

    /// All names that callers of a segment see.
    #[must_use]
    pub fn names(&self, segment: &str) -> Vec<(String, What)> {
        let mut all = Vec::new();
        for host in self.hosts.iter().filter(|h| self.sees(segment, h)) {
            self.names_of(host, segment, &mut all);
        }
        for (name, host) in &self.aliases {
            let host = &self.hosts[*host];
            if self.sees(segment, host) {
                all.push((name.clone(), self.what_of(host, segment)));
            }
        }
        all
    }

    fn what_of(&self, host: &Host<'m>, segment: &str) -> What {
        match self.source(host, segment) {
            Source::Link(to) => What::Link(to),
            Source::Nothing { headless: false } if self.mesh.policy.grace => What::Fresh,
            _ => What::Addresses(self.addresses_of(host, segment)),
        }
    }

    /// A host, the endpoints with a hostname below it, and its SRV names.
    fn names_of(&self, host: &Host<'m>, segment: &str, all: &mut Vec<(String, What)>) {
        let name = &host.name;
        all.push((name.clone(), self.what_of(host, segment)));
        let source = self.source(host, segment);
        let addresses = self.addresses_of(host, segment);
        let mut services: Vec<(String, u16, String, Vec<IpAddr>)> = Vec::new();
        match &source {
            Source::Entry(_, ports) | Source::ClusterIps(_, ports) => {
                let own = ports.iter().map(|p| (srv_name(p, name), p.number, name.clone(), addresses.clone()));
                services.extend(own);
            }
            Source::Endpoints(endpoints, slices) => {
                let ports = slices.iter().flat_map(|s| &s.ports).map(|p| srv_name(p, name));
                all.extend(ports.map(|owner| (owner, What::Services(Vec::new()))));
                for (slice, endpoint) in endpoints {
                    let named = endpoint.hostname.as_deref().filter(|_| self.is_headless(host, slice));
                    let (target, behind) = match named {
                        Some(hostname) => (format!("{hostname}.{name}"), self.of_hostname(host, segment, hostname)),
                        None => (name.clone(), addresses.clone()),
                    };
                    let own = slice.ports.iter().map(|p| (srv_name(p, name), p.number, target.clone(), behind.clone()));
                    services.extend(own);
                }
            }
            Source::Nothing { .. } => {
                let first = host.publishers.iter().find(|p| self.lets(segment, &host.segment, p.scope));
                let of_entry = host.entries.first().filter(|_| first.is_none()).map(|e| &e.ports);
                for port in first.map(|p| &p.service.ports).or(of_entry).into_iter().flatten() {
                    if first.is_some_and(|p| p.service.reach == Reach::Headless) {
                        all.push((srv_name(port, name), What::Services(Vec::new())));
                    } else {
                        services.push((srv_name(port, name), port.number, name.clone(), Vec::new()));
                    }
                }
            }
            Source::Link(_) => {}
        }
        for hostname in self.hostnames(host, segment) {
            let behind = self.of_hostname(host, segment, &hostname);
            all.push((format!("{hostname}.{name}"), What::Addresses(behind)));
        }
        for (owner, port, target, behind) in services.into_iter().filter(|(owner, ..)| !owner.starts_with("_.")) {
            let service = (port, target, behind);
            match all.iter_mut().find(|(n, _)| *n == owner) {
                Some((_, What::Services(list))) if list.contains(&service) => {}
                Some((_, What::Services(list))) => list.push(service),
                _ => all.push((owner, What::Services(vec![service]))),
            }
        }
    }

    /// The headless Services that publish a host and that a segment sees, own cluster first.
    fn headless<'h>(&'h self, host: &'h Host<'m>, segment: &'h str) -> impl Iterator<Item = &'h Publisher<'m>> {
        let seen = host.publishers.iter().filter(|p| self.lets(segment, &host.segment, p.scope));
        seen.filter(|p| p.service.reach == Reach::Headless)
    }

    /// The hostnames of their ready endpoints.
    fn hostnames(&self, host: &Host<'m>, segment: &str) -> BTreeSet<String> {
        let ready = self.headless(host, segment).flat_map(|p| self.ready(p));
        ready.filter_map(|(_, e)| e.hostname.clone()).collect()
    }

    /// The addresses behind a hostname: the local cluster's, or if it has none the peers'.
    fn of_hostname(&self, host: &Host<'m>, segment: &str, hostname: &str) -> Vec<IpAddr> {
        let of = |local: bool| {
            let ready = self.headless(host, segment).filter(|p| (p.cluster == 0) == local).flat_map(|p| self.ready(p));
            ready.filter(|(_, e)| e.hostname.as_deref() == Some(hostname)).map(|(_, e)| e.address).collect::<Vec<_>>()
        };
        let here = of(true);
        unique(if here.is_empty() { of(false) } else { here })
    }

    /// Whether a slice is of a headless Service: only its endpoints have names of their own.
    fn is_headless(&self, host: &Host<'m>, slice: &Slice) -> bool {
        host.publishers.iter().any(|p| {
            p.service.reach == Reach::Headless && self.mesh.clusters[p.cluster].slices().any(|s| std::ptr::eq(s, slice))
        })
    }
}

fn is_external(p: &Publisher<'_>) -> bool {
    matches!(p.service.reach, Reach::External(_))
}

fn target(text: &str) -> String {
    text.to_lowercase().trim_end_matches('.').to_owned()
}

fn srv_name(port: &Port, host: &str) -> String {
    format!("_{}._{}.{host}", port.name.to_lowercase(), if port.udp { "udp" } else { "tcp" })
}

fn unique(mut all: Vec<IpAddr>) -> Vec<IpAddr> {
    all.sort();
    all.dedup();
    all
}
