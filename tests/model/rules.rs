//! The contract's sections 1 to 3, read off line by line: which names there are, and who sees them (R1 to R12).
//!
//! Slow on purpose: everything is looked up in lists of objects, whenever it is wanted, and names are texts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::mesh::{
    CLUSTER, Cluster, Entry, Labels, Mesh, PARENT, PARENT_NAMESPACE, PEER, ROOT, Reach, SCOPE, SEGMENT, Service,
    TAKEOVER, is_below, is_in, is_ldh,
};

/// The implicit segment, and its domain.
pub const DEFAULT: &str = "default";
/// The default segment's domain.
pub const DEFAULT_DOMAIN: &str = "mesh.internal";

/// How far an exported Service is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// By its own segment.
    Segment,
    /// By all.
    Global,
}

/// A Service that publishes a name.
#[derive(Clone, Copy, Debug)]
pub struct Publisher<'m> {
    /// Its cluster's place; 0 is the local one.
    pub cluster: usize,
    /// The Service.
    pub service: &'m Service,
    /// Its scope.
    pub scope: Scope,
}

/// A published hostname with all that stands behind it (R5).
#[derive(Clone, Debug)]
pub struct Host<'m> {
    /// In lower case.
    pub name: String,
    /// The segment whose name it is.
    pub segment: String,
    /// The Services that publish it, own cluster first.
    pub publishers: Vec<Publisher<'m>>,
    /// Its generated entries, oldest first.
    pub entries: Vec<&'m Entry>,
}

/// The rules over one mesh.
pub struct Model<'m> {
    /// The objects and settings.
    pub mesh: &'m Mesh,
    /// Every valid Segment of the local cluster and the default one: name and domain.
    pub segments: BTreeMap<String, String>,
    /// All published hostnames.
    pub hosts: Vec<Host<'m>>,
    /// Aliases, and the place of the host that each is of (R9).
    pub aliases: Vec<(String, usize)>,
    /// Hosts of hand-written entries (R10), and their addresses.
    pub public: Vec<(String, Vec<IpAddr>)>,
}

/// The valid Segments of a cluster (R2), the default one included.
fn segments_of(cluster: &Cluster) -> BTreeMap<String, String> {
    let mut candidates: Vec<_> = cluster
        .segments()
        .filter(|s| s.namespace == ROOT && s.name != DEFAULT)
        .map(|s| (s.created, &s.name, s.domain.to_lowercase()))
        .filter(|(_, _, domain)| {
            is_ldh(domain)
                && domain != DEFAULT_DOMAIN
                && !is_in(domain, CLUSTER)
                && !is_below(CLUSTER, domain)
                && !is_in(domain, "arpa")
        })
        .collect();
    candidates.sort();
    let mut valid = BTreeMap::from([(DEFAULT.to_owned(), DEFAULT_DOMAIN.to_owned())]);
    for (_, name, domain) in candidates {
        if !valid.values().any(|taken| *taken == domain) {
            valid.insert(name.clone(), domain);
        }
    }
    valid
}

/// Whether what labels a namespace has is known: its object is there, or none is.
pub fn is_known(cluster: &Cluster, namespace: &str) -> bool {
    cluster.namespaces().any(|n| n.name == namespace) || cluster.namespaces().next().is_none()
}

/// What a label value names among these Segments; no label is the default segment.
fn named(label: Option<&str>, segments: &BTreeMap<String, String>) -> Option<String> {
    let name = label.unwrap_or(DEFAULT);
    segments.contains_key(name).then(|| name.to_owned())
}

impl<'m> Model<'m> {
    /// Reads the mesh.
    #[must_use]
    pub fn new(mesh: &'m Mesh) -> Self {
        let segments = segments_of(&mesh.clusters[0]);
        let mut model = Self { mesh, segments, hosts: Vec::new(), aliases: Vec::new(), public: Vec::new() };
        for cluster in 0..mesh.clusters.len() {
            model.publish_services(cluster);
        }
        model.publish_entries();
        model.publish_aliases();
        model.publish_public();
        model
    }

    /// The local cluster.
    #[must_use]
    pub fn local(&self) -> &'m Cluster {
        &self.mesh.clusters[0]
    }

    /// The longest mesh zone that a name is in.
    #[must_use]
    pub fn zone_of(&self, name: &str) -> Option<&str> {
        self.segments.values().map(String::as_str).filter(|zone| is_in(name, zone)).max_by_key(|zone| zone.len())
    }

    /// The label that decides a namespace's segment.
    fn segment_label(&self, cluster: &'m Cluster, namespace: &str) -> Option<&'m str> {
        let own = cluster.namespace_label(namespace, SEGMENT).filter(|_| self.mesh.policy.namespace_segments);
        own.or_else(|| cluster.namespace_label(ROOT, SEGMENT))
    }

    /// The segment of a namespace of the local cluster; `None` if its label names none (R3).
    #[must_use]
    pub fn segment_here(&self, namespace: &str) -> Option<String> {
        let known = is_known(self.local(), namespace);
        named(self.segment_label(self.local(), namespace), &self.segments).filter(|_| known)
    }

    /// The local cluster's segment.
    #[must_use]
    pub fn segment_of_cluster(&self) -> Option<String> {
        named(self.local().namespace_label(ROOT, SEGMENT), &self.segments)
    }

    /// The segment under which a cluster publishes the Services of a namespace (R3, R4).
    fn segment_of(&self, cluster: usize, namespace: &str) -> Option<String> {
        if cluster == 0 {
            return self.segment_here(namespace);
        }
        let peer = &self.mesh.clusters[cluster];
        let theirs = segments_of(peer);
        let same = |name: &str| self.segments.get(name) == theirs.get(name);
        let of_cluster = peer.namespace_label(ROOT, SEGMENT).unwrap_or(DEFAULT);
        let here = self.segments.contains_key(of_cluster);
        let counts = here && (!theirs.contains_key(of_cluster) || same(of_cluster));
        let segment = named(self.segment_label(peer, namespace), &theirs)?;
        (peer.synced && is_known(peer, namespace) && counts && same(&segment)).then_some(segment)
    }

    /// Scope of a Service: its own label, else its namespace's; only these values export it.
    fn scope_of(&self, cluster: usize, service: &'m Service) -> Option<Scope> {
        scope_of(self.scope_label(cluster, service))
    }

    fn scope_label(&self, cluster: usize, service: &'m Service) -> Option<&'m str> {
        let own = service.labels.get(SCOPE).map(String::as_str);
        own.or_else(|| self.mesh.clusters[cluster].namespace_label(&service.namespace, SCOPE))
    }

    /// Whether a Service asks for takeover: its own label, else its namespace's, else the scope `global-only`.
    #[must_use]
    pub fn takes_over(&self, cluster: usize, service: &'m Service) -> bool {
        let own = service.labels.get(TAKEOVER).map(String::as_str);
        let label = own.or_else(|| self.mesh.clusters[cluster].namespace_label(&service.namespace, TAKEOVER));
        label.map_or_else(|| self.scope_label(cluster, service) == Some("global-only"), |value| value == "true")
    }

    fn host_mut(&mut self, name: &str, segment: &str) -> &mut Host<'m> {
        let at = self.hosts.iter().position(|h| h.name == name).unwrap_or_else(|| {
            let (name, segment) = (name.to_owned(), segment.to_owned());
            self.hosts.push(Host { name, segment, publishers: Vec::new(), entries: Vec::new() });
            self.hosts.len() - 1
        });
        &mut self.hosts[at]
    }

    /// R1, R5.
    fn publish_services(&mut self, cluster: usize) {
        let mesh = self.mesh;
        for service in mesh.clusters[cluster].services() {
            let Some(segment) = self.segment_of(cluster, &service.namespace) else { continue };
            let Some(scope) = self.scope_of(cluster, service) else { continue };
            let domain = self.segments[&segment].clone();
            let name = format!("{}.{}.{domain}", service.name, service.namespace);
            let elsewhere = self.zone_of(&name) != Some(&*domain);
            let theirs = matches!(&service.reach, Reach::External(to) if cluster > 0 && in_cluster_domain(to));
            if !elsewhere && !theirs {
                self.host_mut(&name, &segment).publishers.push(Publisher { cluster, service, scope });
            }
        }
    }

    /// The generated entries, each with its parent's name and namespace.
    pub fn generated(&self) -> impl Iterator<Item = (&'m Entry, &'m str, &'m str)> + use<'m> {
        let mut all: Vec<_> = self.local().entries().filter_map(parent_of).collect();
        all.sort_by_key(|(entry, ..)| (entry.created, &entry.namespace, &entry.name));
        all.into_iter()
    }

    /// The segment of a host of an entry, if the host may be there (R8).
    pub fn entry_segment(&self, entry: &Entry, namespace: &str, host: &str) -> Option<String> {
        // A name of the cluster domain is in no zone; the entry's other hosts are.
        let of_hosts = || entry.hosts.iter().find_map(|h| self.zone_of(&h.to_lowercase()));
        let zone = self.zone_of(host).or_else(of_hosts);
        let of_zone = || self.segments.iter().find(|(_, d)| Some(&***d) == zone).map(|(name, _)| &**name);
        let segment = entry.labels.get(SEGMENT).map(String::as_str).or_else(of_zone)?;
        self.segments.get(segment)?;
        let own = self.local().namespace_label(namespace, SEGMENT).filter(|_| self.mesh.policy.namespace_segments);
        let moved = namespace != ROOT && own.is_some_and(|own| own != segment);
        let of_cluster = self.segment_of_cluster().is_some_and(|cluster| cluster == segment);
        (!(moved && of_cluster)).then(|| segment.to_owned())
    }

    /// R7, R8.
    fn publish_entries(&mut self) {
        for (entry, _, namespace) in self.generated() {
            for host in &entry.hosts {
                let name = host.to_lowercase();
                let Some(segment) = self.entry_segment(entry, namespace, &name) else { continue };
                let domain = self.segments[&segment].clone();
                if is_ldh(&name) && is_below(&name, &domain) && self.zone_of(&name) == Some(&domain) {
                    self.host_mut(&name, &segment).entries.push(entry);
                }
            }
        }
    }

    /// R9: every alias that a published Service asks for, the first in the order of precedence first.
    fn publish_aliases(&mut self) {
        let mut wanted: Vec<_> = (0..self.hosts.len()).flat_map(|host| self.aliases_of(host)).collect();
        wanted.sort();
        for (_, name, host) in wanted {
            let taken = self.hosts.iter().any(|h| h.name == name) || self.aliases.iter().any(|(n, _)| *n == name);
            if !taken {
                self.aliases.push((name, host));
            }
        }
    }

    /// The aliases that the Services of a host ask for and may have, each with its place in the order of precedence.
    pub fn aliases_of(&self, host: usize) -> Vec<((bool, i64, String), String, usize)> {
        let Host { segment, publishers, entries, .. } = &self.hosts[host];
        let domain = &self.segments[segment];
        let canonical = |name: &str, namespace: &str| format!("{name}.{namespace}.{domain}") == self.hosts[host].name;
        let owner = self.local().segments().find(|s| s.namespace == ROOT && s.name == *segment);
        let patterns = owner.filter(|_| segment != DEFAULT).map_or(&[][..], |s| &s.aliases);
        let mut all = Vec::new();
        let mut named: Vec<_> = publishers.iter().map(|p| (p.cluster, Named::of(p.service))).collect();
        if named.is_empty() {
            let parents = entries.iter().filter_map(|e| parent_of(e)).filter(|(_, name, of)| canonical(name, of));
            named.extend(parents.map(|(e, service, namespace)| (0, Named::of_parent(e, service, namespace))));
        }
        for (cluster, service) in &named {
            for alias in patterns.iter().filter(|a| a.selector.iter().all(|(k, v)| service.labels.get(k) == Some(v))) {
                let Some(name) = rendered(&alias.pattern, service).filter(|name| is_ldh(name)) else { continue };
                let forbidden = is_in(&name, CLUSTER)
                    || is_in(&name, "arpa")
                    || self.zone_of(&name).is_some_and(|zone| zone != domain || zone == name);
                if !forbidden {
                    let id = format!("{}/{}", service.namespace, service.name);
                    all.push(((*cluster > 0, service.created, id), name, host));
                }
            }
        }
        all
    }

    /// R10.
    fn publish_public(&mut self) {
        let mesh = self.mesh;
        let mut written: Vec<_> =
            mesh.clusters[0].entries().filter(|e| mesh.policy.entries_all && is_written(e)).collect();
        written.sort_by_key(|entry| (entry.created, &entry.namespace, &entry.name));
        let taken: Vec<_> = self.aliases.iter().map(|(name, _)| (name.clone(), Vec::new())).collect();
        for (at, entry) in written.iter().enumerate() {
            for host in &entry.hosts {
                let name = host.to_lowercase();
                let bare = name.strip_prefix("*.").unwrap_or(&name);
                let reverse = is_in(bare, "in-addr.arpa") || is_in(bare, "ip6.arpa");
                let allowed = is_ldh(bare) && self.zone_of(bare).is_none() && !is_in(bare, CLUSTER) && !reverse;
                // An alias takes a name before an entry that somebody wrote.
                if !allowed || self.public.iter().chain(&taken).any(|(n, _)| *n == name) {
                    continue;
                }
                let lists = |e: &&Entry| e.hosts.iter().any(|h| h.to_lowercase() == name);
                let same: Vec<&Entry> = written[at..].iter().copied().filter(lists).collect();
                let inline = same.iter().map(|e| &e.endpoints).find(|all| !all.is_empty());
                let addresses = given(&same, &name).map(|(all, _)| all).or_else(|| inline.cloned());
                self.public.extend(addresses.map(|all| (name, all)));
            }
        }
    }
}

fn scope_of(label: Option<&str>) -> Option<Scope> {
    match label {
        Some("global" | "global-only") => Some(Scope::Global),
        Some("segment") => Some(Scope::Segment),
        _ => None,
    }
}

/// Whether an ExternalName leads into the cluster domain.
fn in_cluster_domain(target: &str) -> bool {
    is_in(target.to_lowercase().trim_end_matches('.'), CLUSTER)
}

/// An entry that the control plane generated, and its parent.
pub fn parent_of(entry: &Entry) -> Option<(&Entry, &str, &str)> {
    let label = |key: &str| entry.labels.get(key).map(String::as_str);
    let generated = entry.namespace == ROOT && !entry.labels.contains_key(PEER);
    Some((entry, label(PARENT)?, label(PARENT_NAMESPACE)?)).filter(|_| generated)
}

/// Whether an entry was written by hand: in the root namespace the control plane's labels tell its own ones.
fn is_written(entry: &Entry) -> bool {
    entry.namespace != ROOT || !(entry.labels.contains_key(PARENT) || entry.labels.contains_key(PEER))
}

/// R6 (a) and (b): the addresses that entries give a host, and which of them does: the first with addresses of its own, else
/// the first with an address for this host.
pub fn given<'e>(entries: &[&'e Entry], host: &str) -> Option<(Vec<IpAddr>, &'e Entry)> {
    let own = |e: &Entry| e.addresses.iter().filter_map(|a| a.parse().ok()).collect::<Vec<IpAddr>>();
    let for_host = |e: &Entry| {
        e.status.iter().filter(|(h, _)| h.to_lowercase() == host).map(|(_, address)| *address).collect::<Vec<IpAddr>>()
    };
    let of_own = entries.iter().map(|e| (own(e), *e)).find(|(all, _)| !all.is_empty());
    of_own.or_else(|| entries.iter().map(|e| (for_host(e), *e)).find(|(all, _)| !all.is_empty()))
}

/// What a pattern of an alias may ask of a Service. Where only an entry tells of it, its labels are not known here.
struct Named<'m> {
    name: &'m str,
    namespace: &'m str,
    created: i64,
    labels: Labels,
    annotations: Labels,
}

impl<'m> Named<'m> {
    fn of(service: &'m Service) -> Self {
        let Service { name, namespace, created, labels, annotations, .. } = service;
        let (labels, annotations) = (labels.clone(), annotations.clone());
        Self { name, namespace, created: *created, labels, annotations }
    }

    fn of_parent(entry: &Entry, name: &'m str, namespace: &'m str) -> Self {
        let (labels, annotations) = (Labels::new(), Labels::new());
        Self { name, namespace, created: entry.created, labels, annotations }
    }
}

/// A pattern's text for a Service; `None` if a variable of it is missing or unknown.
fn rendered(pattern: &str, service: &Named<'_>) -> Option<String> {
    let of = |labels: &Labels, key: &str| labels.get(key.strip_suffix("']")?).cloned();
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (variable, tail) = after.split_once('}')?;
        out.push_str(before);
        out.push_str(&match variable {
            "service" => service.name.to_owned(),
            "namespace" => service.namespace.to_owned(),
            other => match (other.strip_prefix("labels['"), other.strip_prefix("annotations['")) {
                (Some(key), _) => of(&service.labels, key)?,
                (_, Some(key)) => of(&service.annotations, key)?,
                _ => return None,
            },
        });
        rest = tail;
    }
    Some((out + rest).to_lowercase())
}

impl Model<'_> {
    /// R11, R12: whether a caller of this segment sees a name of that segment with that scope.
    #[must_use]
    pub fn lets(&self, caller: &str, segment: &str, scope: Scope) -> bool {
        let crosses = segment != DEFAULT || self.mesh.policy.default_visible;
        caller == segment || (scope == Scope::Global && crosses && !self.mesh.policy.deny)
    }

    /// Whether a caller sees a host: any scope of it lets the caller (R5, R7).
    #[must_use]
    pub fn sees(&self, caller: &str, host: &Host<'_>) -> bool {
        self.scopes(host).into_iter().any(|scope| self.lets(caller, &host.segment, scope))
    }

    /// The scopes of a host. Those of Services; where there is none, of the WorkloadEntries behind it; else `global` (R7).
    fn scopes(&self, host: &Host<'_>) -> Vec<Scope> {
        let of_services: Vec<Scope> = host.publishers.iter().map(|p| p.scope).collect();
        if !of_services.is_empty() {
            return of_services;
        }
        // Another name for its parent is seen as far as its parent is.
        let parent = host.entries.first().and_then(|e| parent_of(e));
        let parent = parent.map(|(_, name, of)| format!("{name}.{of}.{}", self.segments[&host.segment]));
        let parent = self.hosts.iter().find(|h| Some(&h.name) == parent.as_ref() && !h.publishers.is_empty());
        if let Some(Host { publishers, .. }) = parent {
            let here = publishers.iter().find(|p| p.cluster == 0);
            return here.map_or_else(|| publishers.iter().map(|p| p.scope).collect(), |p| vec![p.scope]);
        }
        let behind = self.local().workloads().filter(|w| {
            let parent = (w.labels.get(PARENT), w.labels.get(PARENT_NAMESPACE));
            let of_segment = w.labels.get(SEGMENT).is_none_or(|s| *s == host.segment);
            let is_parent = |e: &&Entry| (e.labels.get(PARENT), e.labels.get(PARENT_NAMESPACE)) == parent;
            w.namespace == ROOT && parent.0.is_some() && of_segment && host.entries.iter().any(is_parent)
        });
        // One without the label says nothing of scope; a value that is none leaves the entry to its own segment.
        let labels: Vec<&str> = behind.filter_map(|w| w.labels.get(SCOPE).map(String::as_str)).collect();
        if labels.is_empty() {
            return vec![Scope::Global];
        }
        labels.into_iter().map(|label| scope_of(Some(label)).unwrap_or(Scope::Segment)).collect()
    }
}
