//! What it costs. To see it: `cargo test --release --lib dns::cache::tests::cost -- --ignored --nocapture
//! --test-threads 1`.

use std::hint::black_box;

use super::*;

/// Resident memory of this process, octets.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
#[ignore = "measures the whole process, so that no other test may run"]
fn an_empty_cache_of_16_mib_is_not_resident() {
    let before = resident();
    let cache = Cache::new(16 * MIB, OPTIONS);
    let grown = resident().saturating_sub(before);
    println!("empty cache of 16 MiB: {} KiB resident", grown >> 10);
    assert!(grown < 1 << 20, "{grown}");
    assert_eq!(state(&cache, "www.example.", at(0.0)), None);
}

/// The best of some rounds, nanoseconds for each call.
fn best(what: &str, mut call: impl FnMut(usize)) {
    const CALLS: usize = 200_000;
    let mut best = f64::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        (0..CALLS).for_each(&mut call);
        best = best.min(start.elapsed().as_nanos() as f64 / CALLS as f64);
    }
    println!("{what}: {best:.0} ns");
}

#[test]
#[ignore = "measures; for a release build"]
fn a_hit_is_cheap() {
    const NAMES: usize = 20_000;
    let cache = Cache::new(16 * MIB, OPTIONS);
    let owners: Vec<String> = (0..NAMES).map(|n| format!("host-{n:05}.some.example.com.")).collect();
    let packets: Vec<u8> = owners
        .iter()
        .flat_map(|owner| Packet::new(&name(owner).to_bytes().unwrap(), 1, flag::RD, Some((1232, false))).octets)
        .collect();
    let length = packets.len() / NAMES;
    let messages: Vec<Message> = owners.iter().map(|owner| address(owner, 300)).collect();
    let keys: Vec<NameKey> = owners.iter().map(|owner| key(owner)).collect();
    best("store", |turn| {
        let n = turn * 7919 % NAMES;
        assert!(cache.store(&question(&keys[n], 1), false, black_box(&messages[n]), Now(0)) != Kept::No);
    });
    println!("{:?}", cache.stats());
    let (mut scratch, mut out, mut key) = (Scratch::default(), [0; 1232], NameKey::default());
    for many in [1, 100, NAMES] {
        // The place of a packet does not depend on what came before, so that memory is waited for as on the hot path.
        let mut each = |turn: usize, find: bool| {
            let n = turn * 7919 % many;
            let packet = &packets[n * length..][..length];
            let ReadQuery::Ask(query) = query::read(packet, &mut key) else { panic!("no question") };
            let asked = Asked { packet, query: &query, key: &key, limit: query.limit(false) };
            if find {
                let Find::Hit(found) = cache.find(&Question::of(&asked), false, Now(1000), &mut scratch) else {
                    panic!("it was kept")
                };
                black_box(found.write(&asked, false, &mut out));
            }
            black_box(&asked);
        };
        best(&format!("{many} names, to read the packet"), |turn| each(turn, false));
        best(&format!("{many} names, to read, find and write"), |turn| each(turn, true));
    }
    let absent = Packet::new(b"\x04none\x07example\0", 1, 0, None);
    best("to find what is not there", |turn| {
        black_box(cache.find(&Question::of(&absent.asked()), false, Now(turn as u64), &mut scratch));
    });
}
