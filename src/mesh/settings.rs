//! What the rules need to know besides objects: the operator's settings, as plain data.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::name::Name;

/// `policy.crossSegment` (R11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CrossSegment {
    /// A name of scope `global` is seen by other segments.
    #[default]
    Scope,
    /// Nothing of another segment is seen.
    Deny,
}

/// `policy.clusterNames` (R16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterNames {
    /// Names of the cluster domain are everyone's.
    #[default]
    Open,
    /// A caller sees the cluster names of its own segment's namespaces only.
    Segment,
}

/// `policy.takeoverFor` (R20).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TakeoverFor {
    /// Pods in the mesh.
    #[default]
    Enrolled,
    /// Every caller of the segment.
    All,
}

/// `answers.takeover` (R19).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TakeoverAnswer {
    /// Addresses under the asked name.
    #[default]
    Flatten,
    /// A CNAME to the mesh name, and its addresses.
    Cname,
}

/// `serviceEntries` (R10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceEntries {
    /// Only those that the control plane generated.
    #[default]
    Generated,
    /// Hand-written ones of any namespace, too.
    All,
}

/// `answers.aaaa` (R18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aaaa {
    /// To callers with an IPv6 pod address, or of no known pod.
    #[default]
    Auto,
    /// To everyone.
    On,
    /// To nobody.
    Off,
}

/// Whom a configured caller counts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerOf {
    /// A Segment by name, the default segment's name included.
    Segment(Box<str>),
    /// A namespace of the local cluster.
    Namespace(Box<str>),
}

/// One line of `callers` (R15): addresses of no pod that the operator vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRule {
    /// The addresses it is about.
    pub cidr: IpNet,
    /// Whom they count as.
    pub of: CallerOf,
    /// Whether they count as enrolled (R20).
    pub enrolled: bool,
}

/// `policy`, `answers` and the like, as far as they decide an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// R11
    pub cross_segment: CrossSegment,
    /// R12
    pub default_segment_visible: bool,
    /// Whether the label counts on namespaces too.
    pub namespace_segments: bool,
    /// R16
    pub cluster_names: ClusterNames,
    /// R16: namespaces that stay visible to everyone.
    pub cluster_names_always: Vec<Box<str>>,
    /// R20
    pub takeover_for: TakeoverFor,
    /// R19
    pub takeover: TakeoverAnswer,
    /// R18
    pub aaaa: Aaaa,
    /// R18: TTL of positive answers, seconds.
    pub ttl: u32,
    /// R18: TTL of negative answers, seconds.
    pub negative_ttl: u32,
    /// `autopath`: search lists of pods are walked here.
    pub autopath: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            cross_segment: CrossSegment::default(),
            default_segment_visible: false,
            namespace_segments: true,
            cluster_names: ClusterNames::default(),
            cluster_names_always: ["default", "kube-system", "istio-system"].map(Into::into).into(),
            takeover_for: TakeoverFor::default(),
            takeover: TakeoverAnswer::default(),
            aaaa: Aaaa::default(),
            ttl: 5,
            negative_ttl: 5,
            autopath: false,
        }
    }
}

/// Everything the rules need besides objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names of the clusters; the first is the local one.
    pub clusters: Vec<Box<str>>,
    /// `cluster.domain`
    pub cluster_domain: Name,
    /// `cluster.rootNamespace`
    pub root_namespace: Box<str>,
    /// `segments.defaultName`
    pub default_name: Box<str>,
    /// `segments.defaultDomain`
    pub default_domain: Name,
    /// `segments.zones`: mesh zones that are known before any Segment is (R22).
    pub zones: Vec<Name>,
    /// The node whose pods are callers (R15); `None` takes the pods of every node.
    pub node: Option<Box<str>>,
    /// `serviceEntries` (R10)
    pub service_entries: ServiceEntries,
    /// `policy` and the like.
    pub policy: Policy,
    /// `callers` (R15), in order.
    pub callers: Vec<CallerRule>,
    /// The zones of `forward` (R23).
    pub forwarded: Vec<Name>,
    /// `answers.grace` (R22), milliseconds.
    pub grace_ms: u64,
}

/// The contract's defaults (section 5), for one local cluster.
impl Default for Settings {
    fn default() -> Self {
        let name = |text| Name::parse(text).expect("a literal");
        Self {
            clusters: vec!["cluster1".into()],
            cluster_domain: name("cluster.local"),
            root_namespace: "istio-system".into(),
            default_name: "default".into(),
            default_domain: name("mesh.internal"),
            zones: Vec::new(),
            node: None,
            service_entries: ServiceEntries::default(),
            policy: Policy::default(),
            callers: Vec::new(),
            forwarded: Vec::new(),
            grace_ms: 2000,
        }
    }
}

impl Settings {
    /// Whether the segment label counts on namespaces, too.
    #[must_use]
    pub fn namespace_segments(&self) -> bool {
        self.policy.namespace_segments
    }
}
