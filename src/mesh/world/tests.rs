//! Cases of changes that once left something stale; `tests/incremental.rs` tries random ones.

use super::*;
use crate::mesh::caller::{CallerSegment, callers};
use crate::mesh::label;
use crate::mesh::object::{Change, Endpoint, EndpointSlice, Fault, Key, Kind, Labels, Namespace, Object, Pod};
use crate::mesh::object::{Reach, Segment, Service};
use crate::mesh::settings::{CallerOf, CallerRule, Policy, ServiceEntries};

fn settings() -> Settings {
    let rule =
        CallerRule { cidr: "10.9.0.0/16".parse().unwrap(), of: CallerOf::Segment("acme".into()), enrolled: false };
    Settings {
        clusters: vec!["here".into()],
        cluster_domain: Name::parse("cluster.local").unwrap(),
        root_namespace: "istio-system".into(),
        default_name: "default".into(),
        default_domain: Name::parse("mesh.internal").unwrap(),
        zones: Vec::new(),
        node: None,
        service_entries: ServiceEntries::Generated,
        policy: Policy::default(),
        callers: vec![rule],
        forwarded: Vec::new(),
        grace_ms: 0,
    }
}

fn put(object: Object) -> Change {
    Change::Apply { cluster: LOCAL, object, faults: Vec::new() }
}

fn segment(name: &str, domain: &str) -> Object {
    Object::Segment(Segment {
        namespace: "istio-system".into(),
        name: name.into(),
        domain: Some(domain.into()),
        ..Segment::default()
    })
}

fn pod(namespace: &str, uid: &str, created: i64, terminating: bool) -> Object {
    Object::Pod(Pod {
        namespace: namespace.into(),
        name: "p".into(),
        uid: uid.into(),
        created,
        terminating,
        addresses: Box::new(["10.0.0.1".parse().unwrap()]),
        ..Pod::default()
    })
}

#[test]
fn a_segments_change_reaches_callers_where_no_namespace_is_known() {
    let mut world = World::new(settings());
    let mut of_rule = |changes: Vec<Change>| {
        let delta = world.apply(changes, 0);
        delta.callers.expect("callers were judged anew").find("10.9.0.1".parse().unwrap()).segment
    };
    assert_eq!(of_rule(vec![put(segment("acme", "mesh.acme"))]), CallerSegment::Of(1));
    // Another Segment comes before it: the same number would now mean that one.
    assert_eq!(of_rule(vec![put(segment("aaa", "mesh.aaa"))]), CallerSegment::Of(2));
    let key = Key { kind: Kind::Segment, namespace: "istio-system".into(), name: "acme".into() };
    assert_eq!(of_rule(vec![Change::Delete { cluster: LOCAL, key }]), CallerSegment::Invalid);
}

#[test]
fn an_address_belongs_to_the_newest_pod_that_is_not_terminating_and_always_to_the_same() {
    let namespaces = ["a", "b"].map(|ns| put(Object::Namespace(Namespace { name: ns.into(), ..Namespace::default() })));
    // two pods of namespaces a and b, and whose the address is
    let cases = [
        (pod("a", "1", 2, false), pod("b", "2", 1, false), "a"),
        (pod("a", "1", 1, false), pod("b", "2", 1, false), "b"),
        (pod("a", "1", 2, true), pod("b", "2", 1, false), "b"),
        (pod("a", "1", 2, true), pod("b", "2", 1, true), "a"),
        (pod("a", "", 0, false), pod("b", "", 0, false), "b"),
    ];
    for (one, two, owner) in cases {
        // Each world has maps with a seed of their own.
        for turn in 0..20 {
            let mut world = World::new(settings());
            let mut pods = vec![put(one.clone()), put(two.clone())];
            pods.rotate_left(turn % 2);
            let _ = world.apply(namespaces.iter().cloned().chain(pods).collect(), 0);
            let (all, _) = callers(&world);
            let pod = all.find("10.0.0.1".parse().unwrap()).pod.expect("a pod");
            assert_eq!(&*all.pods[pod as usize].namespace, owner, "{one:?} {two:?}");
        }
    }
}

#[test]
fn a_peer_that_leaves_takes_its_names_and_reports_with_it_and_its_index_can_be_given_again() {
    let mut world = World::new(settings());
    let namespace = |cluster, name: &str| {
        let object = Object::Namespace(Namespace { name: name.into(), ..Namespace::default() });
        Change::Apply { cluster, object, faults: Vec::new() }
    };
    let service = |cluster| {
        let object = Object::Service(Service {
            namespace: "shop".into(),
            name: "web".into(),
            created: 0,
            labels: Labels::new([(label::SCOPE, "global"), (label::TAKEOVER, "yes")]),
            annotations: Labels::default(),
            reach: Reach::ClusterIps(Box::new(["10.0.0.1".parse().unwrap()])),
            publish_not_ready: false,
            ports: Box::default(),
        });
        let fault = Fault { text: "bad".into(), remedy: "mend it".into() };
        Change::Apply { cluster, object, faults: vec![fault] }
    };
    let joined = |cluster, name: &str| Change::Joined { cluster, name: name.into() };
    let all = |cluster, name| vec![joined(cluster, name), namespace(cluster, "shop"), service(cluster)];
    let mut world_of = |changes: Vec<Change>| {
        let delta = world.apply(changes, 0);
        let clusters: Vec<_> = world.clusters().map(|(ix, name, _)| format!("{ix} {name}")).collect();
        let faults = world.reports().iter().filter(|r| r.text == "bad").map(|r| r.object.cluster.to_string()).collect();
        (delta.relayout, clusters, faults)
    };
    let strings = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(world_of(all(1, "b")), (false, strings(&["0 here", "1 b"]), strings(&["b"])));
    assert_eq!(world_of(all(2, "c")), (false, strings(&["0 here", "1 b", "2 c"]), strings(&["b", "c"])));
    assert_eq!(world_of(vec![Change::Left { cluster: 1 }]), (false, strings(&["0 here", "2 c"]), strings(&["c"])));
    assert_eq!(world_of(vec![joined(1, "d")]), (false, strings(&["0 here", "1 d", "2 c"]), strings(&["c"])));
    assert_eq!(world_of(vec![Change::Left { cluster: 2 }]), (false, strings(&["0 here", "1 d"]), Vec::new()));
    assert!(world.reports().is_empty(), "{:?}", world.reports());
}

#[test]
fn a_service_that_could_not_be_read_publishes_nothing_although_its_namespace_does() {
    let labels = Labels::new([("solo.io/service-scope", "global"), ("solo.io/service-takeover", "true")]);
    let shop = Object::Namespace(Namespace { name: "shop".into(), labels, broken: false });
    let key = Key { kind: Kind::Service, namespace: "shop".into(), name: "web".into() };
    let mut world = World::new(settings());
    let delta = world.apply(vec![put(shop), put(Object::Service(Service::unread(&key)))], 0);
    assert_eq!((delta.records.len(), delta.services.len()), (0, 1));
}

/// Services of fifty namespaces and their slices; some come twice, and some slices move to another Service.
fn many() -> Vec<Change> {
    let address = |n: u32| Box::new([IpAddr::from(n.to_be_bytes())]);
    let service = |n: u32, created: i64| {
        put(Object::Service(Service {
            namespace: format!("ns-{}", n % 50).into(),
            name: if n.is_multiple_of(7) { "internal".into() } else { format!("web-{n}").into() },
            created,
            labels: Labels::new([(label::SCOPE, if n.is_multiple_of(2) { "global" } else { "segment" })]),
            annotations: Labels::default(),
            reach: Reach::ClusterIps(address(n)),
            publish_not_ready: false,
            ports: Box::default(),
        }))
    };
    let slice = |n: u32, of: u32| {
        let endpoint = Endpoint { addresses: address(n + 1), ready: !n.is_multiple_of(3), hostname: None };
        put(Object::EndpointSlice(EndpointSlice {
            namespace: format!("ns-{}", n % 50).into(),
            name: format!("web-{n}-x").into(),
            service: format!("web-{of}").into(),
            endpoints: Box::new([endpoint]),
            ports: Box::default(),
        }))
    };
    let namespace = |n| put(Object::Namespace(Namespace { name: format!("ns-{n}").into(), ..Namespace::default() }));
    let first = (0..2_400).flat_map(|n| [slice(n, n), service(n, 1)]);
    let again = (0..600).flat_map(|n| [slice(n, n + 50), service(n * 4, 2)]);
    first.chain(again).chain((0..49).map(namespace)).chain([Change::Synced { cluster: LOCAL }]).collect()
}

#[test]
fn a_large_batch_comes_to_what_its_changes_come_to_one_by_one() {
    let told = |world: &World| {
        let mut objects: Vec<Object> = world.cluster(LOCAL).objects().collect();
        objects.sort_by_key(Object::key);
        let mut units: Vec<_> = world.units().map(|unit| (world.compiled(&unit).records, unit)).collect();
        units.sort_by(|a, b| a.1.cmp(&b.1));
        (objects, units, world.namespaces(), world.reports())
    };
    let (mut at_once, mut one_by_one) = (World::new(settings()), World::new(settings()));
    assert!(many().len() > 5_000, "a batch that several threads share");
    for round in 0..2 {
        let delta = at_once.apply(many(), round);
        let singly: Vec<Delta> = many().into_iter().map(|change| one_by_one.apply(vec![change], round)).collect();
        assert_eq!(told(&at_once), told(&one_by_one));
        let all: usize = singly.iter().map(|delta| delta.services.len()).sum();
        assert_eq!(delta.services.len(), all, "each that comes is told once");
        assert!(round == 0 || all == 0, "what is there already does not come again");
    }
}
