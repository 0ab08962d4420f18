//! Towards its end and beyond: prefetch, and answers that are given stale.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::lab::*;
use crate::support::client::Proto;
use crate::support::steady::until;

const SOON: Duration = Duration::from_secs(6);
/// No client notices less; more than a busy machine adds.
const AT_ONCE: Duration = Duration::from_millis(250);
const STALE: Option<u16> = Some(3);

fn timed(lab: &Lab, name: &str) -> (Seen, Duration) {
    let start = Instant::now();
    (lab.look(name), start.elapsed())
}

/// Waits until the upstream is known to be down, asking for names of its own.
fn down(lab: &Lab) {
    lab.upstream.is_silent();
    until("the upstream is down", SOON, || {
        lab.look("probe.example");
        lab.metric("segdns_forward_healthy", &[]) == 0.0
    });
}

/// How long the slowest of many looks took, over two lives of a popular name, and how often it was asked upstream.
fn popular(prefetch: bool) -> (Duration, usize) {
    let slow = Duration::from_millis(350);
    let lab = Lab::start(&json!({"cache": {"prefetch": prefetch}}), |ask| ask.address(1, 3));
    lab.look("www.example");
    lab.upstream.says_after(slow, |ask| ask.address(1, 3));
    let (end, mut worst) = (Instant::now() + Duration::from_secs(6), Duration::ZERO);
    while Instant::now() < end {
        for proto in [Proto::Udp, Proto::Tcp] {
            let start = Instant::now();
            let seen = Seen::read(&lab.ask(proto, &query("www.example", A, 0, None)));
            assert!(seen.address().is_some() && seen.ede.is_none(), "{seen:?}");
            worst = start.elapsed().max(worst);
        }
        thread::sleep(Duration::from_millis(15));
    }
    let taken = lab.metric("segdns_cache_prefetch_total", &[]);
    assert_eq!(taken > 0.0, prefetch, "{taken} prefetches");
    (worst, lab.upstream.count("www.example"))
}

#[test]
fn a_popular_name_is_asked_for_before_its_end_and_nobody_waits() {
    let (worst, asked) = popular(true);
    assert!(worst < AT_ONCE, "{worst:?}");
    assert!((3..=5).contains(&asked), "{asked}");
}

#[test]
fn who_does_not_want_recursion_takes_no_prefetch_away() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 3));
    let mut plain = query("www.example", A, 0, None);
    plain[2] = 0;
    let start = Instant::now();
    (0..5).for_each(|_| drop(lab.look("www.example")));
    thread::sleep(Duration::from_millis(2200).saturating_sub(start.elapsed()));
    (0..3).for_each(|_| drop(lab.ask(Proto::Udp, &plain)));
    assert_eq!(lab.upstream.count("www.example"), 1);
    lab.look("www.example");
    until("it is asked for again", Duration::from_millis(500), || lab.upstream.count("www.example") == 2);
}

#[test]
fn without_prefetch_a_popular_name_is_asked_for_at_its_end() {
    let (worst, asked) = popular(false);
    assert!(worst >= Duration::from_millis(300), "{worst:?}: somebody waits for the upstream");
    assert!((2..=3).contains(&asked), "{asked}");
}

#[test]
fn an_unpopular_name_is_not_asked_for_before_its_end() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 3));
    lab.look("rare.example");
    // One look in its last second makes no popular name.
    thread::sleep(Duration::from_millis(2300));
    lab.look("rare.example");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(lab.upstream.count("rare.example"), 1);
    assert_eq!(lab.metric("segdns_cache_prefetch_total", &[]), 0.0);
}

#[test]
fn a_slow_upstream_gives_the_stale_answer_after_a_while_and_the_late_one_is_kept() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 1));
    lab.look("www.example");
    lab.upstream.says_after(Duration::from_millis(900), |ask| ask.address(2, 60));
    thread::sleep(Duration::from_millis(1100));
    let (seen, took) = timed(&lab, "www.example");
    assert_eq!((seen.address(), seen.ede), (Some((1, 30)), STALE));
    assert!((Duration::from_millis(390)..Duration::from_millis(800)).contains(&took), "{took:?}");
    until("the late answer", SOON, || lab.look("www.example").address().is_some_and(|one| one.0 == 2));
    // Once more at most: an upstream that is silent for so long is asked something that it answered before.
    assert!((2..=3).contains(&lab.upstream.count("www.example")), "{}", lab.upstream.count("www.example"));
    assert!(lab.metric("segdns_cache_served_stale_total", &[]) >= 1.0);
}

#[test]
fn an_error_gives_the_stale_answer_at_once_and_an_asker_without_edns_gets_no_opt() {
    thread::scope(|scope| {
        scope.spawn(|| an_error_gives_the_stale_answer(SERVFAIL));
        scope.spawn(|| an_error_gives_the_stale_answer(5));
    });
}

fn an_error_gives_the_stale_answer(code: u8) {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 1));
    lab.look("www.example");
    lab.upstream.says(move |ask| ask.reply(code, [&[], &[], &[]]));
    thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        let (seen, took) = timed(&lab, "www.example");
        assert_eq!((seen.address(), seen.ede), (Some((1, 30)), STALE), "{code}");
        assert!(took < AT_ONCE, "{took:?}");
        for proto in [Proto::Udp, Proto::Tcp] {
            let plain = lab.ask(proto, &query("www.example", A, 0, None));
            assert_eq!(&plain[10..12], [0, 0], "no OPT");
            assert_eq!(Seen::read(&plain).address(), Some((1, 30)));
        }
    }
    lab.upstream.says(|ask| ask.address(2, 60));
    until("it is fresh again", SOON, || lab.look("www.example").address().is_some_and(|one| one.0 == 2));
}

#[test]
fn with_the_upstream_down_what_is_stale_comes_at_once_alike_over_udp_and_tcp() {
    let lab = Lab::start(&json!({}), |ask| match ask.name.as_str() {
        "absent.example" => ask.denial(NXDOMAIN, 1, 1),
        _ => ask.address(1, 1),
    });
    for name in ["www.example", "absent.example"] {
        lab.look(name);
    }
    down(&lab);
    thread::sleep(Duration::from_millis(1000));
    for (name, code) in [("www.example", NOERROR), ("absent.example", NXDOMAIN)] {
        let question = query(name, A, 0, Some((false, 1232)));
        let start = Instant::now();
        let [udp, tcp] = [Proto::Udp, Proto::Tcp].map(|proto| lab.ask(proto, &question));
        assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
        assert_eq!(udp, tcp, "{name}");
        let seen = Seen::read(&udp);
        assert_eq!((seen.code, seen.ede, seen.ttl()), (code, STALE, 30), "{name}");
    }
    assert_eq!(lab.look("cold.example").ede, Some(22));
}

#[test]
fn a_stale_denial_ends_soon_after_the_name_appears_however_often_it_is_asked() {
    let lab = Lab::start(&json!({}), |ask| ask.denial(NXDOMAIN, 1, 1));
    lab.look("new.example");
    lab.upstream.says(|ask| ask.reply(SERVFAIL, [&[], &[], &[]]));
    let until_stale = until("it is stale", SOON, || lab.look("new.example").ede == STALE);
    assert!(until_stale >= Duration::from_millis(900));
    lab.upstream.says(|ask| ask.address(7, 60));
    let took = until("it appears", SOON, || {
        let seen = lab.look("new.example");
        assert!(seen.code == NXDOMAIN || seen.address() == Some((7, 60)), "{seen:?}");
        seen.code == NOERROR
    });
    assert!(took < Duration::from_millis(5500), "{took:?}");
    assert!(lab.upstream.count("new.example") < 10, "{} questions", lab.upstream.count("new.example"));
}

#[test]
fn nothing_is_given_beyond_its_time_if_the_configuration_says_so() {
    for (serve_stale, gives) in [("0s", false), ("2s", true)] {
        let lab = Lab::start(&json!({"cache": {"serveStale": serve_stale}}), |ask| ask.address(1, 1));
        lab.look("www.example");
        lab.upstream.says(|ask| ask.reply(SERVFAIL, [&[], &[], &[]]));
        thread::sleep(Duration::from_millis(1100));
        let seen = lab.look("www.example");
        assert_eq!((seen.ede == STALE, seen.code == SERVFAIL), (gives, !gives), "{serve_stale}: {seen:?}");
        until("it is too old", SOON, || lab.look("www.example").code == SERVFAIL);
        thread::sleep(Duration::from_millis(300));
        assert_eq!(lab.look("www.example").code, SERVFAIL);
    }
}

#[test]
fn what_an_upstream_took_back_is_not_given_when_it_fails_later() {
    // The newer answer may not be kept, but it was the truth: the older one is no better than none.
    for newer in ["zero", "no-soa"] {
        let lab = Lab::start(&json!({}), |ask| ask.address(1, 1));
        lab.look("www.example");
        thread::sleep(Duration::from_millis(1100));
        lab.upstream.says(move |ask| match newer {
            "zero" => ask.address(2, 0),
            _ => ask.reply(NXDOMAIN, [&[], &[], &[]]),
        });
        let seen = lab.look("www.example");
        assert!(seen.address() == Some((2, 0)) || seen.code == NXDOMAIN, "{newer}: {seen:?}");
        lab.upstream.says(|ask| ask.reply(SERVFAIL, [&[], &[], &[]]));
        assert_eq!(lab.look("www.example").code, SERVFAIL, "{newer}");
    }
}
