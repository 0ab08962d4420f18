//! Names of the cluster domain: takeover (R19), search-path forms (R21), what is hidden (R16) or cannot exist, and what may
//! be completed.

use crate::mesh::caller::{Caller, CallerSegment};
use crate::mesh::segment::{SegmentIx, Standing};
use crate::mesh::settings::{ClusterNames, TakeoverAnswer};

use super::{Decision, Forward, Key, Node, Question, Reason, Table, Verdict, View, ZoneKind, in_mesh, rtype};

/// A name of the cluster domain: takeover (R19), a search-path form (R21), or the cluster DNS' (R16, R23).
pub(super) fn in_cluster<'t>(
    table: &'t Table,
    caller: &Caller,
    question: Question<'_>,
    zone: usize,
    node: Option<Node<'t>>,
) -> Decision<'t> {
    let some = Some(zone);
    let above = question.key.count() - table.zones.get(zone).labels;
    if let Some(segment) = caller.segment.segment().filter(|_| caller.takes_over && table.synced)
        && let Some(node) = node
        && let Some((target, view)) = node.takeover(segment)
    {
        let is_seen = || sight(table, caller, question.key, above) == Sight::Seen;
        return Decision {
            segment: Some(segment),
            ..taken_over(table, caller, question.rtype, (target, view), some, is_seen)
        };
    }
    if let Some(decision) = search_path(table, caller, question, zone, above) {
        return decision;
    }
    let decision = plain_cluster_name(table, caller, question.key, zone, above);
    if completes(table, caller, question.key, above, &decision) {
        let how = match decision.verdict {
            Verdict::Forward(how) => Some(how),
            Verdict::NxDomain => None,
            _ => return decision,
        };
        return Decision { verdict: Verdict::Complete(how), ..decision };
    }
    decision
}

/// A name that the cluster DNS knows or not: hidden (R16), absent, or asked for. `above` is how many labels stand before the
/// cluster domain.
fn plain_cluster_name<'t>(table: &'t Table, caller: &Caller, key: &Key, zone: usize, above: usize) -> Decision<'t> {
    let some = Some(zone);
    match sight(table, caller, key, above) {
        Sight::Seen => {}
        Sight::Hidden(segment) => {
            return Decision { segment, ..Decision::new(Verdict::NxDomain, Reason::ClusterHidden, some) };
        }
        Sight::Unknown => return Decision::new(Verdict::NxDomain, Reason::Absent, some),
        Sight::NotYet => return Decision::new(Verdict::ServFail, Reason::NotSynced, some),
    }
    let forward = Forward::of(table);
    if !cannot_exist(table, key, above) {
        return Decision::new(Verdict::Forward(forward), Reason::Forwarded, some);
    }
    if forward.filtered {
        // Every NXDOMAIN of this zone is ours then, so there is nothing to ask for.
        return Decision::new(Verdict::NxDomain, Reason::Absent, some);
    }
    let absent = u8::try_from(above - 1).ok();
    Decision::new(Verdict::Forward(Forward { absent, ..forward }), Reason::Forwarded, some)
}

/// Whether Kubernetes has told enough to know that the cluster DNS has no such name. In doubt it may exist.
fn cannot_exist(table: &Table, key: &Key, above: usize) -> bool {
    if !table.told || !table.synced || above < 2 || table.zones.is_apart(key) {
        return false;
    }
    match key.label(above - 1) {
        b"svc" if above == 2 => no_namespace(table, key, 0),
        // A Service that does not exist may be one that the cluster DNS rewrites. One that is told is there although word
        // of its namespace comes late.
        b"svc" if above == 3 => no_namespace(table, key, 1) && !table.has_service(key, 0),
        b"svc" => !table.has_service(key, above - 3),
        // Whether a pod exists is not known here, and the cluster DNS may not even look.
        b"pod" | b"dns" | b"dns-version" => false,
        kind => kind.first() != Some(&b'_'),
    }
}

/// Whether no namespace has this label for its name.
fn no_namespace(table: &Table, key: &Key, ix: usize) -> bool {
    text(key, ix).is_none_or(|name| table.namespaces.get(name).is_none())
}

/// Whether a name of the cluster domain is the first form of the caller's search list, for a name that is none of ours, and
/// is not known to exist: a Service that is hidden (R16) is as one that does not.
fn completes(table: &Table, caller: &Caller, key: &Key, above: usize, decision: &Decision<'_>) -> bool {
    if !table.policy.autopath || !table.synced || above < 3 || key.label(above - 1) != b"svc" {
        return false;
    }
    let pod = caller.pod.and_then(|pod| table.callers.pods.get(pod as usize));
    if !pod.is_some_and(|pod| pod.searches.is_some() && pod.namespace.as_bytes() == key.label(above - 2)) {
        return false;
    }
    let seen = matches!(decision.verdict, Verdict::Forward(_));
    let exists = seen && above == 3 && table.told && table.has_service(key, 0);
    let (base, _) = table.zone_of(key, 0..above - 2);
    let mesh = base.is_some_and(|z| matches!(table.zones.get(z).kind, ZoneKind::Mesh(_)));
    !exists && !mesh
}

/// R19. What else the name has only the cluster DNS knows, which is not asked where the cluster's own name of it is hidden
/// (R16): as if that did not exist, there is nothing.
fn taken_over<'t>(
    table: &Table,
    caller: &Caller,
    rtype: u16,
    (target, view): (&'t [u8], View<'t>),
    zone: Option<usize>,
    is_seen: impl FnOnce() -> bool,
) -> Decision<'t> {
    let records = match rtype {
        rtype::A => view.a(),
        rtype::AAAA if caller.aaaa => view.aaaa(),
        rtype::AAAA => &[],
        _ if !is_seen() => return Decision::new(Verdict::NoData, Reason::Takeover, zone),
        _ => {
            let forward = Forward { exists: true, ..Forward::of(table) };
            return Decision::new(Verdict::Forward(forward), Reason::Takeover, zone);
        }
    };
    let verdict = match table.policy.takeover {
        TakeoverAnswer::Cname => Verdict::Chain(target, view),
        TakeoverAnswer::Flatten if records.is_empty() => Verdict::NoData,
        TakeoverAnswer::Flatten => Verdict::Addresses(view),
    };
    Decision::new(verdict, Reason::Takeover, zone)
}

/// R21: a mesh name followed by a part of a search path. `above` is how many labels stand before the cluster domain.
fn search_path<'t>(
    table: &'t Table,
    caller: &Caller,
    question: Question<'_>,
    zone: usize,
    above: usize,
) -> Option<Decision<'t>> {
    let (end, mesh, hash) = search_path_form(table, caller, question.key, above)?;
    let node = table.node(hash, question.key, 0..end);
    let inner = in_mesh(table, caller, question, (0..end, mesh), node);
    let nothing = Decision::new(Verdict::NxDomain, inner.reason, Some(zone));
    let labels = u8::try_from(end).ok();
    let decision = match inner.verdict {
        Verdict::ServFail if inner.reason != Reason::CallerInvalid => inner,
        Verdict::ServFail | Verdict::HoldThenFail | Verdict::NxDomain => nothing,
        _ => Decision { mesh_labels: labels, ..inner },
    };
    Some(Decision { segment: inner.segment, ..decision })
}

/// R21: if a name of the cluster domain, with `above` labels before that, is a mesh name with a part of a search path
/// behind it: how many labels the mesh name has, its zone, and its hash.
#[must_use]
pub fn search_path_form(table: &Table, caller: &Caller, key: &Key, above: usize) -> Option<(usize, usize, u64)> {
    let svc = above.checked_sub(1).is_some_and(|last| key.label(last) == b"svc");
    let ends = [(svc && above >= 3).then(|| above - 2), (svc && above >= 2).then(|| above - 1), Some(above)];
    for (form, end) in ends.into_iter().enumerate().filter_map(|(form, end)| Some((form, end?))) {
        let (Some(mesh), hash) = table.zone_of(key, 0..end) else { continue };
        let of = table.zones.get(mesh);
        // What is hidden from the caller is nothing that the name could mean (R16).
        let is_theirs =
            || could_be_the_clusters(table, key, form, end) && sight(table, caller, key, above) == Sight::Seen;
        if matches!(of.kind, ZoneKind::Mesh(_)) && end > of.labels && !is_theirs() {
            return Some((end, mesh, hash));
        }
    }
    None
}

/// Whether a search-path form could mean a Service or a namespace that this cluster has, so that only the cluster DNS
/// can tell. `end` is where the suffix begins, `form` which of the three suffixes it is.
fn could_be_the_clusters(table: &Table, key: &Key, form: usize, end: usize) -> bool {
    let namespace = |ix: usize| table.namespaces.get(text(key, ix)?);
    let last = key.label(end - 1);
    match form {
        // <ns>.svc.<cluster domain>: the mesh name's last label as a Service of the namespace
        0 => namespace(end).is_some_and(|n| n.shadows.iter().any(|s| s.as_bytes() == last)),
        // svc.<cluster domain>: the mesh name's last label as a namespace
        1 => namespace(end - 1).is_some(),
        // <cluster domain>: the mesh name's last two labels as <ns>.svc or <ns>.pod
        _ => (last == b"svc" || last == b"pod") && end >= 2 && namespace(end - 2).is_some(),
    }
}

/// A label as the name of a namespace; `None` if it cannot be one.
#[inline]
fn text(key: &Key, ix: usize) -> Option<&str> {
    std::str::from_utf8(key.label(ix)).ok()
}

/// What a caller may know of a name of the cluster domain (R16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Everything.
    Seen,
    /// Nothing: the namespace is of another segment (this one), or of none that is valid.
    Hidden(Option<SegmentIx>),
    /// Nothing: no such namespace is known, so its segment is not the caller's.
    Unknown,
    /// The namespaces are not known yet.
    NotYet,
}

/// R16, for a name with `above` labels before the cluster domain.
fn sight(table: &Table, caller: &Caller, key: &Key, above: usize) -> Sight {
    if table.policy.cluster_names == ClusterNames::Open || above < 2 {
        return Sight::Seen;
    }
    let kind = key.label(above - 1);
    if kind != b"svc" && kind != b"pod" {
        return Sight::Seen;
    }
    let name = key.label(above - 2);
    if table.policy.cluster_names_always.iter().any(|always| always.as_bytes() == name) {
        return Sight::Seen;
    }
    if !table.synced {
        return Sight::NotYet;
    }
    match text(key, above - 2).map_or(Standing::Missing, |name| table.namespaces.standing(name)) {
        Standing::Missing => Sight::Unknown,
        Standing::Of(segment) if caller.segment == CallerSegment::Of(segment) => Sight::Seen,
        standing => Sight::Hidden(standing.segment()),
    }
}

/// R16, for a name that an upstream's answer holds: whether the caller may not know it. What is not known to be of the
/// caller's segment is not.
#[must_use]
pub fn names_hidden_cluster_name(table: &Table, caller: &Caller, key: &Key) -> bool {
    let (zone, _) = table.zone_of(key, key.all());
    zone.map(|z| table.zones.get(z)).filter(|z| z.kind == ZoneKind::Cluster).is_some_and(|z| {
        let above = key.count() - z.labels;
        sight(table, caller, key, above) != Sight::Seen
    })
}
