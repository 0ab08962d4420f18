//! The contract's R15, R18 and R20: who asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::mesh::{Aaaa, Cluster, Of, Pod, ROOT, SEGMENT};
use super::rules::{Model, is_known};

/// The node whose pods ask.
pub const NODE: &str = "node1";
/// The node's own addresses, beside all of loopback.
pub const OWN: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 98, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x98, 0, 0, 0, 0, 0, 1))];

/// The search domains of the resolv.conf by which the node forwards. Those of the cluster are segdns's own pod's.
pub const SEARCHES: [&str; 3] = ["kube-system.svc.cluster.local", "node.example", "corp.example"];

/// What is known of a caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Its segment.
    pub standing: Standing,
    /// In the mesh, as takeover wants it (R20).
    pub enrolled: bool,
    /// Whether AAAA is answered (R18).
    pub six: bool,
    /// If it is a pod that searches the cluster domain: its namespace, and the domains that its `dnsConfig` adds.
    pub home: Option<(String, Vec<String>)>,
}

/// The segment of a caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// This one.
    Of(String),
    /// Its label names none (R3).
    Invalid,
    /// Nobody knows yet who it is (R15).
    Unknown,
}

impl Caller {
    /// The segment, if it is known and valid.
    #[must_use]
    pub fn segment(&self) -> Option<&str> {
        match &self.standing {
            Standing::Of(segment) => Some(segment),
            Standing::Invalid | Standing::Unknown => None,
        }
    }
}

fn standing(segment: Option<String>) -> Standing {
    segment.map_or(Standing::Invalid, Standing::Of)
}

/// The newest pod that is not terminating, of those that have the address; host-network pods have the node's.
#[must_use]
pub fn pod_at(cluster: &Cluster, address: IpAddr) -> Option<&Pod> {
    let here = cluster.pods().filter(|p| p.node == NODE && !p.finished && !p.host_network);
    here.filter(|p| p.addresses.contains(&address)).max_by_key(|p| (!p.terminating, p.created, &p.uid))
}

impl Model<'_> {
    /// Who this address is.
    #[must_use]
    pub fn caller(&self, address: IpAddr) -> Caller {
        let policy = &self.mesh.policy;
        let (standing, enrolled, pod) = match pod_at(self.local(), address) {
            Some(pod) => (self.standing_of_pod(pod), pod.enrolled, Some(pod)),
            None => {
                let (standing, enrolled) = self.no_pod(address);
                (standing, enrolled, None)
            }
        };
        let six = match policy.aaaa {
            Aaaa::On => true,
            Aaaa::Off => false,
            Aaaa::Auto => pod.is_none_or(|p| p.addresses.iter().any(IpAddr::is_ipv6)),
        };
        let home = pod.and_then(|p| Some((p.namespace.clone(), p.searches.clone()?)));
        Caller { standing, enrolled: enrolled || policy.takeover_all, six, home }
    }

    /// A pod's namespace has to be there, too.
    fn standing_of_pod(&self, pod: &Pod) -> Standing {
        if is_known(self.local(), &pod.namespace) {
            standing(self.segment_here(&pod.namespace))
        } else {
            Standing::Unknown
        }
    }

    fn no_pod(&self, address: IpAddr) -> (Standing, bool) {
        let matching = self.mesh.policy.callers.iter().find(|rule| match address {
            IpAddr::V4(four) => four.octets()[..3] == rule.net,
            IpAddr::V6(_) => false,
        });
        if let Some(rule) = matching {
            let segment = match &rule.of {
                Of::Segment(name) => self.segments.contains_key(name).then(|| name.clone()),
                Of::Namespace(namespace) => self.segment_here(namespace),
            };
            return (standing(segment), rule.enrolled);
        }
        let host_network = |p: &Pod| p.host_network && !p.finished && p.node == NODE && p.addresses.contains(&address);
        let own = address.is_loopback() || OWN.contains(&address) || self.local().pods().any(host_network);
        let labelled = self.mesh.policy.namespace_segments
            && self.local().namespaces().any(|n| n.name != ROOT && n.labels.contains_key(SEGMENT));
        let known = own || !labelled;
        (if known { standing(self.segment_of_cluster()) } else { Standing::Unknown }, false)
    }
}
