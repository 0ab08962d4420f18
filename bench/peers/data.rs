//! The world that is served and the questions that are asked of it: a mesh of three segments, 64 callers on loopback addresses,
//! and as many names as the plan says.
//!
//! Everything follows from numbers, so that a service, its addresses and who sees it are computed where they are needed, and
//! every server can be given the same world. It depends on nothing else of the bench, so that other harnesses can include it.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde_json::{Value, json};

/// What the cluster is called in segdns's configuration.
pub const CLUSTER: &str = "cluster1";
/// The node on which all callers run.
pub const NODE: &str = "node1";
/// The segments; the first is the cluster's own, the others are those of namespaces that carry their label.
pub const SEGMENTS: [&str; 3] = ["acme", "blue", "green"];
/// External names that caches are warmed with.
pub const EXTERNAL: usize = 1000;
/// How external names begin whose TTL is 0.
pub const FLEETING: &str = "fleeting-";
/// What the upstream says of every external name.
pub const EXTERNAL_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const A: u16 = 1;
const AAAA: u16 = 28;
const NOERROR: u8 = 0;
const NXDOMAIN: u8 = 3;
/// Services in one manifest file.
const FILE: usize = 2000;
/// Objects of one age, so that no order among them depends on the clock.
const CREATED: &str = "2026-03-02T08:00:00Z";
/// What a pod's `resolv.conf` completes names with, after its namespace's own domain.
const SEARCH: [&str; 3] = ["svc.cluster.local", "cluster.local", ""];

/// How large the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Services, each published under one name.
    pub names: usize,
    /// Over which they are spread evenly.
    pub namespaces: usize,
    /// Over which namespaces are spread evenly; at most as many as [`SEGMENTS`].
    pub segments: usize,
    /// Pods of this node, over all segments; at most 250.
    pub callers: usize,
}

/// One service of the plan, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    number: usize,
    namespace: usize,
    segment: usize,
    /// Scope `global`, not `segment`.
    global: bool,
    /// Takeover for the callers of its segment.
    takeover: bool,
    /// It has an IPv6 address, too.
    dual: bool,
}

/// What is asked, and so what has to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A of a mesh name that the caller sees.
    Visible,
    /// AAAA of such a name.
    Aaaa,
    /// A of a mesh name that the caller does not see.
    Hidden,
    /// A of a mesh name that nobody has, of the same shape.
    Absent,
    /// A of a name in the cluster domain that is under takeover for the caller.
    Takeover,
    /// A of a name elsewhere, which is in the cache.
    External,
    /// What a pod's resolver asks with `ndots:5` for such a name: three names that do not exist, then that one.
    Ndots,
    /// Of each some: 60 % visible, 10 % AAAA, 10 % takeover, 10 % external, 5 % hidden, 5 % absent.
    Mix,
    /// A of a name elsewhere that is not kept in a cache, because its TTL is 0.
    Forwarded,
}

/// One question of one caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Which caller asks; it has the address [`Plan::caller`].
    pub caller: usize,
    /// The query, with ID 0 and without EDNS, as a pod's libc sends it.
    pub wire: Vec<u8>,
    /// The name as text, without the last dot.
    pub name: String,
    /// A or AAAA.
    pub rtype: u16,
    /// The response code that is right for this caller.
    pub rcode: u8,
    /// The address that is right for it.
    pub address: Option<IpAddr>,
}

/// A stream of numbers that is the same in every run (SplitMix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next one below `bound`, which is above 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.draw()) * bound as u128) >> 64) as usize
    }
}

impl Kind {
    /// All that can be answered without asking anybody, in the order of tables.
    pub const ALL: [Self; 8] =
        [Self::Visible, Self::Aaaa, Self::Hidden, Self::Absent, Self::Takeover, Self::External, Self::Ndots, Self::Mix];

    /// As in tables and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Aaaa => "aaaa",
            Self::Hidden => "hidden",
            Self::Absent => "absent",
            Self::Takeover => "takeover",
            Self::External => "external",
            Self::Ndots => "ndots",
            Self::Mix => "mix",
            Self::Forwarded => "forwarded",
        }
    }
}

impl Service {
    /// `svc-000042`
    #[must_use]
    pub fn name(&self) -> String {
        format!("svc-{:06}", self.number)
    }

    /// `ns-042`
    #[must_use]
    pub fn namespace(&self) -> String {
        namespace(self.namespace)
    }

    /// `svc-000042.ns-042.mesh.acme`
    #[must_use]
    pub fn mesh_name(&self) -> String {
        format!("{}.{}.{}", self.name(), self.namespace(), domain(self.segment))
    }

    /// `svc-000042.ns-042.svc.cluster.local`
    #[must_use]
    pub fn cluster_name(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name(), self.namespace())
    }

    /// Its ClusterIP.
    #[must_use]
    pub fn ipv4(&self) -> Ipv4Addr {
        address(self.number)
    }

    /// Its second ClusterIP, if it has one.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.dual.then(|| Ipv6Addr::from((0xfd00_0096_u128 << 96) + self.number as u128 + 1))
    }

    /// Whether its cluster name has the meaning of its mesh name, for callers of its segment.
    #[must_use]
    pub fn takeover(&self) -> bool {
        self.takeover
    }

    fn seen_by(&self, segment: usize) -> bool {
        self.global || self.segment == segment
    }
}

impl Question {
    /// What has an address exists, and what has none does not.
    fn new(caller: usize, name: String, rtype: u16, address: Option<IpAddr>) -> Self {
        let rcode = if address.is_some() { NOERROR } else { NXDOMAIN };
        Self { caller, wire: query(&name, rtype), name, rtype, rcode, address }
    }
}

impl Plan {
    /// That of the table of targets, with so many names.
    #[must_use]
    pub fn of(names: usize) -> Self {
        Self { names, namespaces: 500, segments: SEGMENTS.len(), callers: 64 }
    }

    /// Every service.
    pub fn services(&self) -> impl Iterator<Item = Service> + '_ {
        (0..self.names).map(|number| self.service(number))
    }

    /// The service of this number, below [`Plan::names`].
    #[must_use]
    pub fn service(&self, number: usize) -> Service {
        let (namespace, within) = (number % self.namespaces, number / self.namespaces);
        Service {
            number,
            namespace,
            segment: namespace % self.segments,
            global: within.is_multiple_of(2),
            takeover: within % 4 < 2,
            dual: (within / 2 + namespace).is_multiple_of(2),
        }
    }

    /// The address of a caller: a pod of the namespace of the same number.
    #[must_use]
    pub fn caller(&self, caller: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, 10, 0, u8::try_from(caller + 1).unwrap_or(u8::MAX))
    }

    fn segment_of(&self, caller: usize) -> usize {
        caller % self.namespaces % self.segments
    }

    /// So many questions of one kind, from all callers in turn, the same for the same seed.
    #[must_use]
    pub fn questions(&self, kind: Kind, count: usize, seed: u64) -> Vec<Question> {
        let mut numbers = Numbers::new(seed ^ kind as u64);
        (0..count).map(|at| self.question(kind, at % self.callers, at / self.callers, &mut numbers)).collect()
    }

    /// What the caller asks in its turn `at`.
    fn question(&self, kind: Kind, caller: usize, at: usize, numbers: &mut Numbers) -> Question {
        let segment = self.segment_of(caller);
        let mut find = |wanted: &dyn Fn(&Service) -> bool| {
            (0..10_000)
                .map(|_| self.service(numbers.below(self.names)))
                .find(wanted)
                .expect("the plan has such a service")
        };
        let v4 = |service: &Service| Some(IpAddr::V4(service.ipv4()));
        let outside = Some(IpAddr::V4(EXTERNAL_ADDRESS));
        let (name, address) = match kind {
            Kind::Visible => {
                let service = find(&|s| s.seen_by(segment));
                (service.mesh_name(), v4(&service))
            }
            Kind::Aaaa => {
                let service = find(&|s| s.seen_by(segment) && s.dual);
                (service.mesh_name(), service.ipv6().map(IpAddr::V6))
            }
            Kind::Hidden => (find(&|s| !s.seen_by(segment)).mesh_name(), None),
            Kind::Absent => (find(&|_| true).mesh_name().replacen("svc-", "xyz-", 1), None),
            Kind::Takeover => {
                let service = find(&|s| s.takeover && s.segment == segment);
                (service.cluster_name(), v4(&service))
            }
            Kind::External => (external(numbers.below(EXTERNAL)), outside),
            Kind::Forwarded => (format!("{FLEETING}{:08}.example.com", numbers.below(100_000_000)), outside),
            Kind::Ndots => return self.searched(caller, at),
            Kind::Mix => {
                let kind = match numbers.below(20) {
                    0..12 => Kind::Visible,
                    12..14 => Kind::Aaaa,
                    14..16 => Kind::Takeover,
                    16..18 => Kind::External,
                    18 => Kind::Hidden,
                    _ => Kind::Absent,
                };
                return self.question(kind, caller, at, numbers);
            }
        };
        let rtype = if kind == Kind::Aaaa { AAAA } else { A };
        Question::new(caller, name, rtype, address)
    }

    /// One step of the storm: a caller goes through its search path, then turns to the next name.
    fn searched(&self, caller: usize, at: usize) -> Question {
        let (step, name) = (at % (SEARCH.len() + 1), external(at / (SEARCH.len() + 1) % 10));
        let name = match step {
            0 => format!("{name}.{}.svc.cluster.local", namespace(caller % self.namespaces)),
            _ if SEARCH[step - 1].is_empty() => name,
            _ => format!("{name}.{}", SEARCH[step - 1]),
        };
        let address = (step == SEARCH.len()).then_some(IpAddr::V4(EXTERNAL_ADDRESS));
        Question::new(caller, name, A, address)
    }

    /// Writes the world as `Lists` in JSON, for segdns: policy and pods in one file, services in others.
    ///
    /// # Errors
    /// The file system's.
    pub fn write_manifests(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        write_list(&dir.join("policy.json"), self.policy())?;
        for start in (0..self.names).step_by(FILE) {
            let services = (start..self.names.min(start + FILE)).map(|number| object(&self.service(number)));
            write_list(&dir.join(format!("services-{start:06}.json")), services)?;
        }
        Ok(())
    }

    /// The world as objects, for an API server.
    pub fn objects(&self) -> impl Iterator<Item = Value> + '_ {
        self.policy().chain(self.services().map(|service| object(&service)))
    }

    /// Segments, namespaces and pods.
    fn policy(&self) -> impl Iterator<Item = Value> + '_ {
        let namespaces = (0..self.namespaces).map(|number| self.namespace(number));
        let pods = (0..self.callers).map(|caller| self.pod(caller));
        std::iter::once(self.root()).chain((0..self.segments).map(segment)).chain(namespaces).chain(pods)
    }

    fn root(&self) -> Value {
        let labels = json!({"admin.solo.io/segment": SEGMENTS[0]});
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "istio-system", "creationTimestamp": CREATED, "labels": labels}})
    }

    fn namespace(&self, number: usize) -> Value {
        let segment = number % self.segments;
        let labels = if segment == 0 { json!({}) } else { json!({"admin.solo.io/segment": SEGMENTS[segment]}) };
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace(number), "creationTimestamp": CREATED, "labels": labels}})
    }

    fn pod(&self, caller: usize) -> Value {
        let address = self.caller(caller);
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("caller-{caller}"), "namespace": namespace(caller % self.namespaces),
                "creationTimestamp": CREATED, "uid": format!("00000000-0000-4000-8000-{caller:012}"),
                "annotations": {"ambient.istio.io/redirection": "enabled"}},
            "spec": {"nodeName": NODE},
            "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}})
    }
}

/// The ClusterIP of the service of this number.
#[must_use]
pub fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + u32::try_from(number).unwrap_or_default() + 1)
}

/// The name of an external host, by its number below [`EXTERNAL`].
#[must_use]
pub fn external(number: usize) -> String {
    format!("host-{number:04}.example.com")
}

/// The zone of a segment.
#[must_use]
pub fn domain(segment: usize) -> String {
    format!("mesh.{}", SEGMENTS[segment])
}

/// One query of class IN with RD set, and ID 0.
#[must_use]
pub fn query(name: &str, rtype: u16) -> Vec<u8> {
    let mut wire = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        wire.push(u8::try_from(label.len()).expect("a label of the plan is short"));
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire.extend_from_slice(&rtype.to_be_bytes());
    wire.extend_from_slice(&[0, 1]);
    wire
}

fn namespace(number: usize) -> String {
    format!("ns-{number:03}")
}

fn segment(number: usize) -> Value {
    json!({"apiVersion": "admin.solo.io/v1alpha1", "kind": "Segment",
        "metadata": {"name": SEGMENTS[number], "namespace": "istio-system", "creationTimestamp": CREATED},
        "spec": {"domain": domain(number)}})
}

fn object(service: &Service) -> Value {
    let addresses: Vec<String> =
        std::iter::once(service.ipv4().to_string()).chain(service.ipv6().map(|ip| ip.to_string())).collect();
    let scope = if service.global { "global" } else { "segment" };
    let mut labels = json!({"app": service.name(), "solo.io/service-scope": scope});
    if service.takeover {
        labels["solo.io/service-takeover"] = json!("true");
    }
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": service.name(), "namespace": service.namespace(), "creationTimestamp": CREATED,
            "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": addresses[0], "clusterIPs": addresses,
            "selector": {"app": service.name()},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "targetPort": 8080}]}})
}

fn write_list(path: &Path, items: impl Iterator<Item = Value>) -> io::Result<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    write!(out, "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[")?;
    for (at, item) in items.enumerate() {
        write!(out, "{}\n{item}", if at == 0 { "" } else { "," })?;
    }
    writeln!(out, "]}}")?;
    out.flush()
}
