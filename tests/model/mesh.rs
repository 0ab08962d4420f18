//! A mesh as its operators wrote it: plain objects in plain types, which neither segdns nor the model of its rules shares.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The mesh root namespace.
pub const ROOT: &str = "istio-system";
/// The cluster domain.
pub const CLUSTER: &str = "cluster.local";
/// The label that names a segment.
pub const SEGMENT: &str = "admin.solo.io/segment";
/// The label that says how far a Service is seen.
pub const SCOPE: &str = "solo.io/service-scope";
/// The label of takeover.
pub const TAKEOVER: &str = "solo.io/service-takeover";
/// The labels of a generated entry: the Service that it is of,
pub const PARENT: &str = "solo.io/parent-service";
/// and that Service's namespace.
pub const PARENT_NAMESPACE: &str = "solo.io/parent-service-namespace";
/// The label with which an entry is a peer's own.
pub const PEER: &str = "node.peer.solo.io/cluster";

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// All that decides an answer.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// What the operator of the node has set.
    pub policy: Policy,
    /// The clusters; the first is the local one.
    pub clusters: Vec<Cluster>,
}

/// One cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Whether its first complete state was given (R22).
    pub synced: bool,
    /// Its objects.
    pub objects: Vec<Object>,
}

/// The settings that rules depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// `policy.crossSegment: deny`
    pub deny: bool,
    /// `policy.defaultSegmentVisible`
    pub default_visible: bool,
    /// `policy.namespaceSegments`
    pub namespace_segments: bool,
    /// `policy.clusterNames: segment`
    pub closed: bool,
    /// `policy.clusterNamesAlways`
    pub always: Vec<String>,
    /// `policy.takeoverFor: all`
    pub takeover_all: bool,
    /// `answers.takeover: cname`
    pub takeover_cname: bool,
    /// `serviceEntries: all`
    pub entries_all: bool,
    /// `answers.aaaa`
    pub aaaa: Aaaa,
    /// `autopath`
    pub autopath: bool,
    /// Whether `answers.grace` never ends while the test runs; otherwise it is none.
    pub grace: bool,
    /// `callers`
    pub callers: Vec<Rule>,
}

impl Default for Policy {
    /// The contract's, but for the grace, which these tests do not want to wait for.
    fn default() -> Self {
        Self {
            deny: false,
            default_visible: false,
            namespace_segments: true,
            closed: false,
            always: ["default", "kube-system", ROOT].map(Into::into).into(),
            takeover_all: false,
            takeover_cname: false,
            entries_all: false,
            aaaa: Aaaa::Auto,
            autopath: false,
            grace: false,
            callers: Vec::new(),
        }
    }
}

/// `answers.aaaa`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aaaa {
    /// To callers with an IPv6 pod address, or of no known pod.
    Auto,
    /// To everyone.
    On,
    /// To nobody.
    Off,
}

/// One configured caller: whom all addresses that begin with these octets count as.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The first three octets of an IPv4 address.
    pub net: [u8; 3],
    /// A segment, or else a namespace.
    pub of: Of,
    /// Counts as a pod in the mesh.
    pub enrolled: bool,
}

/// Whom a configured caller counts as.
#[derive(Clone, Debug, PartialEq)]
pub enum Of {
    /// A segment.
    Segment(String),
    /// A namespace of the local cluster.
    Namespace(String),
}

/// Any object.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is documented at its type")]
pub enum Object {
    Namespace(Namespace),
    Service(Service),
    Slice(Slice),
    Segment(Segment),
    Entry(Entry),
    Workload(Workload),
    Pod(Pod),
}

/// A Namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    pub name: String,
    pub labels: Labels,
}

/// A named port.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    pub number: u16,
    pub udp: bool,
}

/// How a Service is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    Ips(Vec<IpAddr>),
    Headless,
    External(String),
}

/// A Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub created: i64,
    pub labels: Labels,
    pub annotations: Labels,
    pub reach: Reach,
    pub publish_not_ready: bool,
    pub ports: Vec<Port>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub address: IpAddr,
    /// The condition, if there is one.
    pub ready: Option<bool>,
    pub hostname: Option<String>,
}

/// An EndpointSlice; its ports are target ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    pub namespace: String,
    pub name: String,
    pub service: String,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<Port>,
}

/// A Segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub namespace: String,
    pub name: String,
    pub created: i64,
    pub domain: String,
    pub aliases: Vec<Alias>,
}

/// An alias of a Segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    pub pattern: String,
    pub selector: Labels,
}

/// A ServiceEntry, generated or written by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub namespace: String,
    pub name: String,
    pub created: i64,
    pub labels: Labels,
    pub hosts: Vec<String>,
    /// `spec.addresses` as written, CIDRs too.
    pub addresses: Vec<String>,
    pub endpoints: Vec<IpAddr>,
    pub ports: Vec<Port>,
    pub status: Vec<(String, IpAddr)>,
}

/// A WorkloadEntry; it has an address, which is never answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
}

/// A Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub created: i64,
    pub node: String,
    pub host_network: bool,
    pub addresses: Vec<IpAddr>,
    pub finished: bool,
    pub terminating: bool,
    pub enrolled: bool,
    /// What `dnsConfig` adds to its search list; none if its `dnsPolicy` is not the cluster's.
    pub searches: Option<Vec<String>>,
}

impl Object {
    /// Kind, namespace and name: no cluster has two objects of which these are the same.
    #[must_use]
    pub fn key(&self) -> (&'static str, &str, &str) {
        match self {
            Self::Namespace(o) => ("Namespace", "", &o.name),
            Self::Service(o) => ("Service", &o.namespace, &o.name),
            Self::Slice(o) => ("EndpointSlice", &o.namespace, &o.name),
            Self::Segment(o) => ("Segment", &o.namespace, &o.name),
            Self::Entry(o) => ("ServiceEntry", &o.namespace, &o.name),
            Self::Workload(o) => ("WorkloadEntry", &o.namespace, &o.name),
            Self::Pod(o) => ("Pod", &o.namespace, &o.name),
        }
    }

    /// Its labels, if it has any that count.
    pub fn labels_mut(&mut self) -> Option<&mut Labels> {
        match self {
            Self::Namespace(o) => Some(&mut o.labels),
            Self::Service(o) => Some(&mut o.labels),
            Self::Entry(o) => Some(&mut o.labels),
            Self::Workload(o) => Some(&mut o.labels),
            Self::Slice(_) | Self::Segment(_) | Self::Pod(_) => None,
        }
    }
}

/// Makes an iterator over one kind of object.
macro_rules! of_kind {
    ($name:ident, $kind:ident, $what:ident) => {
        /// All of this kind.
        pub fn $name(&self) -> impl Iterator<Item = &$kind> {
            self.objects.iter().filter_map(|o| match o {
                Object::$what(o) => Some(o),
                _ => None,
            })
        }
    };
}

impl Cluster {
    of_kind!(namespaces, Namespace, Namespace);
    of_kind!(services, Service, Service);
    of_kind!(slices, Slice, Slice);
    of_kind!(segments, Segment, Segment);
    of_kind!(entries, Entry, Entry);
    of_kind!(workloads, Workload, Workload);
    of_kind!(pods, Pod, Pod);

    /// The label of a Namespace.
    #[must_use]
    pub fn namespace_label(&self, namespace: &str, key: &str) -> Option<&str> {
        self.namespaces().find(|n| n.name == namespace)?.labels.get(key).map(String::as_str)
    }
}

/// Whether a name is this zone's apex or below it. Both in lower case.
#[must_use]
pub fn is_in(name: &str, zone: &str) -> bool {
    name == zone || is_below(name, zone)
}

/// Whether a name is below another one.
#[must_use]
pub fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

/// Whether this is a DNS name as R2 has it: labels of 1 to 63 octets, LDH, at most 253 in all.
#[must_use]
pub fn is_ldh(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
