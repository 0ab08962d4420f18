//! The bound in octets, and what stays when it is reached.

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::*;

/// Checks the index and the log of every shard, and that the bound holds; the names that are there.
fn audit(cache: &Cache, octets: u64, now: Now) -> Vec<Vec<u8>> {
    let serve_stale = cache.serve_stale.load(Relaxed);
    let rules = Rules { hasher: cache.hasher, now: now.0, serve_stale };
    let allocated: usize = cache.shards.iter().map(Shard::allocated).sum();
    assert!(allocated as u64 <= octets && cache.stats().octets <= allocated);
    cache.shards.iter().flat_map(|shard| shard.lock().audit(rules)).collect()
}

/// A TXT answer of about `length` octets.
fn long(owner: &str, length: usize) -> Message {
    let mut theirs = response(owner, RecordType::TXT, ResponseCode::NoError);
    theirs.add_answer(text(owner, &"x".repeat(length)));
    parsed(&theirs)
}

#[test]
fn a_ring_that_is_full_to_its_last_word_begins_anew() {
    // One bucket, and 64 words: eight entries of eight, a power of two in all.
    let octets = 7 * 8 + 8 * (64 + 8);
    let cache = Cache::new(octets, OPTIONS, hasher());
    for n in 0..100_u8 {
        let mut name = NameKey::default();
        name.read(&[&[23; 1], [b'a' + n % 26; 23].as_slice(), &[0]].concat()).unwrap();
        let kept = cache.store_failure(&question(&name, 1), at(0.1 * f64::from(n)));
        assert!(matches!(kept, Kept::As { .. }), "{kept:?}");
        assert_eq!(
            cache.stats().octets,
            8 * 8 * audit(&cache, octets, at(0.1 * f64::from(n))).len() + 8 * cache.stats().entries
        );
    }
    assert!(cache.stats().entries > 0);
}

#[test]
fn a_hundred_thousand_answers_of_all_sizes_stay_within_the_bound() {
    let mut random = SmallRng::seed_from_u64(1);
    for octets in [64 << 10, 3 * MIB + 12_345] {
        let cache = Cache::new(octets, OPTIONS, hasher());
        let lengths = [10, 10, 10, 60, 300, 1000, 5000, 60_000];
        let messages = lengths.map(|length| long("x.example.", length));
        let mut names = NameKey::default();
        for n in 0..50_000_u64 {
            // The same length of name as in the messages, so that these serve for all names.
            let which = if random.random_ratio(1, 50) { 6 + n as usize % 2 } else { random.random_range(0..6) };
            let owner = [b"\x01".as_slice(), &[b'a' + (n % 26) as u8], b"\x07example\0"].concat();
            names.read(&owner).unwrap();
            let rtype = random.random_range(256..40_000);
            let question = Question { rtype, ..question(&names, 0) };
            let mut wire = messages[which].wire().to_vec();
            wire[13] = b'a' + (n % 26) as u8;
            let end = 12 + owner.len();
            wire[end..end + 2].copy_from_slice(&rtype.to_be_bytes());
            let owner_and_type = end + 4 + 2;
            wire[owner_and_type..owner_and_type + 2].copy_from_slice(&rtype.to_be_bytes());
            let now = Now(n * 10);
            let kept = cache.store(&question, false, &Message::parse(&wire).unwrap(), now);
            assert!(matches!(kept, Kept::As { .. }) || lengths[which] >= 5000, "{kept:?}");
            if matches!(kept, Kept::As { .. }) {
                let look = if n % 3 == 0 { Look::Use } else { Look::Peek };
                assert!(cache.load(&question, false, now, look).is_some(), "what was just stored is there");
            }
            if n % 5000 == 0 {
                audit(&cache, octets, now);
            }
        }
        assert!(!audit(&cache, octets, Now(500_000)).is_empty());
        let stats = cache.stats();
        let least = octets as usize / 2;
        assert!(stats.evictions > 10_000 && stats.octets > least, "{stats:?}");
    }
}

#[test]
fn a_message_of_64_kib_fits_from_one_mib_on() {
    // The smallest records there are make the longest lists of places: an owner of one octet that is the question.
    let smallest = b"\0\x01\0\0\x01\0\0\x01\x2c\0\0";
    let mut wire = vec![0, 7, 0x80, 0, 0, 1];
    let count = (65_535 - 17) / smallest.len();
    wire.extend((count as u16).to_be_bytes());
    wire.extend([0, 0, 0, 0, 0, 1, 0, 0, 1]);
    wire.extend(smallest.repeat(count));
    let message = Message::parse(&wire).unwrap();
    assert!(wire.len() > 65_520 && message.records(Section::Answer).len() == count);
    let root = Question { name: b"", rtype: 256, dnssec_ok: false, checking_disabled: false };
    for (octets, fits) in [(MIB, true), (2 * MIB - 1, true), (16 * MIB, true), (1000 * MIB, true), (256 << 10, false)] {
        let cache = Cache::new(octets, OPTIONS, hasher());
        assert_eq!(cache.store(&root, false, &message, at(0.0)) != Kept::No, fits, "{octets}");
        let loaded = cache.load(&root, false, at(0.0), Look::Use);
        assert_eq!(loaded.is_some(), fits);
        if let Some(loaded) = loaded {
            let copy = loaded.found().message(b"\0", 256, false).unwrap();
            assert_eq!(copy.wire()[12..], message.wire()[12..]);
            assert_eq!(loaded.found().entry.places().1.count(), count);
        }
    }
}

#[test]
fn without_room_nothing_is_kept_and_everything_is_a_miss() {
    for octets in [0, 1, 100, 631] {
        let cache = Cache::new(octets, OPTIONS, hasher());
        assert_eq!(keep(&cache, "x.example.", &address("x.example.", 300), at(0.0)), Kept::No);
        assert_eq!(cache.store_failure(&question(&key("x.example."), 1), at(0.0)), Kept::No);
        assert_eq!(cache.store_denial(b"\x07example", &nxdomain("example.", 9), at(0.0)), Kept::No);
        assert_eq!((state(&cache, "x.example.", at(0.0)), peek(&cache, "x.example.", at(0.0))), (None, None));
        assert_eq!((cache.flush(None), cache.stats()), (0, Stats::default()));
    }
}

#[test]
fn tiny_caches_keep_within_their_bound() {
    for octets in [632, 640, 650, 700, 1000, 1500, 2000, 3000, 5000, 10_000] {
        let cache = Cache::new(octets, OPTIONS, hasher());
        let mut kept = 0;
        for n in 0..500 {
            let owner = format!("n{n}.example.");
            let stored = keep(&cache, &owner, &address(&owner, 300), at(f64::from(n)));
            if stored != Kept::No {
                assert_eq!(state(&cache, &owner, at(f64::from(n))), Some((State::Fresh, Kind::Success)));
                kept += 1;
            }
            audit(&cache, octets, at(f64::from(n)));
        }
        assert_eq!(kept, if octets < 3000 { kept.min(500) } else { 500 }, "{octets}");
    }
}

#[test]
fn what_is_asked_for_survives_a_flood_of_names_that_nobody_asks_for_again() {
    let cache = Cache::new(MIB, OPTIONS, hasher());
    let popular: Vec<String> = (0..200).map(|n| format!("popular-{n}.example.")).collect();
    let idle: Vec<String> = (0..200).map(|n| format!("idle-{n}.example.")).collect();
    for owner in popular.iter().chain(&idle) {
        keep(&cache, owner, &address(owner, 300), at(0.0));
    }
    let (mut asked, mut lost) = (0, 0);
    for n in 0..60_000 {
        let owner = format!("flood-{n}.example.");
        let now = at(f64::from(n) / 1000.0);
        keep(&cache, &owner, &address(&owner, 300), now);
        if n % 20 == 0 {
            let owner = &popular[n as usize / 20 % popular.len()];
            asked += 1;
            if state(&cache, owner, now).is_none() {
                lost += 1;
                keep(&cache, owner, &address(owner, 300), now);
            }
        }
    }
    // A store carries over 32 at most, and buckets may be full: a few may be lost.
    assert!(lost * 20 < asked, "{lost} of {asked}");
    assert!(idle.iter().all(|owner| peek(&cache, owner, at(60.0)).is_none()));
    assert!(cache.stats().evictions > 40_000, "{:?}", cache.stats());
}

#[test]
fn what_is_carried_over_stays_as_it_is_but_counts_its_uses_anew() {
    let cache = Cache::new(20_000, OPTIONS, hasher());
    keep(&cache, "www.example.", &address("www.example.", 300), at(0.0));
    assert_eq!(cache.store_failure(&question(&key("www.example."), 1), at(299.0)), Kept::InVain);
    let ripe = at(299.5);
    let before: Vec<State> = (0..5).map(|_| state(&cache, "www.example.", ripe).unwrap().0).collect();
    assert_eq!(before, [State::Fresh, State::Fresh, State::Fresh, State::Ripe, State::Fresh]);
    let position = |cache: &Cache| {
        let (key, shard) = (key("www.example."), &cache.shards[0]);
        let key = question(&key, 1).key();
        let held = shard.lock();
        held.locate(&key, Rules::hash(cache.hasher, &key)).map(|place| (held.words(&place), place.seen))
    };
    let first = position(&cache).unwrap();
    for n in 0..250 {
        let owner = format!("flood-{n}.example.");
        keep(&cache, &owner, &address(&owner, 600), ripe);
        let evictions = cache.stats().evictions;
        if evictions > 10 {
            break;
        }
    }
    assert_eq!(
        position(&cache).unwrap().0[1..],
        first.0[1..],
        "every word but the first, which may remember the claim"
    );
    let after: Vec<State> = (0..6).map(|_| state(&cache, "www.example.", ripe).unwrap().0).collect();
    assert_eq!(after, [State::Fresh; 6], "its prefetch was given away once, and is not given again");
    assert_eq!(state(&cache, "www.example.", at(301.0)).unwrap().0, State::Stale { in_vain: true });
}

#[test]
fn what_is_over_goes_first_and_is_no_eviction() {
    let options = Options { serve_stale: Duration::ZERO, ..OPTIONS };
    let cache = Cache::new(64 << 10, options, hasher());
    for n in 0..5000 {
        let owner = format!("n{n}.example.");
        // Each ends before the ring comes round to it.
        keep(&cache, &owner, &address(&owner, 1), at(f64::from(n)));
    }
    assert_eq!(cache.stats().evictions, 0);
    assert!(cache.stats().entries > 100);
    for n in 0..5000 {
        let owner = format!("m{n}.example.");
        keep(&cache, &owner, &address(&owner, 300), at(6000.0));
    }
    let stats = cache.stats();
    assert!(stats.evictions as usize + stats.entries == 5000, "all that is of use is there or was evicted: {stats:?}");
}

#[test]
fn storing_the_same_name_again_and_again_keeps_one_entry() {
    let cache = Cache::new(10_000, OPTIONS, hasher());
    for n in 0..2000 {
        keep(&cache, "www.example.", &address("www.example.", 300), at(f64::from(n)));
        assert_eq!(state(&cache, "www.example.", at(f64::from(n))), Some((State::Fresh, Kind::Success)));
        assert_eq!(cache.stats().entries, 1);
    }
    assert_eq!(audit(&cache, 10_000, at(2000.0)), [b"\x03www\x07example"]);
    assert_eq!(cache.stats().evictions, 0);
}
