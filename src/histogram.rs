//! How long things took: counts between fixed edges, written without a lock and read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The edges, in microseconds: fine where a change of one object is expected, coarse where a whole cluster is read.
const EDGES: [u64; 16] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000,
    10_000_000,
];

/// See the module's page.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; EDGES.len()],
    beyond: AtomicU64,
    nanos: AtomicU64,
}

/// What a [`Histogram`] held when it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Upper edges in seconds, the last one infinite, and how many lie between each and the one before.
    pub buckets: Vec<(f64, u64)>,
    /// How many there are.
    pub count: u64,
    /// All of them together, in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Notes one.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = EDGES.iter().position(|edge| nanos <= edge * 1000);
        bucket.map_or(&self.beyond, |ix| &self.counts[ix]).fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// What it holds now; the sum may be a moment ahead of the counts.
    #[must_use]
    pub fn read(&self) -> Reading {
        let edges = EDGES.map(|micros| Duration::from_micros(micros).as_secs_f64());
        let all = edges.into_iter().chain([f64::INFINITY]).zip(self.counts.iter().chain([&self.beyond]));
        let buckets: Vec<(f64, u64)> = all.map(|(edge, count)| (edge, count.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Reading { buckets, count, sum: Duration::from_nanos(self.nanos.load(Relaxed)).as_secs_f64() }
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
        let cases = [(0, 25e-6), (25, 25e-6), (26, 50e-6), (20_000, 0.02), (20_001, 0.05), (10_000_001, f64::INFINITY)];
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
