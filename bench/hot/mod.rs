//! One server with everything on, and the kinds of query that its hot path answers: what the benches of instructions and of
//! single steps share.

#![allow(dead_code, reason = "every bench uses its own part of this")]

#[path = "../../tests/inside/mod.rs"]
mod inside;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub use inside::query;
use inside::{ROOT, SCOPE, SEGMENT, TAKEOVER, here, keep, namespace, pod, segment, service, settings, slice};
use segdns::dns::forward::{Upstream, Zone};
use segdns::dns::serve::Server;
use segdns::mesh::name::Name;
use segdns::mesh::object::{Change, LOCAL, Object};
use segdns::table::keeper::Keeper;

/// Of the table's hash: where zones lie beside each other makes a difference of 3 % for names that are in none.
const SEED: u64 = 7;
/// Services; every one is published.
pub const SERVICES: u16 = 10_000;
const NAMESPACES: u16 = 500;
/// Names that the cache holds.
const CACHED: u16 = 500;
/// Who asks: pods of segment `one`.
pub const CALLERS: u8 = 64;
/// TTL of what is cached, seconds: nothing gets old while it is measured.
const TTL: u32 = 3600;

/// A kind of query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mesh name of the caller's segment.
    Visible,
    /// The same with EDNS.
    VisibleEdns,
    /// A mesh name of another segment, of scope `segment`.
    Hidden,
    /// A mesh name of another segment that nobody has.
    Absent,
    /// A name of the cluster domain under takeover.
    Takeover,
    /// An external name that the cache holds.
    Cached,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Visible, Self::VisibleEdns, Self::Hidden, Self::Absent, Self::Takeover, Self::Cached];

    /// As it is called in tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::VisibleEdns => "visible+edns",
            Self::Hidden => "hidden",
            Self::Absent => "absent",
            Self::Takeover => "takeover",
            Self::Cached => "cached",
        }
    }

    /// The name of the n-th query. Hidden and absent ones have the same length.
    pub fn name(self, n: u16) -> String {
        let (ours, theirs) = (nth_of(0, n), nth_of(1, n));
        match self {
            Self::Visible | Self::VisibleEdns => format!("{}.mesh.one", service_of(ours)),
            Self::Hidden => format!("{}.mesh.two", service_of(theirs)),
            Self::Absent => format!("{}.mesh.two", service_of(theirs).replace("svc", "non")),
            Self::Takeover => format!("{}.svc.cluster.local", service_of(ours)),
            Self::Cached => external(n % CACHED),
        }
    }

    /// The n-th query.
    pub fn packet(self, n: u16) -> Vec<u8> {
        query(&self.name(n), 1, self == Self::VisibleEdns)
    }

    /// The code that answers it, and how many records.
    pub fn answer(self) -> (u8, u8) {
        match self {
            Self::Hidden | Self::Absent => (3, 0),
            _ => (0, 1),
        }
    }
}

/// The n-th Service whose namespace is of a segment.
fn nth_of(segment: u16, n: u16) -> u16 {
    let of_each = NAMESPACES / 3;
    n % of_each * 3 + segment + n / of_each % (SERVICES / NAMESPACES) * NAMESPACES
}

fn namespace_of(n: u16) -> String {
    format!("ns-{:03}", n % NAMESPACES)
}

fn service_of(n: u16) -> String {
    format!("svc-{n:05}.{}", namespace_of(n))
}

fn external(n: u16) -> String {
    format!("host-{n:03}.example.com")
}

/// The address of a caller.
pub fn caller(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 10, 1, 1 + n % CALLERS).into()
}

/// The world's tables: two segments besides the default one, and as many namespaces of each.
pub fn keeper() -> Keeper {
    let keeper = Keeper::with_seed(settings(), SEED);
    let mut changes: Vec<Change> = vec![
        here(segment("one", "mesh.one", &[])),
        here(segment("two", "mesh.two", &[])),
        here(namespace(ROOT, &[(SEGMENT, "one")])),
        here(namespace("callers", &[(SEGMENT, "one")])),
    ];
    changes.extend((0..CALLERS).map(|n| here(pod("callers", &format!("pod-{n}"), &[caller(n)]))));
    let segments = ["one", "two", "default"];
    changes
        .extend((0..NAMESPACES).map(|n| here(namespace(&namespace_of(n), &[(SEGMENT, segments[usize::from(n % 3)])]))));
    for n in 0..SERVICES {
        let (ns, name) = (namespace_of(n), format!("svc-{n:05}"));
        let [high, low] = n.to_be_bytes();
        let labels = [(SCOPE, "segment"), (TAKEOVER, "true")];
        changes.push(here(Object::Service(service(&ns, &name, &[IpAddr::from([10, 2, high, low])], &labels))));
        changes.push(here(slice(&ns, &name, IpAddr::from([10, 3, high, low]), true)));
    }
    changes.push(Change::Synced { cluster: LOCAL });
    keeper.apply(changes);
    keeper
}

/// A server of these tables, with what the cache is to hold.
pub fn server(keeper: &Keeper) -> Server {
    let upstreams = vec![Upstream::Address("127.0.0.1:1".parse().expect("an address"))];
    let zone = |name: &str| Zone { zone: Name::parse(name).ok(), upstreams: upstreams.clone(), tcp: false };
    let server = server_for(keeper, vec![zone("example.com"), zone("cluster.local")]);
    for n in 0..CACHED {
        keep(&server, &external(n), Ok(TTL));
    }
    server
}

/// A server of these tables that forwards to these zones.
pub fn server_for(keeper: &Keeper, zones: Vec<Zone>) -> Server {
    inside::server(keeper, Duration::from_millis(300), zones)
}
