//! Counters of one upstream, written by the forwarder and read by the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Trouble;
use crate::histogram::{Histogram, Reading};

/// Why a message from an upstream's address was no answer; [`Reject::word`] is the metrics' label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// An ID that nothing waits for: forged, or later than any try waits.
    Id,
    /// Another address.
    Source,
    /// Another question, or not exactly one.
    Question,
    /// QR not set, or another opcode.
    NoAnswer,
    /// It does not parse.
    Malformed,
}

impl Reject {
    /// All, in the order of [`Stats::rejects`].
    pub const ALL: [Self; 5] = [Self::Id, Self::Source, Self::Question, Self::NoAnswer, Self::Malformed];

    /// A short word for labels and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        ["id", "source", "question", "no-answer", "malformed"][self as usize]
    }
}

/// What came of a probe; [`Probed::word`] is the metrics' label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// An answer came, whatever it says.
    Answered,
    /// None in time.
    Timeout,
    /// Refused, unreachable, a connection closed.
    Error,
}

impl Probed {
    /// All, in the order of [`Stats::probes`].
    pub const ALL: [Self; 3] = [Self::Answered, Self::Timeout, Self::Error];

    /// A short word for labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        ["answered", "timeout", "error"][self as usize]
    }
}

/// Counters of one upstream, from the start of the process on.
#[derive(Debug, Default)]
pub struct Stats {
    rcodes: [AtomicU64; 17],
    rejects: [AtomicU64; Reject::ALL.len()],
    timeouts: AtomicU64,
    errors: AtomicU64,
    hedges: AtomicU64,
    probes: [AtomicU64; Probed::ALL.len()],
    took: Histogram,
}

impl Stats {
    /// Answers by response code; the last of the 17 counts all codes above 15.
    #[must_use]
    pub fn rcodes(&self) -> [u64; 17] {
        self.rcodes.each_ref().map(|cell| cell.load(Ordering::Relaxed))
    }

    /// Messages that were ignored, by reason.
    pub fn rejects(&self) -> impl Iterator<Item = (Reject, u64)> {
        Reject::ALL.into_iter().zip(self.rejects.iter().map(|cell| cell.load(Ordering::Relaxed)))
    }

    /// Tries without an answer in time.
    #[must_use]
    pub fn timeouts(&self) -> u64 {
        self.timeouts.load(Ordering::Relaxed)
    }

    /// Tries that failed otherwise: refused, unreachable, a connection closed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Questions that came here too because another upstream took long.
    #[must_use]
    pub fn hedges(&self) -> u64 {
        self.hedges.load(Ordering::Relaxed)
    }

    /// Probes, of health and for loops, by what came of them. They are in none of the other counters but
    /// [`Stats::rejects`].
    pub fn probes(&self) -> impl Iterator<Item = (Probed, u64)> {
        Probed::ALL.into_iter().zip(self.probes.iter().map(|cell| cell.load(Ordering::Relaxed)))
    }

    /// How long answered tries took.
    #[must_use]
    pub fn took(&self) -> Reading {
        self.took.read()
    }

    pub(super) fn hedged(&self) {
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn probed(&self, result: Result<(), Trouble>) {
        let probed = match result {
            Ok(()) => Probed::Answered,
            Err(Trouble::Timeout) => Probed::Timeout,
            Err(_) => Probed::Error,
        };
        self.probes[probed as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, rcode: u16, took: Duration) {
        self.took.observe(took);
        self.rcodes[usize::from(rcode.min(16))].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn rejected(&self, reason: Reject) {
        self.rejects[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, trouble: Trouble) {
        let cell = if trouble == Trouble::Timeout { &self.timeouts } else { &self.errors };
        cell.fetch_add(1, Ordering::Relaxed);
    }
}
