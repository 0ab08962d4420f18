//! The query log: which queries are logged, switched while the server runs, and what a line of it says.
//!
//! The hot path asks [`QueryLog::is_on`], which is one read of a flag that nobody writes but whoever switches. All else here is
//! cold, and for log lines only.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hickory_proto::rr::RecordType;
use tracing::field::display;

use crate::mesh::caller::CallerPod;
use crate::table::Table;
use crate::table::decide::Reason;
use crate::table::key::Key;

use super::count::{Source, rcode_word};
use super::listen::Transport;
use super::query::rcode;
use super::reply::Asked;

/// The target of its lines, whatever level other logs have.
pub const TARGET: &str = "segdns::queries";
/// How many switches of single callers or names there may be at once: each query is held against all of them.
pub const MOST: usize = 32;

/// Which queries are logged (`log.queries`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Queries {
    /// No query is logged.
    #[default]
    None,
    /// Those that were answered with a failure.
    Failures,
    /// All.
    All,
    /// This share of all, above 0 and at most 1.
    Sample(f64),
}

impl Queries {
    fn wants(self, code: u16) -> bool {
        match self {
            Self::None => false,
            Self::Failures => code != rcode::NOERROR,
            Self::All => true,
            Self::Sample(share) => rand::random_bool(share.clamp(0.0, 1.0)),
        }
    }
}

/// Whose queries a switch is about: all that is given has to fit, and nothing given is everyone's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// The caller's namespace.
    pub namespace: Option<Box<str>>,
    /// The caller's pod; its namespace is the one above.
    pub pod: Option<Box<str>>,
    /// The caller's address.
    pub from: Option<IpAddr>,
    /// This name and everything below it.
    pub name: Option<Suffix>,
}

/// A name as the end of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suffix {
    /// As people write it.
    pub text: Box<str>,
    wire: Box<[u8]>,
    labels: usize,
}

impl Suffix {
    /// Of a name that was read.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        Self { text: key.text(key.all()).into(), wire: key.span(key.all()).into(), labels: key.count() }
    }

    fn ends(&self, key: &Key) -> bool {
        let more = key.count().checked_sub(self.labels);
        more.is_some_and(|more| key.span(more..key.count()) == &*self.wire)
    }
}

/// Who asked, as far as it is known.
struct Who<'t> {
    address: IpAddr,
    pod: Option<&'t CallerPod>,
    segment: Option<&'t str>,
}

impl<'t> Who<'t> {
    fn of(table: &'t Table, address: IpAddr) -> Self {
        let caller = table.callers.find(address);
        let pod = caller.pod.and_then(|ix| table.callers.pods.get(usize::try_from(ix).ok()?));
        let segment = caller.segment.segment().and_then(|ix| table.segments.get(usize::from(ix)));
        Self { address: address.to_canonical(), pod, segment: segment.map(|segment| &*segment.name) }
    }
}

impl Whose {
    /// Whether it means everyone.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        *self == Self::default()
    }

    fn fits(&self, who: &Who<'_>, key: &Key) -> bool {
        let Self { namespace, pod, from, name } = self;
        let of_pod = |wanted: &Option<Box<str>>, of: fn(&CallerPod) -> &str| {
            wanted.as_deref().is_none_or(|wanted| who.pod.is_some_and(|pod| of(pod) == wanted))
        };
        of_pod(namespace, |pod| &pod.namespace)
            && of_pod(pod, |pod| &pod.name)
            && from.is_none_or(|from| from == who.address)
            && name.as_ref().is_none_or(|name| name.ends(key))
    }
}

/// What was asked for while the server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Switch {
    /// Whose queries it is about.
    pub whose: Whose,
    /// Which of them are logged.
    pub queries: Queries,
    /// Until when it holds.
    pub until: Instant,
}

/// Everything that was asked for.
#[derive(Clone, Debug, Default)]
struct Wishes {
    /// By the configuration.
    configured: Queries,
    /// At run time, each for other callers or names; what is said for everyone stands in for the configuration.
    switches: Vec<Switch>,
}

impl Wishes {
    fn everyone(&self) -> Queries {
        let switch = self.switches.iter().find(|switch| switch.whose.is_everyone());
        switch.map_or(self.configured, |switch| switch.queries)
    }

    fn is_on(&self) -> bool {
        self.everyone() != Queries::None || self.switches.iter().any(|switch| switch.queries != Queries::None)
    }

    fn wants(&self, who: &Who<'_>, key: &Key, code: u16) -> bool {
        let single = |switch: &Switch| !switch.whose.is_everyone() && switch.whose.fits(who, key);
        self.everyone().wants(code) || self.switches.iter().any(|switch| single(switch) && switch.queries.wants(code))
    }
}

/// There are too many switches already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MOST} switches of single callers or names already; end one with queries=none, or all of them")]
pub struct TooMany;

/// What is logged of queries; shared by all who answer.
#[derive(Debug, Default)]
pub struct QueryLog {
    on: AtomicBool,
    wishes: ArcSwap<Wishes>,
    changing: Mutex<()>,
}

impl QueryLog {
    /// As the configuration says.
    #[must_use]
    pub fn new(configured: Queries) -> Self {
        let log = Self::default();
        log.configure(configured);
        log
    }

    /// Whether any query may have to be logged.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Takes what a new configuration says; what was switched at run time goes on.
    pub fn configure(&self, configured: Queries) {
        self.change(|wishes| wishes.configured = configured);
    }

    /// Switches for some time. `none` for everyone ends all other switches, too; `none` for some ends theirs.
    ///
    /// # Errors
    /// [`TooMany`] switches.
    pub fn switch(&self, whose: &Whose, queries: Queries, length: Duration, now: Instant) -> Result<(), TooMany> {
        let mut refused = Ok(());
        self.change(|wishes| {
            let ends = queries == Queries::None;
            if ends && whose.is_everyone() {
                wishes.switches.clear();
            }
            wishes.switches.retain(|switch| switch.whose != *whose && switch.until > now);
            if ends && (!whose.is_everyone() || wishes.configured == Queries::None) {
                return;
            }
            if wishes.switches.len() >= MOST {
                refused = Err(TooMany);
                return;
            }
            wishes.switches.push(Switch { whose: whose.clone(), queries, until: now + length });
        });
        refused
    }

    /// Ends the switches whose time is over; how many these were.
    pub fn expire(&self, now: Instant) -> usize {
        let mut ended = 0;
        self.change(|wishes| {
            let before = wishes.switches.len();
            wishes.switches.retain(|switch| switch.until > now);
            ended = before - wishes.switches.len();
        });
        ended
    }

    /// What holds for everyone now, and every switch.
    #[must_use]
    pub fn list(&self) -> (Queries, Vec<Switch>) {
        let wishes = self.wishes.load();
        (wishes.everyone(), wishes.switches.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Wishes)) {
        // The flag and what it stands for change together; readers take no lock.
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wishes = Wishes::clone(&self.wishes.load());
        change(&mut wishes);
        self.on.store(wishes.is_on(), Relaxed);
        self.wishes.store(Arc::new(wishes));
    }
}

/// A query and what became of it.
pub(super) struct Line<'l> {
    pub(super) asked: &'l Asked<'l>,
    pub(super) from: SocketAddr,
    pub(super) transport: Transport,
    pub(super) code: u16,
    pub(super) source: Source,
    pub(super) reason: Reason,
    /// How long it took, where that was measured.
    pub(super) took: Option<Duration>,
}

impl QueryLog {
    /// Writes a line, if it is wanted, in the words of `explain`. The caller is looked up in `table`, which may be newer than
    /// the one that the answer is of.
    #[cold]
    pub(super) fn write(&self, table: &Table, line: &Line<'_>) {
        let Line { asked, from, transport, code, source, reason, took } = *line;
        let who = Who::of(table, from.ip());
        if !self.wishes.load().wants(&who, asked.key, code) {
            return;
        }
        let rtype = match RecordType::from(asked.query.rtype) {
            RecordType::Unknown(number) => format!("TYPE{number}"),
            word => word.to_string(),
        };
        let (namespace, pod) = (who.pod.map(|pod| display(&pod.namespace)), who.pod.map(|pod| display(&pod.name)));
        let segment = who.segment.map(display);
        let transport = display(if transport == Transport::Tcp { "tcp" } else { "udp" });
        tracing::info!(
            target: TARGET,
            %from,
            namespace,
            pod,
            segment,
            name = %asked.key.text(asked.key.all()),
            "type" = %rtype,
            transport,
            rcode = %rcode_word(code),
            source = %source.word(),
            reason = %reason.word(),
            rule = %reason.rule(),
            took_ms = took.map(|took| took.as_micros() as f64 / 1000.0),
            "query"
        );
    }
}

#[cfg(test)]
mod tests;
