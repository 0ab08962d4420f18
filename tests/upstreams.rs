//! An upstream that dies and comes back, as an operator and a client see it.

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::{Client, next_id};
use support::server::Server;
use support::upstream::Upstream;
use support::world::World;
use support::{HERE, UPSTREAM, fixture, free_port, wire};

const NAME: &str = "www.example.com";
const SERVFAIL: u8 = 2;

/// A server with one upstream, and where to ask it.
fn start(upstream: SocketAddr) -> (Server, SocketAddr) {
    let listen = SocketAddr::new(HERE, free_port());
    let config = json!({
        "listen": [listen], "admin": SocketAddr::new(HERE, free_port()),
        "sources": {"manifests": [{"cluster": "cluster1", "path": fixture::root().join("namespace-segments/cluster1")}]},
        "forward": [{"zone": ".", "upstreams": [upstream]}],
        "drain": {"lameduck": "0s", "deadline": "2s"},
    });
    (Server::start(&config).expect("a server"), listen)
}

/// The value of a series of `/metrics`, labels in the order of the exposition.
fn value(server: &Server, series: &str) -> f64 {
    let text = server.get("/metrics");
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("{series} in\n{text}"))
}

fn until(what: &str, limit: Duration, is_so: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not in {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Response code, and how long it took.
fn ask(listen: SocketAddr) -> (u8, Duration) {
    let start = Instant::now();
    let caller = "127.10.1.11".parse().expect("an address");
    let (code, _) = Client::default().addresses(caller, listen, NAME);
    (code, start.elapsed())
}

/// Answers everything with NOERROR and no records, for ever.
fn answer(socket: UdpSocket) {
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let end = 12 + wire::question_len(&buffer[..length]).expect("a question");
            let mut reply = buffer[..end].to_vec();
            reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
            socket.send_to(&reply, from).expect("sent");
        }
    });
}

#[test]
fn a_silent_upstream_costs_one_wait_is_told_everywhere_and_is_used_again_when_it_talks() {
    let socket = UdpSocket::bind(SocketAddr::new(UPSTREAM, free_port())).expect("a socket");
    let upstream = socket.local_addr().expect("an address");
    let (server, listen) = start(upstream);
    let of = |name: &str, more: &str| format!("segdns_forward_{name}{{to=\"{upstream}\"{more}}}");
    for name in ["request_duration_seconds_count", "hedges_total"] {
        assert_eq!(value(&server, &of(name, "")), 0.0, "{name}");
    }
    for series in ["segdns_forward_healthcheck_broken_total", &of("requests_total", ",rcode=\"NOERROR\"")] {
        assert_eq!(value(&server, series), 0.0, "{series}");
    }

    let (code, took) = ask(listen);
    assert_eq!(code, SERVFAIL);
    assert!(took < Duration::from_millis(3500), "{took:?}");
    until("it is known to be down", Duration::from_secs(2), || value(&server, &of("healthy", "")) == 0.0);
    let (code, took) = ask(listen);
    assert_eq!(code, SERVFAIL);
    assert!(took < Duration::from_millis(300), "at once, not {took:?}");
    assert!(value(&server, &of("probes_total", ",result=\"timeout\"")) > 0.0);
    let told = server.get(&format!("/debug/explain?name={NAME}&from=segment:acme-segment"));
    assert!(told.contains(&format!("{upstream} (down: no answer for ")), "{told}");
    assert!(server.log().contains("upstream is down: no answer"), "{}", server.log());

    answer(socket);
    until("it is used again", Duration::from_secs(6), || ask(listen).0 == 0);
    assert_eq!(value(&server, &of("healthy", "")), 1.0);
    assert!(value(&server, &of("request_duration_seconds_count", "")) >= 1.0);
    until("it is said", Duration::from_secs(2), || server.log().contains("upstream is back"));
}

#[test]
fn mesh_names_are_answered_whatever_upstreams_do() {
    let closed = SocketAddr::new(UPSTREAM, free_port());
    let (server, listen) = start(closed);
    until("it is known to be down", Duration::from_secs(5), || {
        ask(listen);
        value(&server, &format!("segdns_forward_healthy{{to=\"{closed}\"}}")) == 0.0
    });
    let caller = "127.10.1.11".parse().expect("an address");
    let query = wire::query(next_id(), "web.own.mesh.acquired", 1, true);
    let start = Instant::now();
    let answer = Client::default().ask(caller, listen, support::client::Proto::Udp, &query).expect("an answer");
    assert!(start.elapsed() < Duration::from_millis(300) && answer[3] & 15 == 3, "hidden: NXDOMAIN from the table");
    assert!(server.log().contains("nobody listens"), "{}", server.log());
}

#[test]
fn explain_tells_what_the_cache_holds_and_does_not_use_it() {
    let upstream = Upstream::start(World::outside(), SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
    let (server, listen) = start(upstream.address());
    let explain = || -> Value {
        let text = server.get(&format!("/debug/explain?name={NAME}&from=127.10.1.11"));
        serde_json::from_str(&text).expect("JSON")
    };
    let before = explain();
    assert_eq!((&before["source"], &before["rcode"]), (&json!("upstream"), &Value::Null));
    assert_eq!(ask(listen).0, 0);
    let hits = value(&server, "segdns_cache_hits_total{type=\"success\"}");
    let after = explain();
    assert_eq!((&after["source"], &after["rcode"]), (&json!("cache"), &json!("NOERROR")));
    assert_eq!(after["answers"], json!(["192.0.2.80"]));
    assert!(after["ttl"].as_u64().is_some_and(|ttl| (20..=30).contains(&ttl)), "{after}");
    assert!(after["text"].as_str().is_some_and(|text| text.contains("The cache holds NOERROR 192.0.2.80")), "{after}");
    assert_eq!(value(&server, "segdns_cache_hits_total{type=\"success\"}").to_bits(), hits.to_bits());
}
