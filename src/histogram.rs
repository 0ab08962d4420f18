//! How long things took: counts between fixed edges, written without a lock and read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The edges, in microseconds: CoreDNS's, from 250 on, and finer ones below, where most of our answers are.
pub const EDGES: [u64; 19] = [
    25, 50, 100, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000,
    2_048_000, 4_096_000, 8_192_000,
];
/// How many counts that makes: the last is what lies beyond all edges.
pub const BUCKETS: usize = EDGES.len() + 1;

/// Which of the [`BUCKETS`] a time of so many nanoseconds is counted in.
#[must_use]
pub fn bucket(nanos: u64) -> usize {
    EDGES.iter().position(|edge| nanos <= edge * 1000).unwrap_or(EDGES.len())
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// What a histogram held when it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Upper edges (of times: in seconds), the last one infinite, and how many lie between each and the one before.
    pub buckets: Vec<(f64, u64)>,
    /// How many there are.
    pub count: u64,
    /// All of them together, in the unit of the edges.
    pub sum: f64,
}

impl Reading {
    /// Of counts between edges, one more than there are edges.
    #[must_use]
    pub fn new(edges: impl IntoIterator<Item = f64>, counts: impl IntoIterator<Item = u64>, sum: f64) -> Self {
        let buckets: Vec<(f64, u64)> = edges.into_iter().chain([f64::INFINITY]).zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Self { buckets, count, sum }
    }

    /// Of times: counts between [`EDGES`], and all nanoseconds together.
    #[must_use]
    pub fn of_times(counts: impl IntoIterator<Item = u64>, nanos: u64) -> Self {
        let edges = EDGES.map(|micros| Duration::from_micros(micros).as_secs_f64());
        Self::new(edges, counts, Duration::from_nanos(nanos).as_secs_f64())
    }
}

impl Reading {
    /// Both together, between the same edges.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.buckets.iter_mut().zip(other.buckets).for_each(|((_, sum), (_, more))| *sum += more);
        Self { buckets: self.buckets, count: self.count + other.count, sum: self.sum + other.sum }
    }
}

impl Histogram {
    /// Notes one.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// What it holds now; the sum may be a moment ahead of the counts.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading::of_times(self.counts.iter().map(|count| count.load(Relaxed)), self.nanos.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_counted_once_at_the_first_edge_that_it_does_not_pass() {
        let histogram = Histogram::default();
        let empty = histogram.read();
        assert_eq!((empty.count, empty.sum, empty.buckets.len()), (0, 0.0, EDGES.len() + 1));
        let cases =
            [(0, 25e-6), (25, 25e-6), (26, 50e-6), (16_000, 0.016), (16_001, 0.032), (8_192_001, f64::INFINITY)];
        for (micros, edge) in cases {
            let before = histogram.read();
            histogram.observe(Duration::from_micros(micros));
            let after = histogram.read();
            let changed: Vec<f64> = (before.buckets.iter().zip(&after.buckets))
                .filter(|(before, after)| before != after)
                .map(|(_, (edge, _))| *edge)
                .collect();
            assert_eq!(changed, [edge], "{micros} us");
            assert_eq!(after.count, before.count + 1, "{micros} us");
        }
        let sum = cases.iter().map(|(micros, _)| micros).sum();
        assert!((histogram.read().sum - Duration::from_micros(sum).as_secs_f64()).abs() < 1e-9);
        assert!(histogram.read().buckets.is_sorted_by(|(a, _), (b, _)| a < b));
    }
}
