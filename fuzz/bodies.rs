//! What has to hold for any octets that come in from outside. The fuzzers (`cargo fuzz run TARGET`) look for octets for which it
//! does not; `tests/corpus.rs` runs all that they have kept, with an ordinary compiler.

#![allow(dead_code, reason = "each fuzzer runs one of these")]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use hickory_proto::op::{Message as Decoded, Query as Question};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use segdns::config::Config;
use segdns::dns::cache;
use segdns::dns::forward::{Message, Section};
use segdns::dns::listen::{Outcome, Respond, Transport};
use segdns::dns::query::{self, HEADER, Read};
use segdns::dns::serve::Server;
use segdns::mesh::object::{Change, LOCAL, Object};
use segdns::mesh::settings::Settings;
use segdns::table::keeper::Keeper;
use segdns::table::key::Key;
use segdns::watch::saved::{self, Identity, SavedCluster, body};
use segdns::watch::yaml::{self, Content};

use crate::inside::{SCOPE, here, ip, pod, service, settings, slice, two_segments};

/// Pods of two segments, one with a label that names none, and an address of nobody.
const CALLERS: [&str; 4] = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "192.0.2.1"];
/// The address of a service that only [`CALLERS`]' first may see.
const SECRET: &str = "10.2.99.99";

/// Every reader of questions makes the same of them (R24), and the parser never panics.
pub fn query(octets: &[u8]) {
    let mut key = Key::default();
    let ours = query::read(octets, &mut key);
    let theirs = question(octets);
    match ours {
        Read::Ask(query) => {
            let (name, rtype, class) = theirs.expect("a question that hickory reads");
            assert_eq!(key.span(key.all()), name, "another name");
            assert_eq!((query.rtype, query.class), (rtype, class), "another question");
        }
        Read::Refuse(..) | Read::Chaos(_) | Read::Ignore => {
            let plain = octets.get(2..HEADER).is_some_and(|h| h[0] & 0xf8 == 0 && h[2..] == [0, 1, 0, 0, 0, 0, 0, 0]);
            if let Some((name, rtype, 1)) = theirs.filter(|_| plain && !matches!(ours, Read::Chaos(_))) {
                let whole = octets.len() == HEADER + name.len() + 1 + 4;
                // OPT is no question, and transfers are refused.
                let never = matches!(rtype, 41 | 251 | 252);
                assert!(!whole || never, "a plain question of type {rtype} is not asked");
            }
        }
    }
}

/// The name in lower case as on the wire, without the root's octet; type; class. As hickory reads them.
fn question(octets: &[u8]) -> Option<(Vec<u8>, u16, u16)> {
    let mut decoder = BinDecoder::new(octets);
    decoder.read_slice(HEADER).ok()?;
    let question = Question::read(&mut decoder).ok()?;
    let mut name = Vec::new();
    for label in question.name().iter() {
        name.push(u8::try_from(label.len()).expect("a label"));
        name.extend(label.to_ascii_lowercase());
    }
    Some((name, question.query_type().into(), question.query_class().into()))
}

struct World {
    server: Server,
    _keeper: Keeper,
    runtime: tokio::runtime::Runtime,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let keeper = Keeper::new(settings());
        let [one, other, lost] = [0, 1, 2].map(|at| ip(CALLERS[at]));
        let mut changes = two_segments(40);
        changes.extend([
            here(pod("shop", "a", &[one])),
            here(pod("far", "b", &[other])),
            here(pod("lost", "c", &[lost])),
            here(Object::Service(service("shop", "secret", &[ip(SECRET)], &[(SCOPE, "segment")]))),
            here(slice("shop", "secret", ip("10.3.99.99"), true)),
            Change::Synced { cluster: LOCAL },
        ]);
        keeper.apply(changes);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = {
            let _entered = runtime.enter();
            crate::inside::server(&keeper, Duration::ZERO, Vec::new())
        };
        World { server, _keeper: keeper, runtime }
    })
}

/// Both paths of the server: whatever comes in gets an answer that parses and belongs to it, or none; and no answer to another
/// segment's pod holds what only a pod of its own segment may see. The first octet is the caller and the transport.
pub fn server(octets: &[u8]) {
    let Some((first, packet)) = octets.split_first() else { return };
    let transport = if first & 4 == 0 { Transport::Udp } else { Transport::Tcp };
    let caller = usize::from(first & 3);
    if let Some(reply) = ask(packet, ip(CALLERS[caller]), transport) {
        assert_eq!(reply[..2], packet[..2], "another ID");
        assert_ne!(reply[2] & 0x80, 0, "no response");
        Decoded::from_vec(&reply).expect("an answer that parses");
        let IpAddr::V4(secret) = ip(SECRET) else { return };
        let tells = !packet.windows(4).any(|w| w == secret.octets()) && reply.windows(4).any(|w| w == secret.octets());
        assert!(caller == 0 || !tells, "{} was told the secret", CALLERS[caller]);
    }
}

fn ask(packet: &[u8], from: IpAddr, transport: Transport) -> Option<Vec<u8>> {
    let World { server, runtime, .. } = world();
    let mut worker = server.worker();
    let mut out = vec![0; if transport == Transport::Tcp { 65_535 } else { 1536 }];
    let from = SocketAddr::new(from, 5353);
    match server.respond(&mut worker, packet, from, transport, &mut out) {
        Outcome::Reply(size) => Some(out[..size].to_vec()),
        Outcome::Drop => None,
        Outcome::Later => runtime.block_on(server.later(packet.to_vec(), from, transport)),
    }
}

/// What an upstream sends: it is read and kept, or not, and what is then answered from the cache parses.
pub fn upstream(octets: &[u8]) {
    let Some(mut message) = Message::parse(octets) else { return };
    for section in [Section::Answer, Section::Authority, Section::Additional] {
        for record in message.records(section) {
            assert!(record.data().end <= octets.len(), "beyond the message");
            assert!(record.owner().len() <= 255, "a name that is too long");
        }
    }
    message.set_ttls(|record, _| record.ttl().min(60));
    let Some((name, rtype, 1)) = question(octets) else { return };
    let World { server, .. } = world();
    let cache = server.resolver().cache();
    let question = cache::Question { name: &name, rtype, dnssec_ok: false, checking_disabled: false };
    cache.flush(None);
    cache.store(&question, true, &message, cache.now());
    cache.store_denial(&name, &message, cache.now());
    let mut packet = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(&name);
    packet.push(0);
    packet.extend([rtype.to_be_bytes(), [0, 1]].concat());
    for transport in [Transport::Udp, Transport::Tcp] {
        let Some(reply) = ask(&packet, ip(CALLERS[0]), transport) else { continue };
        assert_eq!(reply[..2], packet[..2], "another ID");
        // RDATA is passed on as it came, so an answer is as sound as what the upstream sent.
        if Decoded::from_vec(octets).is_ok() {
            Decoded::from_vec(&reply).expect("an answer that parses");
        }
    }
}

/// A file of manifests: objects or a fault that says where, and a table of whatever objects there are.
pub fn manifests(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let mut objects = Vec::new();
    for read in yaml::read(&[("fuzz.yaml", text)]) {
        match read {
            Ok(found) => {
                for one in found {
                    assert!(
                        one.faults.iter().all(|fault| fault.text.starts_with("fuzz.yaml")),
                        "a fault without its place"
                    );
                    if let Content::Object(object) = one.content {
                        objects.push(object);
                    }
                }
            }
            Err(fault) => assert!(fault.text.starts_with("fuzz.yaml") && !fault.remedy.is_empty(), "{}", fault.text),
        }
    }
    build(objects);
}

fn build(objects: Vec<Object>) {
    let keeper = Keeper::new(Settings { clusters: vec!["cluster1".into()], ..Settings::default() });
    let mut changes: Vec<Change> = objects.into_iter().map(here).collect();
    changes.push(Change::Synced { cluster: LOCAL });
    keeper.apply(changes);
    assert!(keeper.snapshot().load().synced, "the first complete state is in");
    assert!(!keeper.is_torn(), "a defect stopped the table");
    keeper.look(|world, _| {
        for report in world.reports() {
            assert!(!report.text.is_empty() && !report.remedy.is_empty(), "{report:?} says nothing");
        }
    });
}

/// A saved state: refused with a reason, or objects. Its body is read without its checksum, too, as no fuzzer finds one.
pub fn saved(octets: &[u8]) {
    let identity = Identity { cluster: "cluster1".into(), node: Some("node1".into()) };
    if let Err(error) = saved::parse(Path::new("state"), octets, &identity) {
        assert!(error.to_string().contains("state"), "{error}");
    }
    if let Ok(clusters) = body::decode(octets) {
        build(clusters.into_iter().take(1).flat_map(|SavedCluster { objects, .. }| objects).collect());
    }
}

/// A configuration: one that can be used, or one line that names the file.
pub fn config(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let read = Config::parse(text, "segdns.yaml", |name| (name == "NODE_NAME").then(|| "node1".into()));
    match read.and_then(|config| config.validate().map(|()| config)) {
        Ok(config) => drop((config.settings(), config.clusters())),
        Err(error) => {
            let error = error.to_string();
            assert!(error.starts_with("segdns.yaml") && error.lines().count() == 1, "{error:?}");
        }
    }
}
