//! What may not happen, in whatever order: an entry that is of two, a use or a prefetch given twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use loom::thread;

use super::entry::{Body, Key, Parts};
use super::life::Life;
use super::ring::{Read, Rules, Seen, Shard};
use super::sync::writers_are_alone;
use crate::table::key::Hasher;

pub use super::entry::Kind;

/// A shard of the least size: one bucket of eight slots, and 64 words.
const OCTETS: usize = 7 * 8 + 8 * (64 + 8);
const WORDS: usize = 64;
/// Words of most entries.
const SHORT: usize = 7;
/// Switches between threads that do not come of waiting. More find nothing else here, and take hours.
const SWITCHES: usize = 3;

/// An entry of so many words, in which each word tells whose it is.
fn entry(name: u8, words: usize) -> Vec<u64> {
    let records = vec![name; 8 * words - 42];
    let body = Body { counts: [u16::from(name); 3], records, ..Body::default() };
    let life = Life { kind: Kind::Success, seconds: 0x0101_0101 * u32::from(name) };
    let own = [1, name];
    let parts = Parts { key: key(&own), life, made: u64::from(name), bits: 0, rcode: 0, body };
    let entry = parts.pack().expect("an entry");
    assert_eq!(entry.len(), words);
    entry
}

fn key(name: &[u8]) -> Key<'_> {
    Key { name, rtype: 1, bits: 0 }
}

struct Lab {
    shard: Shard,
    hasher: Hasher,
}

impl Lab {
    /// A full ring: the entry of `a`, and one that takes all the rest.
    fn full(hasher: Hasher) -> Arc<Self> {
        let lab = Self { shard: Shard::new(OCTETS).expect("a shard"), hasher };
        lab.put(b'a', SHORT);
        lab.put(b'z', WORDS - SHORT);
        Arc::new(lab)
    }

    fn rules(&self) -> Rules {
        Rules { hasher: self.hasher, now: 0, serve_stale: 0 }
    }

    fn hash(&self, name: u8) -> u64 {
        Rules::hash(self.hasher, &key(&[1, name]))
    }

    fn put(&self, name: u8, words: usize) {
        let mut held = self.shard.lock();
        let before = held.locate(&key(&[1, name]), self.hash(name));
        held.put(&entry(name, words), before, self.rules());
    }

    /// What a reader finds, which has to be that very entry, whole.
    fn read(&self, name: u8, words: usize) -> Option<Seen> {
        let mut scratch = [0; WORDS];
        match self.shard.read(&key(&[1, name]), self.hash(name), &mut scratch) {
            Read::Miss => None,
            Read::Large => panic!("it fits"),
            Read::Hit(seen, found) => {
                let mut want = entry(name, words);
                // Where it moved, it may say that its prefetch is given away.
                want[0] |= scratch[0] & 1 << 63;
                assert_eq!(scratch[..found], want, "a mixture");
                Some(seen)
            }
        }
    }

    fn audit(&self) {
        self.shard.lock().audit(self.rules());
    }
}

/// Runs it in every order.
fn explore(what: impl Fn(Hasher) + Sync + Send + 'static) {
    let (hasher, orders) = (Hasher::new(7), Arc::new(AtomicUsize::new(0)));
    let mut model = loom::model::Builder::new();
    (model.preemption_bound, model.max_branches) = (Some(SWITCHES), 100_000);
    let counted = Arc::clone(&orders);
    model.check(move || {
        counted.fetch_add(1, Relaxed);
        what(hasher);
    });
    println!("{} orders", orders.load(Relaxed));
}

#[test]
fn an_entry_that_is_overwritten_while_it_is_read_is_found_whole_or_not_at_all() {
    explore(|hasher| {
        let lab = Lab::full(hasher);
        let writer = lab.clone();
        let writing = thread::spawn(move || writer.put(b'b', SHORT));
        lab.read(b'a', SHORT);
        writing.join().unwrap();
        assert!(lab.read(b'a', SHORT).is_none() && lab.read(b'b', SHORT).is_some());
        lab.audit();
    });
}

#[test]
fn an_entry_that_is_entered_is_found_whole_or_not_at_all() {
    explore(|hasher| {
        let lab = Lab::full(hasher);
        let writer = lab.clone();
        let writing = thread::spawn(move || writer.put(b'b', SHORT));
        lab.read(b'b', SHORT);
        writing.join().unwrap();
        assert!(lab.read(b'b', SHORT).is_some());
    });
}

#[test]
fn an_entry_that_is_replaced_is_the_old_one_or_the_new_one() {
    explore(|hasher| {
        let lab = Lab::full(hasher);
        // The ring has room for as many words more once the tail has passed `a`.
        lab.put(b'b', SHORT);
        let writer = lab.clone();
        let writing = thread::spawn(move || {
            // `z` goes, and with it everything that would have to be carried over.
            writer.put(b'b', SHORT);
            writer.put(b'c', SHORT);
        });
        assert!(lab.read(b'b', SHORT).is_some(), "it is there all the time");
        writing.join().unwrap();
        lab.audit();
    });
}

#[test]
fn an_entry_that_is_used_while_it_is_carried_over_stays_whole_and_its_prefetch_is_given_once() {
    writers_are_alone(false);
    explore(|hasher| {
        let lab = Lab::full(hasher);
        let seen = lab.read(b'a', SHORT).expect("it is there");
        // Used once, it is carried over by the next that takes its place.
        lab.shard.touch(seen);
        let writer = lab.clone();
        let writing = thread::spawn(move || writer.put(b'b', SHORT));
        let mine = lab.read(b'a', SHORT).is_some_and(|seen| lab.shard.claim(seen));
        writing.join().unwrap();
        let later = lab.read(b'a', SHORT).expect("it was carried over");
        let again = lab.shard.claim(later);
        // The writer may have copied it just before it was claimed: one prefetch more, and never one less.
        assert!(mine || again, "nobody was given it");
        assert!(!lab.read(b'a', SHORT).is_some_and(|seen| lab.shard.claim(seen)), "given once for each place at most");
        lab.audit();
    });
}

#[test]
fn of_two_finders_one_is_given_the_prefetch() {
    explore(|hasher| {
        let lab = Lab::full(hasher);
        let other = lab.clone();
        let finding = thread::spawn(move || other.read(b'a', SHORT).is_some_and(|seen| other.shard.claim(seen)));
        let mine = lab.read(b'a', SHORT).is_some_and(|seen| lab.shard.claim(seen));
        assert!(mine ^ finding.join().unwrap());
    });
}
