//! One caller that floods does not slow others: it is found by who fills batches, and answered by threads of its own.
//!
//! ```text
//! Watch   of each worker: looks at batches that came in full, and tells who is in many of them
//! Guard   a task: the list of callers that flood, and the programs of `steer`
//! ```
//!
//! A socket's queue is one for all its callers: what a modest one asks waits behind all that a greedy one has sent. So each
//! address has twice as many sockets as workers, and threads to read them. The second half sleeps until there are callers
//! to be set apart, and all the rest is left to the scheduler, which is fair to threads. No answer depends on any of this.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use socket2::Socket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::moment::Moment;

use super::Stats;
use super::steer::{self, MOST, Parts};

/// Full batches that are looked at together: 2,048 queries that had to wait.
const WINDOW: usize = 32;
/// They count if they came within so long; a burst now and then is no flood.
const SOON: Duration = Duration::from_secs(1);
/// Who was seen in so many of a window floods.
const FLOOD: usize = WINDOW / 4;
/// Who was set apart stays so if it was seen in so many.
const STILL: usize = 2;
/// A worker that has told of somebody looks again after so long.
const PAUSE: Duration = Duration::from_millis(100);
/// Who was not seen for so long is not apart any more.
const CALM: Duration = Duration::from_secs(10);
/// Reports that may wait; what is beyond is told again soon anyway.
pub(super) const REPORTS: usize = 16;
/// From one datagram that is looked at to the next; odd, so that every slot of a batch has its turn.
const STRIDE: usize = 27;

/// A caller that was seen in full batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    caller: IpAddr,
    /// In so many of a [`WINDOW`].
    batches: usize,
}

/// What one worker knows of its queue. It costs nothing while batches are not full, and a look at one datagram of 64 then.
pub(super) struct Watch {
    /// One caller of each full batch: who has a quarter of the queue is it one time in four. Never grown.
    seen: Vec<IpAddr>,
    since: Moment,
    /// Before this nothing is looked at.
    next: Moment,
    turn: usize,
    stats: Arc<Stats>,
    reports: mpsc::Sender<Seen>,
}

impl Watch {
    /// That of one more worker.
    pub(super) fn new(stats: Arc<Stats>, reports: mpsc::Sender<Seen>) -> Self {
        let now = Moment::now();
        Self { seen: Vec::with_capacity(WINDOW), since: now, next: now, turn: 0, stats, reports }
    }

    /// A batch came in full, so that more may wait: `caller` says whose one of its datagrams is, of `slots`.
    pub(super) fn full(&mut self, now: Moment, slots: usize, caller: impl FnOnce(usize) -> Option<IpAddr>) {
        if now < self.next {
            return;
        }
        if self.seen.is_empty() || now - self.since > SOON {
            self.seen.clear();
            self.since = now;
        }
        // Another one each time, and not beside the last: what a caller sends at once lies together.
        self.turn = (self.turn + STRIDE) % slots;
        self.seen.extend(caller(self.turn));
        if self.seen.len() >= WINDOW {
            self.tell(now);
            self.seen.clear();
        }
    }

    /// Neither waits nor blocks; but it may wake up a thread of the runtime, ten times a second.
    #[cold]
    fn tell(&mut self, now: Moment) {
        let enough = if self.stats.callers_apart.load(Relaxed) > 0 { STILL } else { FLOOD };
        self.seen.sort_unstable();
        for same in self.seen.chunk_by(|one, other| one == other).filter(|same| same.len() >= enough) {
            self.next = now + PAUSE;
            let _ = self.reports.try_send(Seen { caller: same[0], batches: same.len() });
        }
    }
}

/// The sockets of one address.
struct Group {
    address: SocketAddr,
    /// Any of them; the guard keeps none open.
    socket: Weak<Socket>,
    six: bool,
    parts: Parts,
    /// Another process steers.
    rests: bool,
}

/// The sockets of all addresses that are served.
#[derive(Clone, Default)]
pub(super) struct Groups(Arc<Mutex<Vec<Group>>>);

/// A caller that is set apart.
struct Apart {
    caller: IpAddr,
    since: Instant,
    until: Instant,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, Vec<Group>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the sockets of an address, in the order of their numbers: as many serve everybody as there are `workers`, as
    /// many more those that are set apart, and nothing comes to the rest. `false` where the system knows no such thing, and
    /// all is as if there were none.
    pub(super) fn add(&self, sockets: &[Arc<Socket>], workers: usize, address: SocketAddr) -> bool {
        let [first, ..] = sockets else { return false };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // Of sockets that were inherited there may be fewer than that.
        let all = sockets.len().min(2 * workers);
        let some = workers.min(all.div_ceil(2));
        let parts = Parts { everybody: 0..number(some), apart: number(some.min(all - 1))..number(all) };
        let group = Group { address, socket: Arc::downgrade(first), six: address.is_ipv6(), parts, rests: false };
        match group.steer(&[]) {
            Ok(()) => self.lock().push(group),
            Err(error) => {
                tracing::warn!(%address, %error, "callers that flood cannot be set apart from others here");
                return false;
            }
        }
        true
    }

    /// Another process steers the datagrams of an address (`true`), or this one again.
    pub(super) fn rest(&self, address: SocketAddr, rests: bool) {
        for group in self.lock().iter_mut().filter(|group| group.address == address) {
            group.rests = rests;
            if let Err(error) = group.steer(&[]) {
                tracing::warn!(%address, %error, "datagrams may go where nobody expects them");
            }
        }
    }
}

/// Who is set apart, on all addresses of a listener.
pub(super) struct Guard {
    groups: Groups,
    apart: Vec<Apart>,
    attached: Instant,
    stats: Arc<Stats>,
}

impl Guard {
    /// One of these groups, to which others may come.
    pub(super) fn new(groups: Groups, stats: Arc<Stats>) -> Self {
        Self { groups, apart: Vec::new(), attached: Instant::now(), stats }
    }

    /// Runs until there is no worker any more that could tell something.
    pub(super) async fn run(mut self, mut reports: mpsc::Receiver<Seen>) {
        loop {
            let first = self.apart.iter().map(|apart| apart.until).min();
            let calm = async {
                match first {
                    Some(until) => sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                seen = reports.recv() => match seen {
                    Some(seen) => self.hear(seen, Instant::now()),
                    None => return,
                },
                () = calm => self.release(Instant::now()),
            }
        }
    }

    fn hear(&mut self, Seen { caller, batches }: Seen, now: Instant) {
        let until = now + CALM;
        if let Some(known) = self.apart.iter_mut().find(|apart| apart.caller == caller) {
            known.until = until;
            // Another process that came to share the address has put its own program there, which knows nobody.
            if now.duration_since(self.attached) > CALM {
                self.steer(now);
            }
            return;
        }
        let can_be = self.groups.lock().iter().any(|group| group.six == caller.is_ipv6()) && self.apart.len() < MOST;
        if batches >= FLOOD && can_be {
            self.apart.push(Apart { caller, since: now, until });
            self.stats.floods.fetch_add(1, Relaxed);
            tracing::info!(%caller, "floods: answered apart from others, so that they do not wait behind it");
            self.steer(now);
        }
    }

    fn release(&mut self, now: Instant) {
        for calm in self.apart.extract_if(.., |apart| apart.until <= now) {
            let after = now.duration_since(calm.since);
            tracing::info!(caller = %calm.caller, ?after, "floods no more: answered like others again");
        }
        self.steer(now);
    }

    fn steer(&mut self, now: Instant) {
        self.attached = now;
        self.stats.callers_apart.store(self.apart.len() as u64, Relaxed);
        let list: Vec<IpAddr> = self.apart.iter().map(|apart| apart.caller).collect();
        for group in self.groups.lock().iter() {
            if let Err(error) = group.steer(&list) {
                tracing::warn!(%error, "callers that flood are not set apart from others for now");
            }
        }
    }
}

impl Group {
    fn steer(&self, list: &[IpAddr]) -> io::Result<()> {
        if self.rests {
            return Ok(());
        }
        // A listener that has ended has nothing to steer.
        let Some(socket) = self.socket.upgrade() else { return Ok(()) };
        steer::attach(&socket, &mut steer::program(&self.parts, list, self.six))
    }
}

#[cfg(test)]
mod tests;
