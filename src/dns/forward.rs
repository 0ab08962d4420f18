//! Forwarding of what segdns does not know itself (R23).
//!
//! ```text
//! Forwarder::ask -> Zones (whom) -> rounds (in what order, how long) -> exchange -> udp | tcp
//! ```
//!
//! Every question to an upstream goes through `Forwarder::ask`, and every single try through `Forwarder::exchange`.
//! What comes back is a [`Message`], checked once, from which [`Message::write`] makes the reply of each asker.

mod message;
mod own;
mod query;
mod reply;
mod resolv;
mod stats;
mod tcp;
mod udp;
mod zones;

#[cfg(test)]
mod message_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::wire;
use crate::table::Name;

pub use message::{Message, Record, Section};
pub use query::{PAYLOAD, Query};
pub use reply::Asker;
pub use stats::{Reject, Stats};
pub use zones::{Upstream, Zone};

use own::Own;
use query::Sent;
use zones::{Peer, Zones};

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
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            one_try: Duration::from_millis(1500),
            in_all: Duration::from_secs(4),
            tcp_idle: Duration::from_secs(10),
            resolv_check: Duration::from_secs(1),
            resolv_port: 53,
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
        }
    }
}

/// Why one try gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Timeout,
    /// Nobody listens there.
    Refused,
    /// Any other error of the socket, or a connection that closed twice.
    Failed,
}

/// Asks upstreams. Shared by all who ask; must be used inside a tokio runtime.
#[derive(Debug)]
pub struct Forwarder {
    zones: Zones,
    tuning: Tuning,
}

impl Forwarder {
    /// A forwarder for `zones`; `own` are the addresses that segdns listens on.
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
        let zones = Zones::new(zones, Arc::new(Own::new(own)), tuning)?;
        Ok(Self { zones, tuning })
    }

    /// The answer to one question. Dropping the future gives up the question.
    ///
    /// An answer that is SERVFAIL, REFUSED, FORMERR, NOTIMP or an extended code counts only if no upstream has a
    /// better one.
    ///
    /// # Errors
    /// [`Failure`], at once where waiting would not help.
    pub async fn ask(&self, query: &Query<'_>) -> Result<Message, Failure> {
        let zone = self.zones.of(query.name).ok_or(Failure::NoUpstream)?;
        let peers = self.zones.peers_of(zone);
        if peers.is_empty() {
            return Err(Failure::NoUpstream);
        }
        self.rounds(&peers, zone.tcp, query).await
    }

    /// The zone that a name in uncompressed wire form belongs to, and its upstreams in order, for `explain`.
    #[must_use]
    pub fn upstreams_of(&self, name: &[u8]) -> Option<(&str, Vec<SocketAddr>)> {
        let zone = self.zones.of(name)?;
        Some((&zone.text, self.zones.peers_of(zone).iter().map(|peer| peer.address).collect()))
    }

    /// The search domains of the resolv.conf that zone `.` has upstreams from, as they are now; the last file counts.
    #[must_use]
    pub fn search_domains(&self) -> Arc<[Name]> {
        self.zones.search_domains()
    }

    /// The counters of every upstream that is or was configured, by address.
    #[must_use]
    pub fn stats(&self) -> Vec<(SocketAddr, Arc<Stats>)> {
        self.zones.all_peers().into_iter().map(|peer| (peer.address, peer.stats.clone())).collect()
    }

    /// Asks one upstream after the other, and goes round again as long as one of them may only have been slow: an
    /// upstream that refuses or says no does so at once, and asking it alone again would be a storm.
    async fn rounds(&self, peers: &[Arc<Peer>], tcp: bool, query: &Query<'_>) -> Result<Message, Failure> {
        let deadline = Instant::now() + self.tuning.in_all;
        let mut last = None;
        loop {
            let mut slow = false;
            for peer in peers {
                match self.exchange(peer, tcp, query, deadline).await {
                    Ok(message) if says_no(&message) => last = Some(message),
                    Ok(message) => return Ok(message),
                    Err(trouble) => slow |= trouble == Trouble::Timeout,
                }
                if Instant::now() >= deadline {
                    return last.ok_or(Failure::Timeout);
                }
            }
            if !slow {
                return last.ok_or(Failure::Unreachable);
            }
        }
    }

    /// One try with one upstream; TCP after a truncated answer has a time of its own, as it is a question of its own.
    async fn exchange(&self, peer: &Peer, tcp: bool, query: &Query<'_>, deadline: Instant) -> Result<Message, Trouble> {
        let until = || deadline.min(Instant::now() + self.tuning.one_try);
        let sent = Sent::new(query);
        let result = async {
            if !tcp {
                let answer = timeout_at(until(), udp::ask(peer.address, &sent, &peer.stats)).await;
                if let Some(message) = answer.unwrap_or(Err(Trouble::Timeout))? {
                    return Ok(message);
                }
            }
            peer.line.ask(&sent, until()).await
        }
        .await;
        match &result {
            Ok(message) => peer.stats.answered(message.rcode()),
            Err(trouble) => peer.stats.failed(*trouble),
        }
        result
    }
}

/// Whether another upstream may know better: FORMERR, SERVFAIL, NOTIMP, REFUSED, or a code about the hop.
fn says_no(message: &Message) -> bool {
    matches!(message.rcode(), 1 | 2 | 4 | 5 | 16..)
}
