//! No query that the hot path answers allocates: neither the look-up and the decision, nor the whole way from a packet to
//! an answer in a reused buffer. One test, in a binary of its own, because the allocator is the process's; and it counts
//! one thread only, because the harness has others.
//!
//! That the snapshot is read without a lock is by construction: a worker holds an `arc_swap::Cache` of it, whose `load` is
//! one atomic read while the table stays the same.

mod inside;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

use inside::{
    ROOT, SCOPE, SEGMENT, TAKEOVER, here, ip, namespace, pod, query, respond, segment, service, settings, slice,
};
use segdns::dns::listen::{Outcome, Respond};
use segdns::mesh::object::{Change, LOCAL, Object};
use segdns::table::decide::{Question, Reason, decide};
use segdns::table::keeper::Keeper;
use segdns::table::key::Key;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it is; the counter is a plain number of this thread,
// initialised at compile time, so that to read it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|n| n.set(n.get() + 1));
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // A block that is freed was allocated somewhere: the hot path must not do that, either.
        ALLOCATED.with(|n| n.set(n.get() + 1));
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.with(|n| n.set(n.get() + 1));
        // SAFETY: as our caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often something was allocated or freed by this thread meanwhile.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATED.with(Cell::get);
    work();
    ALLOCATED.with(Cell::get) - before
}

const SERVICES: u16 = 4000;
const POD: &str = "10.1.0.1";
const POD_SIX: &str = "10.1.0.2";
const POD_INVALID: &str = "10.1.0.4";
const STRANGER: &str = "192.0.2.1";

fn world() -> Keeper {
    let keeper = Keeper::new(settings());
    let mut changes: Vec<Change> = vec![
        here(segment("acme-segment", "mesh.acme", &["{service}.corp.example"])),
        here(segment("other-segment", "mesh.other", &[])),
        here(namespace(ROOT, &[(SEGMENT, "acme-segment")])),
        here(namespace("shop", &[])),
        here(namespace("far", &[(SEGMENT, "other-segment")])),
        here(namespace("lost", &[(SEGMENT, "ghost")])),
        here(pod("shop", "a", &[ip(POD)])),
        here(pod("shop", "six", &[ip(POD_SIX), ip("fd00::2")])),
        here(pod("lost", "x", &[ip(POD_INVALID)])),
        Change::Synced { cluster: LOCAL },
    ];
    for n in 0..SERVICES {
        let [high, low] = n.to_be_bytes();
        let ips = [IpAddr::from([10, 2, high, low]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])];
        let (ns, scope) = if n % 2 == 0 { ("shop", "global") } else { ("far", "segment") };
        let name = format!("svc-{n}");
        let labels = [(SCOPE, scope), (TAKEOVER, "true")];
        changes.push(here(Object::Service(service(ns, &name, &ips, &labels))));
        changes.push(here(slice(ns, &name, IpAddr::from([10, 3, high, low]), true)));
    }
    changes.push(here(Object::Service(service("shop", "empty", &[], &[(SCOPE, "segment")]))));
    keeper.apply(changes);
    keeper
}

/// From whom, name, type, and why it is answered so.
const CASES: [(&str, &str, u16, Reason); 21] = [
    (POD, "svc-0.shop.mesh.acme", 1, Reason::Visible),
    (POD, "SVC-2.Shop.MESH.acme", 1, Reason::Visible),
    (POD, "svc-0.shop.mesh.acme", 28, Reason::NoData),
    (POD_SIX, "svc-0.shop.mesh.acme", 28, Reason::Visible),
    (POD, "svc-0.shop.mesh.acme", 65, Reason::NoData),
    (POD, "svc-0.corp.example", 1, Reason::Visible),
    (POD, "svc-1.far.mesh.other", 1, Reason::Hidden),
    (POD, "svc-1.far.mesh.other", 33, Reason::Hidden),
    (POD, "none.far.mesh.other", 1, Reason::Absent),
    (POD, "none.shop.mesh.acme", 28, Reason::Absent),
    (POD, "a.b.c.d.e.f.none.shop.mesh.acme", 1, Reason::Absent),
    (POD, "shop.mesh.acme", 1, Reason::Empty),
    (POD, "mesh.acme", 1, Reason::Apex),
    (POD, "empty.shop.mesh.acme", 1, Reason::NoAddress),
    (POD, "_none._tcp.svc-0.shop.mesh.acme", 33, Reason::Absent),
    (POD, "_http._tcp.svc-1.far.mesh.other", 33, Reason::Hidden),
    (POD, "_http._tcp.svc-0.shop.mesh.acme", 1, Reason::NoData),
    (POD, "svc-0.shop.svc.cluster.local", 1, Reason::Takeover),
    (POD_SIX, "svc-0.shop.svc.cluster.local", 28, Reason::Takeover),
    (POD, "svc-0.shop.mesh.acme.shop.svc.cluster.local", 1, Reason::Visible),
    (POD_INVALID, "svc-0.shop.mesh.acme", 1, Reason::CallerInvalid),
];

/// Packets that are refused without a look at the table, and the code.
fn refused() -> Vec<(&'static str, Vec<u8>, u8)> {
    let edit = |at: usize, value: u8| {
        let mut packet = query("svc-0.shop.mesh.acme", 1, true);
        packet[at] = value;
        packet
    };
    let opt = |at: usize, value: u8| {
        let end = query("svc-0.shop.mesh.acme", 1, true).len();
        edit(end - 11 + at, value)
    };
    vec![
        ("no question", edit(5, 0), 1),
        ("two questions", edit(5, 2), 1),
        ("an answer", edit(7, 1), 1),
        ("two OPT said, one there", edit(11, 2), 1),
        ("65,535 records said", edit(10, 255), 1),
        ("opcode NOTIFY", edit(2, 0x20), 4),
        ("AXFR", query("mesh.acme", 252, false), 5),
        ("EDNS version 1", opt(6, 1), 0),
    ]
}

#[test]
fn the_hot_path_allocates_nothing() {
    let keeper = world();
    let server = inside::server(&keeper, Duration::from_millis(300), Vec::new());
    let mut worker = server.worker();
    let mut out = [0; 1536];
    let mut key = Key::default();
    let table = keeper.snapshot().load();
    assert!(table.names > usize::from(SERVICES));

    // The allocator does count: a box, a string, a growing vector.
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) >= 2);
    assert!(allocations(|| drop(std::hint::black_box("svc-0".to_owned()))) >= 2);
    assert!(allocations(|| drop(keeper.snapshot().load().zones.all().to_vec())) >= 2);

    for (from, name, rtype, reason) in CASES {
        for edns in [false, true] {
            let packet = query(name, rtype, edns);
            key.read(&packet[12..]).expect("a name");
            let mut why = None;
            let decided = allocations(|| {
                let caller = table.callers.find(ip(from));
                why = Some(decide(&table, &caller, Question { key: &key, rtype }).reason);
            });
            assert_eq!((why, decided), (Some(reason), 0), "{name} {rtype} from {from}: look-up and decision");
            let mut outcome = Outcome::Drop;
            let answered = allocations(|| outcome = respond(&server, &mut worker, &packet, ip(from), &mut out));
            assert!(matches!(outcome, Outcome::Reply(size) if size > 12), "{name} {rtype} from {from}: {outcome:?}");
            assert_eq!(answered, 0, "{name} {rtype} from {from}: the whole hot path");
        }
    }
    for (what, packet, code) in refused() {
        let mut outcome = Outcome::Drop;
        let answered = allocations(|| outcome = respond(&server, &mut worker, &packet, ip(POD), &mut out));
        assert!(matches!(outcome, Outcome::Reply(_)), "{what}: {outcome:?}");
        assert_eq!((answered, out[3] & 15), (0, code), "{what}");
    }
    // What the hot path leaves to the general one, or drops, costs it nothing either.
    for (from, name, outcome) in [
        (POD, "www.example.com", Outcome::Later),
        (POD, "kubernetes.default.svc.cluster.local", Outcome::Later),
        (STRANGER, "svc-0.shop.mesh.acme", Outcome::Later),
    ] {
        let packet = query(name, 1, true);
        let mut got = Outcome::Drop;
        let cost = allocations(|| got = respond(&server, &mut worker, &packet, ip(from), &mut out));
        assert_eq!((got, cost), (outcome, 0), "{name}");
    }
}
