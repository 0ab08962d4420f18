//! The contract's section 4: what a caller is answered (R13, R14, R16, R18, R19, R21 to R23).

use std::net::IpAddr;

use super::caller::{Caller, Standing};
use super::mesh::{CLUSTER, is_below, is_in};
use super::names::What;
use super::rules::{Host, Model};
use super::upstream;
use super::wire::{self, A, AAAA, ANY, CNAME, HINFO, NS, Rec, SOA, SRV};

/// `answers.ttl` and `answers.negativeTtl`
pub const TTL: u32 = 5;
/// After so many links of CNAMEs it is a loop.
const LINKS: usize = 8;
/// Extended errors (RFC 8914): Not Ready
const NOT_READY: u16 = 14;
/// Prohibited: the asker is nobody who may ask.
const PROHIBITED: u16 = 18;

/// What has to be answered; names in lower case, the asked one too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The response code.
    pub rcode: u16,
    /// AA.
    pub aa: bool,
    /// The answer section, in any order.
    pub answers: Vec<Rec>,
    /// The authority section.
    pub authority: Vec<Rec>,
    /// The additional section, without OPT.
    pub additional: Vec<Rec>,
    /// The extended error.
    pub ede: Option<u16>,
}

pub(super) fn own(owner: &str, rtype: u16, data: impl Into<String>) -> Rec {
    Rec { owner: owner.to_owned(), rtype, ttl: TTL, data: data.into() }
}

fn soa_of(zone: &str) -> Rec {
    own(zone, SOA, wire::soa(TTL))
}

/// A and AAAA of these addresses, as far as they are asked for and the caller gets them.
fn addresses(owner: &str, all: &[IpAddr], rtype: u16, caller: &Caller) -> Vec<Rec> {
    let wanted = |ip: &&IpAddr| match ip {
        IpAddr::V4(_) => rtype == A,
        IpAddr::V6(_) => rtype == AAAA && caller.six,
    };
    all.iter().filter(wanted).map(|ip| own(owner, rtype, ip.to_string())).collect()
}

impl Answer {
    fn of(answers: Vec<Rec>) -> Self {
        Self { aa: true, answers, ..Self::default() }
    }

    fn negative(rcode: u16, zone: &str) -> Self {
        Self { rcode, aa: true, authority: vec![soa_of(zone)], ..Self::default() }
    }

    /// The name exists, nothing of that type.
    fn no_data(zone: &str) -> Self {
        Self::negative(0, zone)
    }

    fn no_name(zone: &str) -> Self {
        Self::negative(3, zone)
    }

    /// Records, or if there are none the name without data.
    fn some(answers: Vec<Rec>, zone: &str) -> Self {
        if answers.is_empty() { Self::no_data(zone) } else { Self::of(answers) }
    }

    fn failed(ede: Option<u16>) -> Self {
        Self { rcode: 2, ede, ..Self::default() }
    }

    /// The same behind a link to it.
    pub(super) fn behind(mut self, link: Rec) -> Self {
        if self.rcode == 2 {
            return self;
        }
        self.answers.insert(0, link);
        self.aa = true;
        self
    }
}

impl Model<'_> {
    /// What this caller is answered.
    #[must_use]
    pub fn answer(&self, caller: &Caller, name: &str, rtype: u16) -> Answer {
        self.completed(caller, name, rtype, self.at(caller, name, rtype, 0))
    }

    /// As [`Model::answer`], so many links from what was asked.
    pub(super) fn at(&self, caller: &Caller, name: &str, rtype: u16, links: usize) -> Answer {
        if links > LINKS {
            return Answer::failed(None);
        }
        if self.zone_of(name).is_some() {
            self.mesh_name(caller, name, rtype, links)
        } else if is_in(name, CLUSTER) {
            self.cluster_name(caller, name, rtype, links)
        } else {
            self.other_name(caller, name, rtype, links)
        }
    }

    /// Whether segments are asked for at all yet: the segment of a caller for whom they are.
    fn asker<'c>(&self, caller: &'c Caller) -> Option<&'c str> {
        caller.segment().filter(|_| self.local().synced)
    }

    /// A name in a mesh zone (R3, R13, R14, R18, R22).
    fn mesh_name(&self, caller: &Caller, name: &str, rtype: u16, links: usize) -> Answer {
        let zone = self.zone_of(name).expect("a mesh zone");
        if !self.local().synced {
            return Answer::failed(Some(NOT_READY));
        }
        let segment = match &caller.standing {
            Standing::Of(segment) => segment,
            Standing::Invalid | Standing::Unknown => return Answer::failed(Some(PROHIBITED)),
        };
        if name == zone {
            return match rtype {
                SOA => Answer::of(vec![soa_of(zone)]),
                NS => Answer::of(vec![own(zone, NS, "ns.dns.cluster.local")]),
                ANY => any(name),
                _ => Answer::no_data(zone),
            };
        }
        let all = self.names(segment);
        match all.iter().find(|(n, _)| n == name) {
            Some((_, what)) => self.what(caller, (name, zone), what, rtype, links),
            None if all.iter().any(|(n, _)| is_below(n, name)) => Answer::no_data(zone),
            None if self.segments.values().any(|apex| is_below(apex, name)) => Answer::no_data(zone),
            None => Answer::no_name(zone),
        }
    }

    /// What a name that the caller sees has of this type. `zone` is whose SOA says that there is nothing.
    fn what(&self, caller: &Caller, (name, zone): (&str, &str), what: &What, rtype: u16, links: usize) -> Answer {
        match what {
            What::Fresh => Answer::failed(Some(NOT_READY)),
            What::Link(to) => {
                let link = own(name, CNAME, to.clone());
                if rtype == CNAME || rtype == ANY {
                    return Answer::of(vec![link]);
                }
                // What failed is not the name that was asked, so it is not explained.
                Answer { ede: None, ..self.at(caller, to, rtype, links + 1).behind(link) }
            }
            _ if rtype == ANY => any(name),
            What::Addresses(all) => Answer::some(addresses(name, all, rtype, caller), zone),
            What::Services(all) => {
                if rtype != SRV || all.is_empty() {
                    return Answer::no_data(zone);
                }
                let mut answer = Answer::of(Vec::new());
                for (port, target, behind) in all {
                    answer.answers.push(own(name, SRV, format!("0 100 {port} {target}")));
                    answer.additional.extend([A, AAAA].iter().flat_map(|t| addresses(target, behind, *t, caller)));
                }
                answer.additional.sort();
                answer.additional.dedup();
                answer
            }
        }
    }

    /// A name outside of mesh zones and cluster domain: an alias, a hand-written host, or the world's.
    fn other_name(&self, caller: &Caller, name: &str, rtype: u16, links: usize) -> Answer {
        if let Some(segment) = self.asker(caller)
            && let Some((_, what)) = self.names(segment).iter().find(|(n, _)| n == name)
        {
            return self.what(caller, (name, name), what, rtype, links);
        }
        if let Some(all) = self.written(name).filter(|_| self.local().synced) {
            return self.what(caller, (name, name), &What::Addresses(all), rtype, links);
        }
        let answer = forwarded(name, rtype);
        let reverse = ["in-addr.arpa", "ip6.arpa"].into_iter().find(|zone| is_in(name, zone));
        match reverse.filter(|_| self.mesh.policy.closed) {
            Some(zone) if answer.rcode == 3 || !self.names_seen(caller, name) => Answer::no_name(zone),
            _ => answer,
        }
    }

    /// R16: whether what a reverse name leads to is a name that the caller may see.
    fn names_seen(&self, caller: &Caller, reverse: &str) -> bool {
        upstream::says(reverse, wire::PTR).answers.iter().all(|r| self.is_open(caller, &r.data))
    }

    /// R10: the addresses that a hand-written entry gives a name, its own before those of a wildcard.
    fn written(&self, name: &str) -> Option<Vec<IpAddr>> {
        let exact = self.public.iter().find(|(host, _)| host == name);
        let mut wild: Vec<_> = self
            .public
            .iter()
            .filter(|(host, _)| host.strip_prefix("*.").is_some_and(|zone| is_below(name, zone)))
            .collect();
        wild.sort_by_key(|(host, _)| host.len());
        exact.or(wild.pop()).map(|(_, all)| all.clone())
    }

    /// R16, R19, R21 and what is left.
    fn cluster_name(&self, caller: &Caller, name: &str, rtype: u16, links: usize) -> Answer {
        let taken = self.taken_over(caller, name);
        if let Some(meant) = self.search_form(caller, name).filter(|_| taken.is_none()) {
            if !self.local().synced {
                return Answer::failed(Some(NOT_READY));
            }
            let exists = self.asker(caller).is_some_and(|segment| self.exists(segment, meant));
            let link = own(name, CNAME, meant);
            if !exists {
                return Answer::no_name(CLUSTER);
            }
            let answer = self.at(caller, meant, rtype, links + 1);
            let is_all = rtype == CNAME && answer.rcode != 2;
            return if is_all { Answer::of(vec![link]) } else { answer.behind(link) };
        }
        let is_hidden = self.mesh.policy.closed && !self.is_open(caller, name);
        if is_hidden && taken.is_none() {
            return if self.local().synced { Answer::no_name(CLUSTER) } else { Answer::failed(Some(NOT_READY)) };
        }
        if let Some((host, all)) = &taken
            && (rtype == A || rtype == AAAA)
        {
            if !self.mesh.policy.takeover_cname {
                return Answer::some(addresses(name, all, rtype, caller), CLUSTER);
            }
            let zone = self.zone_of(host).expect("a mesh name");
            return Answer::some(addresses(host, all, rtype, caller), zone).behind(own(name, CNAME, host.clone()));
        }
        if is_hidden {
            return Answer::no_data(CLUSTER);
        }
        let answer = forwarded(name, rtype);
        match answer.rcode {
            3 if taken.is_some() => Answer::no_data(CLUSTER),
            3 if self.mesh.policy.closed => Answer::no_name(CLUSTER),
            _ => answer,
        }
    }

    /// R16: whether a cluster name is one that the caller may see, if `clusterNames` is `segment`.
    #[must_use]
    pub fn is_open(&self, caller: &Caller, name: &str) -> bool {
        let below = [".svc.cluster.local", ".pod.cluster.local"].into_iter().find_map(|zone| name.strip_suffix(zone));
        let Some(namespace) = below.map(|rest| rest.rsplit('.').next().unwrap_or_default()) else { return true };
        if self.mesh.policy.always.iter().any(|n| n == namespace) {
            return true;
        }
        super::rules::is_known(self.local(), namespace)
            && self.asker(caller).is_some()
            && self.segment_here(namespace).as_deref() == caller.segment()
    }

    /// R21: the mesh name that a name of the cluster domain means.
    #[must_use]
    pub fn search_form<'n>(&self, caller: &Caller, name: &'n str) -> Option<&'n str> {
        let is_name = |n: &&str| self.zone_of(n).is_some_and(|zone| zone != *n);
        let local = self.local();
        let rest = name.strip_suffix(".cluster.local")?;
        let Some(rest) = rest.strip_suffix(".svc") else { return Some(rest).filter(is_name) };
        let last = |n: &'n str| n.rsplit('.').next().unwrap_or_default();
        // What is hidden from the caller is nothing that the name could mean.
        let open = !self.mesh.policy.closed || self.is_open(caller, name);
        let (meant, namespace) = rest.rsplit_once('.')?;
        let service = local.services().any(|s| s.namespace == namespace && s.name == last(meant));
        let is_namespace = local.namespaces().any(|n| n.name == namespace);
        let below = Some(meant).filter(is_name).filter(|_| !(service && open));
        below.or_else(|| Some(rest).filter(is_name).filter(|_| !(is_namespace && open)))
    }

    /// R19, R20: the mesh name that answers a cluster name for this caller, and its addresses.
    #[must_use]
    pub fn taken_over(&self, caller: &Caller, name: &str) -> Option<(String, Vec<IpAddr>)> {
        let segment = self.asker(caller).filter(|_| caller.enrolled)?;
        let (service, namespace) = name.strip_suffix(".svc.cluster.local")?.split_once('.')?;
        if namespace.contains('.') {
            return None;
        }
        let mesh_name = format!("{service}.{namespace}.{}", self.segments[segment]);
        let host = self.hosts.iter().find(|h| h.name == mesh_name && h.segment == segment);
        let lists = self.generated().filter(|(entry, parent, of)| {
            (*parent, *of) == (service, namespace)
                && entry.hosts.iter().any(|h| h.to_lowercase() == name)
                && self.entry_segment(entry, namespace, name).as_deref() == Some(segment)
        });
        let lists: Vec<_> = lists.map(|(entry, ..)| entry).collect();
        if !self.is_taken(host, (service, namespace), !lists.is_empty()) {
            return None;
        }
        let mut all = host.map_or_else(Vec::new, |h| self.addresses_of(h, segment));
        if all.is_empty() {
            all.extend(super::rules::given(&lists, name).into_iter().flat_map(|(all, _)| all));
        }
        Some((mesh_name, all)).filter(|(_, all)| !all.is_empty())
    }

    /// Whether labels, or an entry that lists the cluster name, ask for takeover.
    fn is_taken(&self, host: Option<&Host<'_>>, (service, namespace): (&str, &str), listed: bool) -> bool {
        use super::mesh::{Reach, TAKEOVER};
        let local = self.local();
        let plain = |reach: &Reach| matches!(reach, Reach::Ips(_));
        match local.services().find(|s| s.name == service && s.namespace == namespace) {
            Some(here) => {
                let label = here.labels.get(TAKEOVER).map(String::as_str);
                let label = label.or_else(|| local.namespace_label(namespace, TAKEOVER));
                let published = host.is_some_and(|h| h.publishers.iter().any(|p| p.cluster == 0));
                let refused = label.is_some_and(|value| value != "true");
                plain(&here.reach) && !refused && (listed || (published && self.takes_over(0, here)))
            }
            None => {
                let mut peers = host.into_iter().flat_map(|h| &h.publishers);
                listed || peers.any(|p| plain(&p.service.reach) && self.takes_over(p.cluster, p.service))
            }
        }
    }

    /// Whether a mesh name is there for a caller of a segment, empty non-terminals too.
    fn exists(&self, segment: &str, name: &str) -> bool {
        let all = self.names(segment);
        all.iter().any(|(n, _)| is_in(n, name)) || self.segments.values().any(|apex| is_below(apex, name))
    }
}

/// The answer to ANY at a name that exists (RFC 8482).
fn any(name: &str) -> Answer {
    Answer::of(vec![own(name, HINFO, "\u{7}RFC8482\0")])
}

/// R23: what the upstream says, AA 0.
fn forwarded(name: &str, rtype: u16) -> Answer {
    let said = upstream::says(name, rtype);
    let soa = |zone: &str| Rec { ttl: upstream::TTL, data: wire::soa(upstream::TTL), ..soa_of(zone) };
    let authority = said.soa.into_iter().map(soa).collect();
    Answer { rcode: said.rcode, answers: said.answers, authority, ..Answer::default() }
}
