//! A whole node, of network namespaces: two pods of different segments, the node itself, and an upstream beyond it.
//!
//! ```text
//! pod a 10.244.1.11 --veth--+
//!                           node: 169.254.20.10 (segdns setup, segdns serve) --veth-- upstream 192.0.2.2
//! pod b 10.244.1.12 --veth--+
//! ```
//!
//! A pod has one route, its default route, as from most CNI plugins; so 169.254.20.10 is reached through it, and segdns knows the
//! pod by its address. Names are looked up by `dig`, and by glibc and musl with a pod's `/etc/resolv.conf`.

mod support;

#[path = "lookups/pod.rs"]
mod pod;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pod::{Libc, Program};
use serde_json::json;
use support::netns::{self, Place};
use support::objects::{self, namespace, segment, service};
use support::own::Own;
use support::server::Server;
use support::upstream::Upstream;
use support::world::World;
use support::{HERE, binary, free_port, run};
use tempfile::TempDir;

/// Where pods ask.
const DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));
/// A pod of namespace shop, which is of the cluster's segment acme.
const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 11));
/// A pod of namespace migration, which is of segment acquired.
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 12));
/// Beyond the node.
const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// How long anything may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

/// How often an address is taken away.
const TURNS: usize = 4;

/// Services that only their own segment sees, and their addresses.
const WEB: (&str, &str) = ("web.shop.mesh.acme", "10.96.1.1");
const LEDGER: (&str, &str) = ("ledger.migration.mesh.acquired", "10.96.1.2");
/// A name of the world outside.
const OUTSIDE: (&str, &str) = ("www.example.com", "192.0.2.80");

/// The wires, in the node's namespace. Pods and upstream go with it.
struct Node {
    node: Place,
    a: Place,
    b: Place,
    beyond: Place,
}

impl Node {
    fn new() -> Result<Self, String> {
        let this = Self { node: Place::new()?, a: Place::new()?, b: Place::new()?, beyond: Place::new()? };
        for (end, place, address) in [("poda", &this.a, A), ("podb", &this.b, B)] {
            this.node.plug(end, place, "eth0");
            // No subnet: the gateway is on the link, everything else is behind it.
            this.node.ip(&format!("addr add 10.244.1.1/32 dev {end}"));
            this.node.ip(&format!("route add {address} dev {end}"));
            place.ip(&format!("addr add {address}/32 dev eth0"));
            place.ip("route add 10.244.1.1 dev eth0");
            place.ip("route add default via 10.244.1.1");
        }
        this.node.plug("up0", &this.beyond, "eth0");
        this.node.ip("addr add 192.0.2.1/30 dev up0");
        this.beyond.ip(&format!("addr add {UPSTREAM}/30 dev eth0"));
        Ok(this)
    }

    fn upstream(&self) -> Upstream {
        let mut world = World::outside();
        world.add("web.shop.svc.cluster.local", "A", "10.96.1.1");
        let start = || Upstream::start(world, SocketAddr::new(UPSTREAM, 53));
        self.beyond.inside(start).and_then(|upstream| upstream).expect("an upstream")
    }
}

/// Objects of one cluster, as `kubectl get` would print them.
fn manifests() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let objects = [
        segment("acme", "mesh.acme"),
        segment("acquired", "mesh.acquired"),
        namespace("istio-system", Some("acme")),
        namespace("shop", None),
        namespace("migration", Some("acquired")),
        service("shop", "web", "segment", WEB.1),
        service("migration", "ledger", "segment", LEDGER.1),
        objects::pod("shop", "a", A),
        objects::pod("migration", "b", B),
    ];
    objects::write(dir.path(), "all.yaml", &objects);
    dir
}

fn serve(objects: &TempDir) -> Server {
    let config = json!({
        "listen": [SocketAddr::new(DNS, 53)],
        "admin": SocketAddr::new(HERE, free_port()),
        "sources": {"manifests": [{"cluster": "cluster1", "path": objects.path()}]},
        "forward": [{"zone": ".", "upstreams": [SocketAddr::new(UPSTREAM, 53)]}],
        "drain": {"lameduck": "0s", "deadline": "5s"},
    });
    Server::start(&config).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a test in the node's namespace, with its addresses made by `segdns setup` and these flags.
fn on_a_node(flags: &[&str], test: impl FnOnce(&Node) + Send) {
    let node = match Node::new() {
        Ok(node) => node,
        Err(why) if netns::may_skip() => return say(&format!("SKIPPED: {why}")),
        Err(why) => panic!("{why}"),
    };
    let prepared = || {
        let setup = run(&[&["setup"], flags].concat());
        assert_eq!((setup.status, setup.err.as_str()), (0, ""), "{setup:?}");
        test(&node);
    };
    node.node.inside(prepared).expect("a namespace");
}

/// A line that libtest does not capture.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "simulated: {what}");
}

fn inside(place: &Place, command: &mut Command) -> Output {
    place.inside(|| command.output()).and_then(|output| output).expect("it runs")
}

/// Status and addresses, as `dig` in this namespace shows them; `None`: there is no dig.
fn dig(place: &Place, name: &str, more: &[&str]) -> Option<(String, Vec<String>)> {
    let server = format!("@{DNS}");
    let mut command = Command::new("dig");
    command.args([&server, name, "A", "+tries=1", "+time=5"]).args(more);
    let output = place.inside(|| command.output()).expect("a namespace").ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or(&text);
    let record = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.len() == 5 && fields[3] == "A" && !line.starts_with(';')).then(|| fields[4].to_owned())
    };
    Some((status.to_owned(), text.lines().filter_map(record).collect()))
}

#[test]
fn pods_and_the_node_are_known_by_their_addresses() {
    on_a_node(&[], |node| {
        let objects = manifests();
        let (_upstream, server) = (node.upstream(), serve(&objects));
        if dig(&node.a, OUTSIDE.0, &[]).is_none() {
            assert!(std::env::var_os("CI").is_none(), "CI has to have dig");
            return say("SKIPPED: no `dig` (apt-get install dnsutils)");
        }
        let found = |address: &str| ("NOERROR".to_owned(), vec![address.to_owned()]);
        let absent = || ("NXDOMAIN".to_owned(), Vec::new());
        for (who, place, web, ledger) in [
            ("pod a, of segment acme", &node.a, found(WEB.1), absent()),
            ("pod b, of segment acquired", &node.b, absent(), found(LEDGER.1)),
            ("the node, of the cluster's segment acme", &node.node, found(WEB.1), absent()),
        ] {
            for transport in ["+notcp", "+tcp"] {
                let asked = |name| dig(place, name, &[transport]).expect("dig");
                assert_eq!(asked(WEB.0), web, "{who}, {transport}: {}", server.tail());
                assert_eq!(asked(LEDGER.0), ledger, "{who}, {transport}");
                assert_eq!(asked(OUTSIDE.0), found(OUTSIDE.1), "{who}, {transport}");
            }
        }
        server.stop().expect("it ends");
    });
}

#[test]
fn glibc_and_musl_find_names_through_the_default_route() {
    on_a_node(&[], |node| {
        let objects = manifests();
        let (_upstream, server) = (node.upstream(), serve(&objects));
        let dir = tempfile::tempdir().expect("a directory");
        pod::write_etc(dir.path(), DNS);
        for libc in Libc::ALL {
            let Some(program) = Program::compile(libc, dir.path()) else {
                assert!(std::env::var_os("CI").is_none(), "CI has to have a compiler for {}", libc.word());
                say(&format!("SKIPPED: no compiler for {}", libc.word()));
                continue;
            };
            let ask = |place: &Place, name| program.look_up(|command| Ok(inside(place, command)), name);
            let at = |name| format!("{name} with {}: {}", libc.word(), server.tail());
            assert_eq!(ask(&node.a, WEB.0), [WEB.1], "{}", at(WEB.0));
            assert_eq!(ask(&node.b, LEDGER.0), [LEDGER.1], "{}", at(LEDGER.0));
            assert_eq!(ask(&node.a, "web"), [WEB.1], "{}", at("web"));
            assert_eq!(ask(&node.a, OUTSIDE.0), [OUTSIDE.1, "2001:db8::80"], "{}", at(OUTSIDE.0));
            // In words of the C library: that there is none.
            let hidden = ask(&node.a, LEDGER.0);
            assert!(hidden.len() == 1 && hidden[0].parse::<IpAddr>().is_err(), "{}: {hidden:?}", at(LEDGER.0));
        }
        assert_eq!(getent(&node.a, &dir, WEB.0), [WEB.1]);
        assert_eq!(getent(&node.b, &dir, LEDGER.0), [LEDGER.1]);
        assert_eq!(getent(&node.b, &dir, WEB.0), Vec::<String>::new());
        server.stop().expect("it ends");
    });
}

/// Addresses that `getent ahosts` shows in a pod.
fn getent(place: &Place, etc: &TempDir, name: &str) -> Vec<String> {
    let output = inside(place, &mut pod::with_etc(etc.path(), OsStr::new("getent"), &["ahosts", name]));
    let first = |line: &str| line.split(' ').next().map(str::to_owned);
    let mut all: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().filter_map(first).collect();
    all.dedup();
    all
}

#[test]
fn a_server_goes_on_where_its_address_was_taken_away_and_restored() {
    on_a_node(&[], |node| {
        let objects = manifests();
        let (_upstream, mut server) = (node.upstream(), serve(&objects));
        assert!(answered_soon(&node.a, SOON));
        let held = "addr del 169.254.20.10/32 dev";
        let on_lo = Command::new("ip").args(["address", "show", "dev", "lo"]).output().expect("ip");
        let on_lo = String::from_utf8_lossy(&on_lo.stdout).contains("169.254.20.10");
        let interface = if on_lo { "lo" } else { "segdns" };
        // By nobody: so it is the watch that brings it back below.
        node.node.ip(&format!("{held} {interface}"));
        assert!(!answered_soon(&node.a, Duration::from_millis(300)));
        let watch = Command::new(binary()).args(["setup", "--watch"]).stdout(Stdio::null()).spawn().expect("it runs");
        let _watch = Own(watch);
        assert!(answered_soon(&node.a, SOON), "{}", server.tail());
        let took = (0..TURNS).map(|_| {
            node.node.ip(&format!("{held} {interface}"));
            let start = Instant::now();
            assert!(answered_soon(&node.a, SOON), "{}", server.tail());
            start.elapsed()
        });
        // The first is that of a watch that may not have begun yet. Of the others the quickest counts, as all of this may have to wait
        // for a processor; each would take 10 s if the watch did not hear of it.
        let quickest = took.skip(1).min().expect("some");
        assert!(quickest < Duration::from_secs(1), "{quickest:?}");
        assert!(server.ended().is_none());
        server.stop().expect("it ends");
    });
}

/// Whether it is answered within this time.
fn answered_soon(place: &Place, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let query = support::wire::query(support::client::next_id(), WEB.0, 1, true);
        let ask = || -> std::io::Result<Vec<u8>> {
            let socket = std::net::UdpSocket::bind(SocketAddr::new(A, 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            socket.connect(SocketAddr::new(DNS, 53))?;
            socket.send(&query)?;
            let mut answer = vec![0; 512];
            socket.recv(&mut answer)?;
            Ok(answer)
        };
        if place.inside(ask).expect("a namespace").is_ok_and(|answer| answer[3] & 15 == 0 && answer[7] == 1) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
    }
}

/// Whether conntrack of this thread's namespace has seen packets of port 53 at 169.254.20.10.
fn tracked() -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").expect("conntrack's table");
    table.lines().any(|line| line.contains("169.254.20.10") && line.contains("dport=53 "))
}

#[test]
fn conntrack_sees_nothing_of_dns_with_notrack() {
    for (flags, seen) in [(&[][..], true), (&["--notrack"][..], false)] {
        on_a_node(flags, |node| {
            // conntrack runs only where a rule asks for it, as kube-proxy's do.
            let rules = "add table inet proxy; add chain inet proxy in { type filter hook input priority 0; }; \
                         add rule inet proxy in ct state new counter";
            match Command::new("nft").arg(rules).output() {
                Err(_) => return say("SKIPPED: no `nft` (apt-get install nftables)"),
                Ok(output) => assert!(output.status.success(), "{output:?}"),
            }
            if !std::path::Path::new("/proc/thread-self/net/nf_conntrack").exists() {
                return say("SKIPPED: this kernel does not show conntrack's table");
            }
            let objects = manifests();
            let (_upstream, server) = (node.upstream(), serve(&objects));
            assert!(answered_soon(&node.a, SOON), "{}", server.tail());
            assert_eq!(tracked(), seen, "{flags:?}");
            server.stop().expect("it ends");
        });
    }
}
