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

#[test]
#[ignore = "measures; for a release build"]
fn a_hit_is_cheap() {
    let cache = Cache::new(16 * MIB, OPTIONS);
    let names: Vec<Vec<u8>> =
        (0..20_000).map(|n| name(&format!("host-{n}.some.example.com.")).to_bytes().unwrap()).collect();
    let packets: Vec<Packet> = names.iter().map(|name| Packet::new(name, 1, flag::RD, Some((1232, false)))).collect();
    for packet in &packets {
        let owner = packet.key.text(packet.key.all());
        cache.store(&Question::of(&packet.asked()), false, &address(&format!("{owner}."), 300), Now(0));
    }
    println!("{:?}", cache.stats());
    let (mut scratch, mut out) = (Scratch::default(), [0; 1232]);
    for (what, many) in [("one name", 1), ("100 names", 100), ("10,000 names", 10_000)] {
        let mut best = f64::MAX;
        for _ in 0..15 {
            let start = Instant::now();
            let rounds = 200_000;
            for turn in 0..rounds {
                let asked = packets[turn * 7919 % many].asked();
                let found = cache.find(&Question::of(&asked), false, black_box(Now(1000)), &mut scratch);
                let Find::Hit(found) = found else { continue };
                black_box(found.write(&asked, false, &mut out));
            }
            best = best.min(start.elapsed().as_nanos() as f64 / rounds as f64);
        }
        println!("find and write, {what}: {best:.0} ns");
    }
    let absent = Packet::new(b"\x04none\x07example\0", 1, 0, None);
    let start = Instant::now();
    for _ in 0..1_000_000 {
        black_box(cache.find(&Question::of(&absent.asked()), false, black_box(Now(1)), &mut scratch));
    }
    println!("find of what is not there: {:.0} ns", start.elapsed().as_nanos() as f64 / 1e6);
    let message = address("host-1.some.example.com.", 300);
    let start = Instant::now();
    for turn in 0..500_000 {
        let question = Question { rtype: turn as u16, ..Question::of(&packets[1].asked()) };
        let mut key = question;
        key.rtype = if key.rtype == 255 { 1 } else { key.rtype };
        black_box(cache.store(&key, false, &message, Now(1)));
    }
    println!("store: {:.0} ns", start.elapsed().as_nanos() as f64 / 5e5);
}
