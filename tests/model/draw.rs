//! Meshes and questions by chance: small ones, whose names often collide, and whose labels are often broken.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::caller::NODE;
use super::mesh::{
    Aaaa, Alias, Cluster, Endpoint, Entry, Labels, Mesh, Namespace, Object, Of, PARENT, PARENT_NAMESPACE, PEER, Pod,
    Policy, Port, ROOT, Reach, Rule, SCOPE, SEGMENT, Segment, Service, Slice, TAKEOVER, Workload,
};

/// Namespaces; one is a label of a domain, and one has no Namespace object.
pub const NAMESPACES: [&str; 5] = ["shop", "back", "acme", "mesh", ROOT];
/// Services; one of a namespace's name, and one that makes `<svc>.<ns>` look like a domain.
pub const SERVICES: [&str; 5] = ["web", "db", "api", "shop", "acme"];
/// Names of Segments, `default` and one that nobody makes among them.
pub const SEGMENTS: [&str; 5] = ["acme-segment", "two", "deep", "default", "ghost"];
/// Domains of Segments, valid or not (R2).
pub const DOMAINS: [&str; 14] = [
    "mesh.acme",
    "mesh.two",
    "shop.mesh.acme",
    "acme",
    "Mesh.Upper",
    "prod.mesh.internal",
    "internal",
    "mesh.internal",
    "cluster.local",
    "mesh.cluster.local",
    "local",
    "in-addr.arpa",
    "no_name.acme",
    LONG,
];
/// A domain of which a search form's question, CNAME and SOA have more than 512 octets.
const LONG: &str = concat!(
    "one-label-as-long-as-nobody-would-write-it-but-somebody-could.",
    "another-as-long-as-that-one-because-a-name-has-room-for-three.",
    "and-the-third-after-which-there-is-not-much-left-of-all-of-it.",
    "acme",
);
const PATTERNS: [&str; 9] = [
    "{service}.corp.example",
    "{service}-{namespace}.corp.example",
    "x.corp.example",
    "{labels['team']}.mesh.acme",
    "{service}.gold.{labels['team']}.mesh.two",
    "web.shop.mesh.acme",
    "{annotations['note']}.corp.example",
    "{service}.{namespace}.svc.cluster.local",
    "{what}.corp.example",
];
const TARGETS: [&str; 6] = [
    "www.example.com",
    "Web.Shop.mesh.acme",
    "db.back.mesh.two.",
    "db.back.svc.cluster.local",
    "api.shop.mesh.internal",
    "x.corp.example",
];
const WRITTEN: [&str; 6] = [
    "api.partner.example",
    "*.partner.example",
    "Deep.Wild.example",
    "*.wild.example",
    "web.shop.mesh.acme",
    "db.back.svc.cluster.local",
];

/// Search domains of pods' own: outside, mesh zones and what is in one, a name of the cluster, and none at all.
const SEARCHED: [&str; 8] = [
    "pod.example",
    "example.com",
    "Mesh.acme.",
    "shop.mesh.two",
    "mesh.internal",
    "shop.svc.cluster.local",
    "back.svc.cluster.local",
    "no..name",
];

/// A sequence of chance that a seed repeats (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below another.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).expect("a small number")).expect("smaller")
    }

    /// True so many times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// One of these, so many times of a hundred.
    fn maybe<T: Clone>(&mut self, percent: usize, of: &[T]) -> Option<T> {
        self.chance(percent).then(|| self.pick(of))
    }

    fn created(&mut self) -> i64 {
        i64::try_from(self.below(3)).expect("a small number")
    }
}

/// A mesh.
#[must_use]
pub fn mesh(dice: &mut Dice) -> Mesh {
    let policy = policy(dice);
    let clusters = 1 + dice.below(3);
    // Peers mostly have the Segments that the local cluster has.
    let segments = segments(dice);
    let clusters = (0..clusters).map(|ix| cluster(dice, ix, &segments)).collect();
    Mesh { policy, clusters }
}

fn policy(dice: &mut Dice) -> Policy {
    let mut policy = Policy {
        deny: dice.chance(15),
        default_visible: dice.chance(20),
        namespace_segments: !dice.chance(10),
        closed: dice.chance(25),
        takeover_all: dice.chance(25),
        takeover_cname: dice.chance(25),
        entries_all: dice.chance(40),
        autopath: dice.chance(40),
        grace: dice.chance(15),
        ..Policy::default()
    };
    policy.aaaa = if dice.chance(60) { Aaaa::Auto } else { dice.pick(&[Aaaa::On, Aaaa::Off]) };
    if dice.chance(20) {
        policy.always = vec![dice.pick(&NAMESPACES).to_owned()];
    }
    for _ in 0..dice.below(3) {
        let segment = dice.chance(60);
        let of = if segment {
            Of::Segment(dice.pick(&SEGMENTS).to_owned())
        } else {
            Of::Namespace(dice.pick(&NAMESPACES).to_owned())
        };
        let net = [127, 60, u8::try_from(dice.below(2)).expect("a small number")];
        policy.callers.push(Rule { net, of, enrolled: dice.chance(50) });
    }
    policy
}

/// Segments of a cluster.
#[must_use]
pub fn segments(dice: &mut Dice) -> Vec<Segment> {
    let mut all = Vec::new();
    for (ix, name) in SEGMENTS[..4].iter().enumerate() {
        // The first ones are mostly sound, so that there is something to be hidden.
        if !dice.chance([96, 90, 60, 5][ix]) {
            continue;
        }
        let domain = if dice.chance(80) { DOMAINS[ix] } else { dice.pick(&DOMAINS) };
        let namespace = if dice.chance(96) { ROOT } else { "shop" };
        let mut aliases = Vec::new();
        if dice.chance(40) {
            for _ in 0..=dice.below(3) {
                let selector = dice.maybe(30, &["a", "b"]).map(|v| ("team".to_owned(), v.to_owned()));
                aliases
                    .push(Alias { pattern: dice.pick(&PATTERNS).to_owned(), selector: selector.into_iter().collect() });
            }
        }
        let created = dice.created();
        all.push(Segment {
            namespace: namespace.into(),
            name: (*name).into(),
            created,
            domain: domain.into(),
            aliases,
        });
    }
    all
}

/// Labels that decide something, each there or not.
#[must_use]
pub fn labels(dice: &mut Dice, segment: usize, scope: usize) -> Labels {
    let mut all = Labels::new();
    let mut set = |key: &str, value: Option<&str>| all.extend(value.map(|v| (key.to_owned(), v.to_owned())));
    let sound = dice.chance(96);
    let of =
        if sound { &["acme-segment", "acme-segment", "two", "two", "deep", "default"] } else { &["ghost", ""][..] };
    set(SEGMENT, dice.maybe(segment, of));
    let common = dice.chance(88);
    let scopes = if common { &["global", "segment"][..] } else { &["cluster", "global-only", "Global", ""][..] };
    set(SCOPE, dice.maybe(scope, scopes));
    set(TAKEOVER, dice.maybe(30, &["true", "true", "true", "false", "True"]));
    all
}

fn cluster(dice: &mut Dice, ix: usize, segments: &[Segment]) -> Cluster {
    let mut objects = Vec::new();
    for segment in segments {
        if ix == 0 || dice.chance(92) {
            let mut copy = segment.clone();
            if ix > 0 && dice.chance(8) {
                copy.domain = dice.pick(&DOMAINS).to_owned();
            }
            objects.push(Object::Segment(copy));
        }
    }
    for name in NAMESPACES {
        let (segment, scope) = if name == ROOT { (75, 10) } else { (35, 35) };
        objects.push(Object::Namespace(Namespace { name: name.to_owned(), labels: labels(dice, segment, scope) }));
    }
    for _ in 0..2 + dice.below(6) {
        let service = service(dice, ix);
        if dice.chance(75) {
            objects.push(Object::Slice(slice(dice, ix, &service.namespace, &service.name)));
        }
        objects.push(Object::Service(service));
    }
    if ix == 0 || dice.chance(30) {
        for _ in 0..dice.below(5) {
            objects.push(Object::Entry(entry(dice, segments)));
        }
        for n in 0..dice.below(3) {
            objects.push(Object::Workload(workload(dice, n)));
        }
        for n in 0..1 + dice.below(6) {
            objects.push(Object::Pod(pod(dice, n)));
        }
    }
    let mut seen = BTreeSet::new();
    objects.retain(|o| {
        let (kind, namespace, name) = o.key();
        seen.insert((kind, namespace.to_owned(), name.to_owned()))
    });
    // Nobody makes slices of a Service that is a name only.
    let external = |o: &Object| match o {
        Object::Service(s) if matches!(s.reach, Reach::External(_)) => Some((s.namespace.clone(), s.name.clone())),
        _ => None,
    };
    let external: Vec<_> = objects.iter().filter_map(external).collect();
    objects.retain(|o| !matches!(o, Object::Slice(s) if external.contains(&(s.namespace.clone(), s.service.clone()))));
    let synced = if ix == 0 { !dice.chance(3) } else { !dice.chance(8) };
    Cluster { synced, objects }
}

fn address(dice: &mut Dice, kind: u8, ix: usize) -> IpAddr {
    let (ix, n) = (u8::try_from(ix).expect("few clusters"), 1 + u8::try_from(dice.below(20)).expect("a small number"));
    if dice.chance(75) {
        Ipv4Addr::new(10, kind + ix, 0, n).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, u16::from(kind), u16::from(ix), 0, 0, 0, u16::from(n)).into()
    }
}

fn addresses(dice: &mut Dice, kind: u8, ix: usize, most: usize) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = (0..dice.below(most + 1)).map(|_| address(dice, kind, ix)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn ports(dice: &mut Dice, target: bool) -> Vec<Port> {
    let number = |n: u16| if target { n + 8000 } else { n };
    let mut all = Vec::new();
    if dice.chance(80) {
        all.push(Port { name: "http".into(), number: number(80), udp: false });
    }
    if dice.chance(25) {
        all.push(Port { name: "dns".into(), number: number(53), udp: true });
    }
    all
}

/// A Service of a cluster.
#[must_use]
pub fn service(dice: &mut Dice, ix: usize) -> Service {
    let (namespace, name) = (dice.pick(&NAMESPACES[..4]).to_owned(), dice.pick(&SERVICES).to_owned());
    let reach = match dice.below(10) {
        0..6 => Reach::Ips({
            let mut all = addresses(dice, 100, ix, 2);
            if all.is_empty() && dice.chance(80) {
                all.push(address(dice, 100, ix));
            }
            all
        }),
        6..8 => Reach::Headless,
        _ => Reach::External(dice.pick(&TARGETS).to_owned()),
    };
    let mut labels = labels(dice, 5, 75);
    labels.extend(dice.maybe(40, &["a", "b", "Blue"]).map(|v| ("team".to_owned(), v.to_owned())));
    let annotations =
        dice.maybe(30, &["n", "no_name"]).map(|v| ("note".to_owned(), v.to_owned())).into_iter().collect();
    let (created, publish_not_ready, ports) = (dice.created(), dice.chance(10), ports(dice, false));
    Service { namespace, name, created, labels, annotations, reach, publish_not_ready, ports }
}

/// More endpoints than an answer over UDP may have room for.
fn many(dice: &mut Dice, ix: usize) -> Vec<Endpoint> {
    let (count, six, named) = (20 + dice.below(90), dice.chance(30), dice.chance(20));
    let (ix, count) = (u8::try_from(ix).expect("few clusters"), u8::try_from(count).expect("a small number"));
    let address = |n: u8| match six {
        true => Ipv6Addr::new(0xfd00, 0, 20, ix.into(), 0, 0, 1, n.into()).into(),
        false => IpAddr::from([10, 20 + ix, 0, n]),
    };
    let hostname = |n: u8| named.then(|| format!("pod-{n}"));
    (0..count).map(|n| Endpoint { address: address(n), ready: None, hostname: hostname(n) }).collect()
}

/// A slice of a Service.
#[must_use]
pub fn slice(dice: &mut Dice, ix: usize, namespace: &str, service: &str) -> Slice {
    let few = (0..dice.below(4)).map(|n| Endpoint {
        address: address(dice, 10, ix),
        ready: dice.pick(&[None, Some(true), Some(true), Some(false)]),
        hostname: dice.chance(50).then(|| format!("pod-{n}")),
    });
    let endpoints = few.collect();
    let endpoints = if dice.chance(8) { many(dice, ix) } else { endpoints };
    Slice {
        namespace: namespace.to_owned(),
        name: format!("{service}-1"),
        service: service.to_owned(),
        endpoints,
        ports: ports(dice, true),
    }
}

/// An entry: generated for a Service that may exist, or written by hand.
#[must_use]
pub fn entry(dice: &mut Dice, segments: &[Segment]) -> Entry {
    let n = dice.below(30);
    let (service, of) = (dice.pick(&SERVICES), dice.pick(&NAMESPACES[..4]));
    let mut entry = Entry {
        namespace: if dice.chance(93) { ROOT } else { "shop" }.to_owned(),
        name: format!("entry-{n}"),
        created: dice.created(),
        labels: Labels::new(),
        hosts: Vec::new(),
        addresses: Vec::new(),
        endpoints: Vec::new(),
        ports: ports(dice, false),
        status: Vec::new(),
    };
    if dice.chance(70) {
        entry.labels = labels(dice, 80, 20);
        entry.labels.insert(PARENT.to_owned(), service.to_owned());
        entry.labels.insert(PARENT_NAMESPACE.to_owned(), of.to_owned());
        entry.labels.extend(dice.chance(3).then(|| (PEER.to_owned(), "cluster2".to_owned())));
        let domain = segments.get(dice.below(segments.len() + 1)).map_or("mesh.internal", |s| &s.domain);
        entry.hosts.push(format!("{service}.{of}.{domain}"));
        if dice.chance(25) {
            entry.hosts.push(format!("{service}.{of}.svc.cluster.local"));
        }
        if dice.chance(8) {
            entry.hosts.push(format!("{}.{of}.{domain}", dice.pick(&["extra", "a.b"])));
        }
    } else {
        entry.hosts.push(dice.pick(&WRITTEN).to_owned());
        entry.endpoints = addresses(dice, 50, 0, 2);
    }
    if dice.chance(40) {
        let n = 1 + dice.below(3);
        entry.addresses.push(dice.pick(&[format!("240.240.0.{n}"), "240.241.0.0/16".into(), format!("2001:2::{n}")]));
    }
    if dice.chance(4) {
        let all =
            (0..30 + dice.below(60)).map(|n| IpAddr::from([240, 240, 2, u8::try_from(n).expect("a small number")]));
        entry.status.extend(all.map(|ip| (entry.hosts[0].clone(), ip)));
    }
    if dice.chance(70) {
        let host = if dice.chance(90) { entry.hosts[0].clone() } else { "other.example".to_owned() };
        entry.status.push((host, Ipv4Addr::new(240, 240, 1, u8::try_from(n).expect("a small number")).into()));
    }
    entry
}

/// A WorkloadEntry that stands behind an entry.
#[must_use]
pub fn workload(dice: &mut Dice, n: usize) -> Workload {
    let mut labels = labels(dice, 30, 80);
    labels.insert(PARENT.to_owned(), dice.pick(&SERVICES).to_owned());
    labels.insert(PARENT_NAMESPACE.to_owned(), dice.pick(&NAMESPACES[..4]).to_owned());
    Workload { namespace: ROOT.to_owned(), name: format!("workload-{n}"), labels }
}

/// Addresses that pods have; some are nobody's.
pub const POD_ADDRESSES: [&str; 7] =
    ["127.10.1.1", "127.10.1.2", "127.10.1.3", "127.10.1.4", "127.10.1.5", "fd00:1::1", "fd00:1::2"];
/// Who else asks: configured callers, the node, and strangers.
pub const OTHER_CALLERS: [&str; 7] =
    ["127.60.0.1", "127.60.1.1", "127.0.0.1", "::1", "10.98.0.1", "10.99.1.1", "fd00:9::1"];

/// What a pod's `dnsConfig` adds to its search list, if that begins with the cluster's.
fn searches(dice: &mut Dice) -> Option<Vec<String>> {
    if dice.chance(10) {
        return None;
    }
    Some((0..dice.below(3)).map(|_| dice.pick(&SEARCHED).to_owned()).collect())
}

/// A Pod.
#[must_use]
pub fn pod(dice: &mut Dice, n: usize) -> Pod {
    let mut addresses: Vec<IpAddr> = vec![dice.pick(&POD_ADDRESSES).parse().expect("an address")];
    if dice.chance(30) {
        addresses.push(dice.pick(&POD_ADDRESSES).parse().expect("an address"));
        addresses.dedup();
    }
    if dice.chance(5) {
        addresses.clear();
    }
    let namespace = dice.pick(&NAMESPACES).to_owned();
    Pod {
        name: format!("pod-{n}"),
        uid: format!("uid-{n}-{namespace}"),
        namespace,
        created: dice.created(),
        node: if dice.chance(92) { NODE } else { "node2" }.to_owned(),
        host_network: dice.chance(6),
        addresses,
        finished: dice.chance(6),
        terminating: dice.chance(10),
        enrolled: dice.chance(65),
        searches: searches(dice),
    }
}
