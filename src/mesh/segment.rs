//! Which Segments count, which zones they make, and which segment a cluster or a namespace is of (R2, R3, R4).

use std::collections::HashMap;

use super::label;
use super::name::Name;
use super::object::{Alias, ClusterIx, Key, Kind, LOCAL, Namespace, Segment};
use super::report::{ObjectRef, Report, ReportKind};
use super::settings::Settings;

/// A valid segment's place in [`Layout::segments`]; 0 is the default segment.
pub type SegmentIx = u16;
/// The default segment.
pub const DEFAULT: SegmentIx = 0;

/// A segment that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidSegment {
    /// Its name, as labels have it.
    pub name: Box<str>,
    /// Its mesh zone.
    pub domain: Name,
    /// Its aliases (R9).
    pub aliases: Box<[Alias]>,
}

/// The segment of a cluster or a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// This one.
    Of(SegmentIx),
    /// Its label names an absent or invalid Segment (R3), or its object could not be read: fail closed.
    Invalid,
    /// Its Namespace is not known yet: fail closed until it is.
    Missing,
}

impl Standing {
    /// The segment, if it has one.
    #[must_use]
    pub const fn segment(self) -> Option<SegmentIx> {
        match self {
            Self::Of(segment) => Some(segment),
            Self::Invalid | Self::Missing => None,
        }
    }
}

/// What one cluster is, by its mesh root namespace and, for a peer, by R4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStanding {
    /// The cluster's own segment.
    pub standing: Standing,
    /// R4: nothing of this peer counts.
    pub disabled: bool,
    /// For a peer: the domains of the Segments that it has, as far as they are valid there.
    own: HashMap<Box<str>, Name>,
}

/// The zones and segments of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Valid segments; the first is the default one, the others by name.
    pub segments: Vec<ValidSegment>,
    /// Mesh zones and the segment each belongs to; `None` for one that only `segments.zones` names.
    pub zones: Vec<(Name, Option<SegmentIx>)>,
    /// What each cluster is, by [`ClusterIx`].
    pub clusters: Vec<ClusterStanding>,
}

/// One cluster's objects, as far as they decide the layout.
pub struct ClusterFacts<'a> {
    /// Its Segments, of any namespace.
    pub segments: Vec<&'a Segment>,
    /// Its mesh root namespace.
    pub root: Option<&'a Namespace>,
}

impl Layout {
    /// Judges everything of R2 to R4 at once.
    #[must_use]
    pub fn judge(settings: &Settings, clusters: &[ClusterFacts<'_>]) -> (Self, Vec<Report>) {
        let mut reports = Vec::new();
        let mut valid = Vec::new();
        for (ix, facts) in clusters.iter().enumerate() {
            let (kept, wrong) = judge_segments(settings, ix, &facts.segments);
            if ix == LOCAL {
                reports.extend(wrong);
            }
            valid.push(kept);
        }
        let mut segments = vec![ValidSegment {
            name: settings.default_name.clone(),
            domain: settings.default_domain.clone(),
            aliases: Box::new([]),
        }];
        segments.extend(valid.first().cloned().unwrap_or_default());
        let mut zones: Vec<_> =
            segments.iter().enumerate().map(|(ix, s)| (s.domain.clone(), SegmentIx::try_from(ix).ok())).collect();
        for zone in &settings.zones {
            if !zones.iter().any(|(have, _)| have == zone) {
                zones.push((zone.clone(), None));
            }
        }
        let mut layout = Self { segments, zones, clusters: Vec::new() };
        for (ix, facts) in clusters.iter().enumerate() {
            let own = valid[ix].iter().map(|s| (s.name.clone(), s.domain.clone())).collect();
            let standing = ClusterStanding { standing: Standing::Of(DEFAULT), disabled: false, own };
            layout.clusters.push(standing);
            layout.judge_cluster(settings, ix, facts.root, &mut reports);
        }
        (layout, reports)
    }

    fn judge_cluster(
        &mut self,
        settings: &Settings,
        ix: ClusterIx,
        root: Option<&Namespace>,
        reports: &mut Vec<Report>,
    ) {
        let object = object_ref(settings, ix, Kind::Namespace, "", &settings.root_namespace);
        if root.is_some_and(|r| r.broken) {
            self.clusters[ix].standing = Standing::Invalid;
            return;
        }
        let Some(label) = root.and_then(|r| r.labels.get(label::SEGMENT)) else { return };
        let standing = self.resolve(ix, label);
        self.clusters[ix].standing = standing;
        if standing != Standing::Invalid {
            return;
        }
        let here = self.find(label).map(|s| self.segments[usize::from(s)].domain.clone());
        let there = self.clusters[ix].own.get(label).cloned();
        if ix != LOCAL && (here.is_none() || there.is_some()) {
            self.clusters[ix].disabled = true;
            let text = match (here, there) {
                (Some(here), Some(there)) => format!(
                    "its segment {label:?} has the domain {there} there and {here} here, so nothing of this peer is published"
                ),
                _ => format!(
                    "it is of segment {label:?}, which is no valid Segment here, so nothing of this peer is published"
                ),
            };
            let remedy = format!(
                "give both clusters the Segment {label:?} in {} with the same spec.domain",
                settings.root_namespace
            );
            reports.push(Report { kind: ReportKind::PeerDisabled, rule: "R4", object, text, remedy });
        } else {
            reports.push(label_report(settings, object, label, ix));
        }
    }

    /// The segment of that name that is valid here, the default one included.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<SegmentIx> {
        let ix = self.segments.iter().position(|s| &*s.name == name)?;
        SegmentIx::try_from(ix).ok()
    }

    /// What a segment label of this cluster means. A peer's counts only if the Segment exists on both sides with one
    /// domain: its names would otherwise land in a zone that their owner did not choose.
    #[must_use]
    pub fn resolve(&self, cluster: ClusterIx, label: &str) -> Standing {
        let Some(ix) = self.find(label) else { return Standing::Invalid };
        let same = || self.clusters[cluster].own.get(label) == Some(&self.segments[usize::from(ix)].domain);
        if ix == DEFAULT || cluster == LOCAL || same() { Standing::Of(ix) } else { Standing::Invalid }
    }

    /// The longest mesh zone that `name` is in, as an index into [`Layout::zones`].
    #[must_use]
    pub fn zone_of(&self, name: &Name) -> Option<usize> {
        let hits = self.zones.iter().enumerate().filter(|(_, (zone, _))| name.is_in(zone));
        hits.max_by_key(|(_, (zone, _))| zone.as_str().len()).map(|(ix, _)| ix)
    }

    /// The segment whose mesh zone `name` lies strictly below, by the longest zone; `None` at an apex or outside.
    #[must_use]
    pub fn segment_of(&self, name: &Name) -> Option<SegmentIx> {
        let (zone, segment) = &self.zones[self.zone_of(name)?];
        if name == zone { None } else { *segment }
    }
}

/// The segment label that a namespace carries of its own, if such labels count (`namespaceSegments`): that of the mesh
/// root namespace is its cluster's.
#[must_use]
pub fn own_label<'a>(settings: &Settings, namespace: &'a Namespace) -> Option<&'a str> {
    let counts = settings.policy.namespace_segments && namespace.name != settings.root_namespace;
    namespace.labels.get(label::SEGMENT).filter(|_| counts)
}

/// Names an object for a report.
#[must_use]
pub fn object_ref(settings: &Settings, cluster: ClusterIx, kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { cluster: settings.clusters[cluster].clone(), kind, namespace: namespace.into(), name: name.into() }
}

/// As [`object_ref`], from a key.
#[must_use]
pub fn key_ref(settings: &Settings, cluster: ClusterIx, key: &Key) -> ObjectRef {
    object_ref(settings, cluster, key.kind, &key.namespace, &key.name)
}

/// The report of R3.
#[must_use]
pub fn label_report(settings: &Settings, object: ObjectRef, label: &str, cluster: ClusterIx) -> Report {
    let root = &settings.root_namespace;
    let text = if cluster == LOCAL {
        format!(
            "its label {}={label} names no valid Segment, so nothing of it is published and its pods get SERVFAIL for \
             mesh names",
            label::SEGMENT
        )
    } else {
        format!(
            "its label {}={label} names no Segment that is valid here and there with the same domain, so nothing of \
             it is published",
            label::SEGMENT
        )
    };
    let remedy =
        format!("create the Segment {label:?} in {root} (`segdns check` says if it is invalid), or correct the label");
    Report { kind: ReportKind::SegmentLabelInvalid, rule: "R3", object, text, remedy }
}

/// R2: keeps the valid ones, by name, and says what is wrong with the others.
fn judge_segments(settings: &Settings, cluster: ClusterIx, all: &[&Segment]) -> (Vec<ValidSegment>, Vec<Report>) {
    let mut reports = Vec::new();
    let mut report = |segment: &Segment, text: String, remedy: String| {
        let object = object_ref(settings, cluster, Kind::Segment, &segment.namespace, &segment.name);
        reports.push(Report { kind: ReportKind::SegmentInvalid, rule: "R2", object, text, remedy });
    };
    let mut good: Vec<(&Segment, Name)> = Vec::new();
    for segment in all {
        match judge_segment(settings, segment) {
            Ok(domain) => good.push((segment, domain)),
            Err((text, remedy)) => report(segment, text, remedy),
        }
    }
    good.sort_by(|(a, _), (b, _)| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let mut kept: Vec<(&Segment, Name)> = Vec::new();
    for (segment, domain) in good {
        if let Some((first, _)) = kept.iter().find(|(_, have)| *have == domain) {
            let text = format!("its domain {domain} is already that of the older Segment {:?}", first.name);
            report(segment, text, "give one of the two another spec.domain".into());
        } else {
            kept.push((segment, domain));
        }
    }
    kept.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let valid = kept
        .into_iter()
        .map(|(s, domain)| ValidSegment { name: s.name.clone(), domain, aliases: s.aliases.clone() })
        .collect();
    (valid, reports)
}

/// R2 for one Segment alone: its folded domain, or what is wrong and the remedy.
fn judge_segment(settings: &Settings, segment: &Segment) -> Result<Name, (String, String)> {
    let root = &settings.root_namespace;
    if segment.namespace != *root {
        return Err((
            format!(
                "it is in namespace {:?}; Segments count only in the mesh root namespace {root:?}",
                segment.namespace
            ),
            format!("move it to {root}"),
        ));
    }
    if segment.name == settings.default_name {
        return Err((
            format!("the name {:?} is reserved for the implicit default segment", segment.name),
            "give it another name".into(),
        ));
    }
    let Some(text) = segment.domain.as_deref() else {
        return Err(("it has no spec.domain that can be read".into(), "set spec.domain, e.g. mesh.acme".into()));
    };
    let domain = Name::parse(text)
        .map_err(|why| (format!("its domain {text:?} is no DNS name: {why}"), "write it as in mesh.acme".to_owned()))?;
    let cluster = &settings.cluster_domain;
    let arpa = |name: &Name| name.as_str() == "arpa" || name.as_str().ends_with(".arpa");
    let other = || "choose a domain outside it, e.g. mesh.acme".to_owned();
    if domain == settings.default_domain {
        Err((format!("its domain {domain} is that of the default segment"), other()))
    } else if domain.is_in(cluster) || cluster.is_below(&domain) {
        Err((format!("its domain {domain} is the cluster domain {cluster}, below it or above it"), other()))
    } else if arpa(&domain) {
        Err((format!("its domain {domain} is in arpa, where reverse names live"), other()))
    } else {
        Ok(domain)
    }
}

#[cfg(test)]
mod tests;
