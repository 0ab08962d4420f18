//! Some of the queries of about the last minute, for `/debug/top`: who asked for what, and what came of it.
//!
//! Each writer keeps its samples in a ring of its own that only it writes, and whoever reads takes what stands there: a slot
//! that is being written meanwhile is passed over. Each query is taken with the same likelihood, one in [`Sampler::mean`],
//! whatever came before it, so that nobody can ask between two samples; and a sample counts for so many queries. The mean
//! follows the load, so that a ring lasts for about [`WINDOW`]: a quiet server looks at every query.
//!
//! The hot path counts down to the next sample; all else is cold.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::thread;
use std::time::Duration;

use bytemuck::zeroed_slice_box;

use crate::dns::writers::Writers;
use crate::moment::Moment;

/// How far back a reading looks.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Samples of all workers of one address together, and of one worker at least and at most: the more cores, the fewer each.
const SLOTS: (usize, usize, usize) = (2048, 64, 512);
/// How often the mean follows the load.
const PERIOD: Duration = Duration::from_secs(1);
/// The most that the mean changes at once.
const STEP: f64 = 4.0;
/// Words of a name: 254 octets without root octet.
const NAME_WORDS: usize = 32;
/// Words before the name: when, what, and two of who.
const HEAD_WORDS: usize = 4;
const WORDS: usize = HEAD_WORDS + NAME_WORDS;

/// One query.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// How many queries it stands for.
    pub weight: f64,
    /// Its name, as wire without root octet; empty if the message had none that can be read.
    pub name: Vec<u8>,
    /// Who asked.
    pub from: IpAddr,
    /// The response code.
    pub rcode: u8,
}

/// What a ring holds of the last [`WINDOW`].
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// In no order.
    pub samples: Vec<Sample>,
    /// How long the time is that they are of: less than the window if the ring was too short for it, or is new.
    pub of: Duration,
}

/// The rings of all writers.
#[derive(Debug)]
pub struct Rings {
    start: Moment,
    slots: usize,
    all: Writers<Ring>,
}

impl Default for Rings {
    fn default() -> Self {
        let (all, least, most) = SLOTS;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { start: Moment::now(), slots: (all / cores).clamp(least, most), all: Writers::default() }
    }
}

impl Rings {
    /// One more writer; it goes on with the ring of one that has left.
    #[must_use]
    pub fn sampler(&self) -> Sampler {
        Sampler::new(self.all.register(|| Ring::new(self.slots)), self.start)
    }

    /// What was asked of late, ring by ring.
    #[must_use]
    pub fn read(&self) -> Vec<Samples> {
        let now = self.start.elapsed();
        self.all.all().iter().map(|ring| ring.read(now)).collect()
    }
}

/// The samples of one writer. A slot is the turn in which it was written, odd meanwhile, then [`WORDS`] of data.
#[derive(Debug)]
struct Ring {
    words: Box<[AtomicU64]>,
    turns: AtomicU64,
}

impl Ring {
    fn new(slots: usize) -> Self {
        Self { words: zeroed_slice_box(slots.max(1) * (1 + WORDS)), turns: AtomicU64::new(0) }
    }

    fn slots(&self) -> usize {
        self.words.len() / (1 + WORDS)
    }

    /// Only one thread at a time does this, and others may read meanwhile: the fence keeps the data behind the odd turn, and
    /// the last store before it (the other half is in [`Ring::words`]).
    fn put(&self, words: &[u64]) {
        let turn = self.turns.load(Relaxed);
        let at = (turn % self.slots() as u64) as usize * (1 + WORDS);
        let (state, data) = (&self.words[at], &self.words[at + 1..at + 1 + WORDS]);
        state.store(2 * turn + 1, Relaxed);
        fence(Release);
        data.iter().zip(words).for_each(|(cell, word)| cell.store(*word, Relaxed));
        state.store(2 * turn + 2, Release);
        self.turns.store(turn + 1, Relaxed);
    }

    /// What stands in a slot, unless it is being written.
    fn words(slot: &[AtomicU64]) -> Option<[u64; WORDS]> {
        let (state, data) = slot.split_first()?;
        let turn = state.load(Acquire);
        let words = std::array::from_fn(|at| data[at].load(Relaxed));
        fence(Acquire);
        (turn != 0 && turn % 2 == 0 && state.load(Relaxed) == turn).then_some(words)
    }

    fn read(&self, now: Duration) -> Samples {
        let slots = self.words.chunks_exact(1 + WORDS).filter_map(Self::words).map(|words| unpack(&words));
        let all: Vec<(Duration, Sample)> = slots.collect();
        let oldest = all.iter().map(|(when, _)| *when).min().unwrap_or_default();
        // Before the oldest sample of a full ring there were others, which are forgotten.
        let full = self.turns.load(Relaxed) >= self.slots() as u64;
        let since = now.saturating_sub(WINDOW).max(if full { oldest } else { Duration::ZERO });
        let samples = all.into_iter().filter(|(when, _)| *when >= since).map(|(_, sample)| sample).collect();
        Samples { samples, of: now.saturating_sub(since) }
    }
}

fn pack(when: Duration, sample: (&[u8], IpAddr, u8), weight: f64) -> ([u64; WORDS], usize) {
    let (name, from, rcode) = sample;
    let name = &name[..name.len().min(NAME_WORDS * 8)];
    let mut words = [0; WORDS];
    words[0] = u64::try_from(when.as_millis()).unwrap_or(u64::MAX);
    words[1] = u64::from((weight as f32).to_bits()) << 32 | u64::from(rcode) << 8 | name.len() as u64 & 0xff;
    let address = match from {
        IpAddr::V4(four) => four.to_ipv6_mapped(),
        IpAddr::V6(six) => six,
    };
    (words[2], words[3]) = ((address.to_bits() >> 64) as u64, address.to_bits() as u64);
    for (word, octets) in words[HEAD_WORDS..].iter_mut().zip(name.chunks(8)) {
        let mut eight = [0; 8];
        eight[..octets.len()].copy_from_slice(octets);
        *word = u64::from_le_bytes(eight);
    }
    (words, HEAD_WORDS + name.len().div_ceil(8))
}

fn unpack(words: &[u64; WORDS]) -> (Duration, Sample) {
    let [when, what, high, low, ..] = *words;
    let mut name: Vec<u8> = words[HEAD_WORDS..].iter().flat_map(|word| word.to_le_bytes()).collect();
    name.truncate((what & 0xff) as usize);
    let from = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).to_canonical();
    let weight = f64::from(f32::from_bits((what >> 32) as u32));
    (Duration::from_millis(when), Sample { weight, name, from, rcode: (what >> 8) as u8 })
}

/// One writer's choice of queries.
#[derive(Debug)]
pub struct Sampler {
    /// Queries up to the next sample, it included.
    left: u32,
    /// One in so many is taken.
    mean: f64,
    random: u64,
    /// Samples of this period, and its end.
    taken: u32,
    due: Moment,
    start: Moment,
    ring: Arc<Ring>,
}

impl Sampler {
    fn new(ring: Arc<Ring>, start: Moment) -> Self {
        // Any seed but 0 will do.
        let random = rand::random::<u64>() | 1;
        Self { left: 1, mean: 1.0, random, taken: 0, due: Moment::now() + PERIOD, start, ring }
    }

    /// So many samples in a period fill the ring in [`WINDOW`].
    fn goal(&self) -> f64 {
        self.ring.slots() as f64 / WINDOW.as_secs_f64() * PERIOD.as_secs_f64()
    }

    /// Queries come: the mean may have to follow the load.
    #[inline]
    pub fn tick(&mut self, now: Moment) {
        if now >= self.due {
            self.follow(now);
        }
    }

    #[cold]
    fn follow(&mut self, now: Moment) {
        let periods = 1.0 + (now - self.due).as_secs_f64() / PERIOD.as_secs_f64();
        let load = f64::from(self.taken) / (self.goal() * periods);
        self.mean = (self.mean * load.clamp(1.0 / STEP, STEP)).max(1.0);
        (self.taken, self.due) = (0, now + PERIOD);
        // How long it is to the next sample does not depend on how long it has been: it may be drawn again at any time.
        self.left = self.draw();
    }

    /// Whether this query is to be taken, by [`Sampler::take`].
    #[inline]
    pub fn counts_down(&mut self) -> bool {
        self.left = self.left.wrapping_sub(1);
        self.left == 0
    }

    /// Takes this query: its name as wire without root octet, who asked, and the response code.
    #[cold]
    pub fn take(&mut self, name: &[u8], from: IpAddr, rcode: u8) {
        let (words, used) = pack(self.start.elapsed(), (name, from, rcode), self.mean);
        self.ring.put(&words[..used]);
        self.taken += 1;
        // A burst is not to fill the ring by itself.
        if f64::from(self.taken) >= 2.0 * self.goal() {
            (self.mean, self.taken) = (self.mean * 2.0, 0);
        }
        self.left = self.draw();
    }

    /// How many queries from here to the next sample, if each is taken with the same likelihood (geometric distribution).
    fn draw(&mut self) -> u32 {
        if self.mean <= 1.0 {
            return 1;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let unit = ((self.random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        (unit.ln() / (-1.0 / self.mean).ln_1p()).ceil().clamp(1.0, f64::from(u32::MAX)) as u32
    }
}

#[cfg(test)]
mod tests;
