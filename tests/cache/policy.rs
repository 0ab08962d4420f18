//! What policy makes of an upstream's answer is the same from the upstream and from the cache (R16, R19).

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use super::lab::{Ask, Lab, NOERROR, SERVFAIL, places, query, serve, without_ttls};
use crate::support::client::{Client, Proto};
use crate::support::server::Server;
use crate::support::upstream::Upstream;
use crate::support::world::World;
use crate::support::{UPSTREAM, fixture, free_port, rows, wire};

fn lab(name: &str, policy: &Value) -> (Server, SocketAddr, Upstream) {
    let dir = fixture::root().join(name);
    let mut world = World::outside();
    world.add_cluster(&dir.join("cluster1"));
    world.add_tsv(&dir.join("upstream.tsv"));
    let upstream = Upstream::start(world, SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
    let over = json!({
        "cluster": {"name": "cluster1"}, "answers": {"grace": "0s"},
        "sources": {"manifests": [{"path": dir.join("cluster1"), "cluster": "cluster1"}]},
        "policy": policy,
    });
    let (server, at) = serve(json!([upstream.address()]), &over);
    (server, at, upstream)
}

/// Every question of a fixture to the upstream is answered thrice: by the upstream, and twice from the cache.
fn same(fixture_name: &str, policy: &Value, more: &[(&str, &str)]) -> usize {
    let (server, at, upstream) = lab(fixture_name, policy);
    let mut asked: Vec<(IpAddr, String, String)> = rows::read(&fixture::root().join(fixture_name).join("expect.tsv"))
        .iter()
        .filter_map(|row| Some((row.caller.parse().ok()?, row.name.clone(), row.rtype.clone())))
        .filter(|(caller, ..): &(IpAddr, _, _)| caller.is_loopback())
        .collect();
    let callers: std::collections::BTreeSet<IpAddr> = asked.iter().map(|one| one.0).collect();
    for caller in callers {
        asked.extend(more.iter().map(|(name, rtype)| (caller, (*name).to_owned(), (*rtype).to_owned())));
    }
    let mut from_upstream = 0;
    for (caller, name, rtype) in asked {
        server.flush();
        let question = query(&name, wire::type_number(&rtype), 0, Some((false, 1232)));
        let before = upstream.count();
        let ask = |proto| Client::default().ask(caller, at, proto, &question).expect("an answer");
        let answers = [Proto::Udp, Proto::Udp, Proto::Tcp, Proto::Udp].map(ask);
        if upstream.count() == before {
            continue;
        }
        from_upstream += 1;
        for (n, answer) in answers.iter().enumerate() {
            let what = format!("{name} {rtype} from {caller}, answer {n}");
            assert_eq!(without_ttls(answer), without_ttls(&answers[0]), "{what}");
            for (one, first) in places(answer).iter().zip(places(&answers[0])) {
                assert!(one.2 <= first.2, "{what}: a TTL that grows");
            }
        }
    }
    from_upstream
}

#[test]
fn takeover_names_of_other_types_are_answered_alike_from_upstream_and_from_the_cache() {
    let more = ["TXT", "TYPE65", "SRV", "ANY"].map(|rtype| ("t11.shop.svc.cluster.local", rtype));
    let open = same("takeover", &json!({}), &more);
    let closed = same("takeover", &json!({"clusterNames": "segment"}), &more);
    assert!(open >= 10 && closed >= 5, "{open} and {closed} questions reached the upstream");
}

#[test]
fn cluster_names_by_segment_are_answered_alike_from_upstream_and_from_the_cache() {
    let more = [
        ("nosuch.shop.svc.cluster.local", "A"),
        ("nosuch.shop.svc.cluster.local", "TYPE65"),
        ("web.shop.svc.cluster.local", "TXT"),
        ("10.0.101.10.in-addr.arpa", "A"),
        ("99.0.101.10.in-addr.arpa", "PTR"),
        ("nosuch.example.com", "A"),
        ("alias.example.com", "A"),
    ];
    let closed = same("cluster-names", &json!({"clusterNames": "segment"}), &more);
    let open = same("cluster-names", &json!({"clusterNames": "open"}), &more);
    assert!(open >= 10 && closed >= 10, "{open} and {closed} questions reached the upstream");
}

#[test]
fn an_answer_that_cannot_be_looked_through_is_a_failure_and_no_name_that_does_not_exist() {
    // An HTTPS record whose parameters are in no order: legal to pass on, unreadable to who has to look into it.
    let unordered = [&[0, 1, 0][..], &[0, 3, 0, 2, 1, 187], &[0, 1, 0, 3, 2, b'h', b'2']].concat();
    let says = move |ask: &Ask| ask.reply(NOERROR, [&[wire::record(&ask.name, 65, 300, &unordered)], &[], &[]]);
    for (policy, want) in [("segment", SERVFAIL), ("open", NOERROR)] {
        let lab = Lab::start(&json!({"policy": {"clusterNames": policy}}), says.clone());
        for proto in [Proto::Udp, Proto::Udp, Proto::Tcp] {
            let answer = lab.ask(proto, &query("www.example.com", 65, 0, Some((false, 1232))));
            assert_eq!((answer[3] & 15, answer[7]), (want, u8::from(want == NOERROR)), "{policy}, {proto:?}");
        }
    }
}
