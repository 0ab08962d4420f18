//! Who asks (R15, R20): the caller behind a source address.

mod index;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::name::Name;
use super::object::{Kind, LOCAL, Namespace, Pod};
use super::report::{Report, ReportKind};
use super::segment::{SegmentIx, Standing, object_ref, own_label};
use super::settings::{Aaaa, CallerOf, Policy, TakeoverFor};
use super::world::World;

use index::Index;

/// The segment of a caller, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerSegment {
    /// This one.
    Of(SegmentIx),
    /// R3: its label names an absent or invalid Segment; SERVFAIL in mesh zones.
    Invalid,
    /// R15: an address that nobody vouches for; held, then SERVFAIL in mesh zones.
    Unknown,
}

impl CallerSegment {
    /// The segment, if it is known.
    #[must_use]
    pub const fn segment(self) -> Option<SegmentIx> {
        match self {
            Self::Of(segment) => Some(segment),
            Self::Invalid | Self::Unknown => None,
        }
    }
}

impl From<Standing> for CallerSegment {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Of(segment) => Self::Of(segment),
            Standing::Invalid => Self::Invalid,
            Standing::Missing => Self::Unknown,
        }
    }
}

/// What the decision needs to know of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its segment.
    pub segment: CallerSegment,
    /// It is in the mesh (R20).
    pub enrolled: bool,
    /// It is answered from mesh names for cluster names under takeover (R20).
    pub takes_over: bool,
    /// It is answered AAAA (R18).
    pub aaaa: bool,
    /// Which of [`Callers::pods`] it is.
    pub pod: Option<u32>,
}

/// By what an address was recognised; for `explain` and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerBy {
    /// A pod of this node.
    Pod,
    /// A line of `callers`, by its index.
    Rule(usize),
    /// One of the node's own addresses.
    Node,
    /// No namespace has a segment of its own, so it can only be of the cluster's.
    Cluster,
    /// Nothing.
    Nothing,
}

/// Every caller of one moment; look-up takes no lock and allocates nothing.
#[derive(Clone, Debug)]
pub struct Callers {
    by_v4: Index,
    by_v6: HashMap<u128, Caller, RandomState>,
    rules: Vec<(IpNet, Caller)>,
    node: HashSet<IpAddr, RandomState>,
    of_node: Caller,
    of_nobody: Caller,
    /// The pods that are callers.
    pub pods: Vec<CallerPod>,
}

/// A pod that is a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerPod {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// What its `dnsConfig` adds to its search list; `None` if that does not begin with the cluster's.
    pub searches: Option<Box<[Name]>>,
}

impl CallerPod {
    fn new(pod: &Pod) -> Self {
        // What is no name cannot be searched.
        let names = |all: &[Box<str>]| {
            all.iter().filter_map(|text| Name::parse_service(text.strip_suffix('.').unwrap_or(text)).ok()).collect()
        };
        let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
        Self { namespace, name, searches: pod.searches.as_deref().map(names) }
    }
}

impl Callers {
    /// The caller behind a source address; an IPv4-mapped IPv6 address is its IPv4 address.
    #[inline(always)]
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Caller {
        match address {
            IpAddr::V4(four) => match self.by_v4.get(four.to_bits()) {
                Some(caller) => *caller,
                None => self.recognise(address).0,
            },
            IpAddr::V6(_) => self.recognise(address).0,
        }
    }

    /// As [`Callers::find`], and by what it was recognised.
    #[must_use]
    pub fn recognise(&self, address: IpAddr) -> (Caller, CallerBy) {
        let address = address.to_canonical();
        let pod = match address {
            IpAddr::V4(address) => self.by_v4.get(address.to_bits()),
            IpAddr::V6(address) => self.by_v6.get(&address.to_bits()),
        };
        pod.map_or_else(|| self.other(address), |caller| (*caller, CallerBy::Pod))
    }

    /// Who asks from an address that is no pod's.
    fn other(&self, address: IpAddr) -> (Caller, CallerBy) {
        if let Some(rule) = self.rules.iter().position(|(cidr, _)| cidr.contains(&address)) {
            return (self.rules[rule].1, CallerBy::Rule(rule));
        }
        if address.is_loopback() || self.node.contains(&address) {
            return (self.of_node, CallerBy::Node);
        }
        let by = if self.of_nobody.segment == CallerSegment::Unknown { CallerBy::Nothing } else { CallerBy::Cluster };
        (self.of_nobody, by)
    }

    /// How many pod addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_v4.len() + self.by_v6.len()
    }

    /// Whether no pod address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a pod is asked from, the first address that is its own.
    #[must_use]
    pub fn address_of(&self, namespace: &str, name: &str) -> Option<IpAddr> {
        let pod = self.pods.iter().position(|p| *p.namespace == *namespace && *p.name == *name)?;
        let is_meant = |caller: &Caller| caller.pod.is_some_and(|p| p as usize == pod);
        let four = self.by_v4.iter().filter(|(_, c)| is_meant(c)).map(|(bits, _)| IpAddr::from(bits.to_be_bytes()));
        let six = self.by_v6.iter().filter(|(_, c)| is_meant(c)).map(|(bits, _)| IpAddr::from(bits.to_be_bytes()));
        four.chain(six).min()
    }

    /// A caller of a segment that is no pod, enrolled; `explain --from segment:NAME`.
    #[must_use]
    pub fn of_segment(policy: &Policy, segment: SegmentIx) -> Caller {
        caller(policy, CallerSegment::Of(segment), true, true, None)
    }
}

fn caller(policy: &Policy, segment: CallerSegment, enrolled: bool, six: bool, pod: Option<u32>) -> Caller {
    let aaaa = match policy.aaaa {
        Aaaa::On => true,
        Aaaa::Off => false,
        Aaaa::Auto => six,
    };
    Caller { segment, enrolled, takes_over: enrolled || policy.takeover_for == TakeoverFor::All, aaaa, pod }
}

/// Which pod an address belongs to: the newest that is not terminating, by creation, then UID; manifests may do without
/// both, so that at last the name decides, and never the order in which a map happens to be read.
fn owner_rank(pod: &Pod) -> (bool, i64, &str, &str, &str) {
    (!pod.terminating, pod.created, &pod.uid, &pod.namespace, &pod.name)
}

/// Works out every caller anew.
#[must_use]
pub fn callers(world: &World) -> (Callers, Vec<Report>) {
    let settings = world.settings();
    let policy = &settings.policy;
    let mut reports = Vec::new();
    let mut pods: Vec<&Pod> = world
        .cluster(LOCAL)
        .pods
        .values()
        .filter(|p| !p.finished && !p.addresses.is_empty())
        .filter(|p| settings.node.as_ref().is_none_or(|node| *node == p.node))
        .collect();
    pods.sort_unstable_by(|a, b| owner_rank(b).cmp(&owner_rank(a)));
    let mut node: HashSet<IpAddr, RandomState> = world.node_addresses().iter().map(IpAddr::to_canonical).collect();
    let mut by_v4 = Index::default();
    let mut by_v6: HashMap<u128, Caller, RandomState> = HashMap::default();
    let mut names = Vec::new();
    for pod in pods {
        if pod.host_network {
            node.extend(pod.addresses.iter().map(IpAddr::to_canonical));
            continue;
        }
        let six = pod.addresses.iter().any(IpAddr::is_ipv6);
        let segment = world.standing(LOCAL, &pod.namespace).into();
        let of = caller(policy, segment, pod.enrolled, six, u32::try_from(names.len()).ok());
        names.push(CallerPod::new(pod));
        for address in &pod.addresses {
            match address.to_canonical() {
                IpAddr::V4(address) => by_v4.add(address.to_bits(), of),
                IpAddr::V6(address) => {
                    by_v6.entry(address.to_bits()).or_insert(of);
                }
            }
        }
    }
    let rules = settings.callers.iter().map(|rule| {
        let segment = match &rule.of {
            CallerOf::Segment(name) => world.layout().find(name).map_or(CallerSegment::Invalid, CallerSegment::Of),
            CallerOf::Namespace(name) => match world.standing(LOCAL, name) {
                Standing::Missing => CallerSegment::Invalid,
                standing => standing.into(),
            },
        };
        if segment == CallerSegment::Invalid && world.synced() {
            reports.push(rule_report(world, rule.cidr, &rule.of));
        }
        (rule.cidr, caller(policy, segment, rule.enrolled, true, None))
    });
    let rules = rules.collect();
    let of_cluster: CallerSegment = world.layout().clusters[LOCAL].standing.into();
    let of_nobody = if has_own_segments(world) { CallerSegment::Unknown } else { of_cluster };
    let callers = Callers {
        by_v4,
        by_v6,
        rules,
        node,
        of_node: caller(policy, of_cluster, false, true, None),
        of_nobody: caller(policy, of_nobody, false, true, None),
        pods: names,
    };
    (callers, reports)
}

/// Whether a namespace of this cluster carries a segment label of its own (R15).
fn has_own_segments(world: &World) -> bool {
    let settings = world.settings();
    let mut all = world.cluster(LOCAL).namespaces.values().filter_map(|n| n.object.as_ref());
    let may = |n: &Namespace| settings.policy.namespace_segments && n.broken && n.name != settings.root_namespace;
    all.any(|n| own_label(settings, n).is_some() || may(n))
}

fn rule_report(world: &World, cidr: IpNet, of: &CallerOf) -> Report {
    let what = match of {
        CallerOf::Segment(name) => format!("segment {name:?}, which is no valid Segment here"),
        CallerOf::Namespace(name) => format!("namespace {name:?}, which is not known here or has no valid segment"),
    };
    Report {
        kind: ReportKind::CallerRuleInvalid,
        rule: "R15",
        object: object_ref(world.settings(), LOCAL, Kind::Source, "", "configuration"),
        text: format!("callers: {cidr} counts as {what}, so its addresses get SERVFAIL for mesh names"),
        remedy: "name a segment or a namespace that exists, or remove the line".into(),
    }
}
