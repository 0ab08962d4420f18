//! What a table and the world behind it cost, and how that grows: `cargo bench --bench scale` prints a table in Markdown.
//!
//! Times are of the processor, of all threads of this process, because the machine has other things to do, too; two are by
//! the clock on the wall. Memory is what the allocator was asked for and has not got back.
//!
//! `-- 1000 10000` measures these numbers of names only.

#[path = "../../tests/inside/mod.rs"]
mod inside;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use inside::{ROOT, SCOPE, SEGMENT, gone, here, ip, labels, namespace, pod, segment, service, settings, slice};
use segdns::mesh::object::{Change, LOCAL, Object, ServiceEntry};
use segdns::table::Table;
use segdns::table::decide::{Question, Verdict, decide};
use segdns::table::keeper::Keeper;
use segdns::table::key::Key;

/// Counts what is asked for.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is left to the system's allocator; a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Relaxed);
        // SAFETY: what is promised to this is promised to that.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: what is promised to this is promised to that.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Services in a namespace; one in twenty names is that of a generated entry without a Service.
const IN_NAMESPACE: u32 = 200;
const DOMAINS: [&str; 3] = ["mesh.internal", "mesh.one", "mesh.two"];
const SEGMENTS: [&str; 3] = ["default", "one", "two"];
const POD: &str = "10.255.0.1";

/// A cluster with so many names.
#[derive(Clone, Copy)]
struct Size(u32);

impl Size {
    fn namespaces(self) -> u32 {
        (self.0 / IN_NAMESPACE).max(3)
    }

    fn entries(self) -> u32 {
        self.0 / 20
    }

    fn services(self) -> u32 {
        self.0 - self.entries()
    }

    fn namespace(self, n: u32) -> String {
        format!("namespace-{}", n % self.namespaces())
    }

    fn service(self, n: u32, net: u8, scope: &str) -> Object {
        let (ns, name) = (self.namespace(n), format!("service-{n}"));
        Object::Service(service(&ns, &name, &[address(net, n)], &[(SCOPE, scope), ("app", &name)]))
    }

    fn slice(self, n: u32) -> Object {
        slice(&self.namespace(n), &format!("service-{n}"), address(100, n), true)
    }

    fn entry(self, n: u32, own: bool) -> Object {
        let (ns, name) = (self.namespace(n), format!("far-{n}"));
        let of = if own { n as usize % self.namespaces() as usize % 3 } else { 1 };
        Object::ServiceEntry(ServiceEntry {
            namespace: ROOT.into(),
            name: format!("{ns}.{name}").into(),
            labels: labels(&[
                ("solo.io/parent-service", &name),
                ("solo.io/parent-service-namespace", &ns),
                (SEGMENT, SEGMENTS[of]),
            ]),
            hosts: Box::new([format!("{name}.{ns}.{}", DOMAINS[of]).into()]),
            addresses: Box::new([address(200, n)]),
            ..ServiceEntry::default()
        })
    }

    /// Everything; `own` says whether namespaces have segments of their own, or all are of the cluster's, `one`.
    fn objects(self, own: bool) -> Vec<Change> {
        let root: &[(&str, &str)] = if own { &[] } else { &[(SEGMENT, "one")] };
        let mut all = vec![
            here(segment("one", DOMAINS[1], &[])),
            here(segment("two", DOMAINS[2], &[])),
            here(namespace(ROOT, root)),
            here(namespace("callers", &[(SEGMENT, "one")])),
            here(pod("callers", "c", &[ip(POD)])),
        ];
        for ns in 0..self.namespaces() {
            let of = [(SEGMENT, SEGMENTS[ns as usize % 3])];
            all.push(here(namespace(&format!("namespace-{ns}"), if own { &of } else { &[] })));
        }
        for n in 0..self.services() {
            all.push(here(self.service(n, 10, if n % 2 == 0 { "global" } else { "segment" })));
            all.push(here(self.slice(n)));
        }
        all.extend((0..self.entries()).map(|n| here(self.entry(n, own))));
        all.push(Change::Synced { cluster: LOCAL });
        all
    }
}

fn address(net: u8, n: u32) -> IpAddr {
    let [_, a, b, c] = n.to_be_bytes();
    IpAddr::from([net + a, b, c, 1])
}

/// Time that this process has had of the processors.
fn busy() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec that lives for the whole call, and the clock exists on every Linux.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    assert_eq!(code, 0);
    Duration::new(u64::try_from(now.tv_sec).expect("seconds"), u32::try_from(now.tv_nsec).expect("ns"))
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = busy();
    work();
    busy() - begun
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    micros(all[all.len() / 2])
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn first(table: &Table, key: &Key) -> Option<IpAddr> {
    let caller = table.callers.find(ip(POD));
    match decide(table, &caller, Question::new(table, key, 1)).verdict {
        Verdict::Addresses(view) => view.addresses().next(),
        _ => None,
    }
}

fn measure(size: Size) -> Vec<(&'static str, f64)> {
    let mut rows = Vec::new();
    let keeper = first_table(size, &mut rows);
    changes(size, &keeper, &mut rows);
    rows.push(("change to answer, median, us by the clock", swap(size, &keeper)));
    let held = HELD.load(Relaxed);
    let table = keeper.snapshot().load();
    drop(keeper);
    // Shards, callers, namespaces, Services and zones: what is left when the world and what it is built with are gone.
    let rest = held - HELD.load(Relaxed);
    let before = HELD.load(Relaxed);
    drop(table);
    let table = before - HELD.load(Relaxed);
    rows.push(("table, octets a name", table as f64 / f64::from(size.0)));
    rows.push(("objects and what is known of them, octets a name", rest as f64 / f64::from(size.0)));
    rows.push(("a segment for the whole cluster, us", relabel(size)));
    rows
}

fn first_table(size: Size, rows: &mut Vec<(&'static str, f64)>) -> Keeper {
    let (mut took, mut clock) = (Vec::new(), Vec::new());
    let mut keeper = Keeper::new(settings());
    for _ in 0..3 {
        keeper = Keeper::new(settings());
        let objects = size.objects(true);
        let begun = Instant::now();
        took.push(timed(|| keeper.apply(objects)));
        clock.push(begun.elapsed());
    }
    assert_eq!(keeper.snapshot().load().names, size.0 as usize);
    rows.push(("first table, us", median(took)));
    rows.push(("first table, us by the clock", median(clock)));
    // Judges everything anew, from objects that are filed already.
    let again =
        (0..3).map(|n| timed(|| keeper.apply(vec![here(segment(&format!("new-{n}"), &format!("mesh.new-{n}"), &[]))])));
    rows.push(("a new Segment, us", median(again.collect())));
    keeper.apply((0..3).map(|n| gone(LOCAL, &segment(&format!("new-{n}"), "x", &[]))).collect());
    keeper
}

fn changes(size: Size, keeper: &Keeper, rows: &mut Vec<(&'static str, f64)>) {
    let of = |n: u32| n.wrapping_mul(7919) % size.services();
    let one = (0..300).map(|n| timed(|| keeper.apply(vec![here(size.service(of(n), 50 + (n % 2) as u8, "global"))])));
    rows.push(("one Service's change, median, us", median(one.collect())));
    let burst = |net: u8| (0..1000).map(|n| here(size.service(of(n), net, "global"))).collect::<Vec<_>>();
    let bursts = (0..5).map(|n| {
        let burst = burst(60 + n);
        timed(|| keeper.apply(burst))
    });
    rows.push(("1,000 changes in one batch, us", median(bursts.collect())));
    let bursts = (0..3).map(|n| {
        let burst = burst(70 + n);
        timed(|| burst.into_iter().for_each(|change| keeper.apply(vec![change])))
    });
    rows.push(("1,000 changes one by one, us", median(bursts.collect())));
    let moved =
        (0..6).map(|n| timed(|| keeper.apply(vec![here(namespace("namespace-1", &[(SEGMENT, SEGMENTS[1 + n % 2])]))])));
    rows.push(("another segment for a namespace of 190 Services, us", median(moved.collect())));
    let pods = (0..100).map(|n| timed(|| keeper.apply(vec![here(pod("callers", "moving", &[address(80, n)]))])));
    rows.push(("one pod's change, us", median(pods.collect())));
    let fresh =
        (0..20).map(|n| timed(|| keeper.apply(vec![here(namespace(&format!("fresh-{n}"), &[(SEGMENT, "one")]))])));
    rows.push(("a new namespace, us", median(fresh.collect())));
}

/// From a change to the first answer by it on another thread, which asks on and on.
fn swap(size: Size, keeper: &Keeper) -> f64 {
    let at = 1; // of segment `one`, as the caller
    let key = Key::from_text(&format!("service-{at}.{}.mesh.one", size.namespace(at))).expect("a name");
    keeper.apply(vec![here(namespace(&size.namespace(at), &[(SEGMENT, "one")]))]);
    let done = Arc::new(AtomicBool::new(false));
    let (sender, seen) = std::sync::mpsc::channel();
    let (stop, cell) = (Arc::clone(&done), keeper.snapshot().cell());
    let reader = std::thread::spawn(move || {
        let mut cache = arc_swap::Cache::new(cell);
        let mut last = first(cache.load(), &key);
        let _ = sender.send((last, Instant::now()));
        while !stop.load(Relaxed) {
            let now = first(cache.load(), &key);
            if now != last {
                let _ = sender.send((now, Instant::now()));
                last = now;
            }
        }
    });
    seen.recv().expect("the first answer");
    let mut took = Vec::new();
    for net in (0..100).map(|n| 20 + n % 5) {
        let change = vec![here(size.service(at, net, "global"))];
        let begun = Instant::now();
        keeper.apply(change);
        let (now, when) = seen.recv_timeout(Duration::from_secs(10)).expect("an answer that changes");
        assert_eq!(now, Some(address(net, at)));
        took.push(when - begun);
    }
    done.store(true, Relaxed);
    reader.join().expect("a reader that ends");
    median(took)
}

/// The cluster's segment is another: all its names go, and come again.
fn relabel(size: Size) -> f64 {
    let keeper = Keeper::new(settings());
    keeper.apply(size.objects(false));
    assert_eq!(keeper.snapshot().load().names, size.0 as usize);
    let took = (0..2).map(|n| timed(|| keeper.apply(vec![here(namespace(ROOT, &[(SEGMENT, SEGMENTS[2 - n])]))])));
    median(took.collect())
}

fn main() {
    let wanted: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let wanted = if wanted.is_empty() { vec![1_000, 10_000, 100_000, 300_000] } else { wanted };
    let all: Vec<_> = wanted.iter().map(|names| measure(Size(*names))).collect();
    let heads: Vec<String> = wanted.iter().map(|names| format!(" {names} names |")).collect();
    let ratios: Vec<String> = wanted.windows(2).map(|w| format!(" x{} |", f64::from(w[1]) / f64::from(w[0]))).collect();
    println!("| what |{}{}", heads.concat(), ratios.concat());
    println!("|---|{}", "---|".repeat(heads.len() + ratios.len()));
    for (row, (what, _)) in all[0].iter().enumerate() {
        let values: Vec<f64> = all.iter().map(|rows| rows[row].1).collect();
        let cells = values.iter().map(|value| format!(" {value:.0} |"));
        let grown = values.windows(2).map(|w| format!(" {:.1} |", w[1] / w[0]));
        println!("| {what} |{}", cells.chain(grown).collect::<String>());
    }
}
