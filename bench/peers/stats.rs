//! Medians, spreads, and percentiles of times.

use std::time::Duration;

/// Buckets of one power of two: percentiles are right within 1/32.
const STEPS: usize = 32;
/// Powers of two, from nanoseconds on.
const POWERS: usize = 40;

/// Times, in buckets that grow with them.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * POWERS], total: 0 }
    }
}

impl Histogram {
    /// One more.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(STEPS as u64);
        let power = nanos.ilog2() as usize;
        let step = (nanos >> (power - STEPS.ilog2() as usize)) as usize - STEPS;
        self.counts[(power * STEPS + step).min(STEPS * POWERS - 1)] += 1;
        self.total += 1;
    }

    /// How long the fastest of this share (0 to 1) took at most, in us; 0 if there are none.
    #[must_use]
    pub fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                let (power, step) = (at / STEPS, at % STEPS);
                return ((STEPS + step) as f64 + 0.5) * (1_u64 << power) as f64 / STEPS as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// The middle of some figures, and where their middle half lies.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Median {
    /// Half are at most this.
    pub median: f64,
    /// A quarter is at most this.
    pub low: f64,
    /// A quarter is at least this.
    pub high: f64,
}

impl Median {
    /// `None` if there are none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        figures.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (figures.len().checked_sub(1)?) as f64;
            let (low, high) = (figures[place.floor() as usize], figures[place.ceil() as usize]);
            Some(low + (high - low) * place.fract())
        };
        Some(Self { median: at(0.5)?, low: at(0.25)?, high: at(0.75)? })
    }
}
