//! Follows one resource of one cluster: lists it, watches it, and begins again after every fault.
//!
//! This is a loop of its own rather than kube's `watcher`, because what that one hides is what counts here: bookmarks (a
//! sign of life of a resource that rarely changes), silence (a dead connection has to be noticed within seconds, not
//! minutes), API servers that cannot list in a stream (it repeats the request forever), and when to come back.
//!
//! ```text
//!          list, in a stream or in pages           every event or bookmark moves the version on
//! begin ------------------------------> version ------> watch ------> end, broken or silent: again from that version
//!   ^                                                     |
//!   +-------- expired (410), silent twice, unreadable ----+
//! ```
//!
//! No fault ever takes an object away.

mod backoff;
mod failure;
mod run;
mod watched;
mod wire;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

pub use failure::Failure;
pub use watched::{Secret, Watched};
pub use wire::whole;

use super::connect::Connection;
use super::resource::Resource;
use crate::watch::board::{Board, Source};

/// Where a follower tells what it reads. Calls come in order: [`Sink::begin`], [`Sink::seen`] for each object of a list,
/// [`Sink::complete`]; then [`Sink::applied`] and [`Sink::deleted`] as the watch tells them, until a new list begins.
/// [`Sink::absent`] may come at any time, in place of a list.
pub trait Sink<T>: Send {
    /// A list begins. What an earlier one told before it was complete counts for nothing more than that it exists.
    fn begin(&mut self);
    /// An object of the list. It may come again, newer, in the same list.
    fn seen(&mut self, object: T);
    /// The list is complete: objects that it did not tell are gone.
    fn complete(&mut self);
    /// The watch tells an object as it is now.
    fn applied(&mut self, object: T);
    /// An object is gone. In a list, too, if it went while the list was told: it may have been seen before.
    fn deleted(&mut self, namespace: &str, name: &str);
    /// The resource does not exist there, so nothing of it does. That is a complete state.
    fn absent(&mut self);
    /// Whether it knows objects before anything is told: those of a saved state.
    fn knows(&self) -> bool {
        false
    }
}

/// How long to wait for what.
#[derive(Clone, Debug)]
pub struct Timing {
    /// After so long without an event or a bookmark a watch counts as dead.
    pub silence: Duration,
    /// After so long without an event a list in a stream counts as one that never says it is complete.
    pub initial_silence: Duration,
    /// As [`Self::initial_silence`], with however many events.
    pub initial: Duration,
    /// For a page of a list, and until a watch is answered.
    pub request: Duration,
    /// Seconds that the API server is to let a watch last.
    pub watch: RangeInclusive<u32>,
    /// The first wait after a fault.
    pub retry: Duration,
    /// The longest wait after a fault.
    pub retry_cap: Duration,
    /// When to try again to list in a stream.
    pub stream_again: Duration,
    /// How long a resource has to be missing until that counts, and how often it is looked for then.
    pub missing: Duration,
    /// A watch that has lasted so long without an error ends the trouble before it.
    pub settled: Duration,
}

impl Timing {
    /// With what `silence` means for a watch.
    #[must_use]
    pub fn new(silence: Duration) -> Self {
        Self {
            silence,
            initial_silence: silence.min(Duration::from_secs(5)),
            initial: Duration::from_secs(60),
            request: Duration::from_secs(30),
            // Different ones, so that not all watches of all nodes end together.
            watch: 240..=300,
            retry: Duration::from_millis(100),
            // Kubernetes' own 30 s would let names be stale for that long after an API server is back.
            retry_cap: Duration::from_secs(5),
            stream_again: Duration::from_secs(600),
            missing: Duration::from_secs(5),
            settled: Duration::from_secs(1),
        }
    }
}

/// Follows `resource` until this is dropped. Inside a tokio runtime only.
pub async fn follow<T: Watched>(
    connection: Connection,
    resource: Resource,
    source: Source,
    board: Arc<Board>,
    timing: Timing,
    sink: impl Sink<T>,
) {
    run::Follower::new(connection, resource, source, board, timing, sink).run().await;
}

#[cfg(test)]
mod tests;
