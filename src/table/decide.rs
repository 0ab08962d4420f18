//! The decision: what a caller is answered, as one pure function of (caller, question, table).
//!
//! It feeds the answer, the log, the metric and `explain` alike. Here is no lock, no allocation and no log.

use crate::mesh::caller::{Caller, CallerSegment};
use crate::mesh::segment::SegmentIx;
use crate::mesh::settings::{ClusterNames, TakeoverAnswer};
use crate::mesh::visible::{View as Seen, view};

use super::Table;
use super::key::{Key, Span};
use super::node::{BELOW_ALL, BELOW_CROSS, BELOW_OWN, Node, NodeKind, PortView, View};
use super::zone::ZoneKind;

/// Record types that are told apart here (IANA DNS parameters).
pub mod rtype {
    /// IPv4 address
    pub const A: u16 = 1;
    /// Name server
    pub const NS: u16 = 2;
    /// Alias
    pub const CNAME: u16 = 5;
    /// Start of authority
    pub const SOA: u16 = 6;
    /// Host information; what ANY is answered with (RFC 8482)
    pub const HINFO: u16 = 13;
    /// IPv6 address
    pub const AAAA: u16 = 28;
    /// Service location
    pub const SRV: u16 = 33;
    /// Incremental transfer
    pub const IXFR: u16 = 251;
    /// Whole transfer
    pub const AXFR: u16 = 252;
    /// Any type
    pub const ANY: u16 = 255;
}

/// Why it was decided so. The words of metrics, logs and `explain`; every one is documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A name of the caller's own segment.
    Visible,
    /// A name of another segment, of scope `global`.
    Global,
    /// A name that R10 gives to everyone.
    Public,
    /// A cluster name under takeover.
    Takeover,
    /// The name exists, but has nothing of that type.
    NoData,
    /// The name is published, and has no address.
    NoAddress,
    /// Something exists below the name only.
    Empty,
    /// The apex of a mesh zone.
    Apex,
    /// The name does not exist.
    Absent,
    /// The name exists, and the caller may not see it.
    Hidden,
    /// The name has just appeared, and has no address yet.
    Grace,
    /// The first complete state is not in yet.
    NotSynced,
    /// The caller's segment label names an absent or invalid Segment.
    CallerInvalid,
    /// The caller's address is of no known pod.
    CallerUnknown,
    /// Not a name of ours: forwarded.
    Forwarded,
    /// A cluster name of a namespace that the caller may not see.
    ClusterHidden,
    /// The message is none that is answered (R24).
    Protocol,
    /// No upstream answered.
    UpstreamFailed,
    /// Too much is in flight.
    Overloaded,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Visible,
        Self::Global,
        Self::Public,
        Self::Takeover,
        Self::NoData,
        Self::NoAddress,
        Self::Empty,
        Self::Apex,
        Self::Absent,
        Self::Hidden,
        Self::Grace,
        Self::NotSynced,
        Self::CallerInvalid,
        Self::CallerUnknown,
        Self::Forwarded,
        Self::ClusterHidden,
        Self::Protocol,
        Self::UpstreamFailed,
        Self::Overloaded,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Global => "global",
            Self::Public => "public",
            Self::Takeover => "takeover",
            Self::NoData => "nodata",
            Self::NoAddress => "no-address",
            Self::Empty => "empty-non-terminal",
            Self::Apex => "apex",
            Self::Absent => "absent",
            Self::Hidden => "hidden",
            Self::Grace => "grace",
            Self::NotSynced => "not-synced",
            Self::CallerInvalid => "caller-segment-invalid",
            Self::CallerUnknown => "caller-unknown",
            Self::Forwarded => "forwarded",
            Self::ClusterHidden => "cluster-name-hidden",
            Self::Protocol => "protocol",
            Self::UpstreamFailed => "upstream-failed",
            Self::Overloaded => "overloaded",
        }
    }

    /// The rule of the contract behind it.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Visible | Self::Global => "R11",
            Self::Public => "R10",
            Self::Takeover => "R19",
            Self::NoData | Self::Absent => "R18",
            Self::NoAddress | Self::Grace | Self::NotSynced => "R22",
            Self::Empty | Self::Apex => "R14",
            Self::Hidden => "R11",
            Self::CallerInvalid => "R3",
            Self::CallerUnknown => "R15",
            Self::Forwarded | Self::UpstreamFailed | Self::Overloaded => "R23",
            Self::ClusterHidden => "R16",
            Self::Protocol => "R24",
        }
    }
}

/// How a question is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// R19: the name exists here, so an upstream's NXDOMAIN means NODATA.
    pub exists: bool,
    /// R16: the answer is cut to what the caller may see, and an NXDOMAIN carries our own SOA.
    pub filtered: bool,
    /// R16: the name itself is hidden from the caller.
    pub hidden: bool,
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'t> {
    /// A or AAAA records.
    Addresses(View<'t>),
    /// R19 with `takeover: cname`: a CNAME to the mesh name (wire without root octet), and its records.
    Chain(&'t [u8], View<'t>),
    /// A CNAME to this name (wire without root octet), to be judged for the same caller (R6).
    Cname(&'t [u8]),
    /// SRV records of a port; the service's name is the question's without its first two labels.
    Services(PortView<'t>),
    /// SOA or NS of the zone.
    Apex,
    /// ANY, answered as RFC 8482 says.
    Any,
    /// The name exists, nothing of that type.
    NoData,
    /// No such name.
    NxDomain,
    /// Not now.
    ServFail,
    /// Ask upstream.
    Forward(Forward),
    /// R15, R22: wait for the watch to catch up, then SERVFAIL.
    HoldThenFail,
    /// R22: wait for the zones to be known, then ask upstream.
    HoldThenForward,
}

/// What was decided, and why.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'t> {
    /// What is answered.
    pub verdict: Verdict<'t>,
    /// Why.
    pub reason: Reason,
    /// The zone whose SOA a negative answer carries; `None` outside all zones.
    pub zone: Option<usize>,
    /// R21: the question is a search-path form of a mesh name, which is its first so many labels.
    pub mesh_labels: Option<u8>,
    /// Whose name it is, if it exists.
    pub segment: Option<SegmentIx>,
}

impl<'t> Decision<'t> {
    fn new(verdict: Verdict<'t>, reason: Reason, zone: Option<usize>) -> Self {
        Self { verdict, reason, zone, mesh_labels: None, segment: None }
    }
}

/// A question, as far as it matters: class IN is understood.
#[derive(Clone, Copy)]
pub struct Question<'k> {
    /// The name.
    pub key: &'k Key,
    /// The type.
    pub rtype: u16,
}

/// Decides. See the module's page.
#[inline]
#[must_use]
pub fn decide<'t>(table: &'t Table, caller: &Caller, question: Question<'_>) -> Decision<'t> {
    let key = question.key;
    let (zone, hash) = table.classify(key, key.all());
    match zone.map(|z| (z, table.zones.get(z).kind)) {
        Some((ix, ZoneKind::Mesh(_))) => in_mesh(table, caller, question, key.all(), ix, hash),
        Some((ix, ZoneKind::Cluster)) => in_cluster(table, caller, question, ix, hash),
        Some((ix, ZoneKind::Reverse)) => {
            Decision::new(Verdict::Forward(filter(table, false)), Reason::Forwarded, Some(ix))
        }
        None => outside(table, caller, question, hash),
    }
}

fn filter(table: &Table, hidden: bool) -> Forward {
    let filtered = table.policy.cluster_names == ClusterNames::Segment;
    Forward { exists: false, filtered, hidden: filtered && hidden }
}

/// A name in a mesh zone (R11 to R14, R18, R22): `span` is the whole question, or what a search path was put behind.
#[inline]
fn in_mesh<'t>(
    table: &'t Table,
    caller: &Caller,
    question: Question<'_>,
    span: Span,
    zone: usize,
    hash: u64,
) -> Decision<'t> {
    let some = Some(zone);
    if !table.synced {
        return Decision::new(Verdict::ServFail, Reason::NotSynced, some);
    }
    let segment = match caller.segment {
        CallerSegment::Of(segment) => segment,
        CallerSegment::Invalid => return Decision::new(Verdict::ServFail, Reason::CallerInvalid, some),
        CallerSegment::Unknown => return Decision::new(Verdict::HoldThenFail, Reason::CallerUnknown, some),
    };
    if span.len() == table.zones.get(zone).labels {
        return apex(question.rtype, zone);
    }
    let Some(node) = table.node(hash, question.key, span.clone()) else {
        return below_service(table, segment, question, span, zone);
    };
    let of = Some(node.segment);
    let (seen, own) = see(table, segment, &node);
    let decision = match seen {
        Some(view) => typed(view, caller, question.rtype, if own { Reason::Visible } else { Reason::Global }, some),
        None if below(table, segment, &node) => Decision::new(Verdict::NoData, Reason::Empty, some),
        None => Decision::new(Verdict::NxDomain, Reason::Hidden, some),
    };
    Decision { segment: of, ..decision }
}

fn apex<'t>(rtype: u16, zone: usize) -> Decision<'t> {
    let verdict = match rtype {
        rtype::SOA | rtype::NS => Verdict::Apex,
        rtype::ANY => Verdict::Any,
        _ => Verdict::NoData,
    };
    Decision::new(verdict, Reason::Apex, Some(zone))
}

/// The view that a caller of `segment` has of a node, and whether it is that of its own segment.
#[inline]
fn see<'t>(table: &Table, segment: SegmentIx, node: &Node<'t>) -> (Option<View<'t>>, bool) {
    match view(&table.policy, segment, node.segment) {
        Seen::Own => (node.own(), true),
        Seen::Cross => (node.cross(), false),
        Seen::Nothing => (None, false),
    }
}

/// Whether a caller sees anything below a node (R14).
#[inline]
fn below(table: &Table, segment: SegmentIx, node: &Node<'_>) -> bool {
    let flag = match view(&table.policy, segment, node.segment) {
        Seen::Own => BELOW_OWN,
        Seen::Cross => BELOW_CROSS,
        Seen::Nothing => 0,
    };
    node.flags & (flag | BELOW_ALL) != 0
}

/// What a view says to a type (R18).
#[inline]
fn typed<'t>(view: View<'t>, caller: &Caller, rtype: u16, reason: Reason, zone: Option<usize>) -> Decision<'t> {
    let decide = |verdict, reason| Decision::new(verdict, reason, zone);
    let records = match rtype {
        rtype::A => view.a(),
        rtype::AAAA if caller.aaaa => view.aaaa(),
        _ => &[],
    };
    if !records.is_empty() {
        return decide(Verdict::Addresses(view), reason);
    }
    if let Some(target) = view.cname() {
        return decide(Verdict::Cname(target), reason);
    }
    match rtype {
        _ if view.pending() => decide(Verdict::ServFail, Reason::Grace),
        rtype::A | rtype::AAAA if view.a().is_empty() && view.aaaa().is_empty() => {
            decide(Verdict::NoData, Reason::NoAddress)
        }
        rtype::ANY => decide(Verdict::Any, reason),
        _ => decide(Verdict::NoData, Reason::NoData),
    }
}

/// `_port._proto.<service>` and `_proto.<service>`, which stand in the service's own node.
fn below_service<'t>(
    table: &'t Table,
    segment: SegmentIx,
    question: Question<'_>,
    span: Span,
    zone: usize,
) -> Decision<'t> {
    let some = Some(zone);
    let absent = Decision::new(Verdict::NxDomain, Reason::Absent, some);
    let key = question.key;
    let under = |ix: usize| ix < span.end && key.label(ix).first() == Some(&b'_');
    if !under(span.start) {
        return absent;
    }
    let two = under(span.start + 1);
    let service = span.start + 1 + usize::from(two)..span.end;
    let Some(node) = table.node_of(key, service).filter(|n| n.kind == NodeKind::Mesh) else { return absent };
    let (seen, own) = see(table, segment, &node);
    let protocol = key.label(span.start + usize::from(two));
    let name = if two { key.label(span.start).get(1..) } else { None };
    let ports = || seen.into_iter().flat_map(|v| v.ports()).filter(|p| p.protocol == protocol);
    let decision = match name {
        None if ports().next().is_some() => Decision::new(Verdict::NoData, Reason::Empty, some),
        None => absent,
        Some(name) => match ports().find(|p| p.name == name) {
            Some(port) => service_type(port, question.rtype, own, some),
            None => absent,
        },
    };
    let hidden = seen.is_none();
    Decision { segment: Some(node.segment), reason: if hidden { Reason::Hidden } else { decision.reason }, ..decision }
}

fn service_type(port: PortView<'_>, rtype: u16, own: bool, zone: Option<usize>) -> Decision<'_> {
    let reason = if own { Reason::Visible } else { Reason::Global };
    match rtype {
        rtype::SRV if port.targets().next().is_some() => Decision::new(Verdict::Services(port), reason, zone),
        rtype::SRV => Decision::new(Verdict::NoData, Reason::NoAddress, zone),
        rtype::ANY => Decision::new(Verdict::Any, reason, zone),
        _ => Decision::new(Verdict::NoData, Reason::NoData, zone),
    }
}

/// A name of the cluster domain: takeover (R19), a search-path form (R21), or the cluster DNS' (R16, R23).
fn in_cluster<'t>(table: &'t Table, caller: &Caller, question: Question<'_>, zone: usize, hash: u64) -> Decision<'t> {
    let some = Some(zone);
    if let Some(segment) = caller.segment.segment().filter(|_| caller.takes_over && table.synced)
        && let Some(node) = table.node(hash, question.key, question.key.all())
        && let Some((target, view)) = node.takeover(segment)
    {
        return Decision { segment: Some(segment), ..taken_over(table, caller, question.rtype, target, view, some) };
    }
    let above = question.key.count() - table.zones.get(zone).labels;
    if let Some(decision) = search_path(table, caller, question, zone, above) {
        return decision;
    }
    let hidden = cluster_name_hidden(table, caller, question.key, above);
    let reason = if hidden { Reason::ClusterHidden } else { Reason::Forwarded };
    Decision::new(Verdict::Forward(filter(table, hidden)), reason, some)
}

fn taken_over<'t>(
    table: &Table,
    caller: &Caller,
    rtype: u16,
    target: &'t [u8],
    view: View<'t>,
    zone: Option<usize>,
) -> Decision<'t> {
    let records = match rtype {
        rtype::A => view.a(),
        rtype::AAAA if caller.aaaa => view.aaaa(),
        rtype::AAAA => &[],
        _ => {
            let forward = Forward { exists: true, ..filter(table, false) };
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
    let (end, mesh, hash) = search_path_form(table, question.key, above)?;
    let inner = in_mesh(table, caller, question, 0..end, mesh, hash);
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
pub fn search_path_form(table: &Table, key: &Key, above: usize) -> Option<(usize, usize, u64)> {
    let svc = above.checked_sub(1).is_some_and(|last| key.label(last) == b"svc");
    let ends = [(svc && above >= 3).then(|| above - 2), (svc && above >= 2).then(|| above - 1), Some(above)];
    for (form, end) in ends.into_iter().enumerate().filter_map(|(form, end)| Some((form, end?))) {
        let (Some(mesh), hash) = table.classify(key, 0..end) else { continue };
        let of = table.zones.get(mesh);
        if matches!(of.kind, ZoneKind::Mesh(_)) && end > of.labels && !could_be_the_clusters(table, key, form, end) {
            return Some((end, mesh, hash));
        }
    }
    None
}

/// Whether a search-path form could mean a Service or a namespace that this cluster has, so that only the cluster DNS
/// can tell. `end` is where the suffix begins, `form` which of the three suffixes it is.
fn could_be_the_clusters(table: &Table, key: &Key, form: usize, end: usize) -> bool {
    let namespace = |ix: usize| {
        let label = std::str::from_utf8(key.label(ix)).ok()?;
        table.namespaces.get(label)
    };
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

/// R16: whether a name of the cluster domain, with `above` labels before it, is hidden from the caller.
fn cluster_name_hidden(table: &Table, caller: &Caller, key: &Key, above: usize) -> bool {
    if table.policy.cluster_names == ClusterNames::Open || above < 2 {
        return false;
    }
    let kind = key.label(above - 1);
    if kind != b"svc" && kind != b"pod" {
        return false;
    }
    let Some(facts) = std::str::from_utf8(key.label(above - 2)).ok().and_then(|ns| table.namespaces.get(ns)) else {
        return false;
    };
    let same = caller.segment.segment().is_some_and(|s| facts.standing.segment() == Some(s));
    !facts.always && !same
}

/// R16, for a name that an upstream's answer holds: whether the caller may not know it.
#[must_use]
pub fn names_hidden_cluster_name(table: &Table, caller: &Caller, key: &Key) -> bool {
    let (zone, _) = table.classify(key, key.all());
    zone.map(|z| table.zones.get(z)).filter(|z| z.kind == ZoneKind::Cluster).is_some_and(|z| {
        let above = key.count() - z.labels;
        cluster_name_hidden(table, caller, key, above)
    })
}

/// A name outside all zones: an alias (R9), a host of a hand-written entry (R10), or the world's.
fn outside<'t>(table: &'t Table, caller: &Caller, question: Question<'_>, hash: u64) -> Decision<'t> {
    let forward = Decision::new(Verdict::Forward(Forward::default()), Reason::Forwarded, None);
    if !table.zones_known {
        return Decision { verdict: Verdict::HoldThenForward, ..forward };
    }
    if table.outside == 0 || !table.synced {
        return forward;
    }
    let key = question.key;
    let node = table.node(hash, key, key.all()).or_else(|| wildcard(table, key));
    let Some(node) = node else { return forward };
    if node.kind == NodeKind::Public {
        return node.own().map_or(forward, |view| typed(view, caller, question.rtype, Reason::Public, None));
    }
    let Some(segment) = caller.segment.segment() else { return forward };
    let (seen, own) = see(table, segment, &node);
    let reason = if own { Reason::Visible } else { Reason::Global };
    let decision = seen.map_or(forward, |view| typed(view, caller, question.rtype, reason, None));
    Decision { segment: Some(node.segment), ..decision }
}

/// The closest `*.` above a name (R10).
fn wildcard<'t>(table: &'t Table, key: &Key) -> Option<Node<'t>> {
    if table.wildcards == 0 {
        return None;
    }
    (1..key.count()).find_map(|ix| table.wildcard(key, ix..key.count()))
}

#[cfg(test)]
mod tests;
