//! Cases of R24, and a comparison with hickory's decoder.

use hickory_server::proto::op::{Message, OpCode};
use proptest::prelude::*;

use super::*;

const HEAD: [u8; 12] = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

/// `a.bc IN A`
const QUESTION: [u8; 10] = [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1];

fn packet(edit: &[(usize, u8)], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = HEAD.to_vec();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    edit.iter().for_each(|(at, value)| out[*at] = *value);
    out
}

fn question(rtype: u16, class: u16) -> Vec<u8> {
    [&QUESTION[..6], &rtype.to_be_bytes(), &class.to_be_bytes()].concat()
}

/// An OPT with this version, flags octet and RDATA.
fn opt_with(payload: u16, version: u8, flags: u8, rdata: &[u8]) -> Vec<u8> {
    let [high, low] = payload.to_be_bytes();
    let length = u16::try_from(rdata.len()).unwrap().to_be_bytes();
    [&[0, 0, 41, high, low, 0, version, flags, 0][..], &length, rdata].concat()
}

#[derive(Debug, PartialEq)]
enum Is {
    Ask,
    Chaos,
    Refuse(u16),
    Ignore,
}

fn is(packet: &[u8]) -> Is {
    match read(packet, &mut Key::default()) {
        Read::Ask(_) => Is::Ask,
        Read::Chaos(_) => Is::Chaos,
        Read::Refuse(_, code) => Is::Refuse(code),
        Read::Ignore => Is::Ignore,
    }
}

fn query_of(packet: &[u8]) -> Query {
    match read(packet, &mut Key::default()) {
        Read::Ask(query) | Read::Chaos(query) | Read::Refuse(query, _) => query,
        Read::Ignore => panic!("ignored: {packet:?}"),
    }
}

const FORMERR: Is = Is::Refuse(rcode::FORMERR);
const NOTIMP: Is = Is::Refuse(rcode::NOTIMP);
const REFUSED: Is = Is::Refuse(rcode::REFUSED);
const BADVERS: Is = Is::Refuse(rcode::BADVERS);

#[test]
fn headers_and_sections_that_are_no_query_are_refused_by_their_code() {
    let q = &QUESTION[..];
    let record = [&QUESTION[..8], &[0, 1, 0, 0, 0, 5, 0, 0]].concat();
    let cases: [(&str, Vec<u8>, Is); 25] = [
        ("a query", packet(&[], &[q]), Is::Ask),
        ("nothing", Vec::new(), Is::Ignore),
        ("11 octets", HEAD[..11].to_vec(), Is::Ignore),
        ("a response", packet(&[(2, 0x80)], &[q]), Is::Ignore),
        ("a response with another opcode", packet(&[(2, 0xa0)], &[q]), Is::Ignore),
        ("12 octets that promise a question", packet(&[], &[]), FORMERR),
        ("no question", packet(&[(5, 0)], &[]), FORMERR),
        ("no question, but octets of one", packet(&[(5, 0)], &[q]), FORMERR),
        ("two questions", packet(&[(5, 2)], &[q, q]), FORMERR),
        ("65,535 questions", packet(&[(4, 255), (5, 255)], &[q]), FORMERR),
        ("256 questions", packet(&[(4, 1), (5, 0)], &[q]), FORMERR),
        ("opcode STATUS", packet(&[(2, 0x10)], &[q]), NOTIMP),
        ("opcode NOTIFY", packet(&[(2, 0x20)], &[q]), NOTIMP),
        ("opcode UPDATE", packet(&[(2, 0x28)], &[q]), NOTIMP),
        ("opcode 15 without a question", packet(&[(2, 0x78), (5, 0)], &[]), NOTIMP),
        ("a bare header with opcode IQUERY", packet(&[(2, 0x08)], &[]), NOTIMP),
        ("an answer", packet(&[(7, 1)], &[q, &record]), FORMERR),
        ("an answer that is not there", packet(&[(7, 1)], &[q]), FORMERR),
        ("an authority", packet(&[(9, 1)], &[q, &record]), FORMERR),
        ("an additional record", packet(&[(11, 1)], &[q, &record]), Is::Ask),
        ("an additional record that is not there", packet(&[(11, 1)], &[q]), FORMERR),
        ("65,535 additional records", packet(&[(10, 255), (11, 255)], &[q, &record]), FORMERR),
        ("octets behind the message", packet(&[], &[q, &[1, 2, 3]]), Is::Ask),
        ("flags that a query does not set", packet(&[(2, 0x07), (3, 0x7f)], &[q]), Is::Ask),
        ("the root", packet(&[], &[&[0, 0, 2, 0, 1]]), Is::Ask),
    ];
    for (what, packet, want) in cases {
        assert_eq!(is(&packet), want, "{what}");
    }
}

#[test]
fn types_and_classes_that_are_not_served_are_refused() {
    let cases = [
        (1, 1, Is::Ask),
        (255, 1, Is::Ask),
        (65_280, 1, Is::Ask),
        (252, 1, REFUSED),
        (251, 1, REFUSED),
        (41, 1, FORMERR),
        (16, 3, Is::Chaos),
        (1, 2, REFUSED),
        (1, 4, REFUSED),
        (1, 254, REFUSED),
        (1, 255, REFUSED),
        (1, 0, REFUSED),
        (252, 3, Is::Chaos),
    ];
    for (rtype, class, want) in cases {
        assert_eq!(is(&packet(&[], &[&question(rtype, class)])), want, "type {rtype} class {class}");
    }
    let soa = [&QUESTION[..6], &[0, 6, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    let ixfr = packet(&[(9, 1)], &[&question(251, 1), &soa]);
    assert_eq!(is(&ixfr), REFUSED, "IXFR has its SOA in the authority section (RFC 1995)");
}

#[test]
fn names_in_the_question_are_whole_uncompressed_and_not_too_long() {
    let tail = [0, 1, 0, 1];
    let long: Vec<u8> = (0..4).flat_map(|_| [63].into_iter().chain([b'x'; 63])).collect();
    let most = [&long[..192], &[61], &[b'x'; 61][..], &[0]].concat();
    let over = [&long[..192], &[62], &[b'x'; 62][..], &[0]].concat();
    assert_eq!((most.len(), over.len()), (255, 256));
    let cases: [(&str, &[u8], Is); 10] = [
        ("255 octets", &most, Is::Ask),
        ("256 octets", &over, FORMERR),
        ("a pointer to itself", &[0xc0, 12], FORMERR),
        ("a pointer to the header", &[0xc0, 0], FORMERR),
        ("a label and a pointer to it", &[1, b'a', 0xc0, 12], FORMERR),
        ("a pointer forwards", &[0xc0, 40], FORMERR),
        ("an extended label", &[0x41, b'a', 0], FORMERR),
        ("a reserved label", &[0x80, 0], FORMERR),
        ("a label of 64", &[64, b'a', 0], FORMERR),
        ("any octets", &[3, 0, 255, b'.', 0], Is::Ask),
    ];
    for (what, name, want) in cases {
        assert_eq!(is(&packet(&[], &[name, &tail])), want, "{what}");
    }
}

#[test]
fn an_opt_record_is_read_where_it_is_one() {
    let q = &QUESTION[..];
    let option = |code: u16, length: u16, data: &[u8]| [&code.to_be_bytes()[..], &length.to_be_bytes(), data].concat();
    let cookie = option(10, 8, &[7; 8]);
    let named = [&[1, b'a'][..], &OPT].concat();
    let other = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4][..], &[1, 2, 3, 4]].concat();
    let one: Vec<(&str, Vec<u8>, u8, Is)> = vec![
        ("plain", OPT.to_vec(), 1, Is::Ask),
        ("with a cookie", opt_with(1232, 0, 0, &cookie), 1, Is::Ask),
        ("with two options", opt_with(1232, 0, 0, &[cookie.clone(), option(3, 0, &[])].concat()), 1, Is::Ask),
        ("behind another record", [&other[..], &OPT].concat(), 2, Is::Ask),
        ("before another record", [&OPT[..], &other].concat(), 2, Is::Ask),
        ("twice", [OPT, OPT].concat(), 2, FORMERR),
        ("not at the root", named, 1, FORMERR),
        ("at the root by a pointer", [&[0xc0, 17][..], &OPT[1..]].concat(), 1, FORMERR),
        ("option longer than the record", opt_with(1232, 0, 0, &option(10, 9, &[7; 8])), 1, FORMERR),
        ("half an option head", opt_with(1232, 0, 0, &[0, 10, 0]), 1, FORMERR),
        ("cut off", OPT[..10].to_vec(), 1, FORMERR),
        ("its length beyond the packet", opt_with(1232, 0, 0, &cookie)[..12].to_vec(), 1, FORMERR),
        ("version 1", opt_with(1232, 1, 0, &[]), 1, BADVERS),
        ("version 255", opt_with(1232, 255, 0, &[]), 1, BADVERS),
        ("version 1, and twice", [opt_with(1232, 1, 0, &[]), OPT.to_vec()].concat(), 2, FORMERR),
    ];
    for (what, records, count, want) in one {
        assert_eq!(is(&packet(&[(11, count)], &[q, &records])), want, "{what}");
    }
    let in_answer = packet(&[(7, 1)], &[q, &OPT]);
    assert_eq!(is(&in_answer), FORMERR);
    assert_eq!(query_of(&in_answer).edns, None, "an OPT in the answer section is none");
}

#[test]
fn a_payload_is_clamped_and_do_is_kept() {
    let cases = [(0, 512), (511, 512), (512, 512), (800, 800), (1232, 1232), (1233, 1232), (65_535, 1232)];
    for (said, want) in cases {
        for (flags, wanted) in [(0x80, true), (0x7f, false)] {
            let query = query_of(&packet(&[(11, 1)], &[&QUESTION, &opt_with(said, 0, flags, &[])]));
            assert_eq!(query.limit(false), want, "{said}");
            assert_eq!(query.limit(true), 65_535);
            assert_eq!(query.edns.map(|e| e.dnssec_ok), Some(wanted));
        }
    }
    assert_eq!(query_of(&packet(&[], &[&QUESTION])).limit(false), 512);
}

#[test]
fn an_opt_is_known_in_what_is_refused_too() {
    // So that the refusal carries one (R24).
    let cases = [
        ("NOTIFY", packet(&[(2, 0x20), (11, 1)], &[&QUESTION, &OPT])),
        ("NOTIMP without a question", packet(&[(2, 0x10), (5, 0), (11, 1)], &[&OPT])),
        ("no question", packet(&[(5, 0), (11, 1)], &[&OPT])),
        ("AXFR", packet(&[(11, 1)], &[&question(252, 1), &OPT])),
        ("class ANY", packet(&[(11, 1)], &[&question(1, 255), &OPT])),
        ("two OPT", packet(&[(11, 2)], &[&QUESTION, &OPT, &OPT])),
        ("version 3", packet(&[(11, 1)], &[&QUESTION, &opt_with(512, 3, 0, &[])])),
    ];
    for (what, packet) in cases {
        assert!(query_of(&packet).edns.is_some(), "{what}");
    }
}

#[test]
fn every_part_of_a_valid_packet_is_refused_or_ignored() {
    let whole = packet(&[(11, 1)], &[&QUESTION, &opt_with(1232, 0, 0, &[0, 10, 0, 2, 1, 2])]);
    assert_eq!(is(&whole), Is::Ask);
    for end in 0..whole.len() {
        let want = if end < HEADER { Is::Ignore } else { FORMERR };
        assert_eq!(is(&whole[..end]), want, "{end} octets");
    }
}

/// A packet that is valid, or nearly.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let label = proptest::collection::vec(any::<u8>(), 1..8);
    let name = proptest::collection::vec(label, 0..6).prop_map(|labels| {
        let mut wire: Vec<u8> =
            labels.iter().flat_map(|l| [u8::try_from(l.len()).unwrap()].into_iter().chain(l.iter().copied())).collect();
        wire.push(0);
        wire
    });
    let rtype = prop_oneof![4 => prop::sample::select(&[1_u16, 28, 33, 5, 6, 255, 252, 65][..]), 1 => any::<u16>()];
    let class = prop_oneof![6 => Just(1_u16), 1 => Just(3), 1 => any::<u16>()];
    let opt = (any::<u16>(), prop_oneof![4 => Just(0_u8), 1 => any::<u8>()], any::<u8>())
        .prop_map(|(p, v, f)| opt_with(p, v, f, &[]));
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let flags = prop_oneof![3 => Just(1_u8), 1 => any::<u8>()];
    (flags, name, rtype, class, proptest::option::of(opt), edits, any::<bool>()).prop_map(
        |(flags, name, rtype, class, opt, edits, mutated)| {
            let fixed = [rtype.to_be_bytes(), class.to_be_bytes()].concat();
            let parts: [&[u8]; 3] = [&name, &fixed, opt.as_deref().unwrap_or_default()];
            let mut out = packet(&[(2, flags), (11, u8::from(opt.is_some()))], &parts);
            for (at, value) in edits.into_iter().filter(|_| mutated) {
                let at = at.index(out.len());
                out[at] = value;
            }
            out
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_as_a_question_reads_the_same_in_hickory(packet in nearly()) {
        let mut key = Key::default();
        let (Read::Ask(query) | Read::Chaos(query)) = read(&packet, &mut key) else { return Ok(()) };
        let end = HEADER + query.question;
        // Records other than the OPT may be of types whose data hickory judges and we need not.
        let Ok(message) = Message::from_vec(&packet) else {
            prop_assert!(packet[11] != u8::from(query.edns.is_some()) || packet[10] != 0, "hickory refuses {packet:?}");
            return Ok(());
        };
        prop_assert_eq!(message.metadata.op_code, OpCode::Query);
        prop_assert_eq!(message.queries.len(), 1);
        let theirs = &message.queries[0];
        prop_assert_eq!(u16::from(theirs.query_type), query.rtype);
        prop_assert_eq!(u16::from(theirs.query_class), query.class);
        let labels: Vec<Vec<u8>> = theirs.name.iter().map(<[u8]>::to_ascii_lowercase).collect();
        let ours: Vec<Vec<u8>> = (0..key.count()).map(|ix| key.label(ix).to_vec()).collect();
        prop_assert_eq!(labels, ours);
        prop_assert!(end <= packet.len());
        match (&message.edns, query.edns) {
            (Some(theirs), Some(ours)) => {
                prop_assert_eq!(theirs.version(), ours.version);
                prop_assert_eq!(theirs.flags().dnssec_ok, ours.dnssec_ok);
                prop_assert_eq!(theirs.max_payload().clamp(MIN_PAYLOAD, PAYLOAD), ours.payload);
            }
            (None, None) => {}
            (theirs, ours) => prop_assert!(false, "EDNS {theirs:?}, not {ours:?}"),
        }
    }

    #[test]
    fn no_octets_make_the_reader_panic_or_read_on(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut key = Key::default();
        if let Read::Ask(query) | Read::Chaos(query) | Read::Refuse(query, _) = read(&packet, &mut key) {
            prop_assert!(HEADER + query.question <= packet.len());
            prop_assert_eq!(packet[2] & 0x80, 0);
        }
    }
}
