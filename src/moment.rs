//! The monotonic clock as one number: what is told with every batch of queries is one subtraction from it, where the
//! standard library's seconds and nanoseconds take forty instructions.

use std::ops::{Add, Sub};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_MONOTONIC`, which std's `Instant` reads too. It lasts for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The present.
    #[inline]
    #[must_use]
    pub fn now() -> Self {
        // Only a clock that the system does not have is an error.
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Self(0), |time| {
            let (seconds, nanos) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
            Self(seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos))
        })
    }

    /// Nanoseconds since the system began to count them.
    #[inline]
    #[must_use]
    pub fn nanos(self) -> u64 {
        self.0
    }

    /// The moment that [`Moment::nanos`] was told of.
    #[inline]
    #[must_use]
    pub fn of_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// How long ago it was.
    #[inline]
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// Nanoseconds from an earlier moment to this one; 0 from a later one.
    #[inline]
    #[must_use]
    pub fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Zero from a later moment.
impl Sub for Moment {
    type Output = Duration;

    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    #[inline]
    fn add(self, more: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(more.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_as_far_apart_as_the_clock_says() {
        let (first, by_std) = (Moment::now(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        let (second, between) = (Moment::now(), by_std.elapsed());
        assert!(second - first >= Duration::from_millis(20) && second - first <= between + Duration::from_millis(5));
        assert_eq!((first - second, first.nanos_since(second)), (Duration::ZERO, 0));
        assert_eq!(first + (second - first), second);
        assert_eq!(Moment::of_nanos(second.nanos()), second);
    }
}
