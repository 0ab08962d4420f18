//! An answer is the same, octet for octet but for TTLs, wherever it comes from: an upstream, the cache, over UDP or TCP.

use serde_json::json;

use super::lab::*;
use crate::support::client::{Proto, next_id};
use crate::support::wire;

/// A record that is owned by the question.
fn pointed(rtype: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let record = wire::record("", rtype, ttl, data);
    [&[0xc0, 12], &record[1..]].concat()
}

/// So many octets of TXT, in strings of 100.
fn texts(count: usize) -> Vec<Vec<u8>> {
    let string = [&[99][..], &[b'x'; 99]].concat();
    (0..count)
        .map(|n| {
            let mut one = string.clone();
            one[1..4].copy_from_slice(format!("{n:03}").as_bytes());
            pointed(TXT, 300, &one)
        })
        .collect()
}

/// What the upstream knows, by the first label.
fn says(ask: &Ask) -> Vec<u8> {
    let a = |owner: &str, last| wire::record(owner, A, 300, &[192, 0, 2, last]);
    let cname = |owner: &str, to: &str| wire::record(owner, 5, 200, &wire::name(to));
    let host = ask.name.split('.').next().unwrap_or_default();
    let addresses = |n: u8| (1..=n).map(|last| pointed(A, 300, &[192, 0, 2, last])).collect::<Vec<_>>();
    let ok = |answers: &[Vec<u8>]| ask.reply(NOERROR, [answers, &[], &[]]);
    match host {
        "plain" => ok(&[a(&ask.name, 1)]),
        "loud" => ok(&[a(&ask.name.to_uppercase(), 1)]),
        "pointed" => ok(&[pointed(A, 300, &[192, 0, 2, 1])]),
        "two" => ok(&[a(&ask.name, 1), pointed(A, 60, &[192, 0, 2, 2])]),
        "chain" => ok(&[cname(&ask.name, "b.example"), cname("b.example", "c.example"), a("c.example", 3)]),
        "chained" => {
            // The CNAME's data is the first name of the message after the question, and what follows points there.
            let first = pointed(5, 200, &wire::name("target.example"));
            let at = 0xc000 | u16::try_from(12 + wire::question_len(&ask.wire).expect("one") + 12).expect("short");
            let second = [&at.to_be_bytes(), &pointed(A, 300, &[192, 0, 2, 9])[2..]].concat();
            ok(&[first, second])
        }
        "thirty" => ok(&addresses(30)),
        "hundred" => ok(&addresses(100)),
        "long" => ok(&texts(45)),
        "longest" => ok(&texts(570)),
        "https" => ok(&[pointed(65, 300, &[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2'])]),
        "odd" => ok(&[pointed(65280, 300, &[1, 2, 3, 0xc0, 0x0c])]),
        "any" => ok(&[pointed(A, 300, &[192, 0, 2, 1]), pointed(TXT, 100, &[1, b'x'])]),
        "srv" => {
            let data = [&[0, 0, 0, 0, 0, 80][..], &wire::name("h.example")].concat();
            ask.reply(NOERROR, [&[pointed(33, 300, &data)], &[], &[a("h.example", 4)]])
        }
        "ns" => ask.reply(
            NOERROR,
            [&[a(&ask.name, 1)], &[wire::record("example", 2, 50, &wire::name("n.example"))], &[a("n.example", 5)]],
        ),
        "nodata" => ask.denial(NOERROR, 20, 30),
        "dangling" => ask.reply(NXDOMAIN, [&[cname(&ask.name, "b.example")], &[soa(20, 30)], &[]]),
        _ => ask.denial(NXDOMAIN, 20, 30),
    }
}

const CASES: [(&str, u16); 19] = [
    ("plain.example", A),
    ("loud.example", A),
    ("pointed.example", A),
    ("two.example", A),
    ("chain.example", A),
    ("chained.example", A),
    ("thirty.example", A),
    ("hundred.example", A),
    ("long.example", TXT),
    ("longest.example", TXT),
    ("https.example", 65),
    ("odd.example", 65280),
    ("any.example", 255),
    ("srv.example", 33),
    ("ns.example", A),
    ("nodata.example", A),
    ("dangling.example", A),
    ("absent.example", A),
    ("absent.example", 65281),
];

/// Flags, and OPT.
const ASKERS: [(u8, Option<(bool, u16)>); 8] = [
    (0, None),
    (AD, None),
    (CD, None),
    (0, Some((false, 1232))),
    (0, Some((false, 100))),
    (0, Some((false, 800))),
    (0, Some((true, 4096))),
    (AD | CD, Some((true, 65535))),
];

#[test]
fn an_answer_is_the_same_from_the_upstream_and_from_the_cache_over_udp_and_tcp() {
    let lab = Lab::start(&json!({}), says);
    for (name, rtype) in CASES {
        for (flags, opt) in ASKERS {
            let what = format!("{name} {rtype} {flags:#x} {opt:?}");
            let query = query(name, rtype, flags, opt);
            let ask = |proto| lab.ask(proto, &query);
            let mut heard = Vec::new();
            for first in [Proto::Udp, Proto::Tcp] {
                assert_eq!(lab.flush("").0, 200);
                let before = lab.upstream.count(name);
                let order = if first == Proto::Udp { [Proto::Udp, Proto::Tcp] } else { [Proto::Tcp, Proto::Udp] };
                for round in 0..2 {
                    for proto in order {
                        let answer = ask(proto);
                        assert_eq!(answer[..2], query[..2], "{what}: the ID");
                        assert_eq!(answer[2] & 0x7d, 1, "{what}: RD and nothing else but TC");
                        assert_eq!(answer[3] & 0x10, flags & CD, "{what}: CD");
                        heard.push((proto, first, round, without_ttls(&answer)));
                    }
                }
                let asked = &lab.upstream.asked(name)[before..];
                let whole = asked.iter().filter(|ask| ask.tcp).count();
                assert!(asked.len() - whole <= 1 && whole <= 1, "{what}: asked once, not {}", asked.len());
            }
            for proto in [Proto::Udp, Proto::Tcp] {
                let mut same = heard.iter().filter(|one| one.0 == proto);
                let (_, _, _, model) = same.next().expect("the first");
                for (_, first, round, other) in same {
                    assert_eq!(model, other, "{what}: {proto:?} after {first:?}, round {round}");
                }
                let has_opt = places(model).iter().any(|place| place.1 == OPT);
                assert_eq!(has_opt, opt.is_some(), "{what}");
                let limit = opt.map_or(512, |(_, payload)| usize::from(payload).clamp(512, 1232));
                assert!(proto == Proto::Tcp || model.len() <= limit, "{what}: {} octets", model.len());
                assert!(proto == Proto::Udp || model[2] & 2 == 0, "{what}: TC over TCP");
            }
        }
    }
}

#[test]
fn every_asker_gets_its_own_spelling_in_the_question_and_in_owners_that_are_written_out() {
    let lab = Lab::start(&json!({}), says);
    for host in ["plain", "loud", "pointed", "absent", "thirty"] {
        for (spelling, proto) in [
            ("{}.example", Proto::Udp),
            ("{}.EXAMPLE", Proto::Udp),
            ("{}.eXaMpLe", Proto::Tcp),
            ("{}.ExamplE", Proto::Udp),
        ] {
            let name = spelling.replace("{}", host);
            let answer = lab.ask(proto, &wire::query(next_id(), &name, A, true));
            let asked = wire::name(&name);
            assert_eq!(answer[12..12 + asked.len()], asked, "{name}");
            let behind = 12 + asked.len() + 4;
            if ["plain", "loud"].contains(&host) {
                assert_eq!(answer[behind..behind + asked.len()], asked, "{name}: the owner");
            }
        }
        assert_eq!(lab.upstream.count(&format!("{host}.example")), 1, "{host}");
    }
}

#[test]
fn ttls_count_down_each_by_itself_and_together_over_udp_and_tcp() {
    let lab = Lab::start(&json!({}), says);
    let query = wire::query(next_id(), "two.example", A, true);
    let first = Seen::read(&lab.ask(Proto::Udp, &query));
    assert_eq!(first.records, [(1, 300), (2, 60)]);
    let start = std::time::Instant::now();
    let mut last = 0;
    while last < 2 {
        let before = start.elapsed().as_secs();
        let seen = [Proto::Udp, Proto::Tcp].map(|proto| Seen::read(&lab.ask(proto, &query)));
        let after = start.elapsed().as_secs() + 1;
        for seen in seen {
            let [(1, one), (2, two)] = seen.records[..] else { panic!("{seen:?}") };
            let gone = 300 - one;
            assert_eq!(60 - two, gone);
            assert!((before..=after).contains(&u64::from(gone)), "{gone} s after {before} to {after} s");
            assert!(gone >= last, "it never goes back");
            last = gone;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(lab.upstream.count("two.example"), 1);
}
