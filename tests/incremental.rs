//! Whatever changes in whatever order: the table is the one that the same objects give from scratch. A name that stays
//! when it should be gone, or stays visible when it should be hidden, is a hole in the isolation of segments.
//!
//! `SEGDNS_CASES` sets how many sequences of changes are tried (default 300).

mod inside;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use inside::{ROOT, SCOPE, SEGMENT, TAKEOVER, ip, labels, name, namespace, segment, service, settings};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use segdns::mesh::object::{
    Alias, Change, ClusterIx, Endpoint, EndpointSlice, Fault, Key, Labels, Namespace, Object, Pod, Port, Protocol,
    Reach, Segment, Service, ServiceEntry, WorkloadEntry,
};
use segdns::mesh::settings::{
    Aaaa, CallerOf, CallerRule, ClusterNames, CrossSegment, ServiceEntries, Settings, TakeoverAnswer, TakeoverFor,
};
use segdns::mesh::world::World;
use segdns::table::build::Builder;

const PEER: ClusterIx = 1;
const NAMESPACES: [&str; 5] = [ROOT, "shop", "back", "acme", "mesh"];
const SERVICES: [&str; 4] = ["web", "db", "acme", "internal"];
const SEGMENTS: [&str; 4] = ["acme-segment", "deep", "default", "ghost"];
const DOMAINS: [&str; 8] = [
    "mesh.acme",
    "Mesh.Acme",
    "shop.mesh.acme",
    "acme",
    "mesh.internal",
    "prod.mesh.internal",
    "cluster.local",
    "no_name",
];
const PATTERNS: [&str; 10] = [
    "{service}.corp",
    "{service}.{namespace}.corp",
    "x.corp",
    "{labels['team']}.mesh.acme",
    "web.shop.mesh.acme",
    "one.mesh.acme",
    "pod-0.db.shop.mesh.acme",
    "{annotations['note']}.corp",
    "{service}.{namespace}.svc.cluster.local",
    "{what}.corp",
];
const HOSTS: [&str; 13] = [
    "web.shop.mesh.acme",
    "Web.Shop.mesh.internal",
    "db.back.mesh.acme",
    "acme.mesh.shop.mesh.acme",
    "pod-0.db.shop.mesh.acme",
    "one.mesh.acme",
    "web.shop.svc.cluster.local",
    "db.back.svc.cluster.local",
    "api.example.com",
    "*.example.com",
    "x.corp",
    "*.mesh.acme",
    "no_host",
];
const ADDRESSES: [&str; 5] = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"];
const PROBES: [&str; 8] =
    ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2", "127.0.0.1", "10.9.0.1", "192.0.2.1"];

/// One change, as a source would report it.
#[derive(Clone, Debug)]
enum Op {
    Put(ClusterIx, Object, bool),
    Gone(ClusterIx, Key),
    Synced(ClusterIx),
    Told(bool),
    Source(ClusterIx, bool),
    /// The peer leaves, or is replaced without a word, and joins without objects.
    Anew(bool),
    Node(Vec<IpAddr>),
}

fn one(of: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    select(of)
}

fn maybe(of: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::weighted(0.6, select(of))
}

/// Labels that decide something, each there or not.
fn policy_labels() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let scope = maybe(&["global", "segment", "cluster", "global-only", "bogus"]);
    (maybe(&SEGMENTS), scope, proptest::option::weighted(0.4, select(&["true", "false", "maybe"][..]))).prop_map(
        |(segment, scope, takeover)| {
            let pairs = [(SEGMENT, segment), (SCOPE, scope), (TAKEOVER, takeover)];
            pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
        },
    )
}

fn addresses() -> impl Strategy<Value = Box<[IpAddr]>> {
    subsequence(&ADDRESSES[..], 0..3).prop_map(|all| all.into_iter().map(ip).collect())
}

fn ports() -> impl Strategy<Value = Box<[Port]>> {
    subsequence(&[("http", 80), ("HTTP", 8080), ("dns", 53), ("", 9)][..], 0..3).prop_map(|all| {
        let port = |(name, number): (&str, u16)| Port { name: name.into(), number, protocol: Protocol::Tcp };
        all.into_iter().map(port).collect()
    })
}

fn a_namespace() -> impl Strategy<Value = Object> {
    (one(&NAMESPACES), policy_labels(), proptest::bool::weighted(0.05)).prop_map(|(name, pairs, broken)| {
        Object::Namespace(Namespace { name: name.into(), labels: labels(&pairs), broken })
    })
}

fn a_service() -> impl Strategy<Value = Object> {
    let reach = prop_oneof![
        4 => addresses().prop_map(Reach::ClusterIps),
        2 => Just(Reach::Headless),
        1 => select(&["example.com", "db.back.svc.cluster.local", "no_name", "web.shop.mesh.acme"][..])
            .prop_map(|t| Reach::ExternalName(t.into())),
    ];
    let more = (maybe(&["a", "b"]), maybe(&["n", "x"]), 0..3_i64, any::<bool>());
    (one(&NAMESPACES), one(&SERVICES), policy_labels(), reach, ports(), more).prop_map(
        |(ns, name, mut pairs, reach, ports, (team, note, created, publish_not_ready))| {
            pairs.extend(team.map(|t| ("team", t)));
            Object::Service(Service {
                namespace: ns.into(),
                name: name.into(),
                created,
                labels: labels(&pairs),
                annotations: Labels::new(note.map(|n| ("note", n))),
                reach,
                publish_not_ready,
                ports,
            })
        },
    )
}

fn a_slice() -> impl Strategy<Value = Object> {
    let endpoint = (addresses(), any::<bool>(), maybe(&["pod-0", "pod-1", "no_label"]))
        .prop_map(|(addresses, ready, hostname)| Endpoint { addresses, ready, hostname: hostname.map(Into::into) });
    let endpoints = proptest::collection::vec(endpoint, 0..3);
    (one(&NAMESPACES), one(&["s1", "s2"]), one(&SERVICES), endpoints, ports()).prop_map(
        |(ns, name, service, endpoints, ports)| {
            Object::EndpointSlice(EndpointSlice {
                namespace: ns.into(),
                name: name.into(),
                service: service.into(),
                endpoints: endpoints.into(),
                ports,
            })
        },
    )
}

fn a_segment() -> impl Strategy<Value = Object> {
    let alias = (one(&PATTERNS), maybe(&["a", "b"])).prop_map(|(pattern, team)| Alias {
        pattern: pattern.into(),
        selector: Labels::new(team.map(|t| ("team", t))),
        unsupported: None,
    });
    let aliases = proptest::collection::vec(alias, 0..3);
    let place = prop_oneof![9 => Just(ROOT), 1 => Just("shop")];
    (place, one(&SEGMENTS), 0..3_i64, proptest::option::weighted(0.95, select(&DOMAINS[..])), aliases).prop_map(
        |(ns, name, created, domain, aliases)| {
            Object::Segment(Segment {
                namespace: ns.into(),
                name: name.into(),
                created,
                domain: domain.map(Into::into),
                aliases: aliases.into(),
            })
        },
    )
}

fn parent_labels() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let peer = proptest::bool::weighted(0.1);
    (policy_labels(), maybe(&SERVICES), maybe(&NAMESPACES), peer).prop_map(|(mut pairs, service, ns, peer)| {
        pairs.extend(service.map(|s| ("solo.io/parent-service", s)));
        pairs.extend(ns.map(|n| ("solo.io/parent-service-namespace", n)));
        pairs.extend(peer.then_some(("node.peer.solo.io/cluster", "cluster2")));
        pairs
    })
}

fn an_entry() -> impl Strategy<Value = Object> {
    let place = prop_oneof![4 => Just(ROOT), 1 => Just("shop")];
    let status = proptest::collection::vec((one(&HOSTS), addresses()), 0..2);
    let what = (subsequence(&HOSTS[..], 0..4), addresses(), addresses(), status, ports());
    (place, one(&["e1", "e2", "e3"]), 0..3_i64, parent_labels(), what).prop_map(
        |(ns, name, created, pairs, (hosts, addresses, endpoints, status, ports))| {
            let status = status.into_iter().flat_map(|(h, all)| all.into_iter().map(move |a| (h.into(), a)));
            Object::ServiceEntry(ServiceEntry {
                namespace: ns.into(),
                name: name.into(),
                created,
                labels: labels(&pairs),
                hosts: hosts.into_iter().map(Into::into).collect(),
                addresses,
                endpoints,
                ports,
                status_addresses: status.collect(),
            })
        },
    )
}

fn a_workload() -> impl Strategy<Value = Object> {
    let place = prop_oneof![4 => Just(ROOT), 1 => Just("shop")];
    (place, one(&["w1", "w2"]), parent_labels()).prop_map(|(ns, name, pairs)| {
        Object::WorkloadEntry(WorkloadEntry { namespace: ns.into(), name: name.into(), labels: labels(&pairs) })
    })
}

fn a_pod() -> impl Strategy<Value = Object> {
    let rare = || proptest::bool::weighted(0.2);
    let flags = (rare(), rare(), rare(), any::<bool>(), any::<bool>());
    (one(&["shop", "back"]), one(&["p1", "p2"]), one(&["", "u1", "u2"]), 0..2_i64, addresses(), flags).prop_map(
        |(ns, name, uid, created, addresses, (host_network, finished, terminating, enrolled, first))| {
            Object::Pod(Pod {
                namespace: ns.into(),
                name: name.into(),
                uid: uid.into(),
                created,
                node: "node1".into(),
                host_network,
                addresses,
                finished,
                terminating,
                searches: first.then(|| ["corp.example".into(), "no..name".into()].into()),
                enrolled,
                ..Pod::default()
            })
        },
    )
}

fn an_object() -> impl Strategy<Value = Object> {
    prop_oneof![
        4 => a_namespace(),
        6 => a_service(),
        3 => a_slice(),
        3 => a_segment(),
        5 => an_entry(),
        2 => a_workload(),
        2 => a_pod(),
    ]
}

/// A change; what is deleted is chosen later, from what is there.
fn an_op() -> impl Strategy<Value = (Op, Index)> {
    let cluster = prop_oneof![3 => Just(0_usize), 2 => Just(1)];
    let op = (cluster, an_object(), 0..100_u8, addresses()).prop_map(|(cluster, object, what, addresses)| match what {
        0..=64 => Op::Put(cluster, object, what == 0),
        65..=90 => Op::Gone(cluster, object.key()),
        91..=93 => Op::Synced(cluster),
        94..=95 => Op::Told(what == 94),
        96 => Op::Anew(cluster == 0),
        97..=98 => Op::Source(cluster, what == 97),
        _ => Op::Node(addresses.into_vec()),
    });
    (op, any::<Index>())
}

/// Those that few rules look at.
fn more_settings(settings: &mut Settings, [short, domain, default, six, cname, everyone, apart]: [bool; 7]) {
    settings.grace_ms = if short { 500 } else { 1000 };
    let policy = &mut settings.policy;
    (policy.ttl, policy.negative_ttl) = if short { (5, 5) } else { (30, 1) };
    policy.default_segment_visible = everyone;
    policy.takeover_for = if everyone { TakeoverFor::All } else { TakeoverFor::Enrolled };
    policy.takeover = if cname { TakeoverAnswer::Cname } else { TakeoverAnswer::Flatten };
    policy.aaaa = if six { Aaaa::On } else { Aaaa::Auto };
    policy.autopath = apart;
    policy.cluster_names_always = if apart { Vec::new() } else { vec!["back".into()] };
    settings.forwarded = if apart { vec![name("corp.cluster.local")] } else { Vec::new() };
    // So that a Segment may be valid now and not then (R2).
    settings.default_domain = name(if domain { "mesh.internal" } else { "mesh.acme" });
    settings.default_name = if default { "default" } else { "deep" }.into();
}

fn some_settings() -> impl Strategy<Value = Settings> {
    let rules = subsequence(&["acme-segment", "deep", "shop"][..], 0..3);
    (any::<[bool; 12]>(), rules).prop_map(|([all, own, closed, zone, deny, rest @ ..], rules)| {
        let mut settings = settings();
        more_settings(&mut settings, rest);
        settings.service_entries = if all { ServiceEntries::All } else { ServiceEntries::Generated };
        settings.policy.namespace_segments = own || deny;
        settings.policy.cluster_names = if closed { ClusterNames::Segment } else { ClusterNames::Open };
        settings.policy.cross_segment = if deny { CrossSegment::Deny } else { CrossSegment::Scope };
        settings.zones = if zone { vec![name("shop.mesh.acme"), name("mesh.extra")] } else { Vec::new() };
        let rule = |of: &str| match of {
            "shop" => CallerOf::Namespace(of.into()),
            _ => CallerOf::Segment(of.into()),
        };
        let rule = |of: &&str| CallerRule { cidr: "10.9.0.0/16".parse().unwrap(), of: rule(of), enrolled: false };
        settings.callers = rules.iter().map(rule).collect();
        settings
    })
}

/// What a cluster has before anything random happens to it, in most cases.
fn base() -> Vec<Op> {
    let put = |cluster: ClusterIx, object: Object| Op::Put(cluster, object, false);
    let mut ops = Vec::new();
    for cluster in [0, 1] {
        ops.push(put(cluster, segment("acme-segment", "mesh.acme", &["{service}.corp"])));
        ops.push(put(cluster, namespace(ROOT, &[(SEGMENT, "acme-segment")])));
        ops.push(put(cluster, namespace("shop", &[(SCOPE, "segment")])));
        ops.push(put(cluster, namespace("back", &[(SEGMENT, "default")])));
        for (ns, name) in [("shop", "web"), ("shop", "db"), ("back", "web"), ("back", "db")] {
            let of = service(ns, name, &[ip("10.0.0.1")], &[(SCOPE, "global"), ("team", "a")]);
            ops.push(put(cluster, Object::Service(of)));
        }
        ops.push(Op::Synced(cluster));
    }
    ops
}

/// All that is true now, by which a world can be made from scratch.
#[derive(Default)]
struct Model {
    objects: BTreeMap<(ClusterIx, Key), (Object, bool)>,
    synced: BTreeSet<ClusterIx>,
    sources: BTreeMap<ClusterIx, bool>,
    told: bool,
    node: Vec<IpAddr>,
}

fn fault(there: bool) -> Vec<Fault> {
    if there { vec![Fault { text: "bad".into(), remedy: "mend it".into() }] } else { Vec::new() }
}

impl Model {
    /// Notes a change and gives it as the world takes it; node addresses go their own way.
    fn note(&mut self, op: &Op, pick: &Index) -> Vec<Change> {
        let change = match op {
            Op::Put(cluster, object, bad) => {
                self.objects.insert((*cluster, object.key()), (object.clone(), *bad));
                Change::Apply { cluster: *cluster, object: object.clone(), faults: fault(*bad) }
            }
            Op::Gone(cluster, key) => {
                // One that is there, if any is; else one that never was.
                let there: Vec<_> = self.objects.keys().cloned().collect();
                let none = || (*cluster, key.clone());
                let (cluster, key) = if there.is_empty() { none() } else { pick.get(&there).clone() };
                self.objects.remove(&(cluster, key.clone()));
                Change::Delete { cluster, key }
            }
            Op::Synced(cluster) => {
                self.synced.insert(*cluster);
                Change::Synced { cluster: *cluster }
            }
            Op::Told(all) => {
                self.told = *all;
                Change::Told { all: *all }
            }
            Op::Source(cluster, bad) => {
                self.sources.insert(*cluster, *bad);
                Change::Source { cluster: *cluster, place: "file".into(), faults: fault(*bad) }
            }
            Op::Anew(left) => {
                self.objects.retain(|(cluster, _), _| *cluster != PEER);
                self.synced.remove(&PEER);
                self.sources.remove(&PEER);
                let joined = Change::Joined { cluster: PEER, name: settings().clusters[PEER].clone() };
                return left.then_some(Change::Left { cluster: PEER }).into_iter().chain([joined]).collect();
            }
            Op::Node(addresses) => {
                self.node.clone_from(addresses);
                return Vec::new();
            }
        };
        vec![change]
    }

    /// A world of the same objects, given at once, in one order or the other.
    fn scratch(&self, settings: &Settings, backwards: bool) -> (World, Builder) {
        let mut changes: Vec<Change> = self
            .objects
            .iter()
            .map(|((cluster, _), (o, bad))| Change::Apply { cluster: *cluster, object: o.clone(), faults: fault(*bad) })
            .collect();
        if backwards {
            changes.reverse();
        }
        changes.push(Change::Told { all: self.told });
        changes.extend(self.synced.iter().map(|c| Change::Synced { cluster: *c }));
        let source =
            |(c, bad): (&ClusterIx, &bool)| Change::Source { cluster: *c, place: "file".into(), faults: fault(*bad) };
        changes.extend(self.sources.iter().map(source));
        let mut world = World::new(settings.clone());
        let mut builder = Builder::new(&world, 7);
        for delta in [world.set_node_addresses(self.node.clone(), 0), world.apply(changes, 0), world.tick(1000)] {
            builder.apply(&world, delta);
        }
        (world, builder)
    }
}

/// Everything that answers or admin pages depend on, a line for each thing.
fn lines(world: &World, builder: &Builder) -> BTreeSet<String> {
    let table = builder.table();
    let mut out: BTreeSet<String> =
        table.nodes().map(|(key, node)| format!("{} {node:?}", segdns::table::key::text_of(key))).collect();
    out.insert(format!("synced {} zones_known {}", table.synced, table.zones_known));
    out.insert(format!("names {} outside {} wildcards {}", table.names, table.outside, table.wildcards));
    out.insert(format!("zones {:?}", table.zones));
    out.insert(format!("policy {:?}", table.policy));
    out.insert(format!("segments {:?}", table.segments));
    out.insert(format!("told {} services {:?}", table.told, table.services));
    out.insert(format!("other namespaces {:?}", table.namespaces.others));
    out.extend(table.namespaces.iter().map(|(name, facts)| {
        let shadows: BTreeSet<_> = facts.shadows.iter().collect();
        format!("namespace {name} {:?} {shadows:?}", facts.standing)
    }));
    for probe in PROBES {
        let (caller, by) = table.callers.recognise(ip(probe));
        let pod = caller.pod.and_then(|ix| table.callers.pods.get(ix as usize));
        let (segment, flags) = (caller.segment, (caller.enrolled, caller.takes_over, caller.aaaa));
        out.insert(format!("caller {probe} {segment:?} {flags:?} {pod:?} {by:?}"));
    }
    out.extend(world.units().map(|unit| format!("unit {unit:?}")));
    out.extend(world.reports().iter().map(|report| format!("report {report:?}")));
    out
}

/// Changes that come at once, and the settings that are changed before them, if any are.
type Batch = (Option<Settings>, Vec<(Op, Index)>);

fn check(settings: &Settings, batches: &[Batch]) -> Result<(), TestCaseError> {
    let mut settings = settings;
    let mut world = World::new(settings.clone());
    let mut builder = Builder::new(&world, 7);
    let mut model = Model::default();
    for (ix, (other, batch)) in batches.iter().enumerate() {
        let now = 10_000 * u64::try_from(ix).expect("few batches");
        if let Some(other) = other {
            let delta = world.set_settings(other.clone(), now, None);
            builder.apply(&world, delta);
            settings = other;
        }
        let before = model.node.clone();
        let changes = batch.iter().flat_map(|(op, pick)| model.note(op, pick)).collect();
        if model.node != before {
            let delta = world.set_node_addresses(model.node.clone(), now);
            builder.apply(&world, delta);
        }
        let delta = world.apply(changes, now);
        builder.apply(&world, delta);
        let delta = world.tick(now + 1000);
        builder.apply(&world, delta);
        let (fresh, of_fresh) = model.scratch(settings, ix % 2 == 0);
        let (have, want) = (lines(&world, &builder), lines(&fresh, &of_fresh));
        let stale: Vec<_> = have.difference(&want).collect();
        let missing: Vec<_> = want.difference(&have).collect();
        prop_assert!(
            stale.is_empty() && missing.is_empty(),
            "after batch {ix}\nonly after changes: {stale:#?}\nonly from scratch: {missing:#?}"
        );
    }
    Ok(())
}

#[test]
fn after_every_batch_of_changes_and_of_settings_the_table_is_the_one_from_scratch() {
    let cases = std::env::var("SEGDNS_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    // Without objects it is the settings alone that change.
    let batch = (proptest::option::weighted(0.3, some_settings()), proptest::collection::vec(an_op(), 0..8));
    let batches = proptest::collection::vec(batch, 1..16);
    let input = (some_settings(), proptest::bool::weighted(0.8), any::<Index>(), batches);
    let result = runner.run(&input, |(settings, based, pick, mut batches)| {
        if based {
            // Nothing is deleted in the base, so that any index will do.
            batches.insert(0, (None, base().into_iter().map(|op| (op, pick)).collect()));
        }
        check(&settings, &batches)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (settings, _, _, batches))) => {
            let ops: Vec<String> = batches.iter().map(|batch| format!("{batch:?}")).collect();
            panic!("{why}\n{settings:?}\n{}", ops.join("\n"));
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
