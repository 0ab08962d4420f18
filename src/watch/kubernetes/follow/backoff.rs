//! Waiting longer after each failure.

use std::time::Duration;

/// From a first delay to a cap, doubling; each shortened by chance, so that many nodes do not come back at once.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    /// Failures so far.
    count: u32,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, count: 0 }
    }

    /// How long to wait after one more failure.
    pub fn next(&mut self) -> Duration {
        let full = self.first.saturating_mul(1 << self.count.min(16)).min(self.cap);
        self.count = self.count.saturating_add(1);
        jitter(full)
    }

    /// As [`Self::next`], but nothing after the first failure.
    pub fn next_but_first(&mut self) -> Duration {
        if self.count == 0 {
            self.count = 1;
            return Duration::ZERO;
        }
        self.next()
    }

    pub fn reset(&mut self) {
        self.count = 0;
    }
}

/// Half to the whole of it.
pub fn jitter(full: Duration) -> Duration {
    full.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_its_cap_and_starts_anew() {
        let (first, cap) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(first, cap);
        for _ in 0..2 {
            for n in 0..40 {
                let full = first.saturating_mul(1 << n.min(10)).min(cap);
                let delay = backoff.next();
                assert!(delay >= full / 2 && delay <= full, "{n}: {delay:?} of {full:?}");
            }
            backoff.reset();
        }
    }

    #[test]
    fn the_first_may_be_free() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        assert_eq!(backoff.next_but_first(), Duration::ZERO);
        assert!(backoff.next_but_first() >= Duration::from_millis(100));
    }
}
