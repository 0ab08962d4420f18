//! Kubernetes objects as the rules need them: plain data, trimmed to what is used.
//!
//! [`crate::watch`] makes these, from manifests or from an API server; nothing here knows where they came from.

mod labels;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::label;

pub use labels::{Labels, LabelsView};

/// Which cluster an object is of: 0 is the local one, others are peers, in the order of the configuration or as they came.
pub type ClusterIx = usize;

/// The local cluster's index.
pub const LOCAL: ClusterIx = 0;

/// The kinds that are read; every other kind is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// `v1`
    Namespace,
    /// `v1`
    Service,
    /// `discovery.k8s.io/v1`
    EndpointSlice,
    /// `v1`
    Pod,
    /// `admin.solo.io/v1alpha1`, or `admin.istio.io/v1`
    Segment,
    /// `networking.istio.io`, any version
    ServiceEntry,
    /// `networking.istio.io`, any version
    WorkloadEntry,
    /// Not a Kubernetes object: a manifest file or another source, for reports about it.
    Source,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Namespace,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::Segment,
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::Source,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Names one object inside one cluster. `namespace` is empty for Namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, or empty.
    pub namespace: Box<str>,
    /// Its `metadata.name`.
    pub name: Box<str>,
}

/// A Namespace: its labels decide segment, scope and takeover of what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Namespace {
    /// `metadata.name`
    pub name: Box<str>,
    /// All labels.
    pub labels: Labels,
    /// The object could not be read beyond its name, so its segment is not known: R3 applies (fail closed).
    pub broken: bool,
}

/// Transport of a port, as the second label of an SRV name has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// `_tcp`; also HTTP, GRPC, TLS and the other protocols that a ServiceEntry may name
    #[default]
    Tcp,
    /// `_udp`
    Udp,
    /// `_sctp`
    Sctp,
}

/// A port with its name; an empty name gives no SRV record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// `name`, or empty.
    pub name: Box<str>,
    /// The port's number. In an EndpointSlice this is the target port.
    pub number: u16,
    /// Its transport.
    pub protocol: Protocol,
}

/// How a Service is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reach {
    /// `spec.clusterIPs`; empty if none was given yet.
    ClusterIps(Box<[IpAddr]>),
    /// `clusterIP: None`
    Headless,
    /// `type: ExternalName`, with the target as written.
    ExternalName(Box<str>),
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// `metadata.creationTimestamp`, seconds since the epoch; 0 if absent.
    pub created: i64,
    /// All labels.
    pub labels: Labels,
    /// Annotations; values that are no part of a DNS name (over 253 octets) may be cut to 254.
    pub annotations: Labels,
    /// How it is reached.
    pub reach: Reach,
    /// `spec.publishNotReadyAddresses`
    pub publish_not_ready: bool,
    /// `spec.ports`
    pub ports: Box<[Port]>,
}

impl Service {
    /// A Service of which nothing but its name could be read: it publishes nothing, whatever its Namespace says.
    #[must_use]
    pub fn unread(key: &Key) -> Self {
        Self {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            created: 0,
            labels: Labels::new([(label::SCOPE, "cluster"), (label::TAKEOVER, "false")]),
            annotations: Labels::default(),
            reach: Reach::ClusterIps([].into()),
            publish_not_ready: false,
            ports: [].into(),
        }
    }
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
    /// `conditions.ready`; no condition counts as ready (R6).
    pub ready: bool,
    /// `hostname`, if it has one.
    pub hostname: Option<Box<str>>,
}

/// An EndpointSlice that belongs to a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// Label `kubernetes.io/service-name`; empty if it has none (it then belongs to nothing).
    pub service: Box<str>,
    /// Its endpoints.
    pub endpoints: Box<[Endpoint]>,
    /// Its ports; their numbers are the target ports.
    pub ports: Box<[Port]>,
}

/// A Pod, as a caller (R15, R20).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pod {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// `metadata.uid`
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, seconds since the epoch.
    pub created: i64,
    /// `spec.nodeName`, empty while not scheduled.
    pub node: Box<str>,
    /// `spec.hostNetwork`
    pub host_network: bool,
    /// `status.podIPs`, or `status.podIP` where there is no list.
    pub addresses: Box<[IpAddr]>,
    /// Phase Succeeded or Failed.
    pub finished: bool,
    /// `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Search domains that its `dnsConfig` adds, as written; `None` if its `dnsPolicy` is not one with which its resolver
    /// searches the cluster domain.
    pub searches: Option<Box<[Box<str>]>>,
    /// In the mesh: annotation `ambient.istio.io/redirection: enabled`, or `sidecar.istio.io/status` (R20).
    pub enrolled: bool,
    /// What its annotations say of its DNS queries.
    pub capture: Capture,
}

/// Whether ztunnel takes a pod's DNS queries, by the pod's annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Capture {
    /// No: it is not redirected to ztunnel, or `ambient.istio.io/dns-capture: "false"`.
    #[default]
    Off,
    /// As istio-cni has been told for all pods.
    Unsaid,
    /// Yes: `ambient.istio.io/dns-capture: "true"`.
    On,
}

/// One alias of a Segment (R9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Alias {
    /// `pattern`, e.g. `{service}.{labels['team']}.corp`
    pub pattern: Box<str>,
    /// `selector.matchLabels`; empty selects every Service.
    pub selector: Labels,
    /// What the selector asks for beyond `matchLabels`, e.g. `matchExpressions`. Such an alias selects nothing, and is
    /// reported: reading less than was written would publish more than was meant.
    pub unsupported: Option<Box<str>>,
}

/// A Segment, as written; [`crate::mesh::segment`] judges whether it is valid (R2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Segment {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// `metadata.creationTimestamp`, seconds since the epoch.
    pub created: i64,
    /// `spec.domain` as written; `None` if absent or not a string.
    pub domain: Option<Box<str>>,
    /// `spec.aliases`
    pub aliases: Box<[Alias]>,
}

/// A ServiceEntry, generated by the control plane or written by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// `metadata.creationTimestamp`, seconds since the epoch.
    pub created: i64,
    /// All labels.
    pub labels: Labels,
    /// `spec.hosts` as written.
    pub hosts: Box<[Box<str>]>,
    /// `spec.addresses` that are addresses; CIDRs are skipped (R6).
    pub addresses: Box<[IpAddr]>,
    /// `spec.endpoints[].address` that are IP addresses (R10).
    pub endpoints: Box<[IpAddr]>,
    /// `spec.ports`
    pub ports: Box<[Port]>,
    /// `status.addresses`: host (as written) and address.
    pub status_addresses: Box<[(Box<str>, IpAddr)]>,
}

/// A WorkloadEntry: only its labels are used (R7); its address is never answered (R6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkloadEntry {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// All labels.
    pub labels: Labels,
}

/// Any object that is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each variant is documented at its type")]
pub enum Object {
    Namespace(Namespace),
    Service(Service),
    EndpointSlice(EndpointSlice),
    Pod(Pod),
    Segment(Segment),
    ServiceEntry(ServiceEntry),
    WorkloadEntry(WorkloadEntry),
}

impl Object {
    /// What names it inside its cluster.
    #[must_use]
    pub fn key(&self) -> Key {
        let (kind, namespace, name) = match self {
            Self::Namespace(o) => (Kind::Namespace, "", &o.name),
            Self::Service(o) => (Kind::Service, &*o.namespace, &o.name),
            Self::EndpointSlice(o) => (Kind::EndpointSlice, &*o.namespace, &o.name),
            Self::Pod(o) => (Kind::Pod, &*o.namespace, &o.name),
            Self::Segment(o) => (Kind::Segment, &*o.namespace, &o.name),
            Self::ServiceEntry(o) => (Kind::ServiceEntry, &*o.namespace, &o.name),
            Self::WorkloadEntry(o) => (Kind::WorkloadEntry, &*o.namespace, &o.name),
        };
        Key { kind, namespace: namespace.into(), name: name.clone() }
    }
}

/// Something in an object or a source that could not be used; the rest of it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// What is wrong and where, in words an operator can act on, e.g.
    /// `services.yaml:14: spec.clusterIPs[0]: "10.0.0.300" is not an IP address`.
    pub text: String,
    /// What to change.
    pub remedy: String,
}

/// One change, as a source reports it. Changes are applied in order; a batch becomes visible at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A peer is there from now on, without objects yet. Whatever was known under this index is forgotten.
    Joined {
        /// Its index: above 0, and either free or one more than the last.
        cluster: ClusterIx,
        /// Its name, unlike that of any other cluster.
        name: Box<str>,
    },
    /// A peer is gone, with everything that it had; its index is free.
    Left {
        /// Which one.
        cluster: ClusterIx,
    },
    /// An object was added or replaced. `faults` are what in it could not be used.
    Apply {
        /// Of which cluster.
        cluster: ClusterIx,
        /// The object.
        object: Object,
        /// What in it could not be used.
        faults: Vec<Fault>,
    },
    /// An object is gone.
    Delete {
        /// Of which cluster.
        cluster: ClusterIx,
        /// Which one.
        key: Key,
    },
    /// All present faults of one source (a manifest file, say); an empty list clears it.
    Source {
        /// Of which cluster.
        cluster: ClusterIx,
        /// The source, e.g. the file's path.
        place: String,
        /// What is wrong with it now.
        faults: Vec<Fault>,
    },
    /// Whether the local cluster's Services and Namespaces are all told from now on, as they are now: what is not told does
    /// not exist. An API server's watches tell so while nothing keeps them.
    Told {
        /// They are.
        all: bool,
    },
    /// The first complete state of this cluster has been given (R22). Until the local cluster's, mesh names are SERVFAIL;
    /// a peer that has not said it yet publishes nothing.
    Synced {
        /// Of which cluster.
        cluster: ClusterIx,
    },
}
