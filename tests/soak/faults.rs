//! What goes on meanwhile: objects that change, and everything around segdns that fails.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::load::{OUTSIDE, address, outside};
use super::oracle::{ADDRESSES, Label, NAMESPACES, Oracle, SERVICES, Service};
use crate::support::fed::{Fed, Lab};
use crate::support::objects::{namespace, pod, segment, service};
use crate::support::server::Server;
use crate::support::steady::metric;
use crate::support::upstream::Upstream;
use crate::support::world::World;
use crate::support::{UPSTREAM, free_port};

/// Between two changes of objects.
const EVERY: Duration = Duration::from_millis(50);
/// Between two faults.
const FAULT_EVERY: Duration = Duration::from_secs(3);
/// How long something is away.
const AWAY: Duration = Duration::from_millis(1500);
/// How long a new process may take until it is ready.
const READY: Duration = Duration::from_secs(60);
/// An upstream that was down is probed at least every five seconds, and this machine does other things, too.
const PROBED: Duration = Duration::from_secs(10);

/// Every kind of fault.
pub const KINDS: [&str; 6] = [
    "processes replaced",
    "API server restarted",
    "configurations read again",
    "upstream away",
    "API server away",
    "API server away, processes replaced and killed",
];

/// segdns, and all that it depends on.
pub struct Surroundings {
    pub fed: Fed,
    pub oracle: Arc<RwLock<Oracle>>,
    pub server: Server,
    pub done: BTreeMap<&'static str, u32>,
    random: StdRng,
    upstreams: [Option<Upstream>; 2],
    at: [SocketAddr; 2],
    next: usize,
    generation: u32,
    ttl: u32,
}

fn world() -> World {
    let mut world = World::outside();
    for number in 0..OUTSIDE {
        let (name, ip) = outside(number);
        world.add(&name, "A", &ip);
    }
    world
}

impl Surroundings {
    pub fn new(seed: u64) -> Self {
        let at = [free_port(), free_port()].map(|port| SocketAddr::new(UPSTREAM, port));
        let upstreams = at.map(|at| Some(Upstream::start(world(), at).expect("an upstream")));
        let fed = Fed::empty(
            Lab::Double,
            &json!({
                // What was saved may be older than what was answered last, which would be a fault of the oracle's, not of segdns.
                "sources": {"snapshot": null},
                "forward": [{"zone": ".", "upstreams": at}],
                "limits": {"workers": 2},
                "drain": {"lameduck": "0s", "deadline": "10s"},
            }),
        );
        fed.api.apply_all([segment("acme", "mesh.acme"), segment("other", "mesh.other")]);
        fed.api.apply(namespace("istio-system", Some("acme")));
        for (name, label) in NAMESPACES.into_iter().zip([None, Some("other"), None]) {
            fed.api.apply(namespace(name, label));
        }
        let server = fed.start();
        Self {
            fed,
            oracle: Arc::new(RwLock::new(Oracle::new())),
            server,
            done: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
            upstreams,
            at,
            next: 0,
            generation: 0,
            ttl: 5,
        }
    }

    fn oracle(&self) -> std::sync::RwLockWriteGuard<'_, Oracle> {
        self.oracle.write().expect("an oracle")
    }

    /// Changes only, for so long.
    pub fn run_without_faults(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.change();
            std::thread::sleep(EVERY);
        }
    }

    /// Changes and faults for so long.
    pub fn run(&mut self, time: Duration) {
        let begun = Instant::now();
        let mut fault = begun + FAULT_EVERY;
        while begun.elapsed() < time {
            self.change();
            if Instant::now() >= fault {
                self.fault();
                fault = Instant::now() + FAULT_EVERY;
            }
            std::thread::sleep(EVERY);
        }
        for at in 0..2 {
            self.upstream_back(at);
        }
    }

    /// Objects change while something is away.
    fn meanwhile(&mut self) {
        self.run_without_faults(AWAY);
    }

    fn change(&mut self) {
        let what = match self.random.random_range(0..10) {
            0..6 => self.change_service(),
            6..9 => self.change_pod(),
            _ => self.change_label(),
        };
        *self.done.entry(what).or_default() += 1;
    }

    fn change_service(&mut self) -> &'static str {
        let (ns, number) = (self.random.random_range(0..NAMESPACES.len()), self.random.random_range(0..SERVICES));
        let name = format!("svc-{number}");
        let there = self.oracle().service_now(ns, number).is_some();
        let since = Instant::now();
        if there && self.random.random_range(0..4) == 0 {
            self.fed.api.delete("v1", "Service", NAMESPACES[ns], &name);
            self.oracle().service(ns, number, None, since);
            return "Services deleted";
        }
        let scope = ["global", "segment", "cluster"].choose(&mut self.random).copied().unwrap_or_default();
        let [a, b]: [u8; 2] = self.random.random();
        let ip = format!("10.{}.{a}.{b}", 100 + ns);
        self.fed.api.apply(service(NAMESPACES[ns], &name, scope, &ip));
        self.oracle().service(ns, number, Some(Service { scope, ip }), since);
        "Services put"
    }

    /// An address goes from a pod to nobody, or from nobody to a new pod of another namespace.
    fn change_pod(&mut self) -> &'static str {
        let number = self.random.random_range(0..ADDRESSES);
        let (held, since) = (self.oracle().pod_now(number), Instant::now());
        if let Some(ns) = held {
            self.fed.api.delete("v1", "Pod", NAMESPACES[ns], &format!("p{number}"));
            self.oracle().pod(number, None, since);
            return "Pods deleted";
        }
        let ns = self.random.random_range(0..NAMESPACES.len());
        self.fed.api.apply(pod(NAMESPACES[ns], &format!("p{number}"), address(number)));
        self.oracle().pod(number, Some(ns), since);
        "addresses given to new Pods"
    }

    fn change_label(&mut self) -> &'static str {
        let label = [Label::Absent, Label::Other, Label::Broken].choose(&mut self.random).copied();
        let (label, since) = (label.unwrap_or(Label::Absent), Instant::now());
        self.fed.api.apply(namespace(NAMESPACES[2], label.text()));
        self.oracle().label(2, label, since);
        "Namespaces moved to another segment"
    }

    /// All kinds in turn, so that each comes up in a short run, too.
    fn fault(&mut self) {
        let what = match self.next % 6 {
            0 => self.replace(),
            1 => self.restart_api(),
            2 => self.reconfigure(),
            3 => self.upstream_away(),
            4 => self.api_away(),
            _ => self.api_away_and_replace(),
        };
        self.next += 1;
        *self.done.entry(what).or_default() += 1;
    }

    /// A new process takes over from the old one.
    fn replace(&mut self) -> &'static str {
        let mut new = self.fed.spawn();
        let end = Instant::now() + READY;
        while !new.log().lines().any(|line| line.starts_with("ready ")) {
            assert!(new.ended().is_none(), "the new process ended: {}", new.tail());
            assert!(Instant::now() < end, "the new process is not ready after {READY:?}: {}", new.tail());
            self.change();
            std::thread::sleep(EVERY);
        }
        let old = std::mem::replace(&mut self.server, new);
        old.stop().expect("the old process ends");
        "processes replaced"
    }

    fn reconfigure(&mut self) -> &'static str {
        self.ttl = if self.ttl == 5 { 7 } else { 5 };
        self.fed.config["answers"]["ttl"] = self.ttl.into();
        self.server.configure(&self.fed.config);
        self.server.signal(libc::SIGHUP);
        "configurations read again"
    }

    fn restart_api(&mut self) -> &'static str {
        self.oracle().trouble_begins();
        if self.generation.is_multiple_of(2) {
            self.fed.api.double().restart(Duration::from_millis(300), Duration::from_millis(300));
        } else {
            self.fed.api.double().cut_mid_line();
        }
        self.generation += 1;
        self.oracle().trouble_ends();
        "API server restarted"
    }

    fn api_away(&mut self) -> &'static str {
        self.oracle().trouble_begins();
        self.fed.api.double().stop();
        self.meanwhile();
        self.fed.api.double().compact();
        self.fed.api.double().resume();
        self.oracle().trouble_ends();
        "API server away"
    }

    fn api_away_and_replace(&mut self) -> &'static str {
        self.oracle().trouble_begins();
        self.fed.api.double().stop();
        let new = self.fed.spawn();
        self.meanwhile();
        self.fed.api.double().resume();
        // It had nothing to answer from, so it never took anything over.
        drop(new);
        self.replace();
        self.oracle().trouble_ends();
        "API server away, processes replaced and killed"
    }

    /// One of the two is away until the other one's turn, which begins when the first is used again: with both away SERVFAIL is
    /// right (R23).
    fn upstream_away(&mut self) -> &'static str {
        let at = usize::from(self.generation % 2 == 1);
        self.upstream_back(1 - at);
        let back = Instant::now();
        let to = format!("to=\"{}\"", self.at[1 - at]);
        while metric(&self.server, "segdns_forward_healthy", &[&to]) < 1.0 {
            assert!(back.elapsed() < PROBED, "the upstream is back for {PROBED:?}, and not used");
            self.run_without_faults(EVERY);
        }
        drop(self.upstreams[at].take());
        "upstream away"
    }

    fn upstream_back(&mut self, at: usize) {
        if self.upstreams[at].is_none() {
            self.upstreams[at] = Some(Upstream::start(world(), self.at[at]).expect("an upstream"));
        }
    }
}
