//! What the hot path writes, read by hickory: sizes, truncation, spelling, rotation, owners; and that a hidden name's answer
//! is, byte for byte apart from ID and question, that of a name which never was (R13, R18, R21, R24).

mod inside;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use inside::{ROOT, SCOPE, SEGMENT, here, ip, namespace, pod, query, respond, segment, service, settings, slice};
use proptest::prelude::*;
use segdns::dns::listen::{Outcome, Respond, Transport};
use segdns::dns::serve::Server;
use segdns::mesh::object::{Change, LOCAL, Object};
use segdns::table::keeper::Keeper;

const POD: &str = "10.1.0.1";

/// A domain that leaves no room for everything.
fn long() -> String {
    [&*"a".repeat(60), &"b".repeat(60), &"c".repeat(60), "acme"].join(".")
}

fn server() -> Server {
    let keeper = Keeper::new(settings());
    let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([10, 7, 0, n])).collect();
    let mut changes = vec![
        here(segment("acme", "mesh.acme", &[])),
        here(segment("other", "mesh.other", &[])),
        here(segment("long", &long(), &[])),
        here(namespace("long", &[(SEGMENT, "long")])),
        here(namespace(ROOT, &[(SEGMENT, "acme")])),
        here(namespace("shop", &[])),
        here(namespace("far", &[(SEGMENT, "other")])),
        here(namespace("base", &[(SEGMENT, "default")])),
        here(pod("shop", "a", &[ip(POD)])),
        Change::Synced { cluster: LOCAL },
    ];
    for (ns, name, ips, scope) in [
        ("shop", "web", &many[..3], "global"),
        ("shop", "many", &many[..], "segment"),
        ("far", "web", &many[..1], "segment"),
        ("long", "web", &many[..1], "global"),
        ("base", "web", &many[..1], "global"),
    ] {
        changes.push(here(Object::Service(service(ns, name, ips, &[(SCOPE, scope)]))));
        changes.push(here(slice(ns, name, ip("10.8.0.1"), true)));
    }
    keeper.apply(changes);
    inside::server(&keeper, Duration::ZERO, Vec::new())
}

fn ask(server: &Server, worker: &mut <Server as Respond>::Worker, packet: &[u8]) -> Vec<u8> {
    let mut out = [0; 1536];
    match respond(server, worker, packet, ip(POD), &mut out) {
        Outcome::Reply(size) => out[..size].to_vec(),
        other => panic!("{other:?} to {packet:?}"),
    }
}

/// A query whose OPT announces this payload.
fn with_payload(name: &str, payload: u16) -> Vec<u8> {
    let mut packet = query(name, 1, true);
    let at = packet.len() - 8;
    packet[at..at + 2].copy_from_slice(&payload.to_be_bytes());
    packet
}

#[test]
fn what_does_not_fit_is_cut_to_whole_records_and_marked() {
    let server = server();
    let mut worker = server.worker();
    let all = 100;
    // payload announced (0: no OPT), the limit that counts
    for (payload, limit) in [(0_u16, 512_usize), (1, 512), (512, 512), (900, 900), (1232, 1232), (4096, 1232)] {
        let edns = payload != 0;
        let name = "many.shop.mesh.acme";
        let packet = if edns { with_payload(name, payload) } else { query(name, 1, false) };
        let wire = ask(&server, &mut worker, &packet);
        let message = Message::from_vec(&wire).expect("a message");
        let rest = 12 + name.len() + 2 + 4 + if edns { 11 } else { 0 };
        let fit = ((limit - rest) / 16).min(all);
        assert_eq!((wire.len(), message.answers.len()), (rest + fit * 16, fit), "{payload}");
        assert!(wire.len() <= limit && message.metadata.truncation && message.metadata.authoritative);
        assert_eq!(message.edns.is_some(), edns, "{payload}");
    }
    let mut out = vec![0; 65_535];
    let from = (ip(POD), 5353).into();
    let packet = query("many.shop.mesh.acme", 1, false);
    let Outcome::Reply(size) = server.respond(&mut worker, &packet, from, Transport::Tcp, &mut out) else { panic!() };
    let message = Message::from_vec(&out[..size]).expect("a message");
    assert_eq!((message.answers.len(), message.metadata.truncation), (all, false), "over TCP all of it");
}

#[test]
fn what_the_general_path_cuts_ends_with_a_whole_record_too() {
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let name = "_http._tcp.many.shop.mesh.acme";
    for (edns, transport, whole) in
        [(false, Transport::Udp, false), (true, Transport::Udp, false), (true, Transport::Tcp, true)]
    {
        let from = (ip(POD), 5353).into();
        let wire = runtime.block_on(server.later(query(name, 33, edns), from, transport)).expect("an answer");
        let mut decoder = BinDecoder::new(&wire);
        let message = Message::read(&mut decoder).expect("a message");
        assert!(decoder.is_empty(), "{} octets behind its end", decoder.len());
        assert_eq!((message.metadata.truncation, message.edns.is_some()), (!whole, edns), "{transport:?}");
        let limit = if whole {
            65_535
        } else if edns {
            1232
        } else {
            512
        };
        // One more address would have 16 octets.
        assert!(wire.len() <= limit && (whole || wire.len() + 16 > limit), "{} of {limit}", wire.len());
        assert_eq!((message.answers.len(), message.additionals.len() == 100), (1, whole));
    }
}

#[test]
fn of_a_search_path_form_the_link_stays_where_the_soa_does_not_fit() {
    let server = server();
    let mut worker = server.worker();
    let name = format!("web.long.{}.shop.svc.cluster.local", long());
    for (rtype, cut) in [(28, true), (5, false)] {
        let message = Message::from_vec(&ask(&server, &mut worker, &query(&name, rtype, false))).expect("one");
        let counts = (message.answers.len(), message.authorities.len(), message.metadata.truncation);
        assert_eq!(counts, (1, 0, cut), "{rtype}");
    }
}

#[test]
fn addresses_stand_under_the_spelling_that_was_asked_and_take_turns() {
    let server = server();
    let mut worker = server.worker();
    let mut first = BTreeSet::new();
    for _ in 0..6 {
        let message =
            Message::from_vec(&ask(&server, &mut worker, &query("wEb.Shop.mesh.ACME", 1, true))).expect("one");
        assert_eq!(message.queries[0].name.to_ascii(), "wEb.Shop.mesh.ACME.");
        assert!(message.answers.iter().all(|r| r.name.to_ascii() == "wEb.Shop.mesh.ACME." && r.ttl == 5));
        let all: BTreeSet<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
        assert_eq!(all.len(), 3, "each address once");
        first.insert(message.answers[0].data.to_string());
    }
    assert_eq!(first.len(), 3, "each address comes first at times");
}

#[test]
fn a_search_path_form_points_at_the_mesh_name_and_negatives_at_their_zone() {
    let server = server();
    let mut worker = server.worker();
    let ask =
        |worker: &mut _, name: &str| Message::from_vec(&ask(&server, worker, &query(name, 1, true))).expect("one");
    let message = ask(&mut worker, "Web.shop.mesh.acme.shop.svc.cluster.local");
    assert_eq!(message.answers.len(), 4);
    assert_eq!(message.answers[0].name.to_ascii(), "Web.shop.mesh.acme.shop.svc.cluster.local.");
    assert!(matches!(&message.answers[0].data, RData::CNAME(to) if to.0.to_ascii() == "Web.shop.mesh.acme."));
    assert!(message.answers[1..].iter().all(|r| r.name.to_ascii() == "Web.shop.mesh.acme."));
    let owners = [
        ("none.shop.mesh.acme", "mesh.acme."),
        ("a.b.c.d.MESH.Other", "MESH.Other."),
        ("mesh.acme", "mesh.acme."),
        ("web.far.mesh.other.far.svc.cluster.local", "cluster.local."),
        ("none.shop.mesh.internal.svc.cluster.local", "cluster.local."),
    ];
    for (name, owner) in owners {
        let message = ask(&mut worker, name);
        assert_eq!(message.authorities.len(), 1, "{name}");
        let soa = &message.authorities[0];
        assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), (owner, 5), "{name}");
        assert!(matches!(&soa.data, RData::SOA(soa) if soa.serial == 1 && soa.minimum == 5), "{name}");
    }
}

/// What follows the question, and the header but its ID.
fn core(wire: &[u8], name: &str) -> Vec<u8> {
    let question = 12 + name.len() + 2 + 4;
    [&wire[2..12], &wire[question..]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hidden_name_is_answered_byte_for_byte_as_one_that_never_was(
        prefix in prop::sample::select(&["", "x.", "_http._tcp.", "_tcp.", "_none._tcp.", "a.b.c."][..]),
        zone in prop::sample::select(&["far.mesh.other", "base.mesh.internal"][..]),
        suffix in prop::sample::select(&["", ".far.svc.cluster.local", ".svc.cluster.local", ".cluster.local"][..]),
        absent in "[a-z]{3}",
        rtype in prop_oneof![
            prop::sample::select(&[1_u16, 28, 33, 6, 2, 5, 16, 64, 65, 43, 255, 12][..]),
            1_u16..=250,
            256_u16..=65_535,
        ],
        (edns, do_bit, rd, upper) in any::<(bool, bool, bool, bool)>(),
    ) {
        prop_assume!(absent != "web" && rtype != 41);
        let server = server();
        let mut worker = server.worker();
        let mut answer = |service: &str| {
            let mut name = format!("{prefix}{service}.{zone}{suffix}");
            if upper {
                name.make_ascii_uppercase();
            }
            let mut packet = query(&name, rtype, edns);
            packet[2] = u8::from(rd);
            let end = packet.len();
            if edns && do_bit {
                packet[end - 4] = 0x80;
            }
            let wire = ask(&server, &mut worker, &packet);
            (wire[3] & 15, core(&wire, &name))
        };
        let (hidden, never) = (answer("web"), answer(&absent));
        prop_assert_eq!(hidden.0, 3);
        prop_assert_eq!(hidden, never);
    }
}

#[test]
fn a_batch_is_answered_as_its_queries_are_alone() {
    let server = server();
    let names =
        ["web.shop.mesh.acme", "many.shop.mesh.acme", "web.far.mesh.other", "none.far.mesh.other", "mesh.acme", ""];
    let mut packets: Vec<Vec<u8>> = Vec::new();
    for turn in 0..7 {
        packets.extend(names.map(|name| query(&name.to_uppercase(), [1, 28, 6][turn % 3], turn % 2 == 0)));
        // No header, a response, a question that is cut off, and an opcode that nobody knows.
        packets.extend([
            vec![turn as u8; turn],
            [&[0, 1, 0x80][..], &[0; 9]].concat(),
            query(names[turn % 5], 1, false),
        ]);
        packets.last_mut().expect("a query").truncate(12 + turn);
        packets.push(query(names[0], 1, false));
        packets.last_mut().expect("a query")[2] |= 0x28;
    }
    let (mut alone, mut together, mut out) = (server.worker(), server.worker(), [0; 1536]);
    let outcome = |outcome, out: &[u8]| match outcome {
        Outcome::Reply(size) => format!("{:?}", &out[..size]),
        other => format!("{other:?}"),
    };
    let from = SocketAddr::new(ip(POD), 5353);
    let mut read = 0;
    for (place, packet) in packets.iter().enumerate() {
        while read < packets.len() && read <= place + Server::AHEAD {
            server.read(&mut together, read, &packets[read]);
            server.fetch(&mut together, read, true);
            read += 1;
        }
        let one = server.respond(&mut alone, packet, from, Transport::Udp, &mut out);
        let one = outcome(one, &out);
        let other = server.answer(&mut together, place, packet, from, Transport::Udp, &mut out);
        assert_eq!(outcome(other, &out), one, "{place}: {packet:?}");
    }
    assert!(Server::AHEAD > 0 && packets.len() > 4 * Server::AHEAD);
}
