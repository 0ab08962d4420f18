//! A full queue between the server and a caller (EAGAIN, ENOBUFS): a device that lets out a datagram a second.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::client::{Client, Proto, next_id};
use super::support::netns::{NODE4, Pods, may_skip};
use super::support::objects::{pod, service, write};
use super::support::steady::{metric, until};
use super::support::wire;
use super::{Lab, MOMENTS, WEB};

const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 34));
const LONG: &str = "long.shop.mesh.acme";
/// Questions, a second at most. Their answers are more than any socket may have on its way.
const RATE: u64 = 20_000;
const MOST: u64 = 200_000;
/// What the server may grow by, octets: the kernel holds what is on its way.
const GROWTH: u64 = 8 << 20;

/// A headless Service whose addresses fill a datagram.
fn long() -> [Value; 2] {
    let mut headless = service("shop", "long", "segment", "None");
    headless["spec"]["clusterIP"] = json!("None");
    let endpoints: Vec<Value> = (1..=60).map(|n| json!({"addresses": [format!("10.1.0.{n}")]})).collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "metadata": {"name": "long-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "long"}},
    });
    [headless, slice]
}

fn tc(words: &str) {
    let done = Command::new("tc").args(words.split(' ')).output().expect("tc");
    assert!(done.status.success(), "tc {words}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn answers_that_find_the_queue_full_are_dropped_and_counted_and_the_rest_goes_on() {
    let pods = match Pods::new(&[CALLER]) {
        Ok(pods) => Arc::new(pods),
        Err(error) if may_skip() => return eprintln!("SKIPPED: {error}"),
        Err(error) => panic!("{error}"),
    };
    pods.enter_node().expect("the node's namespace");
    let port = super::free_port();
    let at = SocketAddr::new(NODE4, port);
    let lab = Lab::new(&json!({"limits": {"workers": 1}}));
    let here = lab.at;
    let mut lab = lab;
    lab.config["listen"] = json!([at, here]);
    write(lab.dir.path(), "long.yaml", &long());
    write(lab.dir.path(), "caller.yaml", &[pod("shop", "caller", CALLER)]);
    let server = lab.start();
    let client = Client { pods: Some(Arc::clone(&pods)) };
    client.until(CALLER, at, WEB, (0, &["10.0.0.1"]), MOMENTS);
    let answer = client.ask(CALLER, at, Proto::Udp, &wire::query(1, LONG, 1, true)).expect("an answer");
    assert!(answer.len() > 900, "{} octets", answer.len());
    let before = server.resident();

    tc("qdisc replace dev node0 root tbf rate 8kbit burst 2kb limit 1gb");
    let flood = pods.inside(|| UdpSocket::bind((CALLER, 0)).expect("a socket")).expect("the pods' namespace");
    flood.connect(at).expect("connected");
    let dropped = || metric(&server, "segdns_dropped_total", &["send-error"]);
    let (begun, mut sent) = (Instant::now(), 0);
    while dropped() < 1000.0 {
        let due = u64::try_from(begun.elapsed().as_micros()).expect("short") * RATE / 1_000_000;
        assert!(due < MOST, "after {sent} questions {} answers were dropped", dropped());
        while sent < due {
            let _ = flood.send(&wire::query(next_id(), LONG, 1, true));
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{sent} questions, {} answers dropped after {:.1?}", dropped(), begun.elapsed());
    super::quick(here, super::SHOP, WEB, Duration::from_secs(1));
    let growth = server.resident().saturating_sub(before);
    assert!(growth < GROWTH, "it has grown by {growth} octets");
    // The queue has room again: the same sockets go on.
    tc("qdisc del dev node0 root");
    client.until(CALLER, at, WEB, (0, &["10.0.0.1"]), MOMENTS);
    let after = dropped();
    client.until(CALLER, at, LONG, (0, &addresses()[..]), MOMENTS);
    until("no more are dropped", MOMENTS, || dropped() == after);
    server.stop().expect("it stops");
}

/// The addresses of the long answer, in order of their text.
fn addresses() -> Vec<&'static str> {
    let mut all: Vec<&str> = (1..=60).map(|n| &*Box::leak(format!("10.1.0.{n}").into_boxed_str())).collect();
    all.sort_unstable();
    all
}
