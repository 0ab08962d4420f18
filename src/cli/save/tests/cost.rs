//! What saving many Services costs: `SEGDNS_SAVE_SERVICES=100000 cargo test --release --lib many_services_are_saved -- --nocapture`.

use std::collections::HashSet;
use std::net::IpAddr;

use super::*;
use crate::mesh::object::{Endpoint, EndpointSlice, Labels, Port, Protocol, Reach, Service};

fn service(n: u32) -> [Change; 2] {
    let (namespace, name) = (format!("namespace-{}", n % 500), format!("service-{n}"));
    let address = |net: u8| IpAddr::from([net, n.to_be_bytes()[1], n.to_be_bytes()[2], n.to_be_bytes()[3]]);
    let ports = || [Port { name: "http".into(), number: 8080, protocol: Protocol::Tcp }].into();
    let service = Service {
        namespace: namespace.as_str().into(),
        name: name.as_str().into(),
        created: 1_700_000_000,
        labels: Labels::new([("app", &*name), ("solo.io/service-scope", "global")]),
        annotations: Labels::default(),
        reach: Reach::ClusterIps([address(10)].into()),
        publish_not_ready: false,
        ports: ports(),
    };
    let endpoint = |net| Endpoint { addresses: [address(net)].into(), ready: true, hostname: None };
    let slice = EndpointSlice {
        namespace: namespace.into(),
        name: format!("{name}-abcde").into(),
        service: name.into(),
        endpoints: [endpoint(20), endpoint(30)].into(),
        ports: ports(),
    };
    let put = |object| Change::Apply { cluster: LOCAL, object, faults: Vec::new() };
    [put(Object::Service(service)), put(Object::EndpointSlice(slice))]
}

/// Prints what the work takes by the clock on the wall, and of the processor: the machine may have other things to do, too.
fn timed<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let (begun, busy) = (Instant::now(), busy());
    let result = work();
    println!("{what}: {:?}, of the processor {:?}", begun.elapsed(), self::busy() - busy);
    result
}

/// Time that this thread has had a processor.
fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn many_services_are_saved_and_read_again() {
    let count = std::env::var("SEGDNS_SAVE_SERVICES").map_or(2_000, |text| text.parse().unwrap());
    let rig = Rig::new();
    let mut changes: Vec<Change> = (0..count).flat_map(service).collect();
    changes.push(synced(LOCAL));
    rig.keeper.apply(changes);
    let encode = |expected| {
        rig.keeper.look(|world, _| {
            let complete = world.clusters().filter(|(_, _, cluster)| cluster.synced);
            saved::encode(complete.map(|(_, name, cluster)| (name, cluster.objects())), expected)
        })
    };
    let body = timed("encode, the first time", || encode(0));
    let size = body.bytes().len();
    println!("{} objects in {size} bytes", body.objects());
    for _ in 0..3 {
        drop(timed("encode, of known size", || encode(size + size / 8)));
    }
    timed("sha256", || body.sha256().len());
    timed("write", || saved::write(rig.path(), &identity(), SystemTime::now(), &body)).unwrap();
    let read = timed("read", || rig.saved()).unwrap();
    let applied = |change| if let Change::Apply { object, .. } = change { Some(object) } else { None };
    let made: HashSet<Object> = (0..count).flat_map(service).filter_map(applied).collect();
    let kept = &read.clusters[0].objects;
    assert_eq!(kept.len(), made.len());
    assert!(kept.iter().all(|object| made.contains(object)), "what is read is not what was saved");
    // Twice what it took when this was written: a Service and its slice.
    assert!(size < 600 * count as usize, "{size} octets for {count} Services");
}
