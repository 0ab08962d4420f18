//! Whether an upstream answers. Questions that go unanswered make it suspect, and a probe decides.
//!
//! ```text
//!        silent, refused, closed          no probe answered in time, or refused too
//!   Up -------------------------> Suspect ----------------------------------------> Down
//!    ^          any answer           |                                               |
//!    +-------------------------------+-----------------------------------------------+
//! ```
//!
//! A question that an upstream cannot answer in time, since its domain is broken, says nothing about the upstream. So
//! silence counts only if nothing at all has come from it since the question was sent, and then only as a suspicion.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// For so long after a line about an upstream that is down, only changes back are said; falls are counted.
const FOLDED: Duration = Duration::from_secs(30);

/// See the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Up,
    Suspect,
    Down,
}

/// What makes an upstream suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing came from it while a question waited.
    Silent,
    /// Nobody listens there, or there is no way to it.
    Refused,
    /// It closes connections instead of answering.
    Closed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "no answer",
            Self::Refused => "nobody listens, or no way there",
            Self::Closed => "it closes connections without an answer",
        })
    }
}

/// What is known of one upstream address over one transport. Read by everyone without a lock.
#[derive(Debug)]
pub(super) struct Health {
    /// Times below are microseconds since then, plus one; 0 is never.
    base: Instant,
    heard: AtomicU64,
    /// When the oldest question was sent whose asker did not wait for the answer.
    left: AtomicU64,
    state: AtomicU8,
    settled: Notify,
    wanted: Notify,
    story: Mutex<Story>,
}

/// For people.
#[derive(Debug)]
struct Story {
    why: Why,
    since: Instant,
    /// When it was last said that it is down.
    told: Option<Instant>,
    /// Whether that is the last that was said.
    told_down: bool,
    untold: u32,
}

impl Health {
    pub(super) fn new() -> Self {
        let base = Instant::now();
        Self {
            base,
            heard: AtomicU64::new(0),
            left: AtomicU64::new(0),
            state: AtomicU8::new(State::Up as u8),
            settled: Notify::new(),
            wanted: Notify::new(),
            story: Mutex::new(Story { why: Why::Silent, since: base, told: None, told_down: false, untold: 0 }),
        }
    }

    fn stamp(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_micros()).unwrap_or(u64::MAX - 1) + 1
    }

    /// An answer came: right ID, right question, whatever it says.
    pub(super) fn heard(&self, now: Instant) {
        self.heard.store(self.stamp(now), Relaxed);
        if self.left.load(Relaxed) != 0 {
            self.left.store(0, Relaxed);
        }
    }

    /// Whether anything came since then.
    pub(super) fn heard_since(&self, then: Instant) -> bool {
        self.heard.load(Relaxed) >= self.stamp(then)
    }

    /// A question of `then` got its answer elsewhere, and nobody waits for this upstream's any more.
    pub(super) fn left(&self, then: Instant) {
        if !self.heard_since(then) {
            // Only the oldest counts; losing a race to a later heard() costs one probe.
            let _ = self.left.compare_exchange(0, self.stamp(then), Relaxed, Relaxed);
        }
    }

    /// Whether a question that nobody waits for any more has been unanswered for `silence`, as all since.
    pub(super) fn is_overdue(&self, now: Instant, silence: Duration) -> bool {
        let left = self.left.load(Relaxed);
        left != 0 && left.saturating_add(silence.as_micros() as u64) <= self.stamp(now)
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Up,
            1 => State::Suspect,
            _ => State::Down,
        }
    }

    /// Whether nobody may ask it.
    #[inline]
    pub(super) fn is_down(&self) -> bool {
        self.state.load(Relaxed) == State::Down as u8
    }

    /// Makes it suspect; whoever gets `true` must probe it until [`Health::rise`] or for ever.
    pub(super) fn doubt(&self) -> bool {
        self.state.compare_exchange(State::Up as u8, State::Suspect as u8, Relaxed, Relaxed).is_ok()
    }

    /// Down.
    pub(super) fn fall(&self, address: SocketAddr, tcp: bool, why: Why) {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        (story.why, story.since) = (why, Instant::now());
        story.untold += 1;
        drop(story);
        self.state.store(State::Down as u8, Relaxed);
        self.settled.notify_waiters();
        self.tell(address, tcp);
    }

    /// Says that it is down, once, and not too soon after the last time; to be called now and then while it is.
    pub(super) fn tell(&self, address: SocketAddr, tcp: bool) {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if !self.is_down() || story.told_down || story.told.is_some_and(|told| now < told + FOLDED) {
            return;
        }
        (story.told, story.told_down) = (Some(now), true);
        let (why, times) = (story.why, std::mem::take(&mut story.untold));
        let transport = if tcp { "tcp" } else { "udp" };
        tracing::warn!(upstream = %address, transport, times, "upstream is down: {why}; left out, and probed until it is back");
    }

    /// Up.
    pub(super) fn rise(&self, address: SocketAddr, tcp: bool) {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_down() && std::mem::take(&mut story.told_down) {
            let transport = if tcp { "tcp" } else { "udp" };
            tracing::info!(upstream = %address, transport, down = ?story.since.elapsed(), "upstream is back");
        }
        drop(story);
        self.left.store(0, Relaxed);
        self.state.store(State::Up as u8, Relaxed);
        self.settled.notify_waiters();
    }

    /// Waits while it is suspect; whether it may be asked.
    pub(super) async fn settled(&self) -> bool {
        self.until(|state| state != State::Suspect).await == State::Up
    }

    /// Waits until it is down.
    pub(super) async fn fallen(&self) {
        self.until(|state| state == State::Down).await;
    }

    /// Waits while it is down.
    pub(super) async fn risen(&self) {
        self.until(|state| state != State::Down).await;
    }

    /// Waits for a state that will do, and tells which it was.
    async fn until(&self, does: impl Fn(State) -> bool) -> State {
        loop {
            let settled = self.settled.notified();
            let state = self.state();
            if does(state) {
                return state;
            }
            settled.await;
        }
    }

    /// Somebody would ask it now if it lived: it should be probed soon.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits until it is wanted.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Why it is down and for how long, for people; `None` if it is not.
    pub(super) fn why_down(&self) -> Option<String> {
        let story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_down().then(|| format!("down: {} for {} s", story.why, story.since.elapsed().as_secs()))
    }
}
