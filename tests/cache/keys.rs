//! What makes two questions one for the cache, and what does not reach the upstream.

use std::time::Duration;

use hickory_proto::op::Message;
use serde_json::json;

use super::lab::*;
use crate::support::client::{Proto, next_id};
use crate::support::steady::until;
use crate::support::wire;

/// The answer, with AD.
fn authentic(ask: &Ask) -> Vec<u8> {
    let mut answer = ask.address(1, 300);
    answer[3] |= AD;
    answer
}

#[test]
fn name_type_do_and_cd_make_an_entry_and_nothing_else_does() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    let opt = |dnssec_ok| Some((dnssec_ok, 1232));
    let mut entries = 0;
    // In the order that each row says whether the upstream has to be asked for it.
    for (flags, opt, new) in [
        (0, None, true),
        (0, opt(false), false),
        (0, Some((false, 4000)), false),
        (0, opt(true), true),
        (0, Some((true, 600)), false),
        (CD, None, true),
        (CD, opt(false), false),
        (CD, opt(true), true),
        (0, None, false),
        // Whoever wants to know about authenticity is not told what was told to others.
        (AD, None, true),
        (AD, opt(false), false),
        (0, None, false),
    ] {
        for name in ["www.example", "WWW.Example"] {
            let seen = Seen::read(&lab.ask(Proto::Udp, &query(name, A, flags, opt)));
            assert!(seen.address().is_some(), "{flags:#x} {opt:?}");
        }
        entries += usize::from(new);
        assert_eq!(lab.upstream.count("www.example"), entries, "{flags:#x} {opt:?}");
    }
    assert_eq!(Seen::read(&lab.ask(Proto::Udp, &query("www.example", 28, 0, None))).code, NOERROR);
    assert_eq!(lab.upstream.count("www.example"), entries + 1, "another type");
}

#[test]
fn do_cd_and_ad_reach_the_upstream_as_they_came() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 0));
    for (n, (flags, opt)) in
        [(0, None), (AD, None), (CD, Some(false)), (AD | CD, Some(true)), (0, Some(true))].into_iter().enumerate()
    {
        let name = format!("n{n}.example");
        lab.ask(Proto::Udp, &query(&name, A, flags, opt.map(|is| (is, 1232))));
        let [ask] = &lab.upstream.asked(&name)[..] else { panic!("{name} asked once") };
        assert_eq!(ask.wire[3], flags, "{name}");
        let message = Message::from_vec(&ask.wire).expect("a query");
        assert_eq!(message.edns.map(|edns| edns.flags().dnssec_ok), opt, "{name}");
    }
}

#[test]
fn ad_is_told_only_to_who_asked_for_it_and_only_if_the_upstream_told_it_to_such_a_one() {
    let lab = Lab::start(&json!({}), authentic);
    let ask = |flags, opt| Seen::read(&lab.ask(Proto::Udp, &query("sure.example", A, flags, opt))).flags & AD;
    // An upstream that sets AD although nobody asked says nothing by it.
    assert_eq!(ask(0, None), 0);
    assert_eq!(ask(0, None), 0, "from the cache");
    assert_eq!(lab.upstream.count("sure.example"), 1);
    assert_eq!(ask(AD, None), AD);
    assert_eq!(lab.upstream.count("sure.example"), 2);
    for _ in 0..2 {
        assert_eq!((ask(AD, None), ask(0, None), ask(AD, Some((false, 1232)))), (AD, 0, AD), "from the cache");
    }
    assert_eq!(lab.upstream.count("sure.example"), 2);
    assert_eq!((ask(0, Some((true, 1232))), ask(0, Some((true, 1232)))), (AD, AD), "DO asks for it, too");
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    let ask = |flags| Seen::read(&lab.ask(Proto::Udp, &query("unsure.example", A, flags, None))).flags & AD;
    assert_eq!((ask(AD), ask(AD)), (0, 0));
}

#[test]
fn who_wants_to_know_about_authenticity_gets_what_there_is_when_nobody_can_be_asked() {
    let lab = Lab::start(&json!({}), |ask| {
        let mut answer = ask.address(1, if ask.name == "stale.example" { 1 } else { 300 });
        answer[3] |= AD;
        answer
    });
    for name in ["stale.example", "fresh.example"] {
        assert!(Seen::read(&lab.ask(Proto::Udp, &query(name, A, 0, None))).address().is_some());
    }
    lab.upstream.is_silent();
    until("the upstream is down", Duration::from_secs(8), || {
        lab.look("other.example");
        lab.metric("segdns_forward_healthy", &[]) == 0.0
    });
    for name in ["stale.example", "fresh.example"] {
        for proto in [Proto::Udp, Proto::Tcp] {
            let seen = Seen::read(&lab.ask(proto, &query(name, A, AD, None)));
            assert!(seen.address().is_some() && seen.flags & AD == 0, "{name} {proto:?}: {seen:?}");
        }
    }
}

#[test]
fn a_question_without_rd_is_answered_from_the_cache_and_never_fills_it() {
    let lab = Lab::start(&json!({}), |ask| ask.address(if ask.wire[2] & 1 == 0 { 66 } else { 1 }, 300));
    let without = |name| {
        let mut query = wire::query(next_id(), name, A, true);
        query[2] = 0;
        let answer = lab.ask(Proto::Udp, &query);
        assert_eq!(answer[2] & 1, 0, "RD as it came");
        Seen::read(&answer).address().map(|one| one.0)
    };
    assert_eq!(without("www.example"), Some(66));
    assert_eq!(lab.look("www.example").address(), Some((1, 300)));
    assert_eq!(without("www.example"), Some(1));
    assert_eq!(lab.upstream.count("www.example"), 2);
}

#[test]
fn client_subnets_cookies_and_other_options_stay_here_and_change_nothing() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    let with = |options: &[u8]| {
        let mut wire = query("www.example", A, 0, Some((false, 1232)));
        let at = wire.len() - 2;
        wire[at..].copy_from_slice(&u16::try_from(options.len()).expect("few").to_be_bytes());
        wire.extend(options);
        wire
    };
    let subnet = |net: u8| vec![0, 8, 0, 7, 0, 1, 24, 0, 10, net, 0];
    let cookie = [&[0, 10, 0, 8][..], &[7; 8]].concat();
    let padding = [&[0, 12, 0, 100][..], &[0; 100]].concat();
    let mut answers = Vec::new();
    for options in [subnet(1), subnet(2), cookie, padding, vec![], [0xfd, 0xe9, 0, 1, 9].to_vec()] {
        answers.push(without_ttls(&lab.ask(Proto::Udp, &with(&options))));
    }
    assert!(answers.iter().all(|one| *one == answers[0]));
    let [ask] = &lab.upstream.asked("www.example")[..] else { panic!("asked once") };
    let options = Message::from_vec(&ask.wire).expect("a query").edns.expect("an OPT").options().options.len();
    assert_eq!(options, 0);
}

#[test]
fn other_classes_neither_come_from_the_cache_nor_fill_it() {
    let lab = Lab::start(&json!({}), |ask| ask.address(1, 300));
    assert!(lab.look("www.example").address().is_some());
    for class in [3_u16, 4, 254, 255, 0] {
        let mut query = wire::query(next_id(), "www.example", A, false);
        let at = query.len() - 2;
        query[at..].copy_from_slice(&class.to_be_bytes());
        let answer = lab.ask(Proto::Udp, &query);
        assert_eq!((answer[3] & 15, &answer[6..12]), (5, &[0; 6][..]), "class {class}");
    }
    assert_eq!(lab.upstream.count("www.example"), 1);
    assert_eq!(lab.metric("segdns_cache_entries", &[]), 1.0);
}
