//! Many threads at once: what is found is whole, and is what was asked for.

use std::sync::atomic::AtomicUsize;
use std::thread;

use super::*;

const KEYS: usize = 300;

/// An answer whose every octet tells its key and its turn, so that a mixture shows.
fn message(n: usize, turn: usize) -> Message {
    let word = format!("<{n}.{turn}>");
    let length = [20, 80, 400, 1500][(n + turn) % 4];
    let mut theirs = response(&owner(n), RecordType::A, ResponseCode::NoError);
    theirs.add_answer(text(&owner(n), &word.repeat(length / word.len() + 1)));
    theirs.add_answer(record(&owner(n), 300, RData::A(A::new(n as u8, turn as u8, 0, 0))));
    parsed(&theirs)
}

fn owner(n: usize) -> String {
    format!("name-{n}.example.")
}

/// Checks a reply; the octets of its TXT, its length octets aside, are `<n.turn>` again and again.
fn check(n: usize, reply: &[u8]) {
    let theirs = Theirs::from_vec(reply).expect("a sound reply");
    assert_eq!(theirs.queries[0].name(), &name(&owner(n)));
    let [first, second] = theirs.answers.as_slice() else { panic!("{theirs:?}") };
    let (RData::TXT(txt), RData::A(address)) = (&first.data, &second.data) else { panic!("{theirs:?}") };
    let all: Vec<u8> = txt.txt_data.iter().flat_map(|part| part.iter().copied()).collect();
    let end = all.iter().position(|octet| *octet == b'>').unwrap() + 1;
    let (word, turn) = (&all[..end], address.octets()[1]);
    assert!(all.chunks(end).all(|chunk| chunk == word), "a mixture: {}", String::from_utf8_lossy(&all));
    let told = String::from_utf8_lossy(word);
    let (key, told) = told.trim_matches(['<', '>']).split_once('.').unwrap();
    assert_eq!((key, told.parse::<usize>().unwrap() as u8), (n.to_string().as_str(), turn));
}

#[test]
fn readers_never_see_a_mixture_while_writers_overwrite() {
    // Both room for few entries, so that nearly every read races with the tail, and room for all.
    for octets in [24 << 10, 2 * MIB] {
        let cache = Cache::new(octets, OPTIONS, hasher());
        let messages: Vec<Vec<Message>> = (0..KEYS).map(|n| (0..4).map(|turn| message(n, turn)).collect()).collect();
        let (hits, writing) = (AtomicUsize::new(0), AtomicUsize::new(2));
        thread::scope(|scope| {
            for writer in 0..2 {
                let (cache, messages, writing) = (&cache, &messages, &writing);
                scope.spawn(move || {
                    for turn in 0..20_000 {
                        let n = turn * 7 % KEYS / 2 * 2 + writer;
                        let key = key(&owner(n));
                        match turn % 50 {
                            0 => drop(cache.store_failure(&question(&key, 28), Now(turn as u64))),
                            1 if turn % 1000 == 1 => drop(cache.flush(Some(question(&key, 1).name))),
                            _ => drop(cache.store(&question(&key, 1), true, &messages[n][turn % 4], Now(turn as u64))),
                        }
                    }
                    writing.fetch_sub(1, Relaxed);
                });
            }
            for reader in 0..3 {
                let (cache, hits, writing) = (&cache, &hits, &writing);
                scope.spawn(move || {
                    let (mut scratch, mut out, mut turn) = (Scratch::default(), vec![0; 4096], reader);
                    let packets: Vec<Packet> = (0..KEYS)
                        .map(|n| Packet::new(&name(&owner(n)).to_bytes().unwrap(), 1, 0, Some((1232, false))))
                        .map(|packet| Packet { limit: 4096, ..packet })
                        .collect();
                    while writing.load(Relaxed) > 0 {
                        turn += 1;
                        let packet = &packets[turn * 11 % KEYS];
                        let question = Question::of(&packet.asked());
                        let loaded;
                        let found = match cache.find(hashed(&question), turn % 2 == 0, Now(20_000), &mut scratch) {
                            Find::Hit(found) => found,
                            Find::Large | Find::Miss if turn % 10 != 0 => continue,
                            _ => match cache.load(&question, false, Now(20_000), Look::Use) {
                                Some(entry) => {
                                    loaded = entry;
                                    loaded.found()
                                }
                                None => continue,
                            },
                        };
                        let size = found.write(&packet.asked(), false, &mut out).expect("it fits");
                        check(turn * 11 % KEYS, &out[..size]);
                        hits.fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert!(hits.load(Relaxed) > 1000, "{hits:?} hits with {octets} octets");
        let stats = cache.stats();
        assert_eq!(stats.evictions > 5000, octets < MIB, "{stats:?}");
    }
}

#[test]
fn of_many_threads_one_is_given_the_prefetch() {
    for _ in 0..200 {
        let cache = cache();
        keep(&cache, "www.example.", &address("www.example.", 10), at(0.0));
        let ripe = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        if state(&cache, "www.example.", at(9.5)).unwrap().0 == State::Ripe {
                            ripe.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(ripe.into_inner(), 1);
    }
}
