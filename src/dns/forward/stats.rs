//! Counters of one upstream, written by the forwarder and read by the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Trouble;

/// Why a message from an upstream's address was no answer; [`Reject::word`] is the metrics' label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Another ID: late, or forged.
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

/// Counters of one upstream, from the start of the process on.
#[derive(Debug, Default)]
pub struct Stats {
    rcodes: [AtomicU64; 17],
    rejects: [AtomicU64; Reject::ALL.len()],
    timeouts: AtomicU64,
    errors: AtomicU64,
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

    pub(super) fn answered(&self, rcode: u16) {
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
