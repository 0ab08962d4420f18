//! One question upstream for many askers, and upstreams that change under way.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::lab::*;
use crate::support::client::{Proto, next_id, read_framed, write_framed};
use crate::support::steady::until;
use crate::support::wire;

#[test]
fn askers_over_udp_and_tcp_share_a_question_and_one_that_leaves_takes_nothing_along() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 60));
    lab.upstream.says_after(Duration::from_millis(700), |ask| ask.address(1, 60));
    // The first one starts the question, and hangs up.
    let mut first = TcpStream::connect(lab.at).expect("connected");
    write_framed(&mut first, &wire::query(next_id(), "herd.example", A, true)).expect("sent");
    until("it is asked", Duration::from_secs(2), || lab.upstream.count("herd.example") == 1);
    thread::scope(|scope| {
        let askers: Vec<_> = (0..40)
            .map(|n| {
                let (lab, proto) = (&lab, [Proto::Udp, Proto::Tcp][n % 2]);
                let name = ["herd.example", "HERD.example"][n / 2 % 2];
                scope.spawn(move || {
                    let query = wire::query(next_id(), name, A, n % 3 == 0);
                    (lab.ask(proto, &query), query)
                })
            })
            .collect();
        drop(first);
        for asker in askers {
            let (answer, query) = asker.join().expect("an answer");
            assert_eq!(Seen::read(&answer).address(), Some((1, 60)));
            assert_eq!(answer[..2], query[..2]);
            let question = 12 + wire::question_len(&query).expect("one");
            assert_eq!(answer[12..question], query[12..question]);
        }
    });
    assert_eq!(lab.upstream.count("herd.example"), 1);
}

#[test]
fn a_pipelined_question_does_not_wait_for_a_slow_one_before_it() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 60));
    lab.look("quick.example");
    lab.upstream.says_after(Duration::from_secs(1), |ask| ask.address(2, 60));
    let mut stream = TcpStream::connect(lab.at).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    for (id, name) in [(1, "slow.example"), (2, "quick.example")] {
        write_framed(&mut stream, &wire::query(id, name, A, true)).expect("sent");
    }
    let order = [(); 2].map(|()| read_framed(&mut stream).expect("an answer")[1]);
    assert_eq!(order, [2, 1]);
}

/// Two addresses that no other test of this machine has, for port 53, which a resolv.conf cannot change.
fn pair() -> [SocketAddr; 2] {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    [(); 2].map(|()| {
        let last = NEXT.fetch_add(1, Ordering::Relaxed);
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 100 + last, high, low.max(1))), 53)
    })
}

#[test]
fn new_servers_of_a_resolv_conf_are_asked_within_two_seconds_and_the_cache_stays() {
    let [old, new] = pair();
    if std::net::UdpSocket::bind(old).is_err() {
        return println!("skipped: port 53 needs root");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("resolv.conf");
    let names = |server: SocketAddr| std::fs::write(&path, format!("nameserver {}\n", server.ip())).expect("written");
    names(old);
    let first = Upstream::at(old, |ask| ask.address(1, 300));
    let (server, at) = serve(json!([path]), &json!({}));
    let look = |name: &str| Seen::read(&ask(at, Proto::Udp, &wire::query(next_id(), name, A, true)));
    assert_eq!(look("kept.example").address(), Some((1, 300)));

    // All that were known are dead, so that every cold name is SERVFAIL at once.
    first.is_silent();
    until("the old one is down", Duration::from_secs(8), || {
        look("cold.example");
        crate::support::steady::metric(&server, "segdns_forward_healthy", &[]) == 0.0
    });
    let second = Upstream::at(new, |ask| ask.address(2, 300));
    let replaced = dir.path().join("new");
    std::fs::write(&replaced, format!("search a.example\nnameserver {}\noptions ndots:5\n", new.ip()))
        .expect("written");
    std::fs::rename(&replaced, &path).expect("renamed");
    let changed = Instant::now();
    let mut n = 0;
    while look(&format!("n{n}.example")).address() != Some((2, 300)) {
        n += 1;
        assert!(changed.elapsed() < Duration::from_millis(2200), "not asked after {:?}", changed.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(look("kept.example").address().map(|one| one.0), Some(1), "the cache stays");
    assert_eq!(second.count("kept.example"), 0);

    // An empty file, as a network manager leaves it for a moment, changes nothing.
    std::fs::write(&path, "").expect("written");
    thread::sleep(Duration::from_millis(2200));
    assert_eq!(look("still.example").address(), Some((2, 300)));
}
