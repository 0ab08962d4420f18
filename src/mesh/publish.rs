//! What one Service name, or one host, publishes: names with their views (R1, R5, R7, R9, R10, R19).

mod scene;
mod scope;

use super::address::{Answers, Group, Publisher, Rung, climb};
use super::alias::{self, NoAlias, Subject};
use super::cluster::view::{PortView, ReachView, ServiceView};
use super::entry::{HostClass, Unit, parent_of};
use super::label::{self, Export, Marks, Scope};
use super::name::Name;
use super::object::{ClusterIx, Kind, LOCAL, LabelsView, ServiceEntry};
use super::report::{Report, ReportKind};
use super::segment::{DEFAULT, Layout, SegmentIx, object_ref};
use super::settings::Settings;
use super::world::World;
use scene::{Place, Scene};
use scope::{entry_scope, parent_scope};

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
    /// A name of a segment, with what its own callers and those of other segments are answered.
    Mesh {
        /// Whose name it is.
        segment: SegmentIx,
        /// For callers of the segment.
        own: Answers,
        /// For callers of other segments.
        cross: Cross,
    },
    /// A name for everyone (R10).
    Public(Answers),
    /// A cluster name under takeover (R19).
    Cluster(Vec<Takeover>),
}

/// What callers of other segments are answered at a name of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cross {
    /// It is hidden from them.
    Hidden,
    /// What callers of its own segment are.
    Same,
    /// Something else.
    Other(Answers),
}

impl Cross {
    /// The answers, where those to callers of the own segment are `own`.
    #[must_use]
    pub const fn or<'a>(&'a self, own: &'a Answers) -> Option<&'a Answers> {
        match self {
            Self::Hidden => None,
            Self::Same => Some(own),
            Self::Other(answers) => Some(answers),
        }
    }
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
    /// Its records, by name, each name once.
    pub records: Vec<Record>,
    /// Its reports.
    pub reports: Vec<Report>,
}

/// Compiles a unit from the objects of one moment.
#[must_use]
pub fn compile(world: &World, unit: Unit<'_>) -> Compiled {
    match unit {
        Unit::Service { namespace, name } => compile_service(&Scene::new(world, namespace), name),
        Unit::Host(host) => {
            let mut out = Compiled::default();
            compile_host(world, host, &mut out);
            sorted(out)
        }
    }
}

/// As [`compile`], of one Service name after the other: most are of the namespace of the one before.
#[must_use]
pub fn compile_all<'u>(world: &World, units: impl Iterator<Item = Unit<'u>>) -> Vec<Compiled> {
    let mut last: Option<Scene<'_, 'u>> = None;
    let one = |unit| {
        let Unit::Service { namespace, name } = unit else { return compile(world, unit) };
        let scene = match last.take().filter(|scene| scene.namespace == namespace) {
            Some(scene) => last.insert(scene),
            None => last.insert(Scene::new(world, namespace)),
        };
        compile_service(scene, name)
    };
    units.map(one).collect()
}

fn compile_service(scene: &Scene<'_, '_>, name: &str) -> Compiled {
    let mut out = Compiled::default();
    Compiler { scene, name, out: &mut out }.service();
    sorted(out)
}

fn sorted(mut out: Compiled) -> Compiled {
    if out.records.len() > 1 {
        out.records.sort_by(|a, b| (&a.name, &a.rank).cmp(&(&b.name, &b.rank)));
        out.records.dedup_by(|b, a| a.name == b.name);
    }
    out
}

/// Every Service of this name that is published, with the segment it is published in; for display.
#[must_use]
pub fn publishers<'w>(world: &'w World, namespace: &str, name: &str) -> Vec<(SegmentIx, Publisher<'w>)> {
    Compiler { scene: &Scene::new(world, namespace), name, out: &mut Compiled::default() }.publishers()
}

/// A host that is no Service's name: of generated entries (R7), or of hand-written ones (R10).
fn compile_host(world: &World, host: &Name, out: &mut Compiled) {
    let claims = world.claims_of(Unit::Host(host));
    let first = |wanted: fn(&HostClass) -> bool| claims.iter().find(move |(_, c)| wanted(&c.class));
    if let Some((entry, claim)) = first(|c| matches!(c, HostClass::Mesh(_))) {
        let HostClass::Mesh(segment) = claim.class else { return };
        let entries: Vec<_> = claims.iter().filter(|(_, c)| c.class == claim.class).map(|(e, _)| *e).collect();
        let own = climb(host, &entries, Group::of(&[], segment));
        let cross = if parent_scope(world, entry, segment) == Scope::Global { Cross::Same } else { Cross::Hidden };
        let body = Body::Mesh { segment, own, cross };
        out.records.push(Record { name: host.clone(), body, rank: Rank::EntryHost });
    } else if let Some((entry, _)) = first(|c| *c == HostClass::Plain) {
        let entries: Vec<_> = claims.iter().map(|(e, _)| *e).collect();
        let mut answers = climb(host, &entries, Group::of(&[], DEFAULT));
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

struct Compiler<'s, 'w, 'u> {
    scene: &'s Scene<'w, 'u>,
    name: &'s str,
    out: &'s mut Compiled,
}

impl<'w, 'u> Compiler<'_, 'w, 'u> {
    fn world(&self) -> &'w World {
        self.scene.world
    }

    fn namespace(&self) -> &'u str {
        self.scene.namespace
    }

    fn settings(&self) -> &'w Settings {
        self.world().settings()
    }

    fn layout(&self) -> &'w Layout {
        self.world().layout()
    }

    fn service(&mut self) {
        let publishers = self.publishers();
        let claims = self.world().claims_of(Unit::Service { namespace: self.namespace(), name: self.name });
        let by_entry = claims.iter().filter_map(|(_, c)| match c.class {
            HostClass::Mesh(s) => Some(s),
            HostClass::ClusterName(_) | HostClass::Plain => None,
        });
        let segments = publishers.iter().map(|(s, _)| *s).chain(by_entry);
        let mut next = segments.clone().min();
        while let Some(segment) = next {
            let entries: Vec<_> =
                claims.iter().filter(|(_, c)| c.class == HostClass::Mesh(segment)).map(|(e, _)| *e).collect();
            self.hostname(segment, Group::of(&publishers, segment), &entries);
            next = segments.clone().filter(|s| *s > segment).min();
        }
        self.takeover(&publishers, &claims);
    }

    /// Every Service of this name that is published, with the segment it is published in (R1, R3, R4).
    fn publishers(&mut self) -> Vec<(SegmentIx, Publisher<'w>)> {
        let mut out = Vec::with_capacity(self.scene.places.len());
        for Place { cluster: ix, services, marks, standing } in &self.scene.places {
            let (ix, mut own) = (*ix, Marks::default());
            // Most Services of a cluster are published nowhere.
            let found = services.get_if(self.name, |labels| {
                own = Marks::of(labels);
                label::may_publish(own, *marks)
            });
            let Some((service, slices)) = found else { continue };
            self.out.reports.extend(label::faults(own, || {
                object_ref(self.settings(), ix, Kind::Service, self.namespace(), self.name)
            }));
            let (scope, global_only) = match label::export_of(own, *marks) {
                Export::Published { scope, takeover } => (scope, takeover),
                Export::ClusterOnly | Export::Unknown(_) => continue,
            };
            let Some(segment) = standing.segment() else { continue };
            let external = match self.world().external(ix, service.reach) {
                Ok(target) => target,
                Err((text, remedy)) => {
                    self.report(ix, ReportKind::ExternalNameDropped, "R6", text, remedy);
                    continue;
                }
            };
            let takeover = label::takeover_of(own, *marks, global_only);
            out.push((segment, Publisher { cluster: ix, service, slices, scope, external, takeover }));
        }
        out
    }

    fn hostname(&mut self, segment: SegmentIx, publishers: Group<'_, '_>, entries: &[&ServiceEntry]) {
        let Some(host) = self.mesh_name(segment, publishers) else { return };
        let globals = publishers.globals();
        let scope = |entry: &&ServiceEntry| match publishers.iter().next() {
            Some(_) => entry_scope(self.world(), (self.namespace(), self.name), segment, publishers),
            None => parent_scope(self.world(), entry, segment),
        };
        let by_entry = entries.first().map(scope) == Some(Scope::Global);
        let own = climb(&host, entries, publishers);
        let cross = if globals.iter().next().is_none() && !by_entry {
            Cross::Hidden
        } else if publishers.iter().all(|p| p.scope == Scope::Global) {
            Cross::Same
        } else {
            Some(climb(&host, entries, globals)).filter(|cross| *cross != own).map_or(Cross::Same, Cross::Other)
        };
        if own.rung == Rung::PeerEndpoints {
            self.check_ports(publishers);
        }
        let services = publishers.iter().map(|p| p.service.created);
        let created = services.chain(entries.iter().map(|e| e.created)).min().unwrap_or_default();
        let body = Body::Mesh { segment, own, cross };
        self.endpoints(&host, segment, publishers);
        // Another host of an entry is no Service's, and asks for no alias (R9).
        let own = |entry: &&ServiceEntry| parent_of(self.settings(), entry) == Some((self.namespace(), self.name));
        if publishers.iter().next().is_some() || entries.iter().any(own) {
            self.aliases(segment, publishers, &body, created);
        }
        // Nearly all have one name.
        self.out.records.reserve_exact(1);
        self.out.records.push(Record { name: host, body, rank: Rank::Service });
    }

    /// R1: the name in this segment, unless it lies in another mesh zone or is no DNS name.
    fn mesh_name(&mut self, segment: SegmentIx, publishers: Group<'_, '_>) -> Option<Name> {
        let domain = &self.layout().segments[usize::from(segment)].domain;
        let text = || [self.name, self.namespace(), domain.as_str()].join(".");
        let problem = match Name::of(text()) {
            Ok(name) if self.layout().segment_of(&name) == Some(segment) => return Some(name),
            Ok(name) => {
                let zone = self.layout().zone_of(&name).map(|z| &self.layout().zones[z].0);
                format!("its name {name} would lie in the mesh zone {}", zone.map_or("of another", Name::as_str))
            }
            Err(why) => format!("its name {:?} is no DNS name: {why}", text()),
        };
        for p in publishers.iter() {
            let text = format!("{problem}, so it is not published");
            let remedy = "rename the Service or its namespace, or give one of the Segments another domain".into();
            self.report(p.cluster, ReportKind::NameDropped, "R1", text, remedy);
        }
        None
    }

    /// Names of single endpoints of headless Services: the local cluster's if it has that hostname, else the peers'.
    fn endpoints(&mut self, host: &Name, segment: SegmentIx, publishers: Group<'_, '_>) {
        let headless: Vec<_> = publishers.iter().filter(|p| p.is_headless()).collect();
        let mut names: Vec<&str> = headless.iter().flat_map(|p| p.ready()).filter_map(|e| e.hostname).collect();
        names.sort_unstable();
        names.dedup();
        for hostname in names {
            let Ok(name) = Name::parse(&format!("{hostname}.{host}")) else { continue };
            if self.layout().segment_of(&name) != Some(segment) {
                continue;
            }
            let own = endpoint_answers(&headless, hostname);
            let globals: Vec<_> = headless.iter().filter(|p| p.scope == Scope::Global).copied().collect();
            let cross = match endpoint_answers(&globals, hostname) {
                cross if !cross.has_address() => Cross::Hidden,
                cross if cross == own => Cross::Same,
                cross => Cross::Other(cross),
            };
            let body = Body::Mesh { segment, own, cross };
            self.out.records.push(Record { name, body, rank: Rank::Service });
        }
    }

    fn aliases(&mut self, segment: SegmentIx, publishers: Group<'_, '_>, body: &Body, created: i64) {
        let patterns = &self.layout().segments[usize::from(segment)].aliases;
        if patterns.is_empty() {
            return;
        }
        let mut subjects: Vec<_> = (publishers.iter())
            .map(|p| (Some(p.cluster), p.service.labels, p.service.annotations, p.service.created))
            .collect();
        if subjects.is_empty() {
            subjects.push((None, LabelsView::default(), LabelsView::default(), created));
        }
        let body = without_ports(body);
        for (cluster, labels, annotations, since) in subjects {
            let subject = Subject { service: self.name, namespace: self.namespace(), labels, annotations };
            for pattern in patterns {
                match alias::expand(self.settings(), self.layout(), segment, pattern, subject) {
                    Ok(name) => {
                        let place = format!("{}/{}", self.namespace(), self.name).into();
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
        publishers: &[(SegmentIx, Publisher<'w>)],
        claims: &[(&'w ServiceEntry, &'w super::entry::HostClaim)],
    ) {
        let by_name = claims.iter().any(|(_, c)| matches!(c.class, HostClass::ClusterName(_)));
        if !by_name && !publishers.iter().any(|(_, p)| p.takeover) {
            return;
        }
        let local = self.world().cluster(LOCAL).service_view(self.namespace(), self.name);
        let virtual_ip = |s: &ServiceView<'_>| matches!(s.reach, ReachView::ClusterIps(_));
        let namespace = Marks::of_namespace(self.world().cluster(LOCAL).namespace(self.namespace()));
        let mut segments: Vec<SegmentIx> = publishers
            .iter()
            .filter(|(_, p)| p.takeover && virtual_ip(&p.service) && (local.is_none() || p.cluster == LOCAL))
            .map(|(s, _)| *s)
            .collect();
        let takes = |s: &ServiceView<'_>| label::takeover_of(Marks::of(s.labels), namespace, true);
        let refused = local.as_ref().is_some_and(|s| !virtual_ip(s) || !takes(s));
        let listed = claims.iter().filter_map(|(_, c)| match c.class {
            HostClass::ClusterName(s) if !refused => Some(s),
            _ => None,
        });
        segments.extend(listed);
        segments.sort_unstable();
        segments.dedup();
        let cluster_name = format!("{}.{}.svc.{}", self.name, self.namespace(), self.settings().cluster_domain);
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
        let target = Name::parse(&format!("{}.{}.{domain}", self.name, self.namespace())).ok()?;
        let of_target = self.out.records.iter().find(|r| r.name == target && r.rank == Rank::Service);
        let own = of_target.and_then(|r| match &r.body {
            Body::Mesh { own, .. } => Some(own.clone()),
            Body::Public(_) | Body::Cluster(_) => None,
        });
        let answers = own.filter(Answers::has_address).or_else(|| {
            let by_entry = climb(cluster_name, entries, Group::of(&[], segment));
            by_entry.has_address().then_some(by_entry)
        })?;
        Some(Takeover { segment, target, answers })
    }

    /// R6 (d): clients reach the peers' pods directly, so a port that differs from its target port is not translated.
    fn check_ports(&mut self, publishers: Group<'_, '_>) {
        for p in publishers.iter().filter(|p| p.cluster != LOCAL) {
            for port in p.service.ports {
                let same = |q: &PortView<'_>| q.name == port.name && q.protocol == port.protocol;
                let mut targets = p.slices.flat_map(|s| s.ports).filter(same).map(|t| t.number);
                if let Some(target) = targets.find(|n| *n != port.number) {
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
        let object = object_ref(self.settings(), cluster, Kind::Service, self.namespace(), self.name);
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
            let cross = match cross {
                Cross::Other(cross) => Cross::Other(bare(cross)),
                cross => cross.clone(),
            };
            Body::Mesh { segment: *segment, own: bare(own), cross }
        }
        other => other.clone(),
    }
}

fn endpoint_answers(headless: &[&Publisher<'_>], hostname: &str) -> Answers {
    let of = |p: &&Publisher<'_>| {
        let named = p.ready().filter(|e| e.hostname == Some(hostname));
        named.flat_map(|e| e.addresses).collect::<Vec<_>>()
    };
    let local: Vec<_> = headless.iter().filter(|p| p.cluster == LOCAL).flat_map(of).collect();
    let (rung, addresses) = if local.is_empty() {
        (Rung::PeerEndpoints, headless.iter().flat_map(of).collect())
    } else {
        (Rung::LocalReady, local)
    };
    Answers::of(rung, addresses)
}
