//! What an operator sees of the cache, and can do to it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::json;

use super::lab::*;
use crate::support::client::Proto;
use crate::support::free_port;
use crate::support::server::{http, http_get};
use crate::support::steady::until;

#[test]
fn flushing_forgets_a_name_and_what_is_below_it_or_all() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    let names = ["a.example", "b.a.example", "c.b.A.example", "xa.example", "other.test"];
    let fill = || names.iter().for_each(|name| drop(lab.look(name)));
    let asked = || names.map(|name| lab.upstream.count(name));
    fill();
    fill();
    assert_eq!(asked(), [1; 5]);
    for (parameters, text, after) in [
        ("?name=a.example", "flushed 3\n", [2, 2, 2, 1, 1]),
        ("?name=B.a.EXAMPLE.", "flushed 2\n", [2, 3, 3, 1, 1]),
        ("?name=nosuch.example", "flushed 0\n", [2, 3, 3, 1, 1]),
        ("?name=.", "flushed 5\n", [3, 4, 4, 2, 2]),
        ("", "flushed 5\n", [4, 5, 5, 3, 3]),
    ] {
        assert_eq!(lab.flush(parameters), (200, text.to_owned()), "{parameters}");
        fill();
        assert_eq!(asked(), after, "{parameters}");
    }
    let long = format!("?name={}", "a.".repeat(200));
    let label = format!("?name={}.example", "a".repeat(64));
    for bad in ["?name=", "?name=a..b", "?nam=a.example", &long, &label, "?name=..", "?name=.a"] {
        let (status, text) = lab.flush(bad);
        assert_eq!((status, text.lines().count()), (400, 1), "{bad}: {text}");
    }
    fill();
    assert_eq!(asked(), [4, 5, 5, 3, 3], "nothing was forgotten");
    let (status, _) = http(lab.server.admin(), "GET", "/debug/flush").expect("an answer");
    assert_eq!(status, 405, "only POST changes something");
}

#[test]
fn what_was_asked_for_before_a_flush_is_not_kept_after_it() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    lab.upstream.says_after(Duration::from_millis(500), |ask| ask.address(1, 300));
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| lab.look("www.example").address());
        until("it is asked", Duration::from_secs(2), || lab.upstream.count("www.example") == 1);
        lab.upstream.says(|ask| ask.address(2, 300));
        assert_eq!(lab.flush("?name=www.example").0, 200);
        assert_eq!(asker.join().expect("an answer"), Some((1, 300)));
    });
    assert_eq!(lab.look("www.example").address(), Some((2, 300)));
}

#[test]
fn who_is_not_on_loopback_forgets_nothing_unless_the_configuration_says_so() {
    // Nothing is sent: this only tells an address of this machine that is not loopback.
    let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9").map(|()| socket));
    let Some(own) = outside.ok().and_then(|socket| socket.local_addr().ok()).filter(|own| !own.ip().is_loopback())
    else {
        return println!("skipped: this machine has no address but loopback");
    };
    for (debug, status) in [("loopback", 403), ("any", 200)] {
        let admin = SocketAddr::new(own.ip(), free_port());
        let lab = Lab::start(&json!({"admin": admin, "debug": debug}), |ask| ask.address(1, 300));
        lab.look("www.example");
        assert_eq!(lab.flush("").0, status, "{debug}");
        lab.look("www.example");
        assert_eq!(lab.upstream.count("www.example"), if status == 200 { 2 } else { 1 });
    }
}

#[test]
fn all_types_and_bits_of_a_name_are_flushed() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    let all = || {
        for rtype in [A, TXT] {
            for flags in [0, CD] {
                for dnssec_ok in [false, true] {
                    lab.ask(Proto::Udp, &query("www.example", rtype, flags, Some((dnssec_ok, 1232))));
                }
            }
        }
    };
    // A question for TXT that is answered with an address is NODATA without an SOA, which is not kept.
    all();
    let before = lab.upstream.count("www.example");
    assert_eq!(lab.flush("?name=www.example").1, "flushed 4\n");
    all();
    assert_eq!(lab.upstream.count("www.example"), before + 8);
}

#[test]
fn hits_misses_stale_answers_and_sources_are_counted() {
    let lab = Lab::start(&json!({}), |ask| match ask.name.as_str() {
        "absent.example" => ask.denial(NXDOMAIN, 1, 1),
        "broken.example" => ask.reply(SERVFAIL, [&[], &[], &[]]),
        _ => ask.address(1, 300),
    });
    let hits = |kind: &str| lab.metric("segdns_cache_hits_total", &[&format!("type=\"{kind}\"")]);
    let responses = |source: &str| lab.metric("segdns_dns_responses_total", &[&format!("source=\"{source}\"")]);
    assert_eq!((hits("success"), hits("denial"), hits("error")), (0.0, 0.0, 0.0));
    for proto in [Proto::Udp, Proto::Tcp] {
        for name in ["www.example", "absent.example", "broken.example"] {
            for _ in 0..2 {
                lab.ask(proto, &query(name, A, 0, None));
            }
        }
    }
    assert_eq!((hits("success"), hits("denial"), hits("error")), (3.0, 3.0, 3.0));
    assert_eq!(lab.metric("segdns_cache_misses_total", &[]), 3.0);
    assert_eq!((responses("upstream"), responses("cache"), responses("stale")), (3.0, 9.0, 0.0));
    assert_eq!(lab.metric("segdns_cache_entries", &[]), 3.0);
    lab.upstream.says(|ask| ask.reply(SERVFAIL, [&[], &[], &[]]));
    until("something is stale", Duration::from_secs(4), || lab.look("absent.example").ede == Some(3));
    assert_eq!((responses("stale"), lab.metric("segdns_cache_served_stale_total", &[])), (1.0, 1.0));
}

#[test]
fn a_full_cache_makes_room_and_never_holds_more_than_it_may() {
    let most = 64 << 10;
    let lab = Lab::start(&json!({"cache": {"bytes": most}}), |ask| ask.address(1, 300));
    for n in 0..2000 {
        lab.look(&format!("name-{n}.of-many.example"));
        if n % 100 == 0 {
            assert!(lab.metric("segdns_cache_bytes", &[]) <= f64::from(most));
        }
    }
    assert!(lab.metric("segdns_cache_evictions_total", &[]) > 0.0);
    let entries = lab.metric("segdns_cache_entries", &[]);
    assert!(entries > 100.0, "{entries} entries in {most} octets");
    assert!(lab.metric("segdns_cache_bytes", &[]) > f64::from(most) / 2.0);
    let asked = lab.upstream.count("name-1999.of-many.example");
    assert_eq!(lab.look("name-1999.of-many.example").address().map(|one| one.0), Some(1));
    assert_eq!(lab.upstream.count("name-1999.of-many.example"), asked, "the newest is there");
}

#[test]
fn the_query_log_tells_of_answers_from_the_cache_too() {
    let lab = Lab::start(&json!({"log": {"queries": "all"}}), |ask| ask.address(1, 300));
    for proto in [Proto::Udp, Proto::Udp, Proto::Tcp] {
        lab.ask(proto, &query("Logged.example", A, 0, None));
    }
    let lines = || lab.server.log().lines().filter(|line| line.contains("logged.example")).count();
    until("three lines", Duration::from_secs(2), || lines() == 3);
    let log = lab.server.log();
    for line in log.lines().filter(|line| line.contains("logged.example")) {
        for word in ["NOERROR", "forwarded", "127.10.1.11"] {
            assert!(line.contains(word), "{word} in {line}");
        }
    }
}

#[test]
fn an_answer_from_the_cache_of_a_failure_is_told_the_same_over_both_paths() {
    // Everyone fails to answer in time: what is remembered is told with the same words as at first.
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    lab.upstream.is_silent();
    let first = lab.look("lost.example");
    assert_eq!((first.code, first.ede), (SERVFAIL, Some(22)));
    for proto in [Proto::Udp, Proto::Tcp] {
        let again = Seen::read(&lab.ask(proto, &query("lost.example", A, 0, Some((false, 1232)))));
        assert_eq!(again, first, "{proto:?}");
    }
    let (_, text) = http_get(lab.server.admin(), "/healthz").expect("an answer");
    assert!(text.contains("ok"), "{text}");
}

#[test]
fn a_large_cache_takes_no_memory_before_it_is_used() {
    let lab = Lab::start(&json!({"cache": {"bytes": "1GiB"}}), |ask| ask.address(1, 300));
    for n in 0..1000 {
        lab.look(&format!("n{n}.example"));
    }
    let resident = lab.server.resident();
    assert!(resident < 200 << 20, "{resident} octets");
}
