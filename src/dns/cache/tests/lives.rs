//! What is kept and for how long, and in which state it is found (R23).

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::NULL;

use super::*;

const SUCCESS: Kind = Kind::Success;
const DENIAL: Kind = Kind::Denial;

fn as_(kind: Kind, seconds: u32) -> Kept {
    Kept::As { kind, seconds }
}

/// A message that answers `rtype` at `www.example.`, with answers, authorities and additionals.
fn message(rtype: RecordType, code: ResponseCode, records: [&[TheirRecord]; 3]) -> Theirs {
    let mut theirs = response("www.example.", rtype, code);
    theirs.add_answers(records[0].to_vec()).add_authorities(records[1].to_vec());
    theirs.add_additionals(records[2].to_vec());
    theirs
}

#[test]
fn what_is_kept_lives_as_long_as_its_records_allow() {
    use ResponseCode::{FormErr, NXDomain, NoError, NotImp, Refused};
    let www = "www.example.";
    let odd = record(www, 9, RData::Unknown { code: RecordType::Unknown(46), rdata: NULL::with(vec![1; 20]) });
    let dname = record(
        "example.",
        50,
        RData::Unknown { code: RecordType::Unknown(39), rdata: NULL::with(b"\x01x\0".to_vec()) },
    );
    let (plain, alias) = ([a(www, 300)], [cname(www, 40, "x.example."), a("x.example.", 60)]);
    let (chain, loose) = ([cname(www, 20, "x.example.")], [a("ns.example.", 7)]);
    let (soa_25, ends) = ([soa(25, 600)], [soa(600, 12)]);
    let synthesized = [dname.clone(), cname(www, 50, "www.x.")];
    /// What it is, the type asked for, the code, the records of the sections, what is kept.
    type Case<'a> = (&'a str, u16, ResponseCode, [&'a [TheirRecord]; 3], Kept);
    #[rustfmt::skip]
    let cases: [Case<'_>; 28] = [
        ("the least TTL of the answer", 1, NoError, [&alias, &[], &[]], as_(SUCCESS, 40)),
        ("and of all other records", 1, NoError, [&plain, &[], &loose], as_(SUCCESS, 7)),
        ("an SOA beside an answer counts by its TTL", 1, NoError, [&plain, &ends, &[]], as_(SUCCESS, 300)),
        ("at most maxTtl", 1, NoError, [&[a(www, 86400)], &[], &[]], as_(SUCCESS, 3600)),
        ("a TTL of 0", 1, NoError, [&[a(www, 0)], &[], &[]], Kept::No),
        ("a TTL of 0 anywhere", 1, NoError, [&plain, &[], &[a("x.", 0)]], Kept::No),
        ("the largest TTL", 1, NoError, [&[a(www, i32::MAX as u32)], &[], &[]], as_(SUCCESS, 3600)),
        ("a TTL with the top bit set means 0", 1, NoError, [&[a(www, 1 << 31)], &[], &[]], Kept::No),
        ("the name does not exist", 1, NXDomain, [&[], &[soa(20, 20)], &[]], as_(DENIAL, 20)),
        ("the SOA's TTL ends it", 1, NXDomain, [&[], &soa_25, &[]], as_(DENIAL, 25)),
        ("the SOA's MINIMUM ends it", 1, NXDomain, [&[], &ends, &[]], as_(DENIAL, 12)),
        ("at most maxNegativeTtl", 1, NXDomain, [&[], &[soa(600, 600)], &[]], as_(DENIAL, 30)),
        ("no SOA", 1, NXDomain, [&[], &[], &[]], Kept::No),
        ("an SOA in the wrong section", 1, NXDomain, [&[], &[], &ends], Kept::No),
        ("a MINIMUM of 0", 1, NXDomain, [&[], &[soa(9, 0)], &[]], Kept::No),
        ("a MINIMUM with the top bit set", 1, NXDomain, [&[], &[soa(9, u32::MAX)], &[]], Kept::No),
        ("the alias leads to nothing", 1, NXDomain, [&chain, &soa_25, &[]], as_(DENIAL, 20)),
        ("no such type", 1, NoError, [&[], &soa_25, &[]], as_(DENIAL, 25)),
        ("no such type, without an SOA", 1, NoError, [&[], &[], &[]], Kept::No),
        ("no such type where the alias leads", 1, NoError, [&chain, &soa_25, &[]], as_(DENIAL, 20)),
        ("an alias alone, without an SOA", 1, NoError, [&chain, &[], &[]], Kept::No),
        ("an alias that was asked for", 5, NoError, [&chain, &[], &[]], as_(SUCCESS, 20)),
        ("a DNAME and what follows from it", 1, NoError, [&synthesized, &soa_25, &[]], as_(DENIAL, 25)),
        ("a DNAME that was asked for", 39, NoError, [std::slice::from_ref(&dname), &[], &[]], as_(SUCCESS, 50)),
        ("signatures alone answer nothing", 1, NoError, [std::slice::from_ref(&odd), &[], &[]], Kept::No),
        ("signatures alone that were asked for", 46, NoError, [std::slice::from_ref(&odd), &[], &[]], as_(SUCCESS, 9)),
        ("anything for ANY", 255, NoError, [&chain, &[], &[]], as_(SUCCESS, 20)),
        ("nothing for ANY", 255, NoError, [&[], &soa_25, &[]], as_(DENIAL, 25)),
    ];
    for (what, rtype, code, records, kept) in cases {
        let message = parsed(&message(RecordType::from(rtype), code, records));
        let cache = cache();
        let key = key(www);
        assert_eq!(cache.store(&question(&key, rtype), false, &message, at(0.0)), kept, "{what}");
        let found = cache.load(&question(&key, rtype), false, at(0.9), Look::Peek);
        assert_eq!(found.map(|l| l.found().kind()), kind_of(kept), "{what}");
    }
    for code in [FormErr, NotImp, Refused, ResponseCode::YXDomain, ResponseCode::from(1, 2)] {
        let mut theirs = message(RecordType::A, code, [&plain, &soa_25, &[]]);
        theirs.set_edns(Edns::new());
        assert_eq!(keep(&cache(), www, &parsed(&theirs), at(0.0)), Kept::No, "{code}");
    }
}

fn kind_of(kept: Kept) -> Option<Kind> {
    match kept {
        Kept::As { kind, .. } => Some(kind),
        Kept::No | Kept::InVain => None,
    }
}

#[test]
fn what_is_truncated_or_answers_another_question_is_not_kept() {
    let mut theirs = message(RecordType::A, ResponseCode::NoError, [&[a("www.example.", 300)], &[], &[]]);
    let whole = parsed(&theirs);
    assert_eq!(keep(&cache(), "www.example.", &whole, at(0.0)), as_(SUCCESS, 300));
    for other in ["example.", "ww.example.", "wwww.example.", "a.www.example."] {
        assert_eq!(keep(&cache(), other, &whole, at(0.0)), Kept::No, "{other}");
    }
    theirs.metadata.truncation = true;
    assert_eq!(keep(&cache(), "www.example.", &parsed(&theirs), at(0.0)), Kept::No);
}

#[test]
fn a_record_of_another_class_answers_nothing() {
    let mut wire =
        message(RecordType::A, ResponseCode::NoError, [&[a("www.example.", 300)], &[], &[]]).to_vec().unwrap();
    let class = wire.len() - 11;
    assert_eq!(wire[class - 3..=class], [0, 1, 0, 1]);
    wire[class] = 3;
    assert_eq!(keep(&cache(), "www.example.", &Message::parse(&wire).unwrap(), at(0.0)), Kept::No);
}

#[test]
fn questions_that_differ_in_name_type_do_or_cd_have_entries_of_their_own() {
    let cache = cache();
    let key = key("www.example.");
    let mine = Question { dnssec_ok: false, checking_disabled: true, ..question(&key, 1) };
    cache.store(&mine, true, &address("www.example.", 300), at(0.0));
    let found = |question: Question<'_>| cache.load(&question, false, at(1.0), Look::Peek).is_some();
    assert!(found(mine));
    let other = super::key("ww.example.");
    let others = [
        Question { checking_disabled: false, ..mine },
        Question { dnssec_ok: true, ..mine },
        Question { rtype: 28, ..mine },
        Question { rtype: 0, ..mine },
        Question { name: other.span(other.all()), ..mine },
        Question { name: &mine.name[..4], ..mine },
    ];
    for question in others {
        assert!(!found(question), "{question:?}");
    }
}

#[test]
fn who_wants_to_know_about_authenticity_is_told_that_it_was_asked_without() {
    let cache = cache();
    let key = key("www.example.");
    let question = question(&key, 1);
    let unsure = |in_vain| Some(State::Unsure { in_vain });
    let found = |wants: bool| {
        let mut scratch = Scratch::default();
        let hot = cache.find(hashed(&question), wants, at(1.0), &mut scratch);
        let hot = if let Find::Hit(found) = hot { Some(found.state) } else { None };
        assert_eq!(hot, cache.load(&question, wants, at(1.0), Look::Use).map(|loaded| loaded.found().state));
        hot
    };
    let fresh = Some(State::Fresh);
    cache.store(&question, false, &address("www.example.", 300), at(0.0));
    assert_eq!((found(false), found(true)), (fresh, unsure(false)));
    cache.store(&question, true, &servfail("www.example."), at(0.5));
    assert_eq!((found(false), found(true)), (fresh, unsure(true)));
    cache.store(&question, true, &address("www.example.", 300), at(0.0));
    assert_eq!((found(false), found(true)), (fresh, fresh));
    cache.flush(None);
    cache.store(&question, false, &servfail("www.example."), at(1.0));
    assert_eq!((found(false), found(true)), (fresh, fresh), "an error says nothing about authenticity");
}

#[test]
fn errors_live_for_one_second_and_longer_if_they_go_on() {
    for failure in [false, true] {
        let cache = cache();
        let key = key("www.example.");
        let (message, kind) = (servfail("www.example."), if failure { Kind::Failure } else { Kind::Error });
        let fail = |now: f64| match failure {
            true => cache.store_failure(&question(&key, 1), at(now)),
            false => keep(&cache, "www.example.", &message, at(now)),
        };
        let mut now = 100.0;
        for seconds in [1, 2, 4, 5, 5] {
            assert_eq!(fail(now), as_(kind, seconds));
            let end = now + f64::from(seconds);
            assert_eq!(state(&cache, "www.example.", at(end - 0.001)), Some((State::Fresh, kind)));
            assert_eq!(state(&cache, "www.example.", at(end)), None, "never stale");
            now = end + 9.999;
        }
        assert_eq!(fail(now + 0.001), as_(kind, 1), "ended ten seconds ago");
        assert_eq!(fail(now + 0.5), as_(kind, 2), "has not even ended");
        assert_eq!(keep(&cache, "www.example.", &address("www.example.", 10), at(now)), as_(SUCCESS, 10));
        assert_eq!(fail(now + 3611.0), as_(kind, 1), "an answer in between ends the row");
    }
}

#[test]
fn an_error_does_not_replace_what_may_still_be_given_stale() {
    for (answer, kind) in [(address("www.example.", 10), SUCCESS), (nxdomain("www.example.", 10), DENIAL)] {
        let cache = cache();
        let key = key("www.example.");
        let fail = |now: f64| cache.store_failure(&question(&key, 1), at(now));
        let state = |now: f64| state(&cache, "www.example.", at(now));
        keep(&cache, "www.example.", &answer, at(0.0));
        assert_eq!(state(9.999), Some((State::Fresh, kind)));
        assert_eq!(state(10.0), Some((State::Stale { in_vain: false }, kind)));
        assert_eq!(fail(20.0), Kept::InVain);
        assert_eq!(state(24.999), Some((State::Stale { in_vain: true }, kind)));
        assert_eq!(state(25.0), Some((State::Stale { in_vain: false }, kind)));
        assert_eq!(keep(&cache, "www.example.", &servfail("www.example."), at(3609.9)), Kept::InVain);
        assert_eq!(state(3609.999), Some((State::Stale { in_vain: true }, kind)));
        assert_eq!(state(3610.0), None, "serveStale is over");
        assert_eq!(fail(3610.0), as_(Kind::Failure, 1));
        assert_eq!(state(3610.5), Some((State::Fresh, Kind::Failure)));
        keep(&cache, "www.example.", &answer, at(3611.0));
        assert_eq!(state(3622.0), Some((State::Stale { in_vain: false }, kind)), "a new answer was not asked in vain");
    }
}

#[test]
fn options_change_without_emptying_the_cache() {
    let cache = cache();
    keep(&cache, "www.example.", &address("www.example.", 10), at(0.0));
    let stale = Some((State::Stale { in_vain: false }, SUCCESS));
    assert_eq!(state(&cache, "www.example.", at(11.0)), stale);
    let options = Options { max_ttl: 5, max_negative_ttl: 3, serve_stale: Duration::ZERO, prefetch: false };
    cache.set_options(options);
    assert_eq!(cache.options(), options);
    assert_eq!(state(&cache, "www.example.", at(10.0)), None, "serveStale of 0: never");
    assert_eq!(
        state(&cache, "www.example.", at(9.9)),
        Some((State::Fresh, SUCCESS)),
        "and never ripe without prefetch"
    );
    assert_eq!(cache.store_failure(&question(&key("www.example."), 1), at(9.0)), Kept::InVain, "it is fresh");
    assert_eq!(cache.store_failure(&question(&key("www.example."), 1), at(10.0)), as_(Kind::Failure, 1));
    assert_eq!(keep(&cache, "a.example.", &address("a.example.", 10), at(0.0)), as_(SUCCESS, 5));
    assert_eq!(keep(&cache, "b.example.", &nxdomain("b.example.", 10), at(0.0)), as_(DENIAL, 3));
    cache.set_options(OPTIONS);
    assert_eq!(state(&cache, "a.example.", at(6.0)), stale);
}

#[test]
fn a_popular_entry_near_its_end_is_fetched_by_one_finder_only() {
    // TTL, and when the last tenth or the last second begins.
    for (ttl, ripe) in [(1, 0.9), (2, 1.8), (3, 2.0), (10, 9.0), (30, 27.0), (600, 540.0)] {
        for denial in [false, true] {
            if denial && ttl > 30 {
                continue;
            }
            let cache = cache();
            let message = if denial { nxdomain("www.example.", ttl) } else { address("www.example.", ttl) };
            let find = |now: f64| state(&cache, "www.example.", at(now)).unwrap().0;
            for round in 0..2 {
                let start = f64::from(round * ttl);
                keep(&cache, "www.example.", &message, at(start));
                assert_eq!(find(start + ripe), State::Fresh, "{ttl}: used for the first time");
                assert_eq!(peek(&cache, "www.example.", at(start + ripe)).unwrap().0, State::Fresh);
                assert_eq!(find(start), State::Fresh);
                assert_eq!(find(start), State::Fresh);
                assert_eq!(find(start + ripe - 0.002), State::Fresh, "{ttl}: too early");
                assert_eq!(
                    peek(&cache, "www.example.", at(start + ripe)).unwrap().0,
                    State::Fresh,
                    "who peeks gets none"
                );
                let pass = || pass(&cache, "www.example.", at(start + ripe)).unwrap().0;
                assert_eq!((pass(), pass()), (State::Ripe, State::Ripe), "{ttl}: used three times before");
                assert_eq!(find(start + ripe), State::Ripe, "{ttl}: still to be had");
                assert_eq!((find(start + ripe), pass()), (State::Fresh, State::Fresh), "{ttl}: given away");
                assert_eq!(find(start + f64::from(ttl)), State::Stale { in_vain: false });
            }
        }
    }
}

#[test]
fn errors_and_proofs_are_never_ripe() {
    let cache = cache();
    let mut scratch = Scratch::default();
    keep(&cache, "www.example.", &servfail("www.example."), at(0.0));
    cache.store_denial(b"\x07example", &nxdomain("example.", 20), at(0.0));
    for _ in 0..5 {
        assert_eq!(state(&cache, "www.example.", at(0.95)), Some((State::Fresh, Kind::Error)));
        let found = cache.find_denial(b"\x07example", at(19.9), &mut scratch);
        assert!(matches!(found, Find::Hit(found) if found.state == State::Fresh), "{found:?}");
    }
    let found = cache.find_denial(b"\x07example", at(20.0), &mut scratch);
    assert!(matches!(found, Find::Hit(found) if found.state == State::Stale { in_vain: false }), "{found:?}");
    assert!(cache.load_denial(b"\x07example", at(20.0), Look::Use).is_some(), "for when nobody can be asked");
}

#[test]
fn a_proof_is_kept_only_of_a_name_that_does_not_exist() {
    let cache = cache();
    let store = |message: &Message| cache.store_denial(b"\x07example", message, at(0.0));
    assert_eq!(store(&nxdomain("example.", 20)), as_(DENIAL, 20));
    assert_eq!(store(&address("example.", 20)), Kept::No);
    assert_eq!(store(&servfail("example.")), Kept::No);
    let nodata = message(RecordType::A, ResponseCode::NoError, [&[], &[soa(20, 20)], &[]]);
    assert_eq!(store(&parsed(&nodata)), Kept::No);
    let chain =
        message(RecordType::A, ResponseCode::NXDomain, [&[cname("www.example.", 9, "x.")], &[soa(20, 20)], &[]]);
    assert_eq!(store(&parsed(&chain)), Kept::No, "what does not exist is where the alias leads");
    let bare = message(RecordType::A, ResponseCode::NXDomain, [&[], &[], &[]]);
    assert_eq!(store(&parsed(&bare)), Kept::No);
    let key = key("example.");
    let none = Question { rtype: 0, ..question(&key, 0) };
    assert!(cache.load(&none, false, at(1.0), Look::Use).is_none(), "a question of type 0 does not find it");
}

#[test]
fn it_is_told_whether_there_is_more_than_addresses_of_the_name() {
    let cases: [(u16, &[u8], bool); 7] = [
        (1, &[10, 0, 0, 1], false),
        (5, b"\x01x\0", true),
        (12, b"\x01x\0", true),
        (33, b"\0\0\0\0\0\x35\x01x\0", true),
        (39, b"\x01x\0", true),
        (2, b"\x01x\0", true),
        (16, b"\x01x", true),
    ];
    for (rtype, data, names) in cases {
        let mut wire = response("www.example.", rtype.into(), ResponseCode::NoError).to_vec().unwrap();
        wire[7] = 1;
        wire.extend([0xc0, 12]);
        wire.extend(rtype.to_be_bytes());
        wire.extend([0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
        wire.extend(data);
        let (cache, key) = (cache(), key("www.example."));
        cache.store(&question(&key, rtype), false, &Message::parse(&wire).unwrap(), at(0.0));
        let loaded = cache.load(&question(&key, rtype), false, at(0.0), Look::Use).unwrap();
        assert_eq!(loaded.found().names(), names, "type {rtype}");
    }
}

#[test]
fn what_remains_is_told_and_a_clock_behind_does_no_harm() {
    let cache = cache();
    keep(&cache, "www.example.", &address("www.example.", 10), at(5.0));
    let remaining = |now: f64| {
        let key = key("www.example.");
        cache.load(&question(&key, 1), false, at(now), Look::Peek).unwrap().found().remaining()
    };
    assert_eq!(remaining(7.25), Duration::from_millis(7750));
    assert_eq!(remaining(15.0), Duration::ZERO);
    assert_eq!(remaining(4.0), Duration::from_secs(11), "asked at a moment before it was made");
    assert!(cache.now() <= cache.now());
}
