//! The replies made from what was kept are those that [`Message::write`] makes of the message itself.

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::{MX, NS, NULL, SRV};
use hickory_proto::serialize::binary::{BinEncoder, NameEncoding};
use proptest::prelude::*;

use super::*;
use crate::dns::reply;

const NAME: &[u8] = b"\x01A\x07eXample\0";

/// What the asker has to get: the message's own reply, with the TTLs that belong there.
fn expected(packet: &Packet, message: &Message, kept: Kept, age: u32, stale: bool) -> Vec<u8> {
    let mut reply = packet.reply(message, stale);
    let written = Message::parse(&reply).unwrap();
    for section in [Section::Answer, Section::Authority, Section::Additional] {
        for record in written.records(section) {
            let most = match kept {
                Kept::As { kind: Kind::Denial, seconds } if section == Section::Authority && life::is(&record, 6) => {
                    seconds
                }
                _ => OPTIONS.max_ttl,
            };
            let ttl = if stale { 30 } else { record.ttl().min(most).saturating_sub(age) };
            reply[record.ttl_at()..record.ttl_at() + 4].copy_from_slice(&ttl.to_be_bytes());
        }
    }
    reply
}

/// Checks both ways to a reply for one asker; whether the whole fitted.
fn check(cache: &Cache, packet: &Packet, message: &Message, kept: Kept, age: u32) -> bool {
    let now = Now(u64::from(age) * 1000 + 999);
    let loaded = cache.load(&Question::of(&packet.asked()), false, now, Look::Peek).expect("it was kept");
    let (mut scratch, mut fits) = (Scratch::default(), false);
    for stale in [false, true] {
        let whole = Packet { limit: 65_535, octets: packet.octets.clone(), key: packet.key.clone(), ..*packet };
        let length = whole.reply(message, stale).len();
        let expected = expected(packet, message, kept, age, stale);
        let copy = loaded.found().message(packet.name(), packet.query.rtype, stale).expect("a message");
        assert_eq!(packet.reply(&copy, stale), expected, "through a message");
        let mut out = vec![0xee; 65_535];
        let size = loaded.found().write(&packet.asked(), stale, &mut out);
        fits = length <= packet.limit.max(512);
        assert_eq!(size.map(|size| out[..size].to_vec()), fits.then_some(expected), "from the entry");
        match cache.find(hashed(&Question::of(&packet.asked())), false, now, &mut scratch) {
            Find::Hit(found) => {
                let mut again = vec![0xdd; 65_535];
                assert_eq!(found.write(&packet.asked(), stale, &mut again), size);
                assert_eq!(again[..size.unwrap_or(0)], out[..size.unwrap_or(0)], "through the hot door");
            }
            Find::Large => assert!(loaded.words.len() > scratch.words.len()),
            Find::Miss => panic!("it was kept"),
        }
    }
    fits
}

/// Askers of every kind; the name in their spelling, with the root octet.
fn askers(name: &[u8], rtype: u16) -> Vec<Packet> {
    let mut packets = Vec::new();
    for flags in [0, flag::RD, flag::RD | flag::AD, flag::RD | flag::CD, flag::AD | flag::CD] {
        for edns in [None, Some((0, false)), Some((1232, false)), Some((4096, true))] {
            packets.push(Packet::new(name, rtype, flags, edns));
        }
    }
    packets
}

/// Stores a message under the keys of all askers.
fn fill(cache: &Cache, packets: &[Packet], message: &Message) -> Kept {
    let store = |packet: &Packet| cache.store(&Question::of(&packet.asked()), true, message, Now(0));
    packets.iter().map(store).last().unwrap()
}

#[test]
fn ttls_are_counted_down_by_whole_seconds_and_never_below_zero() {
    let mut theirs = response("a.example.", RecordType::A, ResponseCode::NoError);
    theirs.add_answers([cname("a.example.", 100, "b.example."), a("b.example.", 86400)]);
    let (cache, packet) = (cache(), Packet::new(NAME, 1, 0, None));
    cache.store(&Question::of(&packet.asked()), false, &parsed(&theirs), Now(500));
    let cases =
        [(500, [100, 3600]), (1499, [100, 3600]), (1500, [99, 3599]), (100_499, [1, 3501]), (200_500, [0, 3400])];
    for (now, ttls) in cases {
        let mut out = [0; 512];
        let loaded = cache.load(&Question::of(&packet.asked()), false, Now(now), Look::Use).unwrap();
        let size = loaded.found().write(&packet.asked(), false, &mut out).unwrap();
        let reply = Theirs::from_vec(&out[..size]).unwrap();
        assert_eq!(reply.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), ttls, "at {now}");
        let size = loaded.found().write(&packet.asked(), true, &mut out).unwrap();
        assert!(Theirs::from_vec(&out[..size]).unwrap().answers.iter().all(|record| record.ttl == 30), "stale");
    }
}

#[test]
fn a_denial_says_its_own_lifetime_in_its_soa() {
    let mut theirs = response("a.example.", RecordType::A, ResponseCode::NXDomain);
    theirs.add_authority(soa(900, 12));
    theirs.add_authority(record("a.example.", 700, RData::NS(NS(name("ns.example.")))));
    let packets = askers(NAME, 1);
    let (cache, message) = (cache(), parsed(&theirs));
    let kept = fill(&cache, &packets, &message);
    assert_eq!(kept, Kept::As { kind: Kind::Denial, seconds: 12 });
    let mut out = [0; 512];
    let loaded = cache.load(&Question::of(&packets[0].asked()), false, Now(2000), Look::Use).unwrap();
    let size = loaded.found().write(&packets[0].asked(), false, &mut out).unwrap();
    let reply = Theirs::from_vec(&out[..size]).unwrap();
    assert_eq!(reply.authorities.iter().map(|record| record.ttl).collect::<Vec<_>>(), [10, 698]);
    assert!(packets.iter().all(|packet| check(&cache, packet, &message, kept, 5)));
}

#[test]
fn the_asker_s_spelling_comes_back_where_the_name_is_written_out() {
    let plain = b"\x01a\x07example\0\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x01";
    let mut wire = response("a.example.", RecordType::A, ResponseCode::NoError).to_vec().unwrap();
    wire[7] = 3;
    wire.extend(plain);
    wire.extend(
        b"\x01b\x07Example\0\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x02",
    );
    let message = Message::parse(&wire).unwrap();
    let cache = cache();
    for (first, name) in [(true, NAME), (false, b"\x01a\x07EXAMPLE\0")] {
        let packets = askers(name, 1);
        if first {
            fill(&cache, &packets, &message);
        }
        for packet in packets {
            let mut out = [0; 512];
            let loaded = cache.load(&Question::of(&packet.asked()), false, Now(0), Look::Use).unwrap();
            loaded.found().write(&packet.asked(), false, &mut out).unwrap();
            assert_eq!((&out[12..23], &out[27..38]), (name, name), "question and first owner");
            assert_eq!(&out[52..63], b"\x01b\x07Example\0", "another name stays as it is");
            assert!(check(&cache, &packet, &message, Kept::As { kind: Kind::Success, seconds: 9 }, 3));
        }
    }
}

#[test]
fn a_failure_is_a_bare_servfail_that_says_why() {
    let (cache, packets) = (cache(), askers(NAME, 1));
    for packet in &packets {
        cache.store_failure(&Question::of(&packet.asked()), Now(0));
        let loaded = cache.load(&Question::of(&packet.asked()), true, Now(0), Look::Use).unwrap();
        assert_eq!((loaded.found().kind(), loaded.found().rcode()), (Kind::Failure, 2));
        assert!(loaded.found().message(packet.name(), 1, false).is_none());
        let (mut ours, mut bare) = ([0; 512], [0; 512]);
        let size = loaded.found().write(&packet.asked(), false, &mut ours).unwrap();
        assert_eq!(size, reply::bare(&packet.asked(), 2, Some(22), &mut bare));
        assert_eq!(ours, bare);
        assert_eq!(loaded.found().write(&packet.asked(), false, &mut ours[..20]), None);
    }
}

#[test]
fn a_proof_denies_any_name_with_the_same_soa() {
    let mut theirs = response("nowhere.example.", RecordType::A, ResponseCode::NXDomain);
    theirs.metadata.authentic_data = true;
    theirs.add_authority(soa(900, 12));
    theirs.add_authority(record("example.", 700, RData::NS(NS(name("ns.example.")))));
    let (cache, mut scratch) = (cache(), Scratch::default());
    cache.store_denial(b"\x07nowhere\x07example", &parsed(&theirs), Now(0));
    for name in [NAME, b"\0", b"\x07nowhere\x07example\0", &[&[3, b'a', b'b', b'c'].repeat(60), &[0][..]].concat()] {
        for packet in askers(name, 28) {
            let Find::Hit(found) = cache.find_denial(b"\x07nowhere\x07example", Now(5000), &mut scratch) else {
                panic!("it was kept")
            };
            let mut out = [0; 1232];
            let size = found.write(&packet.asked(), false, &mut out).unwrap();
            let loaded = cache.load_denial(b"\x07nowhere\x07example", Now(5000), Look::Use).unwrap();
            let copy = loaded.found().message(name, 28, false).unwrap();
            assert_eq!(out[..size], packet.reply(&copy, false));
            let reply = Theirs::from_vec(&out[..size]).unwrap();
            assert_eq!(reply.queries[0].name().to_bytes().unwrap(), name);
            assert_eq!((reply.metadata.response_code, reply.metadata.authentic_data), (ResponseCode::NXDomain, false));
            assert_eq!(reply.authorities, [soa(7, 12)]);
            assert!(reply.answers.is_empty() && reply.additionals.is_empty());
        }
    }
}

#[test]
fn large_answers_go_through_the_other_door_and_may_not_fit() {
    let packets = askers(NAME, 16);
    for (length, large) in [(1000, false), (3900, false), (4100, true), (64_000, true)] {
        let mut theirs = response("a.example.", RecordType::TXT, ResponseCode::NoError);
        theirs.add_answer(text("a.example.", &"x".repeat(length)));
        let (cache, message) = (cache(), parsed(&theirs));
        let kept = fill(&cache, &packets, &message);
        assert_eq!(kept, Kept::As { kind: Kind::Success, seconds: 300 }, "{length}");
        let mut scratch = Scratch::default();
        let found = cache.find(hashed(&Question::of(&packets[0].asked())), false, Now(0), &mut scratch);
        assert_eq!(matches!(found, Find::Large), large, "{length}");
        for packet in &packets {
            assert_eq!(check(&cache, packet, &message, kept, 7), length == 1000 && packet.limit == 1232);
            let tcp = Packet { limit: 65_535, octets: packet.octets.clone(), key: packet.key.clone(), ..*packet };
            assert!(check(&cache, &tcp, &message, kept, 7));
        }
    }
}

fn some_name() -> impl Strategy<Value = Name> {
    let labels = prop::sample::select(vec!["a", "Example", "ns", "x1", "mesh", "long-label-of-many-octets"]);
    prop::collection::vec(labels, 0..5).prop_map(|labels| name(&format!("{}.", labels.join("."))))
}

fn some_data() -> impl Strategy<Value = RData> {
    prop_oneof![
        any::<u32>().prop_map(|ip| RData::A(A(Ipv4Addr::from(ip)))),
        some_name().prop_map(|to| RData::CNAME(CNAME(to))),
        some_name().prop_map(|to| RData::NS(NS(to))),
        (any::<u16>(), some_name()).prop_map(|(preference, to)| RData::MX(MX::new(preference, to))),
        (any::<u16>(), some_name()).prop_map(|(port, to)| RData::SRV(SRV::new(1, 2, port, to))),
        "[ -~]{0,200}".prop_map(|text| RData::TXT(TXT::new(vec![text]))),
        (some_name(), some_name(), 1..100_u32).prop_map(|(m, r, min)| RData::SOA(SOA::new(m, r, 1, 2, 3, 4, min))),
        (256..60_000_u16, prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(code, octets)| {
            RData::Unknown { code: RecordType::Unknown(code), rdata: NULL::with(octets) }
        }),
    ]
}

fn some_record(owner: Name) -> impl Strategy<Value = TheirRecord> {
    let owners = prop_oneof![2 => Just(owner), 1 => some_name()];
    let ttl = prop_oneof![9 => 1..10_000_u32, 1 => 0..=u32::MAX];
    (owners, ttl, some_data()).prop_map(|(owner, ttl, data)| TheirRecord::from_rdata(owner, ttl, data))
}

/// The message without any pointer, as some servers write it.
fn uncompressed(theirs: &Theirs) -> Vec<u8> {
    let mut bare = theirs.clone();
    (bare.answers, bare.authorities, bare.additionals, bare.edns) = (vec![], vec![], vec![], None);
    let mut wire = bare.to_vec().unwrap();
    let sections = [&theirs.answers, &theirs.authorities, &theirs.additionals];
    for (section, records) in sections.into_iter().enumerate() {
        wire[7 + 2 * section] = records.len() as u8;
        for record in records {
            wire.extend(record.name.to_bytes().unwrap());
            wire.extend(u16::from(record.record_type()).to_be_bytes());
            wire.extend([0, 1]);
            wire.extend(record.ttl.to_be_bytes());
            let mut data = Vec::new();
            let mut encoder = BinEncoder::new(&mut data);
            encoder.set_name_encoding(NameEncoding::Uncompressed);
            record.data.emit(&mut encoder).unwrap();
            wire.extend((data.len() as u16).to_be_bytes());
            wire.extend(data);
        }
    }
    wire
}

fn some_message() -> impl Strategy<Value = (Theirs, bool)> {
    some_name().prop_flat_map(|owner| {
        let records = |most| prop::collection::vec(some_record(owner.clone()), 0..most);
        let rtype = prop::sample::select(vec![1_u16, 5, 16, 33, 255]);
        let code = prop::sample::select(vec![ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::ServFail]);
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        (Just(owner.clone()), rtype, code, records(8), records(4), records(4), flags).prop_map(
            |(owner, rtype, code, answers, authorities, additionals, (edns, authentic, compressed))| {
                let mut message = Theirs::new(7, MessageType::Response, OpCode::Query);
                message.add_query(TheirQuery::query(owner, rtype.into()));
                message.metadata.response_code = code;
                message.metadata.authentic_data = authentic;
                message.add_answers(answers).add_authorities(authorities).add_additionals(additionals);
                if edns {
                    message.set_edns(Edns::new());
                }
                (message, compressed)
            },
        )
    })
}

proptest! {
    #[test]
    fn a_reply_from_the_cache_is_the_reply_of_the_message(
        (theirs, compressed) in some_message(),
        spelling in any::<u64>(),
        age in 0_u32..3000,
    ) {
        let wire = if compressed { theirs.to_vec().unwrap() } else { uncompressed(&theirs) };
        let message = Message::parse(&wire).unwrap();
        let mut name = theirs.queries[0].name().to_bytes().unwrap();
        for (bit, octet) in name.iter_mut().enumerate().filter(|(_, octet)| octet.is_ascii_alphabetic()) {
            *octet ^= u8::from(spelling >> (bit % 64) & 1 != 0) << 5;
        }
        let packets = askers(&name, theirs.queries[0].query_type().into());
        let cache = cache();
        let kept = fill(&cache, &packets, &message);
        if let Kept::As { seconds, .. } = kept {
            let age = age % seconds;
            for packet in &packets {
                check(&cache, packet, &message, kept, age);
            }
        }
    }

    #[test]
    fn mutated_messages_never_panic_and_give_sound_replies(
        (theirs, _) in some_message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut wire = theirs.to_vec().unwrap();
        for (at, to) in changes {
            let at = at.index(wire.len());
            wire[at] = to;
        }
        let Some(message) = Message::parse(&wire) else { return Ok(()) };
        let owner = message.name_at(12).unwrap();
        let rtype = theirs.queries[0].query_type().into();
        let (cache, packet) = (cache(), Packet::new(&owner, rtype, 0, Some((1232, true))));
        cache.store_denial(&owner[..owner.len() - 1], &message, Now(0));
        if let Some(loaded) = cache.load_denial(&owner[..owner.len() - 1], Now(0), Look::Use) {
            let mut out = [0; 1232];
            let size = loaded.found().write(&packet.asked(), false, &mut out).unwrap_or(0);
            prop_assert!(size == 0 || Message::parse(&out[..size]).is_some());
        }
        if let kept @ Kept::As { .. } = cache.store(&Question::of(&packet.asked()), true, &message, Now(0)) {
            check(&cache, &packet, &message, kept, 0);
        }
    }
}
