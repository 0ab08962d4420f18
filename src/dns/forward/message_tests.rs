//! Messages and replies: cases by hand, and hickory-proto as the second opinion.

use std::net::Ipv4Addr;
use std::str::FromStr;

use hickory_proto::op::{Edns, Message as Theirs, MessageType, OpCode, Query as TheirQuery, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, NS, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record as TheirRecord, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use proptest::prelude::*;

use super::{Asker, Message, Query, Section};

const NAME: &[u8] = b"\x01A\x07eXample\x00";

fn query(edns: Option<bool>) -> Query<'static> {
    Query {
        name: NAME,
        rtype: 1,
        class: 1,
        recursion_desired: true,
        checking_disabled: false,
        authentic_data: false,
        edns,
    }
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn a(owner: &str, last: u8) -> TheirRecord {
    TheirRecord::from_rdata(name(owner), 300, RData::A(A::new(10, 0, 0, last)))
}

fn response(rtype: RecordType) -> Theirs {
    let mut message = Theirs::new(7, MessageType::Response, OpCode::Query);
    message.add_query(TheirQuery::query(name("a.example."), rtype));
    message
}

fn reply(message: &Theirs, query: &Query<'_>, limit: usize) -> (Vec<u8>, Theirs) {
    let ours = Message::parse(&message.to_vec().unwrap()).unwrap();
    let mut out = vec![0xEE; 2];
    ours.write(&Asker { id: 0x1234, limit, query, error: None }, &mut out);
    assert_eq!(out[..2], [0xEE; 2], "what stood before stays");
    let wire = out.split_off(2);
    let parsed = Theirs::from_vec(&wire).unwrap();
    (wire, parsed)
}

/// A header with these counts, and the question `a.example. A`.
fn header(counts: [u16; 4]) -> Vec<u8> {
    let mut wire = vec![0, 7, 0x80, 0];
    counts.iter().for_each(|count| wire.extend(count.to_be_bytes()));
    wire.extend(b"\x01a\x07example\0\0\x01\0\x01");
    wire
}

#[test]
fn a_reply_is_the_askers_own_and_its_records_are_the_upstreams() {
    let mut theirs = response(RecordType::A);
    theirs.metadata.authoritative = true;
    theirs.metadata.authentic_data = true;
    theirs.metadata.response_code = ResponseCode::NXDomain;
    theirs.add_answer(a("a.example.", 1));
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    theirs.set_edns(edns);
    let (wire, plain) = reply(&theirs, &query(None), 512);
    assert_eq!(wire[..12], [0x12, 0x34, 0x81, 0x83, 0, 1, 0, 1, 0, 0, 0, 0], "AA, AD and OPT are gone");
    assert_eq!(&wire[12..12 + NAME.len()], NAME, "the question's spelling");
    assert_eq!(plain.answers.len(), 1);
    let (wire, with_do) = reply(&theirs, &query(Some(true)), 512);
    assert_eq!(wire[3], 0xA3, "RA, AD, NXDOMAIN");
    let edns = with_do.edns.unwrap();
    assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
    let (wire, _) = reply(&theirs, &Query { checking_disabled: true, recursion_desired: false, ..query(None) }, 512);
    assert_eq!(wire[2..4], [0x80, 0x93], "RD and CD are copied");
}

#[test]
fn an_owner_that_is_written_out_comes_in_the_askers_spelling_too() {
    let mut wire = header([1, 2, 0, 0]);
    let fixed = b"\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x01";
    wire.extend([b"\x01a\x07example\0".as_slice(), fixed, b"\x01b\x07example\0", fixed].concat());
    let mut out = Vec::new();
    Message::parse(&wire).unwrap().write(&Asker { id: 7, limit: 512, query: &query(None), error: None }, &mut out);
    let question_end = 12 + NAME.len() + 4;
    assert_eq!(out[question_end..], [NAME, fixed, b"\x01b\x07example\0", fixed].concat());
}

#[test]
fn an_extended_error_goes_to_askers_with_an_opt_only() {
    let ours = Message::parse(&response(RecordType::A).to_vec().unwrap()).unwrap();
    let text = "é".repeat(100);
    let mut out = Vec::new();
    ours.write(&Asker { id: 1, limit: 512, query: &query(None), error: Some((22, &text)) }, &mut out);
    assert!(Theirs::from_vec(&out).unwrap().edns.is_none());
    out.clear();
    ours.write(&Asker { id: 1, limit: 512, query: &query(Some(false)), error: Some((22, &text)) }, &mut out);
    assert!(Theirs::from_vec(&out).unwrap().edns.is_some());
    let option = [&[0, 15, 0, 130, 0, 22], &text.as_bytes()[..128]].concat();
    assert!(out.ends_with(&option), "a long text is cut at a character");
}

#[test]
fn an_extended_code_becomes_servfail() {
    let mut theirs = response(RecordType::A);
    theirs.set_edns(Edns::new()).metadata.response_code = ResponseCode::BADVERS;
    let mut wire = theirs.to_vec().unwrap();
    let opt = wire.len() - 11;
    wire[opt + 5] = 1;
    wire[3] &= 0xF0;
    let ours = Message::parse(&wire).unwrap();
    assert_eq!(ours.rcode(), 16);
    let mut out = Vec::new();
    ours.write(&Asker { id: 1, limit: 512, query: &query(None), error: None }, &mut out);
    assert_eq!(out[3] & 0x0F, 2);
}

#[test]
fn additional_records_go_without_tc_and_by_whole_sets() {
    let mut theirs = response(RecordType::SRV);
    for port in 0..9 {
        let srv = SRV::new(0, 0, port, name("x.a.example."));
        theirs.add_answer(TheirRecord::from_rdata(name("a.example."), 5, RData::SRV(srv)));
    }
    theirs.add_additionals((0..4).map(|last| a("x.a.example.", last)));
    theirs.add_additionals((0..40).map(|last| a("y.a.example.", last)));
    let query = Query { rtype: 33, ..query(Some(false)) };
    let (wire, parsed) = reply(&theirs, &query, 512);
    assert!(wire.len() <= 512 && !parsed.metadata.truncation);
    assert_eq!((parsed.answers.len(), parsed.additionals.len()), (9, 4), "y has not all its addresses, so it has none");
    assert!(parsed.edns.is_some());
    let (_, whole) = reply(&theirs, &query, 65535);
    assert_eq!(whole.additionals.len(), 44);
}

#[test]
fn an_answer_that_does_not_fit_is_truncated_to_whole_records() {
    let mut theirs = response(RecordType::A);
    theirs.add_answers((0..80).map(|last| a("a.example.", last)));
    theirs.add_authority(TheirRecord::from_rdata(name("example."), 5, RData::NS(NS(name("ns.example.")))));
    theirs.add_additional(a("ns.example.", 1));
    for (edns, limit) in [(None, 512), (Some(true), 512), (Some(false), 1232), (None, 0)] {
        let (wire, parsed) = reply(&theirs, &query(edns), limit);
        let limit = limit.max(512);
        assert!(wire.len() <= limit && wire.len() + 25 > limit, "{} of {limit}", wire.len());
        assert!(parsed.metadata.truncation);
        assert!(!parsed.answers.is_empty() && parsed.authorities.is_empty() && parsed.additionals.is_empty());
        assert_eq!(parsed.edns.is_some(), edns.is_some());
    }
}

#[test]
fn records_behind_an_opt_keep_their_names() {
    let mut wire = header([1, 0, 0, 3]);
    let opt = wire.len();
    wire.extend(b"\0\0\x29\x04\xd0\0\0\x80\0\0\x08\0\x0a\0\x04abcd");
    let first = wire.len() as u16;
    wire.extend(b"\x01b\xC0\x0C\0\x01\0\x01\0\0\0\x09\0\x04\x0a\0\0\x01");
    // The owner points to the question, the target to the record before, which moves.
    wire.extend(b"\xC0\x0E\0\x05\0\x01\0\0\0\x09\0\x04\x01c");
    wire.extend((0xC000 | first).to_be_bytes());
    let ours = Message::parse(&wire).unwrap();
    let names: Vec<_> = ours.records(Section::Additional).map(|record| record.owner()).collect();
    assert_eq!(names, [b"\x01b\x01a\x07example\0".to_vec(), b"\x07example\0".to_vec()]);
    let cname = ours.records(Section::Additional).nth(1).unwrap();
    assert_eq!(ours.name_at(cname.data().start).unwrap(), b"\x01c\x01b\x01a\x07example\0");
    assert_eq!(ours.wire().len(), wire.len() - 19);

    // A target inside of the OPT's data: that record and what follows cannot be kept.
    let end = wire.len();
    wire[end - 2..].copy_from_slice(&(0xC000 | (opt as u16 + 10)).to_be_bytes());
    wire[opt + 11..opt + 19].copy_from_slice(b"\x01x\0\0\0\0\0\0");
    wire[end - 2..].copy_from_slice(&(0xC000 | (opt as u16 + 11)).to_be_bytes());
    let ours = Message::parse(&wire).unwrap();
    assert_eq!(ours.records(Section::Additional).len(), 1);
    let mut out = Vec::new();
    ours.write(&Asker { id: 1, limit: 512, query: &query(Some(true)), error: None }, &mut out);
    assert_eq!(Theirs::from_vec(&out).unwrap().additionals.len(), 1);
}

#[test]
fn malformed_messages_are_refused() {
    let record = |owner: &[u8], rtype: u16, data: &[u8]| {
        let mut wire = header([1, 1, 0, 0]);
        wire.extend(owner);
        wire.extend(rtype.to_be_bytes());
        wire.extend([0, 1, 0, 0, 0, 9]);
        wire.extend((data.len() as u16).to_be_bytes());
        wire.extend(data);
        wire
    };
    let good = record(b"\xC0\x0C", 1, &[10, 0, 0, 1]);
    assert!(Message::parse(&good).is_some());
    for length in 0..good.len() {
        assert!(Message::parse(&good[..length]).is_none(), "cut to {length}");
    }
    let here = 29;
    let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\0".as_slice();
    let cases: [(&str, Vec<u8>); 13] = [
        ("a pointer to itself", record(&[0xC0, here], 1, &[10, 0, 0, 1])),
        ("a pointer forwards", record(&[0xC0, here + 2], 1, &[10, 0, 0, 1])),
        ("a loop through a label", record(&[1, b'x', 0xC0, here], 1, &[10, 0, 0, 1])),
        ("a pointer into the header", record(&[0xC0, 4], 1, &[10, 0, 0, 1])),
        ("a reserved label type", record(&[0x80, 1], 1, &[10, 0, 0, 1])),
        ("a loop in the data", record(b"\xC0\x0C", 5, &[0xC0, here + 12])),
        ("a name that leaves the data", record(b"\xC0\x0C", 5, b"\x02a")),
        ("octets behind the name", record(b"\xC0\x0C", 5, b"\x01a\0\0")),
        ("an address of five octets", record(b"\xC0\x0C", 1, &[10, 0, 0, 1, 1])),
        ("QDCOUNT 65535", header([65535, 0, 0, 0])),
        ("ANCOUNT 65535", header([1, 65535, 0, 0])),
        ("an OPT in the answer", [header([1, 1, 0, 0]).as_slice(), opt].concat()),
        ("two OPT", [header([1, 0, 0, 2]).as_slice(), opt, opt].concat()),
    ];
    for (what, wire) in cases {
        assert!(Message::parse(&wire).is_none(), "{what}");
    }
    let mut asks = header([1, 0, 0, 0]);
    assert!(Message::parse(&asks).is_some());
    asks[2] = 0;
    assert!(Message::parse(&asks).is_none(), "QR is not set");
    assert!(Message::parse(&[good.as_slice(), &[0; 9]].concat()).is_some(), "what follows the last record is cut off");
    assert!(Message::parse(&[good.as_slice(), &vec![0; 65535]].concat()).is_none(), "over 65535 octets");
}

#[test]
fn a_name_over_255_octets_is_refused_even_if_pointers_make_it_short() {
    let mut wire = header([1, 6, 0, 0]);
    let mut before = 12_u16;
    for _ in 0..6 {
        let at = wire.len() as u16;
        wire.push(60);
        wire.extend([b'x'; 60]);
        wire.extend((0xC000 | before).to_be_bytes());
        wire.extend(b"\0\x10\0\x01\0\0\0\x09\0\0");
        before = at;
    }
    assert!(Message::parse(&wire).is_none());
    wire[7] = 3;
    assert!(Message::parse(&wire).is_some(), "three of them are short enough");
}

fn some_name() -> impl Strategy<Value = Name> {
    prop::collection::vec(
        prop::sample::select(vec!["a", "Example", "ns", "x1", "mesh", "long-label-of-many-octets"]),
        0..5,
    )
    .prop_map(|labels| name(&format!("{}.", labels.join("."))))
}

fn some_record() -> impl Strategy<Value = TheirRecord> {
    let data = prop_oneof![
        any::<u32>().prop_map(|ip| RData::A(A(Ipv4Addr::from(ip)))),
        some_name().prop_map(|to| RData::CNAME(CNAME(to))),
        some_name().prop_map(|to| RData::NS(NS(to))),
        (any::<u16>(), some_name()).prop_map(|(preference, to)| RData::MX(MX::new(preference, to))),
        (any::<u16>(), some_name()).prop_map(|(port, to)| RData::SRV(SRV::new(1, 2, port, to))),
        "[ -~]{0,40}".prop_map(|text| RData::TXT(TXT::new(vec![text]))),
        (some_name(), some_name()).prop_map(|(m, r)| RData::SOA(SOA::new(m, r, 1, 2, 3, 4, 5))),
    ];
    (some_name(), 0..i32::MAX as u32, data).prop_map(|(owner, ttl, data)| TheirRecord::from_rdata(owner, ttl, data))
}

prop_compose! {
    fn some_message()(
        owner in some_name(),
        answers in prop::collection::vec(some_record(), 0..12),
        authorities in prop::collection::vec(some_record(), 0..4),
        additionals in prop::collection::vec(some_record(), 0..6),
        edns: bool,
    ) -> Theirs {
        let mut message = Theirs::new(7, MessageType::Response, OpCode::Query);
        message.add_query(TheirQuery::query(owner, RecordType::A));
        message.add_answers(answers).add_authorities(authorities).add_additionals(additionals);
        if edns {
            message.set_edns(Edns::new());
        }
        message
    }
}

/// Owner in lower case, type, TTL.
type Seen = Vec<(Vec<u8>, u16, u32)>;

fn theirs_seen(records: &[TheirRecord]) -> Seen {
    let owner = |record: &TheirRecord| record.name.to_lowercase().to_bytes().unwrap();
    records.iter().map(|record| (owner(record), record.record_type().into(), record.ttl)).collect()
}

fn ours_seen(message: &Message, section: Section) -> Seen {
    message.records(section).map(|record| (record.owner(), record.rtype(), record.ttl())).collect()
}

proptest! {
    #[test]
    fn hickory_sees_the_same_records(theirs in some_message()) {
        let ours = Message::parse(&theirs.to_vec().unwrap()).unwrap();
        prop_assert_eq!(ours_seen(&ours, Section::Answer), theirs_seen(&theirs.answers));
        prop_assert_eq!(ours_seen(&ours, Section::Authority), theirs_seen(&theirs.authorities));
        prop_assert_eq!(ours_seen(&ours, Section::Additional), theirs_seen(&theirs.additionals));
    }

    #[test]
    fn a_reply_of_any_size_is_sound_and_says_nothing_new(theirs in some_message(), limit in 512_usize..1500, edns: bool) {
        let wire = theirs.to_vec().unwrap();
        let owner = theirs.queries[0].name().to_bytes().unwrap();
        let query = Query { name: &owner, ..query(edns.then_some(true)) };
        let mut out = Vec::new();
        Message::parse(&wire).unwrap().write(&Asker { id: 9, limit, query: &query, error: None }, &mut out);
        prop_assert!(out.len() <= limit);
        let parsed = Theirs::from_vec(&out).unwrap();
        prop_assert_eq!(parsed.edns.is_some(), edns);
        prop_assert!(theirs.answers.starts_with(&parsed.answers));
        prop_assert!(theirs.authorities.starts_with(&parsed.authorities));
        prop_assert!(theirs.additionals.starts_with(&parsed.additionals));
        let whole = (parsed.answers.len(), parsed.authorities.len()) == (theirs.answers.len(), theirs.authorities.len());
        prop_assert_eq!(parsed.metadata.truncation, !whole);
    }

    #[test]
    fn mutated_octets_never_panic_and_are_read_as_hickory_reads_them(
        theirs in some_message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        limit in 0_usize..2000,
    ) {
        let mut wire = theirs.to_vec().unwrap();
        for (at, to) in changes {
            let at = at.index(wire.len());
            wire[at] = to;
        }
        if let Some(ours) = Message::parse(&wire) {
            let owner = ours.name_at(12).unwrap();
            let query = Query { name: &owner, ..query(Some(true)) };
            let mut out = Vec::new();
            ours.write(&Asker { id: 9, limit, query: &query, error: Some((0, "x")) }, &mut out);
            prop_assert!(out.len() <= limit.max(512));
            prop_assert!(Message::parse(&out).is_some(), "what is written can be read");
            if let Ok(theirs) = Theirs::from_vec(&wire) {
                let kinds = |seen: Seen| seen.into_iter().map(|(owner, rtype, _)| (owner, rtype)).collect::<Vec<_>>();
                prop_assert_eq!(kinds(ours_seen(&ours, Section::Answer)), kinds(theirs_seen(&theirs.answers)));
                prop_assert_eq!(kinds(ours_seen(&ours, Section::Authority)), kinds(theirs_seen(&theirs.authorities)));
            }
        }
    }

    #[test]
    fn random_octets_never_panic(wire in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Some(ours) = Message::parse(&wire) {
            ours.write(&Asker { id: 9, limit: 512, query: &query(None), error: None }, &mut Vec::new());
        }
    }
}
