//! Which hosts of a ServiceEntry count, and as what (contract section 1 "generated entry", R8, R10).

use super::label;
use super::name::Name;
use super::object::{Kind, LOCAL, Namespace, ServiceEntry};
use super::report::{ObjectRef, Report, ReportKind};
use super::segment::{Layout, SegmentIx, Standing, object_ref, own_label};
use super::settings::{ServiceEntries, Settings};

/// What is compiled as one: everything about a Service name in all clusters, or about a host that is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitKey {
    /// A Service name, whether or not the Service exists here.
    Service {
        /// Its namespace.
        namespace: Box<str>,
        /// Its name.
        name: Box<str>,
    },
    /// A host of a ServiceEntry that does not read as `<svc>.<ns>.<segment domain>`.
    Host(Name),
}

impl UnitKey {
    /// The unit of a Service.
    #[must_use]
    pub fn service(namespace: &str, name: &str) -> Self {
        Self::Service { namespace: namespace.into(), name: name.into() }
    }
}

/// A [`UnitKey`] whose names lie elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit<'a> {
    /// See [`UnitKey::Service`].
    Service {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// See [`UnitKey::Host`].
    Host(&'a Name),
}

impl Unit<'_> {
    /// The unit's own key.
    #[must_use]
    pub fn key(self) -> UnitKey {
        match self {
            Self::Service { namespace, name } => UnitKey::service(namespace, name),
            Self::Host(host) => UnitKey::Host(host.clone()),
        }
    }
}

impl<'a> From<&'a UnitKey> for Unit<'a> {
    fn from(key: &'a UnitKey) -> Self {
        match key {
            UnitKey::Service { namespace, name } => Self::Service { namespace, name },
            UnitKey::Host(host) => Self::Host(host),
        }
    }
}

/// As what a host counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostClass {
    /// A mesh name of this segment.
    Mesh(SegmentIx),
    /// The cluster's own name of the entry's parent, for callers of this segment (R19).
    ClusterName(SegmentIx),
    /// A host of a hand-written entry, for everyone (R10).
    Plain,
}

/// A host of an entry that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostClaim {
    /// The host, folded.
    pub host: Name,
    /// Where it is compiled.
    pub unit: UnitKey,
    /// As what it counts.
    pub class: HostClass,
}

/// The Service that an entry was generated for: namespace and name, if it is a generated one.
#[must_use]
pub fn parent_of<'a>(settings: &Settings, entry: &'a ServiceEntry) -> Option<(&'a str, &'a str)> {
    let labels = &entry.labels;
    if entry.namespace != settings.root_namespace || labels.get(label::PEER_CLUSTER).is_some() {
        return None;
    }
    Some((labels.get(label::PARENT_NAMESPACE)?, labels.get(label::PARENT_SERVICE)?))
}

/// Judges every host of an entry of the local cluster. `parent` is the parent's Namespace here, if it exists here.
#[must_use]
pub fn judge(
    settings: &Settings,
    layout: &Layout,
    entry: &ServiceEntry,
    parent: Option<&Namespace>,
) -> (Vec<HostClaim>, Vec<Report>) {
    let object = object_ref(settings, LOCAL, Kind::ServiceEntry, &entry.namespace, &entry.name);
    let mut out = Judged { settings, layout, object, claims: Vec::new(), reports: Vec::new() };
    if let Some(of) = parent_of(settings, entry) {
        out.generated(entry, of, parent);
    } else if settings.service_entries == ServiceEntries::All && !is_control_planes(settings, entry) {
        entry.hosts.iter().for_each(|host| out.plain(host));
    }
    (out.claims, out.reports)
}

/// In the mesh root namespace, an entry with the control plane's labels was not written by hand even if it is no
/// generated entry by the rules.
fn is_control_planes(settings: &Settings, entry: &ServiceEntry) -> bool {
    let marks = [label::PEER_CLUSTER, label::PARENT_SERVICE];
    entry.namespace == settings.root_namespace && marks.iter().any(|l| entry.labels.get(l).is_some())
}

struct Judged<'a> {
    settings: &'a Settings,
    layout: &'a Layout,
    object: ObjectRef,
    claims: Vec<HostClaim>,
    reports: Vec<Report>,
}

impl Judged<'_> {
    fn drop(&mut self, kind: ReportKind, rule: &'static str, text: String, remedy: &str) {
        self.reports.push(Report { kind, rule, object: self.object.clone(), text, remedy: remedy.into() });
    }

    fn generated(&mut self, entry: &ServiceEntry, of: (&str, &str), parent: Option<&Namespace>) {
        const KIND: ReportKind = ReportKind::EntryDropped;
        let label = entry.labels.get(label::SEGMENT);
        let segment = match label.map(|l| (l, self.layout.resolve(LOCAL, l))) {
            Some((_, Standing::Of(segment))) => Some(segment),
            Some((label, _)) => {
                let text =
                    format!("it is of segment {label:?}, which is not valid here, so its hosts are not answered");
                return self.drop(
                    KIND,
                    "R8",
                    text,
                    "create that Segment, or let the control plane write the entry anew",
                );
            }
            None => None,
        };
        let hosts: Vec<Name> = entry.hosts.iter().filter_map(|host| self.parse(host, KIND, "R8")).collect();
        let by_host = || hosts.iter().find_map(|host| self.layout.segment_of(host));
        let of_entry = segment.or_else(by_host);
        if let Some(theirs) = of_entry.and_then(|s| self.other_segment(s, parent)) {
            let text = format!(
                "its parent namespace {:?} is of segment {theirs:?} by its own label, so its services are published under that one",
                of.0
            );
            return self.drop(KIND, "R8", text, "remove the entry, or the label of the namespace");
        }
        for host in hosts {
            self.generated_host(host, of, segment, of_entry);
        }
    }

    /// The segment that the parent's Namespace names by a label of its own, if the entry is of this cluster's and that
    /// is another.
    fn other_segment<'p>(&self, segment: SegmentIx, parent: Option<&'p Namespace>) -> Option<&'p str> {
        if self.layout.clusters[LOCAL].standing != Standing::Of(segment) {
            return None;
        }
        let label = own_label(self.settings, parent?)?;
        (self.layout.resolve(LOCAL, label) != Standing::Of(segment)).then_some(label)
    }

    fn generated_host(
        &mut self,
        host: Name,
        (namespace, name): (&str, &str),
        label: Option<SegmentIx>,
        of_entry: Option<SegmentIx>,
    ) {
        const KIND: ReportKind = ReportKind::EntryDropped;
        let cluster_name = format!("{name}.{namespace}.svc.{}", self.settings.cluster_domain);
        if host.as_str() == cluster_name
            && let Some(segment) = of_entry
        {
            let unit = UnitKey::service(namespace, name);
            return self.claims.push(HostClaim { host, unit, class: HostClass::ClusterName(segment) });
        }
        let by_zone = self.layout.segment_of(&host);
        let Some(segment) = by_zone.filter(|s| label.is_none_or(|l| l == *s)) else {
            let text = match label.map(|l| &self.layout.segments[usize::from(l)]) {
                Some(s) => format!("its host {host} is not under the domain {} of its segment {:?}", s.domain, s.name),
                None => format!("its host {host} is under the domain of no valid segment"),
            };
            return self.drop(KIND, "R8", text, "correct spec.hosts or the label admin.solo.io/segment");
        };
        let domain = &self.layout.segments[usize::from(segment)].domain;
        let unit = match host.prefix_of(domain).and_then(|p| p.split_once('.')) {
            Some((svc, ns)) if !ns.contains('.') => UnitKey::service(ns, svc),
            _ => UnitKey::Host(host.clone()),
        };
        self.claims.push(HostClaim { host, unit, class: HostClass::Mesh(segment) });
    }

    fn plain(&mut self, host: &str) {
        const KIND: ReportKind = ReportKind::HostDropped;
        let Some(host) = self.parse(host, KIND, "R10") else { return };
        let inside = if host.is_in(&self.settings.cluster_domain) {
            Some(&self.settings.cluster_domain)
        } else {
            self.layout.zone_of(host.below_wildcard().as_ref().unwrap_or(&host)).map(|z| &self.layout.zones[z].0)
        };
        if let Some(zone) = inside {
            let text = format!("its host {host} lies in {zone}, where only services of the mesh have names");
            return self.drop(KIND, "R10", text, "choose a host outside the mesh zones and the cluster domain");
        }
        self.claims.push(HostClaim { unit: UnitKey::Host(host.clone()), host, class: HostClass::Plain });
    }

    fn parse(&mut self, host: &str, kind: ReportKind, rule: &'static str) -> Option<Name> {
        let parsed = if kind == ReportKind::HostDropped { Name::parse_host(host) } else { Name::parse(host) };
        match parsed {
            Ok(name) => Some(name),
            Err(why) => {
                let text = format!("its host {host:?} is no DNS name: {why}");
                self.drop(kind, rule, text, "correct spec.hosts");
                None
            }
        }
    }
}
