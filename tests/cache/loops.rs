//! Upstreams that send questions back to segdns.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::lab::*;
use crate::support::client::{Proto, next_id};
use crate::support::steady::{metric, until};
use crate::support::{UPSTREAM, free_port, wire};

/// Sends every datagram on, from a socket of its own for each, as a resolver does, and the answer back.
struct Relay {
    passed: Arc<AtomicUsize>,
    /// Whether it sends on; else it answers itself.
    loops: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Relay {
    fn start(to: SocketAddr, address: SocketAddr) -> Self {
        let door = UdpSocket::bind(address).expect("a socket");
        door.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let relay = Self { passed: Arc::default(), loops: Arc::new(AtomicBool::new(true)), ended: Arc::default() };
        let (passed, loops, ended) = (relay.passed.clone(), relay.loops.clone(), relay.ended.clone());
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !ended.load(Relaxed) {
                let Ok((length, peer)) = door.recv_from(&mut buffer) else { continue };
                let query = buffer[..length].to_vec();
                if !loops.load(Relaxed) {
                    let question = 12 + wire::question_len(&query).expect("a question");
                    let mut answer = query[..question].to_vec();
                    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 9]);
                    let _ = door.send_to(&answer, peer);
                    continue;
                }
                passed.fetch_add(1, Relaxed);
                let door = door.try_clone().expect("a second handle");
                thread::spawn(move || {
                    let out = UdpSocket::bind((UPSTREAM, 0)).expect("a socket");
                    out.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
                    out.send_to(&query, to).expect("sent");
                    let mut answer = [0; 4096];
                    if let Ok(length) = out.recv(&mut answer) {
                        let _ = door.send_to(&answer[..length], peer);
                    }
                });
            }
        });
        relay
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}

fn look(at: SocketAddr, name: &str) -> Seen {
    Seen::read(&ask(at, Proto::Udp, &wire::query(next_id(), name, A, true)))
}

#[test]
fn a_loop_is_found_named_and_left_out_without_a_storm_and_used_again_when_it_is_gone() {
    let address = SocketAddr::new(UPSTREAM, free_port());
    let begun = Instant::now();
    let (server, at) = serve(json!([address]), &json!({}));
    let relay = Relay::start(at, address);
    let asked = AtomicUsize::new(0);
    let found = until("it is found", Duration::from_secs(20), || {
        let number = asked.fetch_add(1, Relaxed);
        assert_eq!(look(at, &format!("n{number}.example")).code, SERVFAIL);
        server.log().contains("forwarding loop")
    });
    let (passed, asked) = (relay.passed.load(Relaxed), asked.load(Relaxed));
    println!("found after {:?} ({found:?}), {asked} names asked, {passed} datagrams came round", begun.elapsed());
    assert!(passed <= 6 * asked + 20, "{passed} datagrams for {asked} questions: a storm");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("forwarding loop")).expect("the line");
    for word in [&address.to_string(), "zone", "resolv.conf", "upstreams"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    let before = relay.passed.load(Relaxed);
    for n in 0..50 {
        let start = Instant::now();
        let seen = look(at, &format!("later{n}.example"));
        assert_eq!((seen.code, seen.ede), (SERVFAIL, Some(22)));
        assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    }
    assert!(relay.passed.load(Relaxed) - before <= 4, "nothing but probes goes there");
    relay.loops.store(false, Relaxed);
    let gone = until("it is used again", Duration::from_secs(15), || look(at, "back.example").address().is_some());
    println!("used again after {gone:?}");
    until("it is said", Duration::from_secs(2), || server.log().contains("loop is gone"));
    assert_eq!(metric(&server, "segdns_panics_total", &[]), 0.0);
}

#[test]
fn beside_a_loop_the_other_upstream_answers() {
    let address = SocketAddr::new(UPSTREAM, free_port());
    let other = Upstream::start(|ask| ask.address(3, 0));
    let (server, at) = serve(json!([address, other.address]), &json!({}));
    let relay = Relay::start(at, address);
    until("it is found", Duration::from_secs(20), || {
        assert_eq!(look(at, "www.example").address(), Some((3, 0)));
        server.log().contains("forwarding loop")
    });
    let before = relay.passed.load(Relaxed);
    for _ in 0..20 {
        assert_eq!(look(at, "www.example").address(), Some((3, 0)));
    }
    assert!(relay.passed.load(Relaxed) - before <= 2, "nothing but probes goes there");
}

#[test]
fn of_two_servers_that_forward_to_each_other_one_finds_out_and_that_ends_the_loop() {
    let ports = [free_port(), free_port()];
    let here = ports.map(|port| SocketAddr::new(crate::support::HERE, port));
    let there = ports.map(|port| SocketAddr::new(UPSTREAM, port));
    // Each listens on two addresses, so that no upstream is one of its own.
    let [one, two] = [0, 1].map(|n| serve(json!([there[1 - n]]), &json!({"listen": [here[n], there[n]]})).0);
    until("one says so", Duration::from_secs(20), || {
        here.iter().for_each(|at| assert_eq!(look(*at, "www.example").code, SERVFAIL));
        [&one, &two].iter().any(|server| server.log().contains("forwarding loop"))
    });
    let sent =
        || -> f64 { [&one, &two].iter().map(|server| metric(server, "segdns_forward_requests_total", &[])).sum() };
    let before = sent();
    thread::sleep(Duration::from_secs(1));
    assert!(sent() - before < 3.0, "no question goes round any more");
    for at in here {
        let start = Instant::now();
        assert_eq!(look(at, "late.example").code, SERVFAIL);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
}

#[test]
fn who_asks_for_names_like_those_of_probes_makes_no_loop() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 60));
    for n in 0..40_u128 {
        let name = format!("segdns-loop-probe-{:032x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        for name in [name.clone(), format!("{name}.example"), name.to_uppercase()] {
            assert_eq!(look(lab.at, &name).code, NOERROR, "{name}: forwarded like any other");
        }
    }
    assert_eq!(lab.metric("segdns_forward_healthy", &[]), 1.0);
    assert!(lab.look("www.example").address().is_some());
    assert!(!lab.server.log().contains("forwarding loop"), "{}", lab.server.log());
}
