//! The decision: what a caller is answered, as one pure function of (caller, question, table).
//!
//! It feeds the answer, the log, the metric and `explain` alike. Here is no lock, no allocation and no log.

mod cluster;

use crate::mesh::caller::{Caller, CallerSegment};
use crate::mesh::segment::SegmentIx;
use crate::mesh::settings::ClusterNames;
use crate::mesh::visible::{View as Seen, view};

pub use super::reason::{Reason, rtype};
pub use cluster::{names_hidden_cluster_name, search_path_form};

use super::Table;
use super::key::{Key, Span};
use super::node::{BELOW_ALL, BELOW_CROSS, BELOW_OWN, Node, NodeKind, PortView, View};
use super::zone::ZoneKind;

/// How a question is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// R19: the name exists here, so an upstream's NXDOMAIN means NODATA.
    pub exists: bool,
    /// R16: the answer is cut to what the caller may see; inside a zone ([`Decision::zone`]) an NXDOMAIN carries our own
    /// SOA. What is cut depends on the caller, so an answer may be shared only as it came from upstream.
    pub filtered: bool,
    /// The cluster DNS has no such name, by what Kubernetes has told: the name may be answered from an NXDOMAIN that is kept
    /// under the name that begins with this label, and that stands for everything below it that is marked so.
    pub absent: Option<u8>,
}

impl Forward {
    /// How a question is forwarded of which nothing is known.
    #[inline]
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let filtered = table.policy.cluster_names == ClusterNames::Segment;
        Self { exists: false, filtered, absent: None }
    }

    /// The name under which an NXDOMAIN is kept that stands for this question too, if it cannot exist: a part of the
    /// question's, as wire without root octet.
    #[inline]
    #[must_use]
    pub fn proof(self, key: &Key) -> Option<&[u8]> {
        self.absent.map(|from| key.span(usize::from(from)..key.count()))
    }
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
    /// `autopath`: the first form that the caller's search list gives a name. If it does not exist, the rest of that list is
    /// walked here. What is answered without that is in [`Decision::plain`]: asked upstream, or, without a [`Forward`], no
    /// such name. An answer that exists is the same with and without `autopath`.
    Complete(Option<Forward>),
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

    /// What is answered if the caller's search list is left to the caller.
    #[inline]
    #[must_use]
    pub fn plain(&self) -> Self {
        match self.verdict {
            Verdict::Complete(Some(how)) => Self { verdict: Verdict::Forward(how), ..*self },
            Verdict::Complete(None) => Self { verdict: Verdict::NxDomain, ..*self },
            _ => *self,
        }
    }
}

/// A question, as far as it matters: class IN is understood.
#[derive(Clone, Copy)]
pub struct Question<'k> {
    /// The name.
    pub key: &'k Key,
    /// The type.
    pub rtype: u16,
    /// [`Table::hash`] of the name.
    pub hash: u64,
}

impl<'k> Question<'k> {
    /// The question for a name and a type.
    #[must_use]
    pub fn new(table: &Table, key: &'k Key, rtype: u16) -> Self {
        Self { key, rtype, hash: table.hash(key) }
    }
}

/// Decides. See the module's page.
#[inline]
#[must_use]
pub fn decide<'t>(table: &'t Table, caller: &Caller, question: Question<'_>) -> Decision<'t> {
    let (key, hash) = (question.key, question.hash);
    debug_assert_eq!(hash, table.hash(key), "the hash of another name");
    let node = table.node(hash, key, key.all());
    // What stands in the table knows its zone, so that a name that is hidden costs no more than one that is not there.
    let zone = match &node {
        Some(node) => node.zone,
        None => table.classify(key, key.all()).0,
    };
    match zone.map(|z| (z, table.zones.get(z).kind)) {
        Some((ix, ZoneKind::Mesh(_))) => in_mesh(table, caller, question, (key.all(), ix), node),
        Some((ix, ZoneKind::Cluster)) => cluster::in_cluster(table, caller, question, ix, node),
        Some((ix, ZoneKind::Reverse)) => {
            Decision::new(Verdict::Forward(Forward::of(table)), Reason::Forwarded, Some(ix))
        }
        None => outside(table, caller, question, node),
    }
}

/// A name in a mesh zone (R11 to R14, R18, R22): `span` is the whole question, or what a search path was put behind; `node` what
/// stands there.
#[inline(always)]
fn in_mesh<'t>(
    table: &'t Table,
    caller: &Caller,
    question: Question<'_>,
    (span, zone): (Span, usize),
    node: Option<Node<'t>>,
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
    let Some(node) = node else {
        return below_service(table, segment, question, span, zone);
    };
    let how = view(&table.policy, segment, node.segment);
    let (verdict, reason) = match see(&node, how) {
        Some(view) => typed(view, caller, question.rtype, seen_as(how)),
        None if below(&node, how) => (Verdict::NoData, Reason::Empty),
        None => (Verdict::NxDomain, Reason::Hidden),
    };
    Decision { verdict, reason, zone: some, mesh_labels: None, segment: Some(node.segment) }
}

/// Why a name is answered that a caller sees.
#[inline(always)]
fn seen_as(how: Seen) -> Reason {
    if how == Seen::Own { Reason::Visible } else { Reason::Global }
}

fn apex<'t>(rtype: u16, zone: usize) -> Decision<'t> {
    let verdict = match rtype {
        rtype::SOA | rtype::NS => Verdict::Apex,
        rtype::ANY => Verdict::Any,
        _ => Verdict::NoData,
    };
    Decision::new(verdict, Reason::Apex, Some(zone))
}

/// The view of a node that its caller has.
#[inline(always)]
fn see<'t>(node: &Node<'t>, how: Seen) -> Option<View<'t>> {
    match how {
        Seen::Own => node.own(),
        Seen::Cross => node.cross(),
        Seen::Nothing => None,
    }
}

/// Whether a caller sees anything below a node (R14).
#[inline]
fn below(node: &Node<'_>, how: Seen) -> bool {
    let flag = match how {
        Seen::Own => BELOW_OWN,
        Seen::Cross => BELOW_CROSS,
        Seen::Nothing => 0,
    };
    node.flags & (flag | BELOW_ALL) != 0
}

/// What a view says to a type (R18), and why; `reason` is why it is answered at all.
#[inline(always)]
fn typed<'t>(view: View<'t>, caller: &Caller, rtype: u16, reason: Reason) -> (Verdict<'t>, Reason) {
    let records = match rtype {
        rtype::A => view.a(),
        rtype::AAAA if caller.aaaa => view.aaaa(),
        _ => &[],
    };
    if !records.is_empty() {
        return (Verdict::Addresses(view), reason);
    }
    if let Some(target) = view.cname() {
        return (Verdict::Cname(target), reason);
    }
    match rtype {
        _ if view.pending() => (Verdict::ServFail, Reason::Grace),
        rtype::A | rtype::AAAA if view.a().is_empty() && view.aaaa().is_empty() => (Verdict::NoData, Reason::NoAddress),
        rtype::ANY => (Verdict::Any, reason),
        _ => (Verdict::NoData, Reason::NoData),
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
    let how = view(&table.policy, segment, node.segment);
    let (seen, own) = (see(&node, how), how == Seen::Own);
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

/// A name outside all zones: an alias (R9), a host of a hand-written entry (R10), or the world's.
fn outside<'t>(table: &'t Table, caller: &Caller, question: Question<'_>, node: Option<Node<'t>>) -> Decision<'t> {
    let forward = Decision::new(Verdict::Forward(Forward::of(table)), Reason::Forwarded, None);
    if !table.zones_known {
        return Decision { verdict: Verdict::HoldThenForward, ..forward };
    }
    if table.outside == 0 || !table.synced {
        return forward;
    }
    let Some(node) = node.or_else(|| wildcard(table, question.key)) else { return forward };
    let answered = |view, reason| {
        let (verdict, reason) = typed(view, caller, question.rtype, reason);
        Decision::new(verdict, reason, None)
    };
    if node.kind == NodeKind::Public {
        return node.own().map_or(forward, |view| answered(view, Reason::Public));
    }
    let Some(segment) = caller.segment.segment() else { return forward };
    let how = view(&table.policy, segment, node.segment);
    let decision = see(&node, how).map_or(forward, |view| answered(view, seen_as(how)));
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
