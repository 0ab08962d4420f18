//! `autopath: true` through the binary: what one question of a pod is answered, and what that asks of upstreams.

mod support;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use serde_json::{Value, json};
use support::client::{Client, Proto, next_id};
use support::objects::{namespace, pod, segment, service};
use support::server::Server;
use support::world::World;
use support::{HERE, UPSTREAM, free_port, run, wire};
use tempfile::TempDir;

/// Pods: of shop, and one more with `dnsConfig`; of far, which is another segment's; of shop, with its own resolver.
const SHOP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 0, 1));
const MORE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 0, 2));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 0, 3));
const LONER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 0, 4));

/// An upstream that keeps the order of what it is asked; names that begin with `broken` fail, with `mute` are not answered.
struct Recorder {
    asked: Arc<Mutex<Vec<String>>>,
    closing: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Recorder {
    fn start(world: World) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(UPSTREAM, free_port())).expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let address = socket.local_addr().expect("an address");
        let (asked, closing) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (log, stop) = (Arc::clone(&asked), Arc::clone(&closing));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(answer) = answer(&world, &log, &buffer[..length]) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Self { asked, closing, address, thread: Some(thread) }
    }

    /// What it was asked since the last time, without the type and without segdns's own questions.
    fn news(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().filter(|name| !name.starts_with("segdns-loop-probe-")).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

fn answer(world: &World, log: &Mutex<Vec<String>>, query: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(query).ok()?;
    let question = message.queries.first()?;
    let (name, rtype) = (question.name.to_ascii(), u16::from(question.query_type));
    let folded = name.to_lowercase().trim_end_matches('.').to_owned();
    let first_form = folded.ends_with(".shop.svc.cluster.local") || folded.ends_with(".far.svc.cluster.local");
    let (mute, broken) = (folded.starts_with("mute"), folded.starts_with("broken"));
    log.lock().unwrap_or_else(PoisonError::into_inner).push(folded);
    if mute && !first_form {
        return None;
    }
    let mut said = world.answer(&name, &wire::type_text(rtype));
    if broken && !first_form {
        said.rcode = 2;
    }
    let count = |all: &[Vec<u8>]| u8::try_from(all.len()).expect("a short answer");
    let mut out = query[..2].to_vec();
    out.extend([0x84 | (query[2] & 1), 0x80 | said.rcode, 0, 1]);
    out.extend([0, count(&said.answers), 0, count(&said.authorities), 0, u8::from(message.edns.is_some())]);
    out.extend(&query[12..12 + wire::question_len(query)?]);
    out.extend([said.answers.concat(), said.authorities.concat()].concat());
    out.extend(if message.edns.is_some() { wire::opt() } else { Vec::new() });
    Some(out)
}

/// A server, what it asks, and the files it reads.
struct Lab {
    server: Server,
    upstream: Recorder,
    at: SocketAddr,
    admin: SocketAddr,
    _dir: TempDir,
}

fn labelled(mut object: Value, key: &str, value: &str) -> Value {
    support::objects::merge(&mut object, &json!({"metadata": {"labels": {key: value}}}));
    object
}

impl Lab {
    fn start(extra: &Value) -> Self {
        let mut world = World::outside();
        for (name, rtype, value) in [
            ("web.shop.svc.cluster.local", "A", "10.0.0.1"),
            ("web.far.svc.cluster.local", "A", "10.0.0.2"),
            ("here.corp.example", "A", "192.0.2.1"),
            ("more.pod.example", "A", "192.0.2.2"),
            ("text.example", "TXT", "\"x\""),
            ("short.svc.cluster.local", "A", "192.0.2.3"),
            ("q.corp", "TXT", "\"x\""),
            ("2.0.0.10.in-addr.arpa", "PTR", "web.far.svc.cluster.local."),
        ] {
            world.add(name, rtype, value);
        }
        let upstream = Recorder::start(world);
        let dir = tempfile::tempdir().expect("a directory");
        // Nobody listens there: the file is for its search line. The cluster's own domains in it are of another namespace.
        let resolv = dir.path().join("resolv.conf");
        std::fs::write(&resolv, "search kube-system.svc.cluster.local corp.example\nnameserver 127.77.9.9\n").unwrap();
        let with = |mut pod: Value, spec: Value| {
            support::objects::merge(&mut pod["spec"], &spec);
            pod
        };
        let alias = labelled(service("far", "s", "segment", "10.0.0.9"), "alias", "yes");
        let mut other = segment("other", "mesh.other");
        other["spec"]["aliases"] =
            json!([{"pattern": "{service}.corp", "selector": {"matchLabels": {"alias": "yes"}}}]);
        let objects = [
            other,
            namespace("istio-system", None),
            namespace("shop", None),
            namespace("far", Some("other")),
            alias,
            service("shop", "pub", "segment", "10.0.0.8"),
            namespace("more", None),
            labelled(service("more", "taken", "segment", "10.0.0.7"), "solo.io/service-takeover", "true"),
            pod("shop", "a", SHOP),
            with(pod("shop", "b", MORE), json!({"dnsConfig": {"searches": ["pod.example"]}})),
            pod("far", "c", FAR),
            with(pod("shop", "d", LONER), json!({"dnsPolicy": "None"})),
        ];
        let text: Vec<String> = objects.iter().map(|o| format!("{o:#}")).collect();
        let manifests = dir.path().join("here");
        std::fs::create_dir(&manifests).expect("a directory");
        std::fs::write(manifests.join("all.yaml"), text.join("\n---\n")).expect("written");
        let (at, admin) = (SocketAddr::new(HERE, free_port()), SocketAddr::new(HERE, free_port()));
        let mut config = json!({
            // Each question is to reach the upstream, where it is counted.
            "cache": {"bytes": 0},
            "listen": [at], "admin": admin, "autopath": true,
            "sources": {"manifests": [{"cluster": "here", "path": manifests}]},
            "forward": [
                {"zone": "cluster.local", "upstreams": [upstream.address]},
                {"zone": ".", "upstreams": [upstream.address, resolv]},
            ],
            "drain": {"lameduck": "0s", "deadline": "2s"},
        });
        support::objects::merge(&mut config, extra);
        Self { server: Server::start(&config).expect("a server"), upstream, at, admin, _dir: dir }
    }

    fn reply(&self, from: IpAddr, name: &str, rtype: u16, proto: Proto) -> Vec<u8> {
        Client::default().ask(from, self.at, proto, &wire::query(next_id(), name, rtype, true)).expect("an answer")
    }

    /// Response code, and the records of answer and authority in a line.
    fn ask(&self, from: IpAddr, name: &str, rtype: u16, proto: Proto) -> (u8, String) {
        let reply = self.reply(from, name, rtype, proto);
        let message = Message::from_vec(&reply).expect("a message");
        let tell = |r: &hickory_proto::rr::Record| {
            let data = if r.record_type().to_string() == "SOA" { String::new() } else { format!(" {}", r.data) };
            format!("{} {} {}{data}", r.name, r.ttl, r.record_type())
        };
        let all: Vec<String> = message.answers.iter().chain(&message.authorities).map(tell).collect();
        (reply[3] & 15, all.join("; "))
    }

    fn a(&self, from: IpAddr, name: &str) -> (u8, String) {
        self.ask(from, name, 1, Proto::Udp)
    }
}

#[test]
fn what_is_answered_in_an_upstreams_place_is_authoritative_as_without_a_search() {
    let lab = Lab::start(&json!({"policy": {"takeoverFor": "all"}}));
    let flags = |name: &str| {
        let reply = lab.reply(SHOP, name, 16, Proto::Udp);
        (reply[2] & 4 != 0, reply[3] & 15, Message::from_vec(&reply).expect("a message").authorities.len())
    };
    // Under takeover it exists, whatever the cluster DNS says of its other types (R19).
    assert_eq!(flags("taken.more.svc.cluster.local"), (true, 0, 1));
    assert_eq!(flags("taken.more.shop.svc.cluster.local"), (true, 0, 1));
    assert_eq!(flags("text.example.shop.svc.cluster.local"), (false, 0, 0));
}

/// The forms of a base that are tried for a pod of `shop`, up to and with the one that `last` begins.
fn forms(base: &str, last: &str) -> Vec<String> {
    let all = [".shop.svc.cluster.local", ".svc.cluster.local", ".cluster.local", ".corp.example", ""];
    let end = all.iter().position(|suffix| *suffix == last).expect("one of them");
    all[..=end].iter().map(|suffix| format!("{base}{suffix}")).collect()
}

#[test]
fn the_first_name_of_the_search_list_that_exists_is_answered_behind_a_cname() {
    let lab = Lab::start(&json!({}));
    for proto in [Proto::Udp, Proto::Tcp] {
        let asked = "www.example.com.shop.svc.cluster.local";
        let want = format!("{asked}. 5 CNAME www.example.com.; www.example.com. 30 A 192.0.2.80");
        assert_eq!(lab.ask(SHOP, asked, 1, proto), (0, want));
    }
    assert!(lab.upstream.news().starts_with(&forms("www.example.com", "")));
    // In the spelling that was asked, and through an upstream's own alias.
    let want = "Alias.EXAMPLE.com.shop.svc.cluster.LOCAL. 5 CNAME Alias.EXAMPLE.com.; Alias.EXAMPLE.com. 30 CNAME \
                www.example.com.; www.example.com. 30 A 192.0.2.80";
    assert_eq!(lab.a(SHOP, "Alias.EXAMPLE.com.shop.svc.cluster.LOCAL"), (0, want.to_owned()));
    lab.upstream.news();
    for (from, base, suffix, address) in [
        (SHOP, "short", ".svc.cluster.local", "192.0.2.3"),
        (SHOP, "web.far", ".svc.cluster.local", "10.0.0.2"),
        (SHOP, "here", ".corp.example", "192.0.2.1"),
    ] {
        let asked = format!("{base}.shop.svc.cluster.local");
        let want = format!("{asked}. 5 CNAME {base}{suffix}.; {base}{suffix}. 30 A {address}");
        assert_eq!(lab.a(from, &asked), (0, want));
        assert_eq!(lab.upstream.news(), forms(base, suffix));
    }
    let want = "more.shop.svc.cluster.local. 5 CNAME more.pod.example.; more.pod.example. 30 A 192.0.2.2";
    assert_eq!(lab.a(MORE, "more.shop.svc.cluster.local"), (0, want.to_owned()));
    // Without that search domain it does not exist.
    assert_eq!(lab.a(SHOP, "more.shop.svc.cluster.local").0, 3);
}

#[test]
fn a_name_that_exists_without_that_type_ends_the_search_and_one_that_exists_as_asked_needs_none() {
    let lab = Lab::start(&json!({"answers": {"ttl": 60}}));
    let (code, text) = lab.ask(SHOP, "text.example.shop.svc.cluster.local", 1, Proto::Udp);
    assert_eq!((code, text.as_str()), (0, "text.example.shop.svc.cluster.local. 30 CNAME text.example.; . 30 SOA"));
    lab.upstream.news();
    assert_eq!(lab.a(SHOP, "web.shop.svc.cluster.local"), (0, "web.shop.svc.cluster.local. 30 A 10.0.0.1".into()));
    assert_eq!(lab.upstream.news(), ["web.shop.svc.cluster.local"]);
    let text = lab.ask(SHOP, "web.shop.svc.cluster.local", 16, Proto::Udp);
    assert_eq!(text, (0, "cluster.local. 30 SOA".into()));
}

#[test]
fn where_nothing_exists_or_something_fails_the_question_as_asked_does_not_exist() {
    let lab = Lab::start(&json!({}));
    let nothing = (3, "cluster.local. 30 SOA".to_owned());
    assert_eq!(lab.a(SHOP, "nosuch.test.shop.svc.cluster.local"), nothing);
    assert_eq!(lab.upstream.news(), forms("nosuch.test", ""));
    // The second form fails: nobody knows whether it exists, so the caller's own search goes on.
    assert_eq!(lab.a(SHOP, "broken.example.com.shop.svc.cluster.local"), nothing);
    assert_eq!(lab.upstream.news(), forms("broken.example.com", ".svc.cluster.local"));
    let begun = Instant::now();
    assert_eq!(lab.a(SHOP, "mute.example.com.shop.svc.cluster.local"), nothing);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!lab.upstream.news().contains(&"mute.example.com.cluster.local".to_owned()));
    assert!(lab.server.stop().is_ok());
}

#[test]
fn only_the_first_form_of_a_pods_own_search_list_is_completed() {
    let lab = Lab::start(&json!({}));
    for (from, name) in [
        (LONER, "www.example.com.shop.svc.cluster.local"),
        (HERE, "www.example.com.shop.svc.cluster.local"),
        (FAR, "www.example.com.shop.svc.cluster.local"),
        (SHOP, "www.example.com.svc.cluster.local"),
        (SHOP, "www.example.com.cluster.local"),
        // Mesh names and apexes have forms of their own (R21).
        (SHOP, "mesh.other.shop.svc.cluster.local"),
    ] {
        lab.upstream.news();
        assert_eq!(lab.a(from, name), (3, "cluster.local. 30 SOA".to_owned()), "{name} from {from}");
        assert_eq!(lab.upstream.news(), [name], "from {from}");
    }
    let found = lab.a(SHOP, "pub.shop.mesh.internal.shop.svc.cluster.local");
    assert!(found.0 == 0 && found.1.contains("10.0.0.8"), "{found:?}");
    assert!(lab.upstream.news().is_empty());
    let off = Lab::start(&json!({"autopath": false}));
    assert_eq!(off.a(SHOP, "www.example.com.shop.svc.cluster.local").0, 3);
}

#[test]
fn each_pod_gets_its_own_namespaces_answer_in_whatever_order_they_ask() {
    for order in [[SHOP, FAR], [FAR, SHOP]] {
        let lab = Lab::start(&json!({}));
        for from in order.into_iter().chain(order) {
            let (own, other, address) =
                if from == SHOP { ("shop", "far", "10.0.0.1") } else { ("far", "shop", "10.0.0.2") };
            let asked = format!("web.{own}.svc.cluster.local");
            assert_eq!(lab.a(from, &asked), (0, format!("{asked}. 30 A {address}")), "from {from}");
            let base = format!("here.{own}.svc.cluster.local");
            let want = format!("{base}. 5 CNAME here.corp.example.; here.corp.example. 30 A 192.0.2.1");
            assert_eq!(lab.a(from, &base), (0, want), "from {from}");
            assert_eq!(lab.a(from, &format!("here.{other}.svc.cluster.local")).0, 3, "from {from}");
        }
    }
}

#[test]
fn hidden_names_are_completed_as_absent_ones_with_the_same_questions() {
    let lab = Lab::start(&json!({"policy": {"clusterNames": "segment"}}));
    // A Service of a hidden namespace, an alias of one, and the reverse name of its address: to shop's pods they do not exist.
    let names = [("web.far", "web.foo"), ("s.corp", "z.corp"), ("2.0.0.10.in-addr.arpa", "8.0.0.10.in-addr.arpa")];
    for (hidden, absent) in names {
        let [one, two] = [hidden, absent].map(|base| {
            let reply = lab.reply(SHOP, &format!("{base}.shop.svc.cluster.local"), 1, Proto::Udp);
            let asked: Vec<String> = lab.upstream.news().iter().map(|name| name.replacen(base, "*", 1)).collect();
            (wire::core(&reply), asked)
        });
        assert_eq!(one, two, "{hidden} and {absent}");
        assert_eq!(one.0[1] & 15, 3, "NXDOMAIN");
    }
    assert_eq!(
        lab.a(FAR, "s.corp.far.svc.cluster.local").1,
        "s.corp.far.svc.cluster.local. 5 CNAME s.corp.; s.corp. 5 A 10.0.0.9"
    );
}

#[test]
fn explain_tells_what_is_tried() {
    let lab = Lab::start(&json!({}));
    let admin = lab.admin.to_string();
    let name = "www.example.com.shop.svc.cluster.local";
    let got = run(&["explain", name, "--from", &SHOP.to_string(), "--server", &admin, "-o", "json"]).json();
    let text = got["text"].as_str().unwrap_or_default();
    let want = "www.example.com.svc.cluster.local, www.example.com.cluster.local, www.example.com.corp.example, www.example.com.";
    assert!(text.contains("autopath") && text.contains(want), "{text}");
    let got = run(&["explain", name, "--from", &LONER.to_string(), "--server", &admin, "-o", "json"]).json();
    assert!(!got["text"].as_str().unwrap_or_default().contains("autopath"), "{got}");
}
