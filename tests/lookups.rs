//! How many queries it costs a program in a pod to look up a name, with glibc and with musl: those that segdns has to answer, and
//! those that reach its upstream. A real `getaddrinfo` asks, from a pod's address, with a pod's `/etc/resolv.conf`
//! (`ndots:5`, four search domains); segdns is fed by an API server.
//!
//! `cargo test --test lookups -- --nocapture` prints the table.

mod support;

#[path = "lookups/pod.rs"]
mod pod;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use pod::{Libc, Program};
use serde_json::{Value, json};
use support::fed::{Fed, Lab, base};
use support::netns::{self, NODE4, Pods};
use support::objects::{self, service};
use support::server::{Server, http_get};
use support::upstream::Upstream;
use support::world::World;
use support::{HERE, UPSTREAM, free_port};

/// Whether the cache is there, and names that cannot exist cost nothing.
const CACHE: bool = false;
/// Whether `autopath` is there.
const AUTOPATH: bool = false;

/// A pod of namespace shop.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 5));
/// Search domains, and the name itself.
const SPELLINGS: u64 = 5;
/// A and AAAA.
const FAMILIES: u64 = 2;

/// A name, and what it costs.
struct Case {
    what: &'static str,
    name: &'static str,
    addresses: &'static [&'static str],
    /// How many spellings are asked until one exists.
    spellings: u64,
    /// How many of the spellings asked have to be put to the upstream if it is known what cannot exist.
    outside: u64,
    /// Whether anything of it is the upstream's to answer; if not, the table answers.
    forwarded: bool,
}

const CASES: [Case; 5] = [
    Case {
        what: "an external name",
        name: "api.github.com",
        addresses: &["192.0.2.10", "2001:db8::10"],
        spellings: SPELLINGS,
        // Below the node's search domain, and as it is.
        outside: 2,
        forwarded: true,
    },
    Case {
        what: "a mesh name",
        name: "web.shop.mesh.acme",
        addresses: &["10.0.0.1"],
        spellings: 1,
        outside: 0,
        forwarded: false,
    },
    Case {
        what: "a Service of its namespace",
        name: "web",
        addresses: &["10.0.0.1"],
        spellings: 1,
        outside: 1,
        forwarded: true,
    },
    Case {
        what: "a Service of a namespace",
        name: "web.shop",
        addresses: &["10.0.0.1"],
        spellings: 2,
        outside: 1,
        forwarded: true,
    },
    Case {
        what: "a Service's full name",
        name: "web.shop.svc.cluster.local",
        addresses: &["10.0.0.1"],
        spellings: SPELLINGS,
        // Below the node's search domain, and as it is.
        outside: 2,
        forwarded: true,
    },
];

/// What one look-up cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    /// Queries that segdns had.
    asked: u64,
    /// Queries that the upstream had.
    upstream: u64,
}

/// One of everything, in the node's network namespace.
struct Node {
    pods: Pods,
    fed: Fed,
    upstream: Upstream,
}

#[test]
fn a_look_up_costs_as_many_queries_as_the_readme_says() {
    let pods = match Pods::new(&[POD]) {
        Ok(pods) => pods,
        Err(why) if netns::may_skip() => return say(&format!("SKIPPED: {why}")),
        Err(why) => panic!("{why}"),
    };
    // A thread of its own: it moves to another network namespace.
    let count = std::thread::spawn(move || {
        pods.enter_node().expect("the node's namespace");
        count(&Node::new(pods));
    });
    if let Err(panic) = count.join() {
        std::panic::resume_unwind(panic);
    }
}

fn count(node: &Node) {
    let dir = tempfile::tempdir().expect("a directory");
    let autopath: &[bool] = if AUTOPATH { &[false, true] } else { &[false] };
    let mut table = String::from(
        "| look-up | of | `autopath` | queries of the pod | upstream, cold | upstream, warm |\n|---|---|---|---|---|---|\n",
    );
    for libc in Libc::ALL {
        let Some(program) = Program::compile(libc, dir.path()) else {
            assert!(std::env::var_os("CI").is_none(), "CI has to have a compiler for {}", libc.word());
            say(&format!("SKIPPED: no compiler for {}", libc.word()));
            continue;
        };
        for (case, on) in CASES.iter().flat_map(|case| autopath.iter().map(move |on| (case, *on))) {
            let server = node.start(on);
            let cold = node.look_up(&server, &program, case);
            let warm = node.look_up(&server, &program, case);
            server.stop().expect("it ends");
            let Case { what, name, .. } = case;
            let (libc, asked) = (libc.word(), cold.asked);
            let on_or_off = if on { "on" } else { "off" };
            table += &format!(
                "| {what}, `{name}` | {libc} | {on_or_off} | {asked} | {} | {} |\n",
                cold.upstream, warm.upstream
            );
            case.check(libc, on, cold, warm);
        }
    }
    say(&format!("\n{table}"));
}

impl Case {
    fn check(&self, libc: &str, autopath: bool, cold: Cost, warm: Cost) {
        let at = format!("{} with {libc}, autopath {autopath}: cold {cold:?}, warm {warm:?}", self.name);
        let asked = FAMILIES * if autopath { 1 } else { self.spellings };
        assert_eq!((cold.asked, warm.asked), (asked, asked), "{at}");
        if !self.forwarded {
            assert_eq!((cold.upstream, warm.upstream), (0, 0), "{at}");
        } else if CACHE {
            // What cannot exist has to be asked for once, to learn the zone's SOA; two families may do so at the same time.
            let least = FAMILIES * self.outside;
            let most = least + if self.spellings == 1 { 0 } else { FAMILIES };
            assert!((least..=most).contains(&cold.upstream), "{at}: {least} to {most} upstream");
            assert_eq!(warm.upstream, 0, "{at}");
        } else {
            assert_eq!((cold.upstream, warm.upstream), (asked, asked), "{at}");
        }
    }
}

impl Node {
    fn new(pods: Pods) -> Self {
        let mut world = World::outside();
        for (name, rtype, value) in [
            ("api.github.com", "A", "192.0.2.10"),
            ("api.github.com", "AAAA", "2001:db8::10"),
            ("web.shop.svc.cluster.local", "A", "10.0.0.1"),
        ] {
            world.add(name, rtype, value);
        }
        let upstream = Upstream::start(world, SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
        let to = upstream.address();
        let config = json!({
            "listen": [SocketAddr::new(NODE4, 53)],
            "admin": SocketAddr::new(HERE, free_port()),
            "sources": {"snapshot": null},
            "forward": [
                {"zone": "cluster.local", "upstreams": [to], "tcp": true},
                {"zone": ".", "upstreams": [to]},
            ],
        });
        let fed = Fed::empty(Lab::Double, &config);
        fed.api.apply_all(base());
        fed.api.apply_all([service("shop", "web", "segment", "10.0.0.1"), objects::pod("shop", "a", POD)]);
        Self { pods, fed, upstream }
    }

    fn start(&self, autopath: bool) -> Server {
        let mut config = self.fed.config.clone();
        if autopath {
            objects::merge(&mut config, &json!({"autopath": true}));
        }
        start(&config, &self.fed)
    }

    fn look_up(&self, server: &Server, program: &Program, case: &Case) -> Cost {
        let before = (asked(server), self.upstream.count());
        assert_eq!(program.look_up(&self.pods, case.name), case.addresses, "{}: {}", case.name, server.tail());
        Cost { asked: asked(server) - before.0, upstream: self.upstream.count() - before.1 }
    }
}

fn start(config: &Value, fed: &Fed) -> Server {
    let mut server = Server::spawn_fed(config, Some(&fed.kubeconfig())).expect("a process");
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    server
}

/// How many queries the server says that it had.
fn asked(server: &Server) -> u64 {
    let (_, text) = http_get(server.admin(), "/metrics").expect("metrics");
    let lines = text.lines().filter(|line| line.starts_with("segdns_dns_requests_total{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// A line that libtest does not capture.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "lookups: {what}");
}
