//! No query that the hot path answers allocates: neither the look-up and the decision, nor the whole way from a packet to
//! an answer in a reused buffer. One test, in a binary of its own, because the allocator is the process's; and it counts
//! one thread only, because the harness has others.
//!
//! That the snapshot is read without a lock is by construction: a worker holds an `arc_swap::Cache` of it, whose `load` is
//! one atomic read while the table stays the same.

mod inside;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use inside::{SCOPE, here, ip, pod, query, respond, service, settings, two_segments};
use segdns::dns::forward::{Upstream, Zone};
use segdns::dns::listen::{Outcome, Respond};
use segdns::mesh::name::Name;
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
    let mut changes = two_segments(SERVICES);
    changes.extend([
        here(pod("shop", "a", &[ip(POD)])),
        here(pod("shop", "six", &[ip(POD_SIX), ip("fd00::2")])),
        here(pod("lost", "x", &[ip(POD_INVALID)])),
        here(Object::Service(service("shop", "empty", &[], &[(SCOPE, "segment")]))),
        Change::Synced { cluster: LOCAL },
    ]);
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

/// A zone whose upstream nobody asks here.
fn zone(name: &str) -> Zone {
    let upstreams = vec![Upstream::Address("127.0.0.1:1".parse().expect("an address"))];
    Zone { zone: Some(Name::parse(name).expect("a name")), upstreams, tcp: false }
}

#[test]
fn the_hot_path_allocates_nothing() {
    let keeper = world();
    let upstreams = ["example.com", "cluster.local"].map(zone);
    let server = inside::server(&keeper, Duration::from_millis(300), upstreams.into());
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
                why = Some(decide(&table, &caller, Question::new(&table, &key, rtype)).reason);
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
    let kept = Instant::now();
    for (name, answer) in [
        ("hit.example.com", Ok(60)),
        ("none.example.com", Err("example.com")),
        ("stale.elsewhere.test", Ok(1)),
        ("web.shop.svc.cluster.local", Err("cluster.local")),
    ] {
        inside::keep(&server, name, answer);
    }
    std::thread::sleep(Duration::from_millis(1100));
    for (name, code, ttl) in [
        ("hit.example.com", 0, Some(60)),
        ("HIT.Example.com", 0, Some(60)),
        ("none.example.com", 3, None),
        // Outside the two zones there is no upstream, as if all were down.
        ("stale.elsewhere.test", 0, Some(30)),
        ("miss.elsewhere.test", 2, None),
        ("web.shop.svc.cluster.local", 3, None),
    ] {
        for edns in [false, true] {
            let packet = query(name, 1, edns);
            let mut outcome = Outcome::Drop;
            let cost = allocations(|| outcome = respond(&server, &mut worker, &packet, ip(POD), &mut out));
            let Outcome::Reply(size) = outcome else { panic!("{name}: {outcome:?}") };
            let message = Message::from_vec(&out[..size]).expect("a message");
            let told = message.answers.first().map(|record| record.ttl);
            assert_eq!((cost, out[3] & 15), (0, code), "{name}: from the cache, or that nobody can be asked");
            // What is in its time counts down; how far, depends on how long this machine took.
            let least = 59_u32.saturating_sub(u32::try_from(kept.elapsed().as_secs()).expect("not long"));
            let as_wanted = if ttl == Some(60) { told.is_some_and(|t| (least..60).contains(&t)) } else { told == ttl };
            assert!(as_wanted, "{name}: TTL {told:?}, from {least}");
        }
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
