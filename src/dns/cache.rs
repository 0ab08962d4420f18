//! What upstreams answered, kept for as long as they allow (R23): bounded in octets, read without a lock.
//!
//! ```text
//! life   what is kept, and how long       body   from a message to what is kept of it
//! entry  how that stands in words         ring   a shard: a log of entries, and an index
//! found  what is found, and the reply made from it
//! ```
//!
//! Two doors lead in: [`Cache::find`] for the hot path, which takes no lock, allocates nothing and copies small entries
//! into a worker's own buffer, and [`Cache::load`] for everything else. Nothing in here depends on who asks: what a
//! caller may see is decided before, and the key is the question alone.

mod body;
mod entry;
mod found;
mod life;
mod ring;
mod sync;

#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use crate::moment::Moment;
use crate::table::key::Hasher;

use super::forward::{Message, Section};
use super::query::{Query, flag, rcode};
use super::reply::Asked;

pub use entry::Kind;
pub use found::{Find, Found, Loaded, STALE_TTL, Scratch, State};

use entry::{AD, AUTHENTIC, Body, CD, DO, Entry, Key, PROOF, Parts, set_lifetime};
use life::{Life, Phase};
use ring::{Read, Rules, Seen, Shard};

/// The least octets of a shard if there are several: a message of 64 KiB with all its places fits into an eighth.
const SHARD: u64 = 1 << 20;
/// The most shards.
const SHARDS: u64 = 64;

/// What can be changed while the cache is used (`cache`, R23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The longest lifetime and TTL, seconds.
    pub max_ttl: u32,
    /// The longest lifetime of a negative answer, seconds.
    pub max_negative_ttl: u32,
    /// How long after its end an entry may still be given (RFC 8767); zero: never.
    pub serve_stale: Duration,
    /// Whether popular entries are asked for again before they end.
    pub prefetch: bool,
}

/// A moment: milliseconds since the cache was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub u64);

/// What an entry is found by. The class is always IN.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Lower case, as wire without the root octet: at most 254 octets.
    pub name: &'a [u8],
    /// QTYPE
    pub rtype: u16,
    /// DO: DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// CD: what is not authentic is wanted too.
    pub checking_disabled: bool,
}

impl<'a> Question<'a> {
    /// The question of an asker.
    #[inline]
    #[must_use]
    pub fn of(asked: &Asked<'a>) -> Self {
        Self::asked(asked.key.span(asked.key.all()), asked.query)
    }

    #[inline]
    fn asked(name: &'a [u8], query: &Query) -> Self {
        Self {
            name,
            rtype: query.rtype,
            dnssec_ok: query.edns.is_some_and(|edns| edns.dnssec_ok),
            checking_disabled: query.flags & flag::CD != 0,
        }
    }

    #[inline]
    fn key(&self) -> Key<'a> {
        let set = |is: bool, bit: u8| if is { bit } else { 0 };
        let bits = set(self.dnssec_ok, DO) | set(self.checking_disabled, CD);
        Key { name: self.name, rtype: self.rtype, bits }
    }
}

/// Whether an asker wants to know about authenticity: it set AD or DO (RFC 6840 section 5.7).
#[inline]
#[must_use]
pub fn wants_authentic(query: &Query) -> bool {
    query.flags & flag::AD != 0 || query.edns.is_some_and(|edns| edns.dnssec_ok)
}

/// Whether a look counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is a use of the entry, and may get its prefetch.
    Use,
    /// It is a use of the entry, which is told that a prefetch can be had and does not take it.
    Pass,
    /// Nothing is changed: for `explain`.
    Peek,
}

/// What became of something to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: it may not be kept, it is too large, or there is no cache.
    No,
    /// It is an entry now.
    As {
        /// What it answers.
        kind: Kind,
        /// How long it is fresh, seconds.
        seconds: u32,
    },
    /// An error, and a better answer stands there that may be given stale: that one now says that it was asked in vain.
    InVain,
}

/// Counts of a [`Cache`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries, those over their lifetime included.
    pub entries: usize,
    /// Octets that they take, index included.
    pub octets: usize,
    /// Entries that had to go while they were still of use.
    pub evictions: u64,
}

/// Answers of upstreams. Shared by all workers.
#[derive(Debug)]
pub struct Cache {
    shards: Box<[Shard]>,
    hasher: Hasher,
    start: Moment,
    max_ttl: AtomicU32,
    max_negative_ttl: AtomicU32,
    /// Milliseconds.
    serve_stale: AtomicU64,
    prefetch: AtomicBool,
    flushes: AtomicU64,
}

impl Cache {
    /// A cache of at most `octets`, index included. With less than some hundred it keeps nothing, nor if the system does not
    /// grant them. Names are hashed as the table does it, so that a query's is hashed once.
    #[must_use]
    pub fn new(octets: u64, options: Options, hasher: Hasher) -> Self {
        let count = 1 << (octets / SHARD).clamp(1, SHARDS).ilog2();
        let each = usize::try_from(octets / count).unwrap_or(usize::MAX);
        let shards: Option<Box<[Shard]>> = (0..count).map(|_| Shard::new(each)).collect();
        if shards.is_none() && octets >= SHARD {
            tracing::warn!(octets, "there is no memory for the cache, so that nothing is kept; lower cache.bytes");
        }
        let cache = Self {
            shards: shards.unwrap_or_default(),
            hasher,
            start: Moment::now(),
            max_ttl: AtomicU32::default(),
            max_negative_ttl: AtomicU32::default(),
            serve_stale: AtomicU64::default(),
            prefetch: AtomicBool::default(),
            flushes: AtomicU64::default(),
        };
        cache.set_options(options);
        cache
    }

    /// What hashes names.
    #[must_use]
    pub fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// Changes the options; entries stay, with the lifetimes that they have.
    pub fn set_options(&self, options: Options) {
        self.max_ttl.store(options.max_ttl, Relaxed);
        self.max_negative_ttl.store(options.max_negative_ttl, Relaxed);
        let serve_stale = u64::try_from(options.serve_stale.as_millis()).unwrap_or(u64::MAX);
        self.serve_stale.store(serve_stale, Relaxed);
        self.prefetch.store(options.prefetch, Relaxed);
    }

    /// The options as they are.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            max_ttl: self.max_ttl.load(Relaxed),
            max_negative_ttl: self.max_negative_ttl.load(Relaxed),
            serve_stale: Duration::from_millis(self.serve_stale.load(Relaxed)),
            prefetch: self.prefetch.load(Relaxed),
        }
    }

    /// The moment that it is.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Now {
        self.at(Moment::now())
    }

    /// A time that was read elsewhere.
    #[must_use]
    #[inline]
    pub fn at(&self, time: Moment) -> Now {
        Now(time.nanos_since(self.start) / 1_000_000)
    }

    /// Fetches where the index has an asker's question, if it has it; `name` is the hash of its name.
    #[inline]
    pub fn fetch(&self, name: u64, query: &Query) {
        let key = Question::asked(&[], query).key();
        let hash = Rules::hash_named(self.hasher, &key, name);
        if let Some(shard) = self.shard(hash) {
            shard.fetch(hash);
        }
    }

    /// Looks for an answer, given the hash of the name: no lock, no allocation. To one who wants to know about authenticity
    /// ([`wants_authentic`]) what an upstream told to others is [`State::Unsure`], or stale, and without AD.
    #[inline]
    #[must_use]
    pub fn find<'s>(
        &self,
        (question, name): (&Question<'_>, u64),
        wants_authentic: bool,
        now: Now,
        scratch: &'s mut Scratch,
    ) -> Find<'s> {
        let key = question.key();
        self.find_key((&key, Rules::hash_named(self.hasher, &key, name)), wants_authentic, now, scratch)
    }

    /// As [`Cache::find`], for the proof that a name does not exist: [`Found::write`] then writes NXDOMAIN under any name.
    #[inline]
    #[must_use]
    pub fn find_denial<'s>(&self, name: &[u8], now: Now, scratch: &'s mut Scratch) -> Find<'s> {
        let key = proof(name);
        self.find_key((&key, Rules::hash(self.hasher, &key)), false, now, scratch)
    }

    /// Looks for an answer of any size. It waits for those who write to the same shard.
    #[must_use]
    pub fn load(&self, question: &Question<'_>, wants_authentic: bool, now: Now, look: Look) -> Option<Loaded> {
        self.load_key(&question.key(), wants_authentic, now, look)
    }

    /// As [`Cache::load`], for what [`Cache::store_denial`] keeps.
    #[must_use]
    pub fn load_denial(&self, name: &[u8], now: Now, look: Look) -> Option<Loaded> {
        self.load_key(&proof(name), false, now, look)
    }

    /// Gives a message the TTLs that it would start with in the cache, so that the first asker, who is answered from it, is
    /// told no longer a time than the next ones.
    pub fn cap(&self, rtype: u16, message: &mut Message) {
        let options = self.options();
        // What is not kept is capped like an answer.
        let short = Life { kind: Kind::Success, seconds: 0 };
        let life = life::of(rtype, message, &options).unwrap_or(short);
        message.set_ttls(|record, section| life::ttl(record, section, life, &options));
    }

    /// Keeps an upstream's answer by its TTLs, a negative one by its SOA, SERVFAIL for 1 to 5 seconds; other codes, and
    /// what is truncated, not at all (R23). `wants_authentic`: of the asker it was for.
    ///
    /// A good answer that may not be kept ends the older one: that is not true any more, and must not be given stale.
    pub fn store(&self, question: &Question<'_>, wants_authentic: bool, message: &Message, now: Now) -> Kept {
        if self.shards.is_empty() {
            return Kept::No;
        }
        let options = self.options();
        let Some(life) = life::of(question.rtype, message, &options) else {
            if matches!(message.rcode(), rcode::NOERROR | rcode::NXDOMAIN) {
                self.forget(question);
            }
            return Kept::No;
        };
        let Some(body) = body::whole(message, question.name, life, &options) else { return Kept::No };
        // An error says nothing about authenticity, so that it is for all.
        let authentic = wants_authentic || life.kind == Kind::Error;
        let bits = if authentic { AUTHENTIC } else { 0 };
        // AD that nobody asked for says nothing (RFC 6840 section 5.8).
        let bits = bits | if wants_authentic && message.authentic_data() { AD } else { 0 };
        let bits = bits | body::names(message, question.name);
        self.put(&Parts { key: question.key(), life, made: now.0, bits, rcode: message.rcode(), body }, now)
    }

    /// Keeps that no upstream gave any answer, so that not everyone has to find out anew: SERVFAIL for 1 to 5 seconds.
    pub fn store_failure(&self, question: &Question<'_>, now: Now) -> Kept {
        let life = Life { kind: Kind::Failure, seconds: 1 };
        let (key, rcode, body) = (question.key(), rcode::SERVFAIL, Body::default());
        self.put(&Parts { key, life, made: now.0, bits: AUTHENTIC, rcode, body }, now)
    }

    /// Keeps the proof that `name` (lower case, without the root octet) does not exist: the SOA of an NXDOMAIN. A message
    /// that has answers speaks of another name, where a CNAME led to, and is not kept.
    pub fn store_denial(&self, name: &[u8], message: &Message, now: Now) -> Kept {
        let whole = message.rcode() == rcode::NXDOMAIN && message.records(Section::Answer).len() == 0;
        let life = life::denial(message, &self.options()).filter(|_| whole);
        let Some(life) = life else { return Kept::No };
        let Some(body) = body::soa(message, life) else { return Kept::No };
        self.put(&Parts { key: proof(name), life, made: now.0, bits: AUTHENTIC, rcode: rcode::NXDOMAIN, body }, now)
    }

    /// Forgets a name (lower case, without the root octet), everything below it and the proof that denies it, or everything;
    /// how many entries.
    pub fn flush(&self, name: Option<&[u8]>) -> usize {
        self.flushes.fetch_add(1, Relaxed);
        let is_meant = |key: Key<'_>| {
            // A proof denies the names below its own, so it goes with each of them.
            name.is_none_or(|name| is_below(key.name, name) || (key.bits & PROOF != 0 && is_below(name, key.name)))
        };
        self.shards.iter().map(|shard| shard.lock().flush(is_meant)).sum()
    }

    /// How often something was flushed: what was asked for before is not to be kept after, since whoever flushes knows that
    /// upstreams said something else until then.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Relaxed)
    }

    /// Counts; waits for each shard's writer.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for tally in self.shards.iter().map(|shard| shard.lock().tally()) {
            stats.entries += tally.entries;
            stats.octets += tally.octets;
            stats.evictions += tally.evictions;
        }
        stats
    }

    #[inline]
    fn find_key<'s>(
        &self,
        (key, hash): (&Key<'_>, u64),
        authentic: bool,
        now: Now,
        scratch: &'s mut Scratch,
    ) -> Find<'s> {
        debug_assert_eq!(hash, Rules::hash(self.hasher, key), "the hash of another key");
        let Some(shard) = self.shard(hash) else { return Find::Miss };
        match shard.read(key, hash, &mut scratch.words) {
            Read::Large => Find::Large,
            Read::Miss => Find::Miss,
            Read::Hit(seen, words) => {
                let entry = Entry { words: &scratch.words[..words] };
                self.judge(entry, authentic, now, Look::Pass, (shard, seen)).map_or(Find::Miss, Find::Hit)
            }
        }
    }

    fn load_key(&self, key: &Key<'_>, authentic: bool, now: Now, look: Look) -> Option<Loaded> {
        let hash = Rules::hash(self.hasher, key);
        let shard = self.shard(hash)?;
        let held = shard.lock();
        let place = held.locate(key, hash)?;
        let words = held.words(&place);
        let entry = Entry { words: &words };
        let Found { state, left, age, .. } = self.judge(entry, authentic, now, look, (shard, place.seen))?;
        drop(held);
        Some(Loaded { words, state, left, age })
    }

    /// How good an entry is at a moment; `None` if it may not be given. Its use is counted where it was `seen`.
    #[inline]
    fn judge<'s>(
        &self,
        entry: Entry<'s>,
        authentic: bool,
        now: Now,
        look: Look,
        (shard, seen): (&Shard, Seen),
    ) -> Option<Found<'s>> {
        let head = entry.head();
        let phase = life::phase(head, now.0, self.serve_stale.load(Relaxed));
        if phase == Phase::Gone {
            return None;
        }
        let often = look != Look::Peek && shard.touch(seen);
        let age = u32::try_from(now.0.saturating_sub(head.made()) / 1000).unwrap_or(u32::MAX);
        let in_vain = now.0 < head.in_vain();
        let Phase::Fresh { left } = phase else {
            let state = State::Stale { in_vain };
            return Some(Found { state, left: 0, age, entry });
        };
        if authentic && !head.has(AUTHENTIC) {
            return Some(Found { state: State::Unsure { in_vain }, left, age, entry });
        }
        let lasting = matches!(head.kind(), Kind::Success | Kind::Denial) && !head.has(PROOF);
        let wanted = often && lasting && life::is_ending(head, left) && self.prefetch.load(Relaxed);
        let had = || if look == Look::Pass { seen.is_to_be_had() } else { shard.claim(seen) };
        let ripe = wanted && had();
        let state = if ripe { State::Ripe } else { State::Fresh };
        Some(Found { state, left, age, entry })
    }

    fn put(&self, parts: &Parts<'_>, now: Now) -> Kept {
        let hash = Rules::hash(self.hasher, &parts.key);
        let Some((shard, mut words)) = self.shard(hash).zip(parts.pack()) else { return Kept::No };
        if words.len() > shard.largest() {
            return Kept::No;
        }
        let rules = Rules { hasher: self.hasher, now: now.0, serve_stale: self.serve_stale.load(Relaxed) };
        let mut held = shard.lock();
        let before = held.locate(&parts.key, hash);
        let Life { kind, mut seconds } = parts.life;
        if matches!(kind, Kind::Error | Kind::Failure) {
            let better = before.filter(|place| matches!(place.head.kind(), Kind::Success | Kind::Denial));
            if let Some(place) = better.filter(|place| rules.is_usable(place.head)) {
                held.set_in_vain(&place, now.0.saturating_add(life::IN_VAIN));
                return Kept::InVain;
            }
            seconds = life::error_seconds(before.map(|place| place.head), now.0);
            set_lifetime(&mut words, seconds);
        }
        held.put(&words, before, rules);
        Kept::As { kind, seconds }
    }

    /// Ends the answer to one question.
    pub fn forget(&self, question: &Question<'_>) {
        let key = question.key();
        let hash = Rules::hash(self.hasher, &key);
        let Some(shard) = self.shard(hash) else { return };
        let mut held = shard.lock();
        if let Some(place) = held.locate(&key, hash) {
            held.forget(&place);
        }
    }

    /// The shard of a hash.
    #[inline]
    fn shard(&self, hash: u64) -> Option<&Shard> {
        let mask = self.shards.len().checked_sub(1)?;
        self.shards.get(usize::from((hash >> 32) as u16) & mask)
    }
}

/// The key of a proof; no asker's question has it.
#[inline]
fn proof(name: &[u8]) -> Key<'_> {
    Key { name, rtype: 0, bits: PROOF }
}

/// Whether `owner` is `name` or below it, both without the root octet.
fn is_below(owner: &[u8], name: &[u8]) -> bool {
    let mut rest = owner;
    while rest != name {
        let Some((length, after)) = rest.split_first() else { return false };
        rest = after.get(usize::from(*length)..).unwrap_or_default();
    }
    true
}
