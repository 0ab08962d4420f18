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

/// A pod of namespace shop.
const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 5));
/// Search domains, and the name itself.
const SPELLINGS: u64 = 5;
/// A and AAAA.
const FAMILIES: u64 = 2;

/// Two names of one kind, and what they cost.
struct Case {
    what: &'static str,
    /// Asked first: nothing is known yet. An external one has the top-level domain of the next.
    first: &'static str,
    /// Asked then, twice.
    name: &'static str,
    addresses: &'static [&'static str],
    /// How many spellings are asked until one exists.
    spellings: u64,
    /// How many of them may exist, for all that Kubernetes tells: they have to be put to an upstream.
    possible: u64,
    /// Of how many kinds the others are: of each the upstream has to be asked for one, to learn what denies it.
    denials: u64,
}

const CASES: [Case; 5] = [
    Case {
        what: "an external name",
        first: "hub.docker.com",
        name: "api.github.com",
        addresses: &["192.0.2.10", "2001:db8::10"],
        spellings: SPELLINGS,
        // Below the node's search domain, and as it is.
        possible: 2,
        // Below `svc.cluster.local`, and below `com.cluster.local`.
        denials: 2,
    },
    // The table answers, whatever the search domain.
    Case {
        what: "a mesh name",
        first: "api.shop.mesh.acme",
        name: "web.shop.mesh.acme",
        addresses: &["10.0.0.1"],
        spellings: 1,
        possible: 0,
        denials: 0,
    },
    Case {
        what: "a Service of its namespace",
        first: "api",
        name: "web",
        addresses: &["10.0.0.1"],
        spellings: 1,
        possible: 1,
        denials: 0,
    },
    Case {
        what: "a Service of a namespace",
        first: "api.shop",
        name: "web.shop",
        addresses: &["10.0.0.1"],
        spellings: 2,
        possible: 1,
        denials: 1,
    },
    Case {
        what: "a Service's full name",
        first: "api.shop.svc.cluster.local",
        name: "web.shop.svc.cluster.local",
        addresses: &["10.0.0.1"],
        spellings: SPELLINGS,
        possible: 2,
        denials: 2,
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
    pod::write_etc(dir.path(), NODE4);
    let mut table = String::from(
        "| look-up | of | `autopath` | queries of the pod | upstream: the first of all | the next | again |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for libc in Libc::ALL {
        let Some(program) = Program::compile(libc, dir.path()) else {
            assert!(std::env::var_os("CI").is_none(), "CI has to have a compiler for {}", libc.word());
            say(&format!("SKIPPED: no compiler for {}", libc.word()));
            continue;
        };
        for (case, on) in CASES.iter().flat_map(|case| [false, true].map(|on| (case, on))) {
            let server = node.start(on);
            let names = [case.first, case.name, case.name];
            let costs = names.map(|name| node.look_up(&server, &program, name, case.addresses));
            server.stop().expect("it ends");
            let Case { what, name, .. } = case;
            let (libc, asked, [first, next, again]) = (libc.word(), costs[1].asked, costs.map(|cost| cost.upstream));
            let on_or_off = if on { "on" } else { "off" };
            table += &format!("| {what}, `{name}` | {libc} | {on_or_off} | {asked} | {first} | {next} | {again} |\n");
            case.check(libc, on, costs);
        }
    }
    say(&format!("\n{table}"));
}

impl Case {
    /// The first look-up of its kind, the next one, and that again.
    fn check(&self, libc: &str, autopath: bool, costs: [Cost; 3]) {
        let at = format!("{} with {libc}, autopath {autopath}: {costs:?}", self.name);
        let asked = FAMILIES * if autopath { 1 } else { self.spellings };
        assert_eq!(costs.map(|cost| cost.asked), [asked; 3], "{at}");
        let [first, next, again] = costs.map(|cost| cost.upstream);
        assert_eq!(again, 0, "{at}: it is cached");
        // Both families may ask for a denial at the same time, or one profits from the other's.
        let possible = FAMILIES * self.possible;
        assert!((possible..=possible + FAMILIES * self.denials).contains(&first), "{at}: first");
        assert!(next <= possible && (autopath || next == possible), "{at}: next");
    }
}

impl Node {
    fn new(pods: Pods) -> Self {
        let mut world = World::outside();
        for (name, rtype, value) in [
            ("api.github.com", "A", "192.0.2.10"),
            ("api.github.com", "AAAA", "2001:db8::10"),
            ("hub.docker.com", "A", "192.0.2.10"),
            ("hub.docker.com", "AAAA", "2001:db8::10"),
            ("web.shop.svc.cluster.local", "A", "10.0.0.1"),
            ("api.shop.svc.cluster.local", "A", "10.0.0.1"),
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
        fed.api.apply_all(["web", "api"].map(|name| service("shop", name, "segment", "10.0.0.1")));
        let mut pod = objects::pod("shop", "a", POD);
        objects::merge(&mut pod, &json!({"spec": {"dnsPolicy": "ClusterFirst"}}));
        fed.api.apply(pod);
        Self { pods, fed, upstream }
    }

    fn start(&self, autopath: bool) -> Server {
        let mut config = self.fed.config.clone();
        if autopath {
            objects::merge(&mut config, &json!({"autopath": true}));
        }
        start(&config, &self.fed)
    }

    fn look_up(&self, server: &Server, program: &Program, name: &str, addresses: &[&str]) -> Cost {
        let before = (asked(server), self.upstream.count());
        let found = program.look_up(|command| self.pods.inside(|| command.output())?, name);
        assert_eq!(found, addresses, "{name}: {}", server.tail());
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
