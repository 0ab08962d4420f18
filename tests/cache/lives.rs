//! How long what is kept, and what is not.

use std::time::{Duration, Instant};

use serde_json::json;

use super::lab::*;
use crate::support::client::{Proto, next_id};
use crate::support::steady::until;
use crate::support::wire;

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_long_ttl_is_capped_for_the_first_asker_as_for_the_next_ones() {
    let lab = Lab::start(&json!({"cache": {"maxTtl": 100, "maxNegativeTtl": 7}}), |ask| match ask.name.as_str() {
        "absent.example" => ask.denial(NXDOMAIN, 500, 400),
        "short.example" => ask.denial(NOERROR, 3, 400),
        "minimum.example" => ask.denial(NOERROR, 400, 4),
        _ => ask.address(1, 86400),
    });
    for (name, most) in [("www.example", 100), ("absent.example", 7), ("short.example", 3), ("minimum.example", 4)] {
        let ttls = [(); 3].map(|()| lab.look(name).ttl());
        assert!(ttls.iter().all(|ttl| (most - 1..=most).contains(ttl)), "{name}: {ttls:?}, not {most}");
        assert_eq!(lab.upstream.count(name), 1, "{name}");
    }
}

#[test]
fn what_may_not_be_kept_is_asked_each_time_and_answered_all_the_same() {
    let lab = Lab::start(&json!({}), |ask| match ask.name.as_str() {
        "refused.example" => ask.reply(5, [&[], &[], &[]]),
        "notimp.example" => ask.reply(4, [&[], &[], &[]]),
        "no-soa.example" => ask.reply(NXDOMAIN, [&[], &[], &[]]),
        "empty.example" => ask.reply(NOERROR, [&[], &[], &[]]),
        "minimum-zero.example" => ask.denial(NXDOMAIN, 60, 0),
        "soa-zero.example" => ask.denial(NXDOMAIN, 0, 60),
        _ => ask.address(1, 0),
    });
    for (name, code) in [
        ("refused.example", 5),
        ("notimp.example", 4),
        ("no-soa.example", NXDOMAIN),
        ("empty.example", NOERROR),
        ("minimum-zero.example", NXDOMAIN),
        ("soa-zero.example", NXDOMAIN),
        ("zero.example", NOERROR),
    ] {
        for count in 1..=3 {
            assert_eq!(lab.look(name).code, code, "{name}");
            assert_eq!(lab.upstream.count(name), count, "{name}");
        }
    }
    assert_eq!(lab.metric("segdns_cache_entries", &[]), 0.0);
}

#[test]
fn a_servfail_is_kept_for_one_second_and_then_for_longer_up_to_five() {
    let lab = Lab::start(&json!({}), |ask| ask.reply(SERVFAIL, [&[], &[], &[]]));
    let name = "broken.example";
    let mut gaps = Vec::new();
    let mut before = Instant::now();
    assert_eq!(lab.look(name).code, SERVFAIL);
    while gaps.len() < 4 {
        let asked = lab.upstream.count(name);
        until("it is asked again", Duration::from_secs(7), || {
            assert_eq!(lab.look(name).code, SERVFAIL);
            lab.upstream.count(name) > asked
        });
        gaps.push(before.elapsed().as_millis());
        before = Instant::now();
    }
    let near = |gap: u128, want: u128| (want - 100..want + 500).contains(&gap);
    assert!(gaps.iter().zip([1000, 2000, 4000, 5000]).all(|(gap, want)| near(*gap, want)), "{gaps:?}");
    assert!(lab.metric("segdns_cache_hits_total", &["error"]) > 0.0);
}

#[test]
fn a_negative_answer_ends_with_its_soa() {
    let lab = Lab::start(&json!({"cache": {"serveStale": "0s"}}), |ask| ask.denial(NXDOMAIN, 1, 60));
    assert_eq!(lab.look("new.example").code, NXDOMAIN);
    lab.upstream.says(|ask| ask.address(4, 60));
    assert_eq!(lab.look("new.example").code, NXDOMAIN);
    let took = until("it appears", SOON, || lab.look("new.example").address() == Some((4, 60)));
    assert!(took < Duration::from_millis(1300), "{took:?}");
}

#[test]
fn a_truncated_answer_is_never_kept_when_tcp_does_not_bring_the_whole() {
    // TC over TCP too: nobody may ever see it as the answer from the cache.
    let lab = Lab::start(&json!({}), |ask| {
        let mut answer = ask.address(1, 60);
        answer[2] |= 2;
        answer
    });
    for _ in 0..2 {
        let seen = lab.look("cut.example");
        assert!(seen.truncated || seen.code == SERVFAIL, "{seen:?}");
    }
    lab.upstream.says(|ask| ask.address(2, 60));
    until("the whole is there", SOON, || lab.look("cut.example").address() == Some((2, 60)));
}

#[test]
fn everything_works_with_a_cache_of_nothing_or_next_to_nothing() {
    for bytes in ["0", "300", "1Ki", "70Ki"] {
        let lab = Lab::start(&json!({"cache": {"bytes": size(bytes)}}), |ask| match ask.rtype {
            TXT => {
                let string = [&[250][..], &[b'y'; 250]].concat();
                let record = wire::record("", TXT, 60, &string);
                let one = [&[0xc0, 12], &record[1..]].concat();
                ask.reply(NOERROR, [&vec![one; 240], &[], &[]])
            }
            A => ask.address(1, 60),
            _ => ask.denial(NOERROR, 60, 60),
        });
        for n in 0..30 {
            for proto in [Proto::Udp, Proto::Tcp] {
                let ask = |rtype| lab.ask(proto, &wire::query(next_id(), &format!("n{}.example", n % 10), rtype, true));
                assert_eq!(Seen::read(&ask(A)).address().map(|one| one.0), Some(1), "{bytes} {proto:?}");
                assert_eq!(Seen::read(&ask(28)).code, NOERROR);
                let long = ask(TXT);
                assert_eq!(
                    (long.len() > 60_000, long[2] & 2 == 0),
                    [(false, false), (true, true)][usize::from(proto == Proto::Tcp)],
                    "{bytes}"
                );
            }
            assert!(lab.metric("segdns_cache_bytes", &[]) <= octets(bytes), "{bytes}");
        }
        if bytes == "0" {
            assert_eq!(lab.metric("segdns_cache_entries", &[]), 0.0);
        }
        assert_eq!(lab.metric("segdns_panics_total", &[]), 0.0);
    }
}

fn size(text: &str) -> serde_json::Value {
    if text.contains('K') { format!("{text}B").into() } else { text.parse::<u64>().expect("a number").into() }
}

fn octets(text: &str) -> f64 {
    let (number, unit) = text.strip_suffix("Ki").map_or((text, 1.0), |number| (number, 1024.0));
    number.parse::<f64>().expect("a number") * unit
}
