//! Nothing that depends on the caller is ever in the cache (R13, R23): every pair of callers asks the same question, in both
//! orders, and the second one is answered as if the first had never asked.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::Message;
use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::rows::{self, Row};
use support::server::Server;
use support::upstream::Upstream;
use support::world::World;
use support::{CLUSTER_DOMAIN, HERE, UPSTREAM, fixture, free_port, objects, wire};

/// Callers of a fixture that are compared, those with the most rows: every pair of them asks every question.
const CALLERS: usize = 5;
/// Names beside those of a fixture: absent ones and external ones, bare and as a pod's search path makes them.
const MORE: [(&str, &str); 8] = [
    ("www.example.com", "A"),
    ("nothing.example.com", "A"),
    ("www.example.com.shop.svc.cluster.local", "A"),
    ("www.example.com.own.svc.cluster.local", "A"),
    ("www.example.com.svc.cluster.local", "A"),
    ("www.example.com.cluster.local", "A"),
    ("nosuch.shop.svc.cluster.local", "SRV"),
    ("nosuch.own.svc.cluster.local", "SRV"),
];

/// An answer as it must not depend on who asked before: without ID, and with every TTL from an upstream taken out, as that
/// counts down in the cache, and records in one order, as they rotate.
fn seen(answer: &[u8]) -> String {
    let message = Message::from_vec(answer).expect("a message");
    let sorted = |records: &[hickory_proto::rr::Record]| {
        let all: BTreeSet<String> = records
            .iter()
            .map(|r| {
                let ttl = if message.metadata.authoritative { r.ttl } else { 0 };
                format!("{} {ttl} {} {}", r.name, r.record_type(), r.data)
            })
            .collect();
        format!("{all:?}")
    };
    let sections = [&message.answers, &message.authorities, &message.additionals].map(|s| sorted(s));
    format!("{:x?} {sections:?}", &answer[2..12])
}

struct Lab {
    server: Server,
    at: SocketAddr,
    client: Client,
    _upstream: Upstream,
}

impl Lab {
    fn start(name: &str, local: &str, policy: &Value) -> Self {
        let dir = fixture::root().join(name);
        let mut world = World::outside();
        world.add_cluster(&dir.join(local));
        let upstream = Upstream::start(world, SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
        let at = SocketAddr::new(HERE, free_port());
        let mut config = json!({
            "listen": [at],
            "admin": SocketAddr::new(HERE, free_port()),
            "cluster": {"name": local},
            "answers": {"grace": "0s"},
            "forward": [
                {"zone": CLUSTER_DOMAIN, "upstreams": [upstream.address()], "tcp": true},
                {"zone": ".", "upstreams": [upstream.address()]},
            ],
            "sources": {"manifests": [{"path": dir.join(local), "cluster": local}]},
            "drain": {"lameduck": "0s", "deadline": "2s"},
        });
        objects::merge(&mut config, policy);
        let server = Server::start(&config).expect("a server");
        Self { server, at, client: Client::default(), _upstream: upstream }
    }

    fn ask(&self, caller: IpAddr, name: &str, rtype: &str) -> String {
        let packet = wire::query(next_id(), name, wire::type_number(rtype), true);
        seen(&self.client.ask(caller, self.at, Proto::Udp, &packet).expect("an answer"))
    }

    /// Every pair of callers in both orders; gives the number of questions to which two callers are told different things.
    fn pairs(&self, callers: &[IpAddr], questions: &BTreeSet<(String, String)>) -> usize {
        let mut told_apart = 0;
        for (name, rtype) in questions {
            let mut alone = BTreeMap::new();
            for caller in callers {
                self.server.flush();
                alone.insert(*caller, self.ask(*caller, name, rtype));
            }
            told_apart += usize::from(alone.values().collect::<BTreeSet<_>>().len() > 1);
            for first in callers {
                for second in callers.iter().filter(|second| *second != first) {
                    self.server.flush();
                    for caller in [first, second, first] {
                        let told = self.ask(*caller, name, rtype);
                        assert_eq!(told, alone[caller], "{name} {rtype} from {caller}, after {first} and {second}");
                    }
                }
            }
        }
        told_apart
    }
}

fn check(name: &str, local: &str, policy: &Value, at_least: usize) {
    let all: Vec<Row> = rows::read(&fixture::root().join(name).join("expect.tsv"));
    let own = |row: &&Row| row.local == local && row.caller.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let mut rows_of = BTreeMap::<IpAddr, usize>::new();
    for row in all.iter().filter(own) {
        *rows_of.entry(row.caller.parse().expect("an address")).or_default() += 1;
    }
    let mut callers: Vec<IpAddr> = rows_of.keys().copied().collect();
    callers.sort_by_key(|caller| std::cmp::Reverse(rows_of[caller]));
    callers.truncate(CALLERS);
    let mut questions: BTreeSet<(String, String)> =
        all.iter().filter(own).map(|row| (rows::fold(&row.name), row.rtype.clone())).collect();
    questions.extend(MORE.map(|(name, rtype)| (name.to_owned(), rtype.to_owned())));
    assert!(callers.len() > 1, "{name} has one caller only");
    let told_apart = Lab::start(name, local, policy).pairs(&callers, &questions);
    assert!(told_apart >= at_least, "{name}: callers are told apart in {told_apart} questions only");
}

#[test]
fn visibility_and_takeover_are_judged_for_each_caller() {
    check("takeover", "cluster1", &json!({}), 5);
    check("takeover", "cluster1", &json!({"answers": {"takeover": "cname"}}), 5);
}

#[test]
fn cluster_names_by_segment_are_judged_for_each_caller() {
    check("cluster-names", "cluster1", &json!({"policy": {"clusterNames": "segment"}}), 8);
}

#[test]
fn aliases_outside_the_mesh_zones_are_judged_for_each_caller() {
    check("aliases", "cluster1", &json!({}), 1);
}

#[test]
fn completed_search_paths_are_judged_for_each_caller() {
    check("cluster-names", "cluster1", &json!({"autopath": true}), 1);
    check("cluster-names", "cluster1", &json!({"autopath": true, "policy": {"clusterNames": "segment"}}), 8);
}
