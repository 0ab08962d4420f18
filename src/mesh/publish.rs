//! What one Service name, or one host, publishes: names with their views (R1, R5, R7, R9, R10, R19).

use super::address::{Answers, Publisher, Rung, climb};
use super::alias::{self, NoAlias, Subject};
use super::entry::{HostClass, UnitKey};
use super::label::{self, Export, Scope};
use super::name::Name;
use super::object::{ClusterIx, Kind, LOCAL, Labels, Reach, Service, ServiceEntry, WorkloadEntry};
use super::report::{Report, ReportKind};
use super::segment::{Layout, SegmentIx, Standing, object_ref};
use super::settings::Settings;
use super::world::World;

/// Takeover of a cluster name, for callers of one segment (R19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Whose callers.
    pub segment: SegmentIx,
    /// The mesh name that it means.
    pub target: Name,
    /// What is answered.
    pub answers: Answers,
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A name of a segment, with what its own callers and those of other segments are answered; `None` hides it.
    Mesh {
        /// Whose name it is.
        segment: SegmentIx,
        /// For callers of the segment.
        own: Option<Answers>,
        /// For callers of other segments.
        cross: Option<Answers>,
    },
    /// A name for everyone (R10).
    Public(Answers),
    /// A cluster name under takeover (R19).
    Cluster(Vec<Takeover>),
}

/// Which of several claims to one name wins: the lowest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A Service's own name, or one of its endpoints': nothing takes it away.
    Service,
    /// A host of a generated entry that is no Service's name.
    EntryHost,
    /// An alias: own cluster first, then the older Service, then namespace/name (R9).
    Alias(bool, i64, Box<str>),
    /// A host of a hand-written entry: the older entry first.
    Plain(i64, Box<str>),
}

/// A name and what stands there, as one unit would have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The name; may start with `*.` for [`Body::Public`].
    pub name: Name,
    /// What stands there.
    pub body: Body,
    /// How it fares against others that want the name.
    pub rank: Rank,
}

/// All that a unit publishes, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// Its records, each name once.
    pub records: Vec<Record>,
    /// Its reports.
    pub reports: Vec<Report>,
}

/// Compiles a unit from the objects of one moment.
#[must_use]
pub fn compile(world: &World, unit: &UnitKey) -> Compiled {
    let mut out = Compiled::default();
    match unit {
        UnitKey::Service { namespace, name } => {
            let mut compiler = Compiler { world, namespace, name, out: &mut out };
            compiler.service();
        }
        UnitKey::Host(host) => compile_host(world, unit, host, &mut out),
    }
    out.records.sort_by(|a, b| (&a.name, &a.rank).cmp(&(&b.name, &b.rank)));
    out.records.dedup_by(|b, a| a.name == b.name);
    out
}

/// Every Service of this name that is published, with the segment it is published in; for display.
#[must_use]
pub fn publishers(world: &World, namespace: &str, name: &str) -> Vec<(SegmentIx, Publisher)> {
    Compiler { world, namespace, name, out: &mut Compiled::default() }.publishers()
}

/// A host that is no Service's name: of generated entries (R7), or of hand-written ones (R10).
fn compile_host(world: &World, unit: &UnitKey, host: &Name, out: &mut Compiled) {
    let claims = world.claims_of(unit);
    let first = |wanted: fn(&HostClass) -> bool| claims.iter().find(move |(_, c)| wanted(&c.class));
    if let Some((entry, claim)) = first(|c| matches!(c, HostClass::Mesh(_))) {
        let HostClass::Mesh(segment) = claim.class else { return };
        let entries: Vec<_> = claims.iter().filter(|(_, c)| c.class == claim.class).map(|(e, _)| *e).collect();
        let (namespace, name) = super::entry::parent_of(world.settings(), entry).unwrap_or_default();
        let publishers = publishers(world, namespace, name);
        let parents: Vec<_> = publishers.iter().filter(|(s, _)| *s == segment).map(|(_, p)| p).collect();
        let own = climb(host, &entries, &[]);
        let global = entry_scope(world, (namespace, name), segment, &parents) == Scope::Global;
        let body = Body::Mesh { segment, cross: global.then(|| own.clone()), own: Some(own) };
        out.records.push(Record { name: host.clone(), body, rank: Rank::EntryHost });
    } else if let Some((entry, _)) = first(|c| *c == HostClass::Plain) {
        let entries: Vec<_> = claims.iter().map(|(e, _)| *e).collect();
        let mut answers = climb(host, &entries, &[]);
        if !answers.has_address() {
            answers = inline(&entries);
        }
        if answers.has_address() {
            let rank = Rank::Plain(entry.created, format!("{}/{}", entry.namespace, entry.name).into());
            out.records.push(Record { name: host.clone(), body: Body::Public(answers), rank });
        }
    }
}

/// R10: inline endpoints of the first entry that has any.
fn inline(entries: &[&ServiceEntry]) -> Answers {
    let Some(entry) = entries.iter().find(|e| !e.endpoints.is_empty()) else { return Answers::default() };
    Answers::of(Rung::Inline, entry.endpoints.iter().copied())
}

/// R7: the scope of a generated entry, by what is behind it.
fn entry_scope(world: &World, (namespace, name): (&str, &str), segment: SegmentIx, publishers: &[&Publisher]) -> Scope {
    if let Some(local) = publishers.iter().find(|p| p.cluster == LOCAL) {
        return local.scope;
    }
    let peers = publishers.iter().map(|p| p.scope).max();
    let workloads = || world.workloads_of(namespace, name).filter_map(|w| workload_scope(world, w, segment)).max();
    peers.or_else(workloads).unwrap_or(Scope::Global)
}

/// The scope that a WorkloadEntry of this segment tells; one without a scope label tells none, one with a value that is
/// not global stays in the segment (fail closed).
fn workload_scope(world: &World, workload: &WorkloadEntry, segment: SegmentIx) -> Option<Scope> {
    let of = workload.labels.get(label::SEGMENT);
    if of.is_some_and(|l| world.layout().resolve(LOCAL, l) != Standing::Of(segment)) {
        return None;
    }
    match workload.labels.get(label::SCOPE)? {
        "global" | "global-only" => Some(Scope::Global),
        _ => Some(Scope::Segment),
    }
}

struct Compiler<'a, 'o> {
    world: &'a World,
    namespace: &'a str,
    name: &'a str,
    out: &'o mut Compiled,
}

impl<'a> Compiler<'a, '_> {
    fn settings(&self) -> &'a Settings {
        self.world.settings()
    }

    fn layout(&self) -> &'a Layout {
        self.world.layout()
    }

    fn service(&mut self) {
        let publishers = self.publishers();
        let key = UnitKey::service(self.namespace, self.name);
        let claims = self.world.claims_of(&key);
        let mut segments: Vec<SegmentIx> = publishers.iter().map(|(s, _)| *s).collect();
        segments.extend(claims.iter().filter_map(|(_, c)| match c.class {
            HostClass::Mesh(s) => Some(s),
            HostClass::ClusterName(_) | HostClass::Plain => None,
        }));
        segments.sort_unstable();
        segments.dedup();
        for segment in segments {
            let of: Vec<_> = publishers.iter().filter(|(s, _)| *s == segment).map(|(_, p)| p).collect();
            let entries: Vec<_> =
                claims.iter().filter(|(_, c)| c.class == HostClass::Mesh(segment)).map(|(e, _)| *e).collect();
            self.hostname(segment, &of, &entries);
        }
        self.takeover(&publishers, &claims);
    }

    /// Every Service of this name that is published, with the segment it is published in (R1, R3, R4).
    fn publishers(&mut self) -> Vec<(SegmentIx, Publisher)> {
        let world = self.world;
        let mut out = Vec::new();
        for (ix, cluster) in world.active_clusters() {
            let found = cluster.service_if(self.namespace, self.name, label::may_publish);
            let Some((service, slices)) = found else { continue };
            self.out.reports.extend(label::faults(&service.labels, || {
                object_ref(self.settings(), ix, Kind::Service, self.namespace, self.name)
            }));
            let namespace = cluster.namespace(self.namespace);
            let standing = world.standing(ix, self.namespace);
            let (scope, global_only) = match label::export_of(&service, namespace) {
                Export::Published { scope, takeover } => (scope, takeover),
                Export::ClusterOnly | Export::Unknown(_) => continue,
            };
            let Some(segment) = standing.segment() else { continue };
            let external = match world.external(ix, &service) {
                Ok(target) => target,
                Err((text, remedy)) => {
                    self.report(ix, ReportKind::ExternalNameDropped, "R6", text, remedy);
                    continue;
                }
            };
            let takeover = label::takeover_of(&service, namespace, global_only);
            out.push((segment, Publisher { cluster: ix, service, slices, scope, external, takeover }));
        }
        out
    }

    fn hostname(&mut self, segment: SegmentIx, publishers: &[&Publisher], entries: &[&ServiceEntry]) {
        let Some(host) = self.mesh_name(segment, publishers) else { return };
        let globals: Vec<_> = publishers.iter().filter(|p| p.scope == Scope::Global).copied().collect();
        let by_entry = !entries.is_empty()
            && entry_scope(self.world, (self.namespace, self.name), segment, publishers) == Scope::Global;
        let own = climb(&host, entries, publishers);
        let seen = !globals.is_empty() || by_entry;
        let cross =
            seen.then(|| if globals.len() == publishers.len() { own.clone() } else { climb(&host, entries, &globals) });
        if own.rung == Rung::PeerEndpoints {
            self.check_ports(publishers);
        }
        let services = publishers.iter().map(|p| p.service.created);
        let created = services.chain(entries.iter().map(|e| e.created)).min().unwrap_or_default();
        let body = Body::Mesh { segment, own: Some(own), cross };
        self.endpoints(&host, segment, publishers);
        self.aliases(segment, publishers, &body, created);
        self.out.records.push(Record { name: host, body, rank: Rank::Service });
    }

    /// R1: the name in this segment, unless it lies in another mesh zone or is no DNS name.
    fn mesh_name(&mut self, segment: SegmentIx, publishers: &[&Publisher]) -> Option<Name> {
        let domain = &self.layout().segments[usize::from(segment)].domain;
        let text = format!("{}.{}.{domain}", self.name, self.namespace);
        let problem = match Name::parse(&text) {
            Ok(name) if self.layout().segment_of(&name) == Some(segment) => return Some(name),
            Ok(name) => {
                let zone = self.layout().zone_of(&name).map(|z| &self.layout().zones[z].0);
                format!("its name {name} would lie in the mesh zone {}", zone.map_or("of another", Name::as_str))
            }
            Err(why) => format!("its name {text:?} is no DNS name: {why}"),
        };
        for p in publishers {
            let text = format!("{problem}, so it is not published");
            let remedy = "rename the Service or its namespace, or give one of the Segments another domain".into();
            self.report(p.cluster, ReportKind::NameDropped, "R1", text, remedy);
        }
        None
    }

    /// Names of single endpoints of headless Services: the local cluster's if it has that hostname, else the peers'.
    fn endpoints(&mut self, host: &Name, segment: SegmentIx, publishers: &[&Publisher]) {
        let headless: Vec<_> = publishers.iter().filter(|p| p.service.reach == Reach::Headless).copied().collect();
        let mut names: Vec<&str> =
            headless.iter().flat_map(|p| p.ready()).filter_map(|e| e.hostname.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        for hostname in names {
            let Ok(name) = Name::parse(&format!("{hostname}.{host}")) else { continue };
            if self.layout().segment_of(&name) != Some(segment) {
                continue;
            }
            let own = endpoint_answers(&headless, hostname);
            let globals: Vec<_> = headless.iter().filter(|p| p.scope == Scope::Global).copied().collect();
            let cross = Some(endpoint_answers(&globals, hostname)).filter(Answers::has_address);
            let body = Body::Mesh { segment, own: Some(own), cross };
            self.out.records.push(Record { name, body, rank: Rank::Service });
        }
    }

    fn aliases(&mut self, segment: SegmentIx, publishers: &[&Publisher], body: &Body, created: i64) {
        let patterns = &self.layout().segments[usize::from(segment)].aliases;
        if patterns.is_empty() {
            return;
        }
        let none = Labels::default();
        let mut subjects: Vec<_> = (publishers.iter())
            .map(|p| (Some(p.cluster), &p.service.labels, &p.service.annotations, p.service.created))
            .collect();
        if subjects.is_empty() {
            subjects.push((None, &none, &none, created));
        }
        let body = without_ports(body);
        for (cluster, labels, annotations, since) in subjects {
            let subject = Subject { service: self.name, namespace: self.namespace, labels, annotations };
            for pattern in patterns {
                match alias::expand(self.settings(), self.layout(), segment, pattern, subject) {
                    Ok(name) => {
                        let place = format!("{}/{}", self.namespace, self.name).into();
                        let rank = Rank::Alias(cluster.is_some_and(|c| c != LOCAL), since, place);
                        self.out.records.push(Record { name, body: body.clone(), rank });
                    }
                    Err(NoAlias::NotMeant) => {}
                    Err(NoAlias::Wrong(text, remedy)) => {
                        self.report(cluster.unwrap_or(LOCAL), ReportKind::AliasDropped, "R9", text, remedy);
                    }
                }
            }
        }
    }

    /// R19: which segments' callers get the mesh name's addresses for the cluster's own name.
    fn takeover(
        &mut self,
        publishers: &[(SegmentIx, Publisher)],
        claims: &[(&'a ServiceEntry, &'a super::entry::HostClaim)],
    ) {
        let by_name = claims.iter().any(|(_, c)| matches!(c.class, HostClass::ClusterName(_)));
        if !by_name && !publishers.iter().any(|(_, p)| p.takeover) {
            return;
        }
        let local = self.world.cluster(LOCAL).service(self.namespace, self.name);
        let virtual_ip = |s: &Service| matches!(s.reach, Reach::ClusterIps(_));
        let mut segments: Vec<SegmentIx> = publishers
            .iter()
            .filter(|(_, p)| p.takeover && virtual_ip(&p.service) && (local.is_none() || p.cluster == LOCAL))
            .map(|(s, _)| *s)
            .collect();
        let namespace = self.world.cluster(LOCAL).namespace(self.namespace);
        let refused = local.as_ref().is_some_and(|s| !virtual_ip(s) || !label::takeover_of(s, namespace, true));
        let listed = claims.iter().filter_map(|(_, c)| match c.class {
            HostClass::ClusterName(s) if !refused => Some(s),
            _ => None,
        });
        segments.extend(listed);
        segments.sort_unstable();
        segments.dedup();
        let cluster_name = format!("{}.{}.svc.{}", self.name, self.namespace, self.settings().cluster_domain);
        let Ok(cluster_name) = Name::parse(&cluster_name) else { return };
        let mut all = Vec::new();
        for segment in segments {
            let entries = claims.iter().filter(|(_, c)| c.class == HostClass::ClusterName(segment));
            let entries: Vec<_> = entries.map(|(e, _)| *e).collect();
            all.extend(self.takeover_in(segment, &cluster_name, &entries));
        }
        if !all.is_empty() {
            let body = Body::Cluster(all);
            self.out.records.push(Record { name: cluster_name, body, rank: Rank::Service });
        }
    }

    /// What the cluster name means in one segment: its mesh name's addresses, else those that an entry gives to the
    /// cluster name itself; nothing while there is no address yet.
    fn takeover_in(&self, segment: SegmentIx, cluster_name: &Name, entries: &[&ServiceEntry]) -> Option<Takeover> {
        let domain = &self.layout().segments[usize::from(segment)].domain;
        let target = Name::parse(&format!("{}.{}.{domain}", self.name, self.namespace)).ok()?;
        let of_target = self.out.records.iter().find(|r| r.name == target && r.rank == Rank::Service);
        let own = of_target.and_then(|r| match &r.body {
            Body::Mesh { own, .. } => own.clone(),
            Body::Public(_) | Body::Cluster(_) => None,
        });
        let answers = own.filter(Answers::has_address).or_else(|| {
            let by_entry = climb(cluster_name, entries, &[]);
            by_entry.has_address().then_some(by_entry)
        })?;
        Some(Takeover { segment, target, answers })
    }

    /// R6 (d): clients reach the peers' pods directly, so a port that differs from its target port is not translated.
    fn check_ports(&mut self, publishers: &[&Publisher]) {
        for p in publishers.iter().filter(|p| p.cluster != LOCAL) {
            for port in &p.service.ports {
                let same = |q: &&super::object::Port| q.name == port.name && q.protocol == port.protocol;
                let targets = p.slices.iter().flat_map(|s| s.ports.iter().filter(same));
                if let Some(target) = targets.map(|t| t.number).find(|n| *n != port.number) {
                    let text = format!(
                        "its pods are answered directly to other clusters, where port {} of the Service is {target}",
                        port.number
                    );
                    let remedy = "use the same number for port and targetPort, ask for SRV, or let the control plane generate a ServiceEntry".into();
                    self.report(p.cluster, ReportKind::PortDiffers, "R6d", text, remedy);
                }
            }
        }
    }

    fn report(&mut self, cluster: ClusterIx, kind: ReportKind, rule: &'static str, text: String, remedy: String) {
        let object = object_ref(self.settings(), cluster, Kind::Service, self.namespace, self.name);
        let report = Report { kind, rule, object, text, remedy };
        if !self.out.reports.contains(&report) {
            self.out.reports.push(report);
        }
    }
}

/// An alias has the addresses of its service, but no SRV names below it: R9 gives one name.
fn without_ports(body: &Body) -> Body {
    let bare = |a: &Answers| Answers { ports: Vec::new(), ..a.clone() };
    match body {
        Body::Mesh { segment, own, cross } => {
            Body::Mesh { segment: *segment, own: own.as_ref().map(bare), cross: cross.as_ref().map(bare) }
        }
        other => other.clone(),
    }
}

fn endpoint_answers(headless: &[&Publisher], hostname: &str) -> Answers {
    let of = |p: &&Publisher| {
        let named = p.ready().filter(|e| e.hostname.as_deref() == Some(hostname));
        named.flat_map(|e| e.addresses.iter().copied()).collect::<Vec<_>>()
    };
    let local: Vec<_> = headless.iter().filter(|p| p.cluster == LOCAL).flat_map(of).collect();
    let (rung, addresses) = if local.is_empty() {
        (Rung::PeerEndpoints, headless.iter().flat_map(of).collect())
    } else {
        (Rung::LocalReady, local)
    };
    Answers::of(rung, addresses)
}
