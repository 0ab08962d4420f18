//! A hit of the cache allocates nothing, neither to find it nor to write the reply, and a miss does not, either. A binary
//! of its own, because the allocator is the process's; it counts one thread only, because the harness has others.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use segdns::dns::cache::{Cache, Find, Kept, Look, Now, Options, Question, Scratch, State, wants_authentic};
use segdns::dns::forward::Message;
use segdns::dns::query::{Read, read};
use segdns::dns::reply::Asked;
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

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.with(|n| n.set(n.get() + 1));
        // SAFETY: as our caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
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

/// A message about `www.example.`, type A: flags and code, then answers and authorities as they are.
fn message(code: u8, counts: [u8; 2], records: &[u8]) -> Message {
    let mut wire = vec![0, 7, 0x81, 0x80 | code, 0, 1, 0, counts[0], 0, counts[1], 0, 0];
    wire.extend(b"\x03www\x07example\0\0\x01\0\x01");
    wire.extend(records);
    Message::parse(&wire).expect("a sound message")
}

#[test]
fn neither_a_hit_nor_a_miss_allocates() {
    let options =
        Options { max_ttl: 3600, max_negative_ttl: 30, serve_stale: Duration::from_secs(3600), prefetch: true };
    let address = b"\xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x01";
    let written_out = b"\x03www\x07example\0\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x01";
    let soa = [b"\xc0\x10\0\x06\0\x01\0\0\0\x1e\0\x16\0\0".as_slice(), &[0, 0, 0, 30].repeat(5)].concat();
    let messages = [
        ("an address", message(0, [1, 0], address)),
        ("an owner that is written out", message(0, [1, 0], written_out)),
        ("forty addresses", message(0, [40, 0], &address.repeat(40))),
        ("NXDOMAIN", message(3, [0, 1], &soa)),
        ("SERVFAIL", message(2, [0, 0], &[])),
    ];
    let packet = b"\xab\xcd\x01\x20\0\x01\0\0\0\0\0\x01\x03wWw\x07eXample\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
    let mut key = Key::default();
    let Read::Ask(query) = read(packet, &mut key) else { panic!("no question") };
    let asked = Asked { packet, query: &query, key: &key, limit: query.limit(false) };
    let (mut scratch, mut out) = (Scratch::default(), [0; 1232]);
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) >= 2, "the allocator does count");

    for (what, message) in &messages {
        let cache = Cache::new(16 << 20, options);
        let question = Question::of(&asked);
        let mut answer = |now: u64| {
            let (mut size, mut state) = (0, None);
            let cost = allocations(|| {
                let found = cache.find(&Question::of(&asked), wants_authentic(&query), Now(now), &mut scratch);
                if let Find::Hit(found) = found {
                    let stale = matches!(found.state, State::Stale { .. });
                    (size, state) = (found.write(&asked, stale, &mut out).unwrap_or(0), Some(found.state));
                }
            });
            assert_eq!(cost, 0, "{what} at {now}");
            (size, state)
        };
        assert_eq!(answer(0), (0, None), "nothing is there yet");
        let kept = cache.store(&question, true, message, Now(0));
        let Kept::As { seconds, .. } = kept else { panic!("{what}: {kept:?}") };
        for _ in 0..4 {
            assert!(matches!(answer(0), (40.., Some(State::Fresh))), "{what}");
        }
        let end = u64::from(seconds) * 1000;
        if seconds == 30 {
            assert!(matches!(answer(end - 1), (40.., Some(State::Ripe))), "{what}");
            assert!(matches!(answer(end), (40.., Some(State::Stale { in_vain: false }))), "{what}");
        } else {
            assert!(matches!(answer(end), (0, None)), "{what}");
        }
        assert!(
            allocations(|| drop(cache.load(&question, true, Now(0), Look::Use))) > 0,
            "the other door does allocate"
        );
        cache.store_failure(&question, Now(10_000_000));
        assert!(matches!(answer(10_000_000), (40.., Some(State::Fresh))), "{what}");
        cache.store_denial(question.name, &messages[3].1, Now(0));
        let cost = allocations(|| {
            let Find::Hit(found) = cache.find_denial(question.name, Now(0), &mut scratch) else { panic!("no proof") };
            assert!(found.write(&asked, false, &mut out).is_some());
        });
        assert_eq!(cost, 0, "a proof");
    }
}
