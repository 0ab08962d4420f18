use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use super::*;

fn rings(slots: usize) -> Rings {
    Rings { start: Moment::now(), slots, all: Writers::default() }
}

fn ask(sampler: &mut Sampler, name: &[u8], from: [u8; 4], rcode: u8) {
    if sampler.counts_down() {
        sampler.take(name, from.into(), rcode);
    }
}

/// The weights by name.
fn by_name(read: &[Samples]) -> BTreeMap<Vec<u8>, f64> {
    let mut sums = BTreeMap::new();
    for sample in read.iter().flat_map(|ring| &ring.samples) {
        *sums.entry(sample.name.clone()).or_default() += sample.weight;
    }
    sums
}

#[test]
fn what_is_asked_seldom_is_kept_whole() {
    let rings = rings(512);
    let mut sampler = rings.sampler();
    let names: [&[u8]; 4] = [b"", b"\x03web", b"\x08abcdefgh\x07abcdefg", &[1; 254]];
    for (name, octet) in names.into_iter().zip(1..) {
        ask(&mut sampler, name, [10, 0, 0, octet], 3);
    }
    let six: IpAddr = "fd00::7".parse().unwrap();
    assert!(sampler.counts_down());
    sampler.take(b"\x01a", six, 2);
    let read = rings.read();
    let four = |octet| IpAddr::from([10, 0, 0, octet]);
    let sample = |name: &[u8], from, rcode| Sample { weight: 1.0, name: name.to_vec(), from, rcode };
    let mut want: Vec<Sample> = names.into_iter().zip(1..).map(|(name, octet)| sample(name, four(octet), 3)).collect();
    want.push(sample(b"\x01a", six, 2));
    assert_eq!(read[0].samples, want);
}

#[test]
fn a_name_after_a_longer_one_is_its_own_only() {
    let rings = rings(1);
    let mut sampler = rings.sampler();
    for name in [&[7; 254][..], b"\x01a"] {
        sampler.take(name, [10, 0, 0, 1].into(), 0);
        assert_eq!(rings.read()[0].samples[0].name, name);
    }
}

#[test]
fn shares_are_right_however_fast_queries_come() {
    const QUERIES: u32 = 100_000;
    let rings = rings(512);
    let mut samplers: Vec<Sampler> = (0..40).map(|_| rings.sampler()).collect();
    for sampler in &mut samplers {
        for at in 0..QUERIES {
            let name: &[u8] = if at % 128 < 32 { b"\x04busy" } else { b"\x05other" };
            ask(sampler, name, [10, 0, 0, 1], 0);
        }
        assert!(sampler.mean > 100.0, "{QUERIES} at once were told apart one by one: {}", sampler.mean);
    }
    let read = rings.read();
    let sums = by_name(&read);
    let all: f64 = sums.values().sum();
    let share = sums[&b"\x04busy"[..]] / all;
    // One in four, and what a few thousand samples of unlike weight are off by.
    assert!((0.18..0.32).contains(&share), "{share}");
    let asked = f64::from(QUERIES) * read.len() as f64;
    assert!((0.8..1.25).contains(&(all / asked)), "{all} of {asked}");
    assert!(read.iter().all(|ring| (100..=512).contains(&ring.samples.len())));
}

#[test]
fn the_mean_falls_when_the_load_does() {
    let rings = rings(512);
    let mut sampler = rings.sampler();
    sampler.mean = 30_000.0;
    let mut now = Moment::now();
    for _ in 0..8 {
        now = now + PERIOD;
        sampler.tick(now);
    }
    assert!(sampler.mean < 2.0, "{}", sampler.mean);
    let before = sampler.mean;
    sampler.tick(now + PERIOD / 2);
    assert!(sampler.mean >= before, "within a period nothing is changed");
}

#[test]
fn what_a_writer_has_left_stays_and_the_next_one_goes_on_behind_it() {
    let rings = rings(512);
    for name in [b"\x01a", b"\x01b"] {
        let mut sampler = rings.sampler();
        sampler.take(name, [10, 0, 0, 1].into(), 0);
    }
    let _both = (rings.sampler(), rings.sampler());
    let read = rings.read();
    assert_eq!((read.len(), read[0].samples.len(), read[1].samples.len()), (2, 2, 0));
}

#[test]
fn a_full_ring_tells_how_short_its_time_is() {
    let ring = Ring::new(4);
    let second = Duration::from_secs(1);
    let put = |at: u32| {
        let (words, used) = pack(second * at, (b"\x01a", [10, 0, 0, 1].into(), 0), 1.0);
        ring.put(&words[..used]);
    };
    let read = |at: u32| (ring.read(second * at).samples.len(), ring.read(second * at).of);
    (0..3).for_each(put);
    assert_eq!(read(10), (3, second * 10), "since the start");
    assert_eq!(read(61), (2, WINDOW), "the first is too old");
    (3..6).for_each(put);
    assert_eq!(read(10), (4, second * 8), "the oldest that is left is of second 2");
    assert_eq!(read(120), (0, WINDOW));
}

#[test]
fn a_reader_never_sees_half_of_one_query_and_half_of_another() {
    let ring = Arc::new(Ring::new(2));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (ring, stop) = (Arc::clone(&ring), Arc::clone(&stop));
        thread::spawn(move || {
            let mut turn: u8 = 0;
            while !stop.load(Relaxed) {
                turn = turn.wrapping_add(1);
                let (words, used) = pack(Duration::ZERO, (&[turn; 254], [turn; 4].into(), turn), f64::from(turn));
                ring.put(&words[..used]);
            }
        })
    };
    let begun = Moment::now();
    let mut seen = 0;
    // On one core the writer may not have begun by then.
    while begun.elapsed() < Duration::from_millis(200) || seen == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nothing is ever to be read");
        for Sample { weight, name, from, rcode } in ring.read(Duration::ZERO).samples {
            seen += 1;
            assert!(name.len() == 254 && name.iter().all(|octet| *octet == rcode), "{name:?} {rcode}");
            assert_eq!((weight, from), (f64::from(rcode), IpAddr::from([rcode; 4])));
        }
    }
    stop.store(true, Relaxed);
    writer.join().unwrap();
}
