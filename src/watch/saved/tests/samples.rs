//! Objects of every kind with every field set: a field that is added has to be given here, and changes the pinned sum.

use std::net::IpAddr;

use crate::mesh::object::*;

fn ips() -> Box<[IpAddr]> {
    ["10.0.0.1", "fd00::1"].map(|text| text.parse().unwrap()).into()
}

fn labels() -> Labels {
    Labels::new([("admin.solo.io/segment", "acme"), ("empty", "")])
}

fn ports() -> Box<[Port]> {
    let port = |name: &str, number, protocol| Port { name: name.into(), number, protocol };
    [port("http", 80, Protocol::Tcp), port("", 65535, Protocol::Udp), port("s", 1, Protocol::Sctp)].into()
}

fn service(name: &str, reach: Reach) -> Object {
    Object::Service(Service {
        namespace: "shop".into(),
        name: name.into(),
        created: 1_700_000_000,
        labels: labels(),
        annotations: labels(),
        reach,
        publish_not_ready: true,
        ports: ports(),
    })
}

fn slice() -> Object {
    let endpoint =
        |ready, hostname: Option<&str>| Endpoint { addresses: ips(), ready, hostname: hostname.map(Into::into) };
    Object::EndpointSlice(EndpointSlice {
        namespace: "shop".into(),
        name: "cart-1".into(),
        service: "cart".into(),
        endpoints: [endpoint(true, None), endpoint(false, Some("cart-0"))].into(),
        ports: ports(),
    })
}

fn pod() -> Object {
    Object::Pod(Pod {
        namespace: "shop".into(),
        name: "cart-0".into(),
        uid: "5f0c".into(),
        created: -1,
        node: "node-7".into(),
        host_network: true,
        addresses: ips(),
        finished: true,
        terminating: true,
        searches: Some(["corp.example".into()].into()),
        enrolled: true,
        capture: Capture::On,
    })
}

fn policy() -> Vec<Object> {
    let alias = Alias { pattern: "{service}.corp".into(), selector: labels(), unsupported: Some("what".into()) };
    let entry = ServiceEntry {
        namespace: "istio-system".into(),
        name: "entry".into(),
        created: i64::MAX,
        labels: labels(),
        hosts: ["*.example.com".into(), "ümlaut".into()].into(),
        addresses: ips(),
        endpoints: ips(),
        ports: ports(),
        status_addresses: [("a.example.com".into(), ips()[0])].into(),
    };
    vec![
        Object::Namespace(Namespace { name: "shop".into(), labels: labels(), broken: true }),
        Object::Segment(Segment {
            namespace: "istio-system".into(),
            name: "acme".into(),
            created: i64::MIN,
            domain: Some("acme.corp".into()),
            aliases: [alias, Alias::default()].into(),
        }),
        Object::ServiceEntry(entry),
        Object::WorkloadEntry(WorkloadEntry { namespace: "shop".into(), name: "vm".into(), labels: labels() }),
    ]
}

/// All of them, and of those that can be empty an empty one.
pub fn objects() -> Vec<Object> {
    let mut all = policy();
    all.extend([
        service("cart", Reach::ClusterIps(ips())),
        service("headless", Reach::Headless),
        service("external", Reach::ExternalName("example.com".into())),
        slice(),
        pod(),
        Object::Namespace(Namespace::default()),
        Object::Segment(Segment::default()),
        Object::Pod(Pod::default()),
        Object::ServiceEntry(ServiceEntry::default()),
        Object::WorkloadEntry(WorkloadEntry::default()),
    ]);
    all
}
