//! What is wrong with the objects, in words an operator can act on. `segdns check` prints these.

use std::fmt;

use serde::{Serialize, Serializer};

use super::object::Kind;

/// Names an object in any cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// The cluster's configured name.
    pub cluster: Box<str>,
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for Namespaces and sources, which JSON shows as null.
    #[serde(serialize_with = "absent_if_empty")]
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

fn absent_if_empty<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if text.is_empty() { serializer.serialize_none() } else { serializer.serialize_str(text) }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, kind, namespace, name } = self;
        if namespace.is_empty() {
            write!(f, "{cluster}: {kind} {name}")
        } else {
            write!(f, "{cluster}: {kind} {namespace}/{name}")
        }
    }
}

/// How many reports there are of each of [`ReportKind::ALL`], in its order.
pub type ReportCounts = [usize; ReportKind::ALL.len()];

/// What kind of thing a report is about; the fixed label set of the metric `reports{kind}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportKind {
    /// R2: a Segment that does not count.
    SegmentInvalid,
    /// R3: a label that names an absent or invalid Segment.
    SegmentLabelInvalid,
    /// R4: a peer that does not count.
    PeerDisabled,
    /// A scope label with a value that is none.
    ScopeInvalid,
    /// A takeover label with a value that is neither `true` nor `false`.
    TakeoverInvalid,
    /// R1: a name that lies in another mesh zone, or is no DNS name.
    NameDropped,
    /// R6: an ExternalName that cannot be answered.
    ExternalNameDropped,
    /// R6: a peer's pods are reached on another port than the Service's.
    PortDiffers,
    /// R8: a generated entry, or a host of one, that does not count.
    EntryDropped,
    /// R9: an alias that was not given.
    AliasDropped,
    /// R10: a host of a hand-written ServiceEntry that was not given.
    HostDropped,
    /// R15: a line of `callers` that names nothing.
    CallerRuleInvalid,
    /// A part of an object that could not be used.
    ObjectFault,
    /// A manifest or another source that could not be read.
    SourceFault,
}

impl ReportKind {
    /// All kinds, for metrics that exist at 0 from the start.
    pub const ALL: [Self; 14] = [
        Self::SegmentInvalid,
        Self::SegmentLabelInvalid,
        Self::PeerDisabled,
        Self::ScopeInvalid,
        Self::TakeoverInvalid,
        Self::NameDropped,
        Self::ExternalNameDropped,
        Self::PortDiffers,
        Self::EntryDropped,
        Self::AliasDropped,
        Self::HostDropped,
        Self::CallerRuleInvalid,
        Self::ObjectFault,
        Self::SourceFault,
    ];

    /// The word for it in metrics, JSON and tables.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SegmentInvalid => "segment-invalid",
            Self::SegmentLabelInvalid => "segment-label-invalid",
            Self::PeerDisabled => "peer-disabled",
            Self::ScopeInvalid => "scope-invalid",
            Self::TakeoverInvalid => "takeover-invalid",
            Self::NameDropped => "name-dropped",
            Self::ExternalNameDropped => "external-name-dropped",
            Self::PortDiffers => "port-differs",
            Self::EntryDropped => "entry-dropped",
            Self::AliasDropped => "alias-dropped",
            Self::HostDropped => "host-dropped",
            Self::CallerRuleInvalid => "caller-rule-invalid",
            Self::ObjectFault => "object-fault",
            Self::SourceFault => "source-fault",
        }
    }
}

impl Serialize for ReportKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// One thing that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Report {
    /// What kind of thing.
    pub kind: ReportKind,
    /// The rule of the contract that says so, e.g. `R2`.
    pub rule: &'static str,
    /// The object at fault.
    pub object: ObjectRef,
    /// What is wrong.
    pub text: String,
    /// What to change.
    pub remedy: String,
}
