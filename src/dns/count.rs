//! Counters: each worker has its own and is the only one who writes them; whoever scrapes sums them up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::table::SLOTS as SEGMENTS;
use crate::table::decide::Reason;

use super::cache::Kind;
use super::listen::Transport;

/// Record types that are counted by name; the last stands for every other.
pub const TYPES: [(&str, u16); 12] = [
    ("A", 1),
    ("AAAA", 28),
    ("SRV", 33),
    ("PTR", 12),
    ("HTTPS", 65),
    ("TXT", 16),
    ("MX", 15),
    ("NS", 2),
    ("SOA", 6),
    ("CNAME", 5),
    ("ANY", 255),
    ("other", 0),
];

/// Response codes that are counted by name; the last stands for every other.
pub const RCODES: [&str; 8] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "BADVERS", "other"];

/// The word for a response code.
#[must_use]
pub fn rcode_word(code: u16) -> &'static str {
    RCODES[rcode_slot(code)]
}

#[inline]
fn rcode_slot(code: u16) -> usize {
    match code {
        0..=5 => usize::from(code),
        16 => 6,
        _ => 7,
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table.
    Table,
    /// The cache, within its time (R23).
    Cache,
    /// The cache, beyond its time (R23, RFC 8767).
    Stale,
    /// An upstream.
    Upstream,
    /// Neither: an error of the message, or of everything.
    None,
}

impl Source {
    /// All sources, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Table, Self::Cache, Self::Stale, Self::Upstream, Self::None];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::None => "none",
        }
    }

    /// Where an answer with this reason comes from, if no upstream was asked for it.
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::Forwarded => Self::Upstream,
            Reason::Protocol | Reason::UpstreamFailed | Reason::Overloaded | Reason::Loop => Self::None,
            _ => Self::Table,
        }
    }
}

/// What a cache hit was, in CoreDNS's words, and `error` for a failure.
pub const HITS: [&str; 3] = ["success", "denial", "error"];

#[inline]
fn hit_slot(kind: Kind) -> usize {
    match kind {
        Kind::Success => 0,
        Kind::Denial => 1,
        Kind::Error | Kind::Failure => 2,
    }
}

/// What else is counted of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// An upstream had to be asked.
    Miss,
    /// An entry was asked for again before its end.
    Prefetch,
    /// An entry was given after its end (RFC 8767).
    Stale,
    /// No upstream was healthy, so that none was asked.
    Broken,
}

const REASONS: usize = Reason::ALL.len();
const SOURCES: usize = Source::ALL.len();

/// One writer's counters.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counts {
    /// More than one thread writes.
    shared: bool,
    requests: [[[AtomicU64; TYPES.len()]; 2]; 2],
    responses: [[[AtomicU64; REASONS]; SOURCES]; RCODES.len()],
    hidden: [[AtomicU64; SEGMENTS]; SEGMENTS],
    ignored: AtomicU64,
    cache_hits: [AtomicU64; HITS.len()],
    cache: [AtomicU64; 4],
}

impl Counts {
    fn new(shared: bool) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            shared,
            requests: std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| zero()))),
            responses: std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| zero()))),
            hidden: std::array::from_fn(|_| std::array::from_fn(|_| zero())),
            ignored: zero(),
            cache_hits: std::array::from_fn(|_| zero()),
            cache: std::array::from_fn(|_| zero()),
        }
    }

    /// A writer that is alone needs no locked instruction.
    #[inline]
    fn bump(&self, counter: &AtomicU64) {
        if self.shared {
            counter.fetch_add(1, Relaxed);
        } else {
            counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }
}

/// The place of each type up to 255 in [`TYPES`].
const TYPE_SLOTS: [u8; 256] = {
    let mut slots = [(TYPES.len() - 1) as u8; 256];
    let mut at = 0;
    while at < TYPES.len() - 1 {
        slots[TYPES[at].1 as usize] = at as u8;
        at += 1;
    }
    slots
};

#[inline]
fn type_slot(rtype: u16) -> usize {
    TYPE_SLOTS.get(usize::from(rtype)).map_or(TYPES.len() - 1, |slot| usize::from(*slot))
}

impl Counts {
    /// A query came in.
    #[inline]
    pub fn request(&self, transport: Transport, six: bool, rtype: u16) {
        let transport = usize::from(transport == Transport::Tcp);
        self.bump(&self.requests[transport][usize::from(six)][type_slot(rtype)]);
    }

    /// A packet came in that gets no answer: no header, or a response (R24).
    #[inline]
    pub fn ignored(&self) {
        self.bump(&self.ignored);
    }

    /// The cache had the answer, within its time.
    #[inline]
    pub fn cache_hit(&self, kind: Kind) {
        self.bump(&self.cache_hits[hit_slot(kind)]);
    }

    /// Something else about the cache.
    #[inline]
    pub fn cached(&self, what: Cached) {
        self.bump(&self.cache[what as usize]);
    }

    /// It was answered.
    #[inline]
    pub fn response(&self, code: u16, source: Source, reason: Reason) {
        self.bump(&self.responses[rcode_slot(code)][source as usize][reason as usize]);
    }

    /// A name of one segment was hidden from a caller of another; both by [`crate::table::Table::slot`].
    #[inline]
    pub fn hidden(&self, caller: u8, segment: u8) {
        self.bump(&self.hidden[usize::from(caller) % SEGMENTS][usize::from(segment) % SEGMENTS]);
    }
}

/// Everyone's counters.
#[derive(Debug, Default)]
pub struct Registry {
    all: Mutex<Vec<Arc<Counts>>>,
}

impl Registry {
    /// Counters for one more writer, or for several (`shared`). What a writer has left is another's then, with what was counted
    /// in it.
    #[must_use]
    pub fn register(&self, shared: bool) -> Arc<Counts> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut own = all.iter_mut().filter(|counts| counts.shared == shared);
        if let Some(left) = own.find_map(|counts| Arc::get_mut(counts).is_some().then(|| Arc::clone(counts))) {
            return left;
        }
        let counts = Arc::new(Counts::new(shared));
        all.push(Arc::clone(&counts));
        counts
    }

    fn sum(&self, of: impl Fn(&Counts) -> u64) -> u64 {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|c| of(c)).sum()
    }

    /// Queries by transport (`udp`, `tcp`), family (`1` for IPv4, `2` for IPv6, as CoreDNS has it) and type.
    #[must_use]
    pub fn requests(&self) -> Vec<([&'static str; 3], u64)> {
        let mut out = Vec::new();
        for (t, transport) in ["udp", "tcp"].into_iter().enumerate() {
            for (f, family) in ["1", "2"].into_iter().enumerate() {
                for (r, (rtype, _)) in TYPES.into_iter().enumerate() {
                    out.push(([transport, family, rtype], self.sum(|c| c.requests[t][f][r].load(Relaxed))));
                }
            }
        }
        out
    }

    /// Answers by code, source and reason; combinations that cannot be are left out while they are 0.
    #[must_use]
    pub fn responses(&self) -> Vec<([&'static str; 3], u64)> {
        let mut out = Vec::new();
        for (c, code) in RCODES.into_iter().enumerate() {
            for (r, reason) in Reason::ALL.into_iter().enumerate() {
                for (s, source) in Source::ALL.into_iter().enumerate() {
                    let count = self.sum(|all| all.responses[c][s][r].load(Relaxed));
                    if count > 0 || usual(code, source, reason) {
                        out.push(([code, source.word(), reason.word()], count));
                    }
                }
            }
        }
        out
    }

    /// Packets without an answer.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.sum(|c| c.ignored.load(Relaxed))
    }

    /// Cache hits by the words of [`HITS`].
    #[must_use]
    pub fn cache_hits(&self) -> [(&'static str, u64); HITS.len()] {
        std::array::from_fn(|at| (HITS[at], self.sum(|c| c.cache_hits[at].load(Relaxed))))
    }

    /// How often this happened.
    #[must_use]
    pub fn cached(&self, what: Cached) -> u64 {
        self.sum(|c| c.cache[what as usize].load(Relaxed))
    }

    /// Names hidden, by the slots of caller's and name's segment.
    #[must_use]
    pub fn hidden(&self, caller: u8, segment: u8) -> u64 {
        self.sum(|c| c.hidden[usize::from(caller) % SEGMENTS][usize::from(segment) % SEGMENTS].load(Relaxed))
    }
}

/// The codes and sources that a reason usually has: these series exist from the start.
fn usual(code: &str, source: Source, reason: Reason) -> bool {
    let codes: &[&str] = match reason {
        Reason::Visible | Reason::Global | Reason::Public | Reason::Takeover => &["NOERROR"],
        Reason::NoData | Reason::NoAddress | Reason::Empty | Reason::Apex => &["NOERROR"],
        Reason::Absent | Reason::Hidden | Reason::ClusterHidden => &["NXDOMAIN"],
        Reason::Grace | Reason::NotSynced | Reason::CallerInvalid | Reason::CallerUnknown => &["SERVFAIL"],
        Reason::UpstreamFailed | Reason::Overloaded => &["SERVFAIL"],
        Reason::Forwarded => &["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"],
        Reason::Loop => &["REFUSED"],
        Reason::Protocol => &["FORMERR", "NOTIMP", "REFUSED", "BADVERS"],
    };
    let from_upstreams = [Source::Cache, Source::Stale, Source::Upstream];
    let fits =
        if reason == Reason::Forwarded { from_upstreams.contains(&source) } else { source == Source::of(reason) };
    fits && codes.contains(&code)
}

#[cfg(test)]
mod tests;
