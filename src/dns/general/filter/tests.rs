//! Cases of R16 that no scripted upstream of the fixtures can answer: every type, every section, every spelling.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_server::proto::op::Message as Built;
use hickory_server::proto::rr::rdata::{A, MX, NS, NULL, SOA, SRV, SVCB, TXT};
use hickory_server::proto::rr::{Name, RecordType};

use super::*;
use crate::mesh::object::{Change, LOCAL, Labels, Namespace, Object, Segment};
use crate::mesh::settings::{ClusterNames, Settings};
use crate::mesh::world::World;
use crate::table::build::Builder;

const HIDDEN: &str = "web.own.svc.cluster.local.";
const UNKNOWN: &str = "web.nosuch.svc.cluster.local.";
const SEEN: &str = "web.shop.svc.cluster.local.";

/// Namespace `own` is of another segment than the node.
fn table() -> Arc<Table> {
    let namespace = |name: &str, segment: Option<&str>| {
        let labels = Labels::new(segment.map(|s| ("admin.solo.io/segment", s)));
        Object::Namespace(Namespace { name: name.into(), labels, broken: false })
    };
    let other = Segment {
        namespace: "istio-system".into(),
        name: "other".into(),
        domain: Some("other".into()),
        ..Segment::default()
    };
    let objects = [Object::Segment(other), namespace("shop", None), namespace("own", Some("other"))];
    let mut settings = Settings::default();
    settings.policy.cluster_names = ClusterNames::Segment;
    let mut world = World::new(settings);
    let mut builder = Builder::new(&world, 3);
    let applied = objects.map(|object| Change::Apply { cluster: LOCAL, object, faults: Vec::new() });
    let delta = world.apply(applied.into_iter().chain([Change::Synced { cluster: LOCAL }]).collect(), 0);
    builder.apply(&world, delta)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 30, data)
}

/// A message with one record in each of two sections, as octets.
fn message(authority: Record, additional: Record) -> Message {
    let mut built = Built::response(7, hickory_server::proto::op::OpCode::Query);
    built.add_query(hickory_server::proto::op::Query::query(name("x.example.org."), RecordType::A));
    built.add_authority(authority);
    built.add_additional(additional);
    Message::parse(&built.to_vec().unwrap()).unwrap()
}

/// Data of many types that holds this name.
fn holding(text: &str) -> Vec<RData> {
    let wire = name(text).to_bytes().unwrap();
    let raw = |before: &[u8], after: &[u8]| NULL::with([before, &wire, after].concat());
    let unknown = |code: u16, before: &[u8], after: &[u8]| RData::Unknown {
        code: RecordType::from(code),
        rdata: raw(before, after),
    };
    vec![
        RData::NS(NS(name(text))),
        RData::MX(MX::new(1, name(text))),
        RData::SOA(SOA::new(name("ns.example."), name(text), 1, 1, 1, 1, 1)),
        RData::SRV(SRV::new(0, 0, 80, name(text))),
        RData::SVCB(SVCB::new(1, name(text), Vec::new())),
        // a name as octets of a text
        RData::TXT(TXT::from_bytes(vec![b"x", &wire])),
        // RT, KX and a type that nobody knows, the name in the middle of other octets
        unknown(21, &[0, 1], &[]),
        unknown(36, &[0, 1], &[]),
        unknown(65_280, &[9, 200, 3], &[1, 2]),
    ]
}

#[test]
fn a_hidden_name_is_found_in_data_of_every_type_and_a_visible_one_is_no_reason_to_cut() {
    let table = table();
    let caller = table.callers.find("127.0.0.1".parse().unwrap());
    let eyes = Eyes { table: &table, caller: &caller };
    for text in [HIDDEN, UNKNOWN, "_http._tcp.web.own.svc.cluster.local.", "1-2-3-4.OWN.Pod.cluster.LOCAL."] {
        assert!(holding(text).iter().all(|data| eyes.hides_data(data)), "{text}");
    }
    for text in [SEEN, "ns.dns.cluster.local.", "kubernetes.default.svc.cluster.local.", "web.own.svc.example."] {
        assert!(!holding(text).iter().any(|data| eyes.hides_data(data)), "{text}");
    }
    assert!(!eyes.hides_data(&RData::TXT(TXT::new(vec![HIDDEN.to_owned()]))), "text is no name");
}

#[test]
fn text_that_is_full_of_the_cluster_domain_is_judged_in_no_time() {
    let table = table();
    let caller = table.callers.find("127.0.0.1".parse().unwrap());
    let eyes = Eyes { table: &table, caller: &caller };
    let text = |octets: &[u8]| RData::TXT(TXT::from_bytes(octets.chunks(255).collect()));
    // What stands before a kind is no label, one of every length, or one that the caller sees.
    let lengths: Vec<u8> = (1..=63).rev().collect();
    for (what, hides) in [
        (b"\x07cluster\x05local\0".to_vec(), false),
        (b"\x4d\x03svc\x07cluster\x05local\0".to_vec(), false),
        (b"\x04shop\x03svc\x07cluster\x05local\0".to_vec(), false),
        (vec![3], false),
        (b"\x03svc".to_vec(), false),
        ([&lengths[..], b"\x03svc\x07cluster\x05local\0"].concat(), true),
    ] {
        let data = text(&what.repeat(60_000 / what.len()));
        let took = (0..5).map(|_| {
            let begun = Instant::now();
            assert_eq!(eyes.hides_data(&data), hides, "{what:x?}");
            begun.elapsed()
        });
        let fastest = took.min().unwrap();
        assert!(fastest < Duration::from_millis(40), "{what:x?}: {fastest:?}");
    }
    // However much of it there is, what is hidden among it is found.
    let visible = b"\x04shop\x03svc\x07cluster\x05local\0".repeat(9);
    let mixed = [&visible[..], b"\x03oWn\x03SVC\x07Cluster\x05local\0", &visible].concat();
    assert!(eyes.hides_data(&RData::Unknown { code: RecordType::from(65_280), rdata: NULL::with(mixed) }));
}

#[test]
fn no_section_shows_a_hidden_name() {
    let table = table();
    let caller = table.callers.find("127.0.0.1".parse().unwrap());
    let eyes = Eyes { table: &table, caller: &caller };
    let address = || RData::A(A([10, 0, 0, 1].into()));
    let plain = || record("ns.example.org.", address());
    for data in holding(HIDDEN) {
        let (one, two) = (message(record("example.org.", data.clone()), plain()), record("example.org.", data));
        assert!(!eyes.sees_all(&one) && !eyes.sees_all(&message(plain(), two.clone())), "{two}");
        assert_eq!(eyes.kept(vec![two, plain()]), [plain()]);
    }
    let owned = || record("Web.Own.svc.cluster.local.", address());
    assert!(!eyes.sees_all(&message(owned(), plain())) && !eyes.sees_all(&message(plain(), owned())));
    assert_eq!(eyes.kept(vec![plain(), owned()]), [plain()]);
    let fine = record("example.org.", RData::NS(NS(name(SEEN))));
    assert!(eyes.sees_all(&message(fine.clone(), plain())));
    assert_eq!(eyes.kept(vec![fine.clone()]), [fine]);
}

#[test]
fn a_chain_ends_at_the_link_to_a_hidden_name_in_whatever_order_it_comes() {
    let table = table();
    let caller = table.callers.find("127.0.0.1".parse().unwrap());
    let eyes = Eyes { table: &table, caller: &caller };
    let link = |from: &str, to: &str| record(from, RData::CNAME(hickory_server::proto::rr::rdata::CNAME(name(to))));
    let end = |owner: &str| record(owner, RData::A(A([10, 0, 0, 1].into())));
    let links = [link("a.example.", "b.example."), link("b.example.", HIDDEN)];
    for (answers, want) in [
        (vec![links[0].clone(), links[1].clone(), end(HIDDEN)], 2),
        (vec![end(HIDDEN), links[0].clone(), links[1].clone()], 2),
        (vec![links[1].clone(), end(HIDDEN)], 1),
    ] {
        let (kept, cut) = eyes.chain(answers, true);
        assert!(cut && kept.len() == want && kept.iter().all(|r| r.record_type() == RecordType::CNAME), "{kept:?}");
    }
    let whole = vec![link("a.example.", SEEN), end(SEEN)];
    assert_eq!(eyes.chain(whole.clone(), true), (whole, false));
    // Asked for the link itself, nothing is followed.
    assert_eq!(eyes.chain(vec![links[1].clone()], false), (vec![links[1].clone()], false));
}
