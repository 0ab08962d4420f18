//! Settings and objects made in code, for tests that use the crate as a library instead of through its sockets.

#![allow(dead_code, reason = "every test crate uses its own part of this")]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use segdns::dns::cache::{self, Cache};
use segdns::dns::count::Registry;
use segdns::dns::forward::{Forwarder, Message, Zone};
use segdns::dns::listen::{Outcome, Respond, Transport};
use segdns::dns::resolve::{Limits, Resolver};
use segdns::dns::serve::{Options, Server};
use segdns::mesh::name::Name;
use segdns::mesh::object::{
    Alias, Change, ClusterIx, Endpoint, EndpointSlice, LOCAL, Labels, Namespace, Object, Pod, Port, Protocol, Reach,
    Segment, Service,
};
use segdns::mesh::settings::Settings;
use segdns::table::keeper::Keeper;
use segdns::table::key::Key;

/// The mesh root namespace.
pub const ROOT: &str = "istio-system";
/// The label that names a segment.
pub const SEGMENT: &str = "admin.solo.io/segment";
/// The label that says how far a Service is seen.
pub const SCOPE: &str = "solo.io/service-scope";
/// The label of takeover.
pub const TAKEOVER: &str = "solo.io/service-takeover";

/// The contract's defaults, for one local cluster and one peer.
pub fn settings() -> Settings {
    Settings { clusters: vec!["cluster1".into(), "cluster2".into()], grace_ms: 0, ..Settings::default() }
}

/// A name that is one.
pub fn name(text: &str) -> Name {
    Name::parse_host(text).expect("a name")
}

/// An address that is one.
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Labels from pairs.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs.iter().copied())
}

/// A Namespace.
pub fn namespace(name: &str, pairs: &[(&str, &str)]) -> Object {
    Object::Namespace(Namespace { name: name.into(), labels: labels(pairs), broken: false })
}

/// A Segment in the mesh root namespace.
pub fn segment(name: &str, domain: &str, aliases: &[&str]) -> Object {
    let alias = |pattern: &&str| Alias { pattern: (*pattern).into(), ..Alias::default() };
    Object::Segment(Segment {
        namespace: ROOT.into(),
        name: name.into(),
        domain: Some(domain.into()),
        aliases: aliases.iter().map(alias).collect(),
        ..Segment::default()
    })
}

/// A Service with ClusterIPs and a port `http`.
pub fn service(namespace: &str, name: &str, ips: &[IpAddr], pairs: &[(&str, &str)]) -> Service {
    Service {
        namespace: namespace.into(),
        name: name.into(),
        created: 0,
        labels: labels(pairs),
        annotations: Labels::default(),
        reach: Reach::ClusterIps(ips.into()),
        publish_not_ready: false,
        ports: Box::new([Port { name: "http".into(), number: 80, protocol: Protocol::Tcp }]),
    }
}

/// A slice of a Service with one endpoint.
pub fn slice(namespace: &str, service: &str, address: IpAddr, ready: bool) -> Object {
    Object::EndpointSlice(EndpointSlice {
        namespace: namespace.into(),
        name: format!("{service}-1").into(),
        service: service.into(),
        endpoints: Box::new([Endpoint { addresses: Box::new([address]), ready, hostname: None }]),
        ports: Box::new([Port { name: "http".into(), number: 80, protocol: Protocol::Tcp }]),
    })
}

/// A pod in the mesh.
pub fn pod(namespace: &str, name: &str, addresses: &[IpAddr]) -> Object {
    Object::Pod(Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("{namespace}-{name}").into(),
        addresses: addresses.into(),
        enrolled: true,
        ..Pod::default()
    })
}

/// An object of a cluster is there, or is replaced.
pub fn put(cluster: ClusterIx, object: Object) -> Change {
    Change::Apply { cluster, object, faults: Vec::new() }
}

/// An object of the local cluster is there, or is replaced.
pub fn here(object: Object) -> Change {
    put(LOCAL, object)
}

/// An object is gone.
pub fn gone(cluster: ClusterIx, object: &Object) -> Change {
    Change::Delete { cluster, key: object.key() }
}

/// One cluster of segment acme-segment, with this many Services, and namespaces of other segments in it: every second Service is
/// in `shop`, which is of the cluster's own, and `global`; the others are in `far`, of other-segment, which alone sees them. `lost`
/// names a segment that there is none of. Pods, and the word that all is read, are the test's.
pub fn two_segments(services: u16) -> Vec<Change> {
    let mut changes = vec![
        here(segment("acme-segment", "mesh.acme", &["{service}.corp.example"])),
        here(segment("other-segment", "mesh.other", &[])),
        here(namespace(ROOT, &[(SEGMENT, "acme-segment")])),
        here(namespace("shop", &[])),
        here(namespace("far", &[(SEGMENT, "other-segment")])),
        here(namespace("lost", &[(SEGMENT, "ghost")])),
    ];
    for n in 0..services {
        let [high, low] = n.to_be_bytes();
        let ips = [IpAddr::from([10, 2, high, low]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])];
        let (ns, scope) = if n % 2 == 0 { ("shop", "global") } else { ("far", "segment") };
        let name = format!("svc-{n}");
        changes.push(here(Object::Service(service(ns, &name, &ips, &[(SCOPE, scope), (TAKEOVER, "true")]))));
        changes.push(here(slice(ns, &name, IpAddr::from([10, 3, high, low]), true)));
    }
    changes
}

/// A query of class IN with RD set; with an OPT record if `edns`.
pub fn query(name: &str, rtype: u16, edns: bool) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    for label in name.split('.').filter(|l| !l.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a short label"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    if edns {
        out.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    out
}

/// One query through the hot path; the answer stands in `out`.
pub fn respond<R: Respond>(server: &R, worker: &mut R::Worker, packet: &[u8], from: IpAddr, out: &mut [u8]) -> Outcome {
    server.respond(worker, packet, SocketAddr::new(from, 5353), Transport::Udp, out)
}

/// A server of this keeper's tables that forwards to these zones, with a cache of 1 MiB. In a runtime, if it has any.
///
/// Names outside these zones have no upstream at all, as if all were down.
pub fn server(keeper: &Keeper, identity_hold: Duration, zones: Vec<Zone>) -> Server {
    let registry = Arc::new(Registry::default());
    let forwarder = Arc::new(Forwarder::new(zones, &[]).expect("zones"));
    let options =
        cache::Options { max_ttl: 3600, max_negative_ttl: 30, serve_stale: Duration::from_secs(3600), prefetch: true };
    let cache = Arc::new(Cache::new(1 << 20, options, keeper.snapshot().load().hasher()));
    let resolver = Resolver::new(forwarder, cache, Limits { inflight: 100, per_client: 10 }, registry.shared());
    let options = Options { chaos: true, node: "node1".into(), identity_hold, queries: Arc::default() };
    Server::new(Arc::clone(keeper.snapshot()), Arc::new(resolver), options, registry)
}

/// An upstream's answer to a question for A: an address with this TTL, or none but the SOA of `zone` (NXDOMAIN).
pub fn told(name: &str, answer: Result<u32, &str>) -> Message {
    let mut wire = query(name, 1, false);
    let question = wire.len();
    wire[2..4].copy_from_slice(&[0x81, if answer.is_ok() { 0x80 } else { 0x83 }]);
    match answer {
        Ok(ttl) => {
            wire[7] = 1;
            wire.extend([0xc0, 12, 0, 1, 0, 1]);
            wire.extend(ttl.to_be_bytes());
            wire.extend([0, 4, 192, 0, 2, 7]);
        }
        Err(zone) => {
            wire[9] = 1;
            wire.extend(&query(zone, 1, false)[12..]);
            let owner = wire.len() - 4;
            wire.truncate(owner);
            wire.extend([0, 6, 0, 1, 0, 0, 0, 30, 0, 22, 0, 0]);
            wire.extend([1_u32, 1, 1, 1, 30].map(u32::to_be_bytes).concat());
        }
    }
    assert!(wire.len() > question);
    Message::parse(&wire).expect("a sound message")
}

/// Puts an upstream's answer to a question for A into a server's cache.
pub fn keep(server: &Server, name: &str, answer: Result<u32, &str>) {
    let (packet, mut key) = (query(name, 1, false), Key::default());
    key.read(&packet[12..]).expect("a name");
    let question = cache::Question { name: key.span(key.all()), rtype: 1, dnssec_ok: false, checking_disabled: false };
    let cache = server.resolver().cache();
    let kept = cache.store(&question, true, &told(name, answer), cache.now());
    assert!(matches!(kept, cache::Kept::As { .. }), "{name}: {kept:?}");
}
