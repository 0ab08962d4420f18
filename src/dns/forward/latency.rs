//! How long an upstream takes, and when a second one is asked because of that.
//!
//! If an answer takes longer than 95 % of those before, another upstream gets the question too, and the first good answer
//! counts. Of the questions to one upstream, one in ten may be doubled this way, and a few more after a quiet time: if
//! all answers are slow the upstreams must not get twice the load. An upstream that is slow all the time is therefore not
//! helped by doubling: if its median is far worse than another's, it is asked last, and one question a second is copied
//! to it, which nobody waits for, to see whether it has recovered.

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// Two buckets for each power of two of microseconds, from 2^7 (0.1 ms) to 2^23 (8 s).
const BUCKETS: usize = 32;
const LOWEST: u32 = 7;
/// Beyond this weight all is halved, so that what is long ago fades.
const MOST: u32 = 256;
/// Samples before the percentiles mean anything.
const KNOWN: u32 = 8;
/// A copied question is one for many that were not asked.
pub(super) const COPY: u32 = 16;
/// What one question earns, what doubling one costs, and how much may be saved: one in ten, and ten at once.
const EARNED: i32 = 1;
const PRICE: i32 = 10;
const SAVED: i32 = 100;
/// "Far worse" is this many times the other's median, and more than that.
const FAR: u32 = 5;
const BAD: u32 = 100_000;

/// Written without a lock by whoever has an answer; a lost update is one sample of many.
#[derive(Debug)]
pub(super) struct Latency {
    buckets: [AtomicU32; BUCKETS],
    total: AtomicU32,
    median: AtomicU32,
    percentile: AtomicU32,
    purse: AtomicI32,
    base: Instant,
    copied: AtomicU64,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU32::new(0)),
            total: AtomicU32::new(0),
            median: AtomicU32::new(0),
            percentile: AtomicU32::new(0),
            purse: AtomicI32::new(SAVED),
            base: Instant::now(),
            copied: AtomicU64::new(0),
        }
    }

    /// Notes an answer, or that there was none for so long.
    pub(super) fn note(&self, took: Duration, weight: u32) {
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.buckets[bucket(micros)].fetch_add(weight, Relaxed);
        let total = self.total.fetch_add(weight, Relaxed) + weight;
        if total >= MOST {
            self.fade();
        }
        if total < 4 * KNOWN || total % 8 < weight {
            self.estimate();
        }
    }

    fn fade(&self) {
        let mut total = 0;
        for bucket in &self.buckets {
            let half = bucket.load(Relaxed) / 2;
            bucket.store(half, Relaxed);
            total += half;
        }
        self.total.store(total, Relaxed);
    }

    fn estimate(&self) {
        let counts: [u32; BUCKETS] = self.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
        let total: u32 = counts.iter().sum();
        let at = |share: u32| {
            let mut left = (total * share).div_ceil(100);
            let found = counts.iter().position(|count| {
                let here = *count >= left;
                left = left.saturating_sub(*count);
                here
            });
            upper(found.unwrap_or(BUCKETS - 1))
        };
        self.median.store(at(50), Relaxed);
        self.percentile.store(at(95), Relaxed);
    }

    fn is_known(&self) -> bool {
        self.total.load(Relaxed) >= KNOWN
    }

    /// After how long a second upstream should be asked; `None` while too little is known.
    pub(super) fn percentile(&self) -> Option<Duration> {
        self.is_known().then(|| Duration::from_micros(self.percentile.load(Relaxed).into()))
    }

    /// The median in microseconds, if enough is known.
    pub(super) fn median(&self) -> Option<u32> {
        self.is_known().then(|| self.median.load(Relaxed))
    }

    /// Whether this is far worse than a median of another.
    pub(super) fn is_far_worse(&self, than: u32) -> bool {
        self.median().is_some_and(|median| is_bad(median) && median / FAR > than)
    }

    /// One more question goes to this upstream.
    pub(super) fn earn(&self) {
        if self.purse.load(Relaxed) < SAVED {
            self.purse.fetch_add(EARNED, Relaxed);
        }
    }

    /// Whether a question to this upstream may be doubled.
    pub(super) fn pay(&self) -> bool {
        self.purse.fetch_update(Relaxed, Relaxed, |purse| (purse >= PRICE).then(|| purse - PRICE)).is_ok()
    }

    /// Whether it is time to copy a question to this upstream, which is asked last now; true once for each `every`.
    pub(super) fn copy_is_due(&self, now: Instant, every: Duration) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now = millis(now.saturating_duration_since(self.base));
        let last = self.copied.load(Relaxed);
        now >= last.saturating_add(millis(every)) && self.copied.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }
}

/// Whether a median in microseconds is so bad that it matters how it compares with others'.
pub(super) fn is_bad(median: u32) -> bool {
    median > BAD
}

fn bucket(micros: u32) -> usize {
    let power = micros.max(1).ilog2();
    if power < LOWEST {
        return 0;
    }
    let half = micros >> (power - 1) & 1;
    ((power - LOWEST) * 2 + half).min(BUCKETS as u32 - 1) as usize
}

/// The upper edge of a bucket in microseconds.
fn upper(bucket: usize) -> u32 {
    let next = bucket as u32 + 1;
    let power = 1 << (next / 2 + LOWEST);
    if next.is_multiple_of(2) { power } else { power + power / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn every_time_lies_below_the_upper_edge_of_its_bucket_and_not_far() {
        for micros in [0, 1, 127, 128, 191, 192, 255, 256, 1000, 1500, 200_000, 1_500_000, 7_999_999] {
            let edge = upper(bucket(micros));
            assert!(edge > micros && (micros < 128 || edge / 2 <= micros), "{micros} {edge}");
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_known_after_some_answers_and_follow_a_change() {
        let latency = Latency::new();
        assert_eq!((latency.median(), latency.percentile()), (None, None));
        for number in 0..100 {
            latency.note(ms(if number % 10 == 0 { 100 } else { 1 }), 1);
        }
        assert!(latency.median().unwrap() < 2_000);
        let percentile = latency.percentile().unwrap();
        assert!(percentile >= ms(100) && percentile < ms(200), "{percentile:?}");
        assert!(!latency.is_far_worse(100));
        for _ in 0..300 {
            latency.note(ms(1000), 1);
        }
        assert!(latency.is_far_worse(2_000) && !latency.is_far_worse(400_000));
        for _ in 0..20 {
            latency.note(ms(1), COPY);
        }
        assert!(!latency.is_far_worse(100), "some copies are enough to come back");
    }

    #[test]
    fn slowness_below_a_tenth_of_a_second_is_not_far_worse() {
        let latency = Latency::new();
        (0..50).for_each(|_| latency.note(ms(60), 1));
        assert!(!latency.is_far_worse(100));
    }

    #[test]
    fn one_in_ten_may_be_doubled_and_ten_at_once() {
        let latency = Latency::new();
        let doubled = |questions: usize| {
            (0..questions)
                .filter(|_| {
                    latency.earn();
                    latency.pay()
                })
                .count()
        };
        assert_eq!(doubled(10), 10);
        let later = doubled(1000);
        assert!((95..=101).contains(&later), "{later}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_due_once_in_its_time() {
        let latency = Latency::new();
        tokio::time::advance(ms(1000)).await;
        let due = || latency.copy_is_due(Instant::now(), ms(1000));
        assert_eq!([due(), due()], [true, false]);
        tokio::time::advance(ms(1000)).await;
        assert_eq!([due(), due()], [true, false]);
    }
}
