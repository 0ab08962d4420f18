//! Forwarding of what segdns does not know itself (R23).
//!
//! ```text
//! Forwarder::ask -> Zones (whom) -> rounds (in what order, how long) -> Peer::exchange -> udp | tcp
//!                                      |                                  |
//!                                   latency (who is asked too)         health -> probe (who is left out)
//! Forwarder::plain -> Departures (the same without a task, many at once) -> errand -> udp
//! Forwarder::start -> loops (whose questions come back to us)
//! ```
//!
//! Every question to an upstream goes through `Forwarder::ask`, and every single try through `Peer::exchange`, but for plain
//! ones, which need neither as long as nothing happens: see `errand`. What comes
//! back is a [`Message`], checked once, from which [`Message::write`] makes the reply of each asker.

mod errand;
mod health;
mod latency;
mod loops;
mod message;
mod own;
mod peer;
mod probe;
mod query;
mod reply;
mod resolv;
mod rounds;
mod stats;
mod tcp;
mod udp;
mod zones;

#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::task::AbortHandle;

use super::wire;
use crate::table::Name;

pub use errand::{Departures, Plain, Taker};
pub use message::{Message, Record, Section};
pub use query::{PAYLOAD, Query};
pub use reply::Asker;
pub use stats::{Probed, Reject, Stats};
pub use zones::{Upstream, Zone};

use own::Own;
use query::Sent;
use zones::{Known, Roster, Zones};

/// What R23 fixes; only tests have reason to change it.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// How long one try waits for its answer.
    pub one_try: Duration,
    /// How long all tries for one question take together.
    pub in_all: Duration,
    /// A TCP connection to an upstream closes after this time without traffic.
    pub tcp_idle: Duration,
    /// A resolv.conf is looked at no more often than this.
    pub resolv_check: Duration,
    /// The port of the name servers in a resolv.conf.
    pub resolv_port: u16,
    /// A TCP connection to an upstream takes no new questions when it is so old, give or take a tenth.
    pub tcp_age: Duration,
    /// A UDP socket takes new questions for this time.
    pub udp_life: Duration,
    /// A UDP socket takes so many questions at most.
    pub udp_questions: u32,
    /// An upstream that has sent nothing for this time while a question waits is suspect; nor does a second upstream wait
    /// longer than this to be asked too.
    pub silence: Duration,
    /// A suspect that has answered nothing for this time is down. Also how long each probe waits.
    pub verdict: Duration,
    /// Between two probes at first, give or take a fifth; up to eight times that for one that is down for long.
    pub probe_every: Duration,
    /// A second upstream is asked after this time, while it is not known how long the first one takes.
    pub hedge_start: Duration,
    /// A second upstream is never asked before this time.
    pub hedge_floor: Duration,
    /// Between two questions that are copied to an upstream which is asked last since it is slow.
    pub copy_every: Duration,
    /// Between two looks at resolv.conf files and at which probes for loops are due.
    pub loop_tick: Duration,
    /// Between two probes for loops, give or take a fifth.
    pub loop_every: Duration,
    /// The same, after the first one and while there is a loop.
    pub loop_again: Duration,
    /// A probe that comes back within this time means a loop.
    pub loop_valid: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            one_try: Duration::from_millis(1500),
            in_all: Duration::from_secs(4),
            tcp_idle: Duration::from_secs(10),
            resolv_check: Duration::from_secs(1),
            resolv_port: 53,
            tcp_age: Duration::from_secs(60),
            udp_life: Duration::from_secs(10),
            udp_questions: 512,
            silence: Duration::from_millis(300),
            verdict: Duration::from_secs(1),
            probe_every: Duration::from_millis(500),
            hedge_start: Duration::from_millis(200),
            hedge_floor: Duration::from_millis(10),
            copy_every: Duration::from_secs(1),
            loop_tick: Duration::from_secs(1),
            loop_every: Duration::from_secs(60),
            loop_again: Duration::from_secs(5),
            loop_valid: Duration::from_secs(3),
        }
    }
}

/// Why zones cannot be forwarded as configured.
#[derive(Debug, Error)]
pub enum ForwardError {
    /// A zone stands there twice.
    #[error("forward: zone {zone} stands there twice")]
    Double {
        /// The zone.
        zone: String,
    },
    /// A zone has an empty list.
    #[error("forward: zone {zone} has no upstreams")]
    NoUpstream {
        /// The zone.
        zone: String,
    },
    /// An upstream is one of our own addresses (R23).
    #[error("forward: upstream {address} of zone {zone} is segdns itself, which would be a loop")]
    Own {
        /// The zone.
        zone: String,
        /// The upstream.
        address: SocketAddr,
    },
    /// An upstream without a port, or the unspecified address.
    #[error("forward: upstream {address} of zone {zone} is no address that can be asked")]
    Unusable {
        /// The zone.
        zone: String,
        /// The upstream.
        address: SocketAddr,
    },
    /// A resolv.conf cannot be read at the start. Later that is a warning, and the list from before stays.
    #[error("forward: zone {zone}: cannot read {}: {error}", path.display())]
    ResolvConf {
        /// The zone.
        zone: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Why there is no answer. The asker gets SERVFAIL, never silence (R23).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// No answer within the time for all tries.
    #[error("no upstream answered in time")]
    Timeout,
    /// Every upstream refused the connection or cannot be reached.
    #[error("no upstream can be reached")]
    Unreachable,
    /// Too many questions wait already, of this client or in all.
    #[error("too many questions are waiting for upstreams")]
    Busy,
    /// No zone takes the name, or its resolv.conf names nobody.
    #[error("no upstream is configured for the name")]
    NoUpstream,
    /// The question is one of our own probes, which an upstream has sent back to us.
    #[error("the question is a probe of our own: an upstream forwards to us")]
    Loop,
}

impl Failure {
    /// A short word for logs and labels.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Timeout => "upstream-timeout",
            Self::Unreachable => "upstream-unreachable",
            Self::Busy => "busy",
            Self::NoUpstream => "no-upstream",
            Self::Loop => "loop",
        }
    }
}

/// Why one try gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Timeout,
    /// Nobody listens there, or no way leads there.
    Refused,
    /// The upstream closed the connection, twice.
    Closed,
    /// Any other error of the socket, or an answer that is no good.
    Failed,
}

/// An error of a socket, or of connecting, in the forwarder's words.
fn trouble(error: &io::Error) -> Trouble {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    match error.kind() {
        // Reset while connecting is a way to refuse.
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable => Trouble::Refused,
        _ => Trouble::Failed,
    }
}

/// An upstream of a zone, and whether it is asked. Shown as `10.0.0.1:53`, or `10.0.0.1:53 (down: no answer for 12 s)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its address and port.
    pub address: SocketAddr,
    /// Why it is left out now, for people; `None` if it is asked.
    pub left_out: Option<String>,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.left_out {
            Some(why) => write!(f, "{} ({why})", self.address),
            None => self.address.fmt(f),
        }
    }
}

/// Asks upstreams. Shared by all who ask; must be used inside a tokio runtime.
#[derive(Debug)]
pub struct Forwarder {
    /// Replaced as a whole by another configuration.
    zones: Arc<ArcSwap<Zones>>,
    /// The same for all zones that follow each other.
    known: Arc<Known>,
    tuning: Tuning,
    broken: AtomicU64,
    watch: Mutex<Option<AbortHandle>>,
}

impl Forwarder {
    /// A forwarder for `zones`; `own` are the addresses that segdns listens on. Nothing is sent before the first question
    /// or [`Forwarder::start`].
    ///
    /// # Errors
    /// [`ForwardError`]: a mistake in the configuration, or a resolv.conf that cannot be read.
    pub fn new(zones: Vec<Zone>, own: &[SocketAddr]) -> Result<Self, ForwardError> {
        Self::with_tuning(zones, own, Tuning::default())
    }

    /// As [`Forwarder::new`], with other times.
    ///
    /// # Errors
    /// As [`Forwarder::new`].
    pub fn with_tuning(zones: Vec<Zone>, own: &[SocketAddr], tuning: Tuning) -> Result<Self, ForwardError> {
        let known = Arc::default();
        let zones = Zones::new(zones, Own::new(own), tuning, &known, None)?;
        let zones = Arc::new(ArcSwap::from_pointee(zones));
        Ok(Self { zones, known, tuning, broken: AtomicU64::new(0), watch: Mutex::default() })
    }

    /// Takes another configuration, for questions that come from now on. What is known of the upstreams that both have
    /// stays: health, latency, sockets, counters, and for a zone that stays whether they send its questions back.
    ///
    /// # Errors
    /// As [`Forwarder::new`]; nothing is changed then.
    pub fn set_zones(&self, zones: Vec<Zone>, own: &[SocketAddr]) -> Result<(), ForwardError> {
        let before = self.zones.load_full();
        let zones = Zones::new(zones, Own::new(own), self.tuning, &self.known, Some(&before))?;
        self.zones.store(Arc::new(zones));
        Ok(())
    }

    /// Starts to follow resolv.conf files and to look for loops, until the forwarder is dropped. To be called once our
    /// own door is open, since that is where a loop shows; [`Forwarder::is_probe`] has to be asked there.
    pub fn start(&self) {
        let task = tokio::spawn(loops::watch(Arc::clone(&self.zones), self.tuning));
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = watch.replace(task.abort_handle()) {
            before.abort();
        }
    }

    /// The answer to one question. Dropping the future gives up the question.
    ///
    /// An answer that is SERVFAIL, REFUSED, FORMERR, NOTIMP or an extended code counts only if no upstream has a
    /// better one.
    ///
    /// # Errors
    /// [`Failure`], at once where waiting would not help.
    pub async fn ask(&self, query: &Query<'_>) -> Result<Message, Failure> {
        let roster = self.roster_of(query.name).ok_or(Failure::NoUpstream)?;
        if roster.seats().is_empty() {
            return Err(Failure::NoUpstream);
        }
        if !roster.seats().iter().any(|seat| seat.is_usable()) {
            self.broken.fetch_add(1, Relaxed);
            return Err(Failure::Unreachable);
        }
        rounds::rounds(&roster, Arc::new(Sent::new(query)), None, &self.tuning).await
    }

    /// Whom to ask about a name (uncompressed wire form) if that is plain now: [`Forwarder::depart`] then does without a task.
    #[must_use]
    pub fn plain(&self, name: &[u8]) -> Option<Plain> {
        Plain::of(self.roster_of(name)?)
    }

    /// The upstreams of a name's zone.
    fn roster_of(&self, name: &[u8]) -> Option<Arc<Roster>> {
        let zones = self.zones.load();
        Some(zones.roster(zones.of(name)?))
    }

    /// As [`Forwarder::ask`], for one who does not wait: `taker` gets the answer. The question cannot be given up. It leaves with
    /// the others of its batch, by [`Forwarder::send`].
    pub fn depart(&self, plain: Plain, query: &Query<'_>, taker: impl Taker + 'static, batch: &mut Departures) {
        batch.add(plain, query, taker);
    }

    /// Sends the questions of a batch.
    #[inline]
    pub fn send(&self, batch: &mut Departures) {
        if !batch.is_empty() {
            batch.send();
        }
    }

    /// Whether nobody could be asked for this name (uncompressed wire form) now, so that [`Forwarder::ask`] would fail at
    /// once: all upstreams of its zone are down, or there is none. For the hot path: no lock, no allocation.
    ///
    /// Followed by the state of probes, and after [`Forwarder::start`] by resolv.conf, without anyone calling
    /// [`Forwarder::ask`].
    #[must_use]
    pub fn is_down(&self, name: &[u8]) -> bool {
        self.zones.load().of(name).is_none_or(|zone| !zone.roster().seats().iter().any(|seat| seat.is_usable()))
    }

    /// Whether a name (uncompressed wire form) that has come in to be forwarded is one of our own probes for loops. If
    /// so, there is a loop, which is noted; the question must be answered REFUSED and not be forwarded.
    ///
    /// One comparison for nearly all other names; never a lock or an allocation but for a probe that came back.
    #[must_use]
    pub fn is_probe(&self, name: &[u8]) -> bool {
        self.known.live.is_probe(name)
    }

    /// The zone that a name in uncompressed wire form belongs to, and its upstreams in order, for `explain`.
    #[must_use]
    pub fn upstreams_of(&self, name: &[u8]) -> Option<(String, Vec<Condition>)> {
        let zones = self.zones.load();
        let zone = zones.of(name)?;
        Some((zone.text.clone(), zones.roster(zone).conditions()))
    }

    /// Every upstream that a zone names now, once for each zone.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        let zones = self.zones.load();
        zones.entries().iter().flat_map(|zone| zones.roster(zone).conditions()).collect()
    }

    /// The search domains of the resolv.conf that zone `.` has upstreams from, as they are now; the last file counts.
    #[must_use]
    pub fn search_domains(&self) -> Arc<[Name]> {
        self.zones.load().search_domains()
    }

    /// The counters of every upstream that is or was configured, by address.
    #[must_use]
    pub fn stats(&self) -> Vec<(SocketAddr, Arc<Stats>)> {
        self.zones.load().stats()
    }

    /// Questions that [`Forwarder::ask`] answered at once since every upstream of their zone was left out.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.broken.load(Relaxed)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            watch.abort();
        }
    }
}
