//! Counters: each worker has its own and is the only one who writes them; whoever scrapes sums them up.

pub mod sample;
mod size;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::histogram::{self, BUCKETS, Reading};
use crate::table::SLOTS as SEGMENTS;
use crate::table::decide::Reason;

use super::cache::Kind;
use super::listen::Transport;
use super::writers::Writers;
use sample::Rings;
use size::Sizes;

/// The words for [`Transport`], as in CoreDNS.
const TRANSPORTS: [&str; 2] = ["udp", "tcp"];

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
    #[inline]
    #[must_use]
    pub const fn of(reason: Reason) -> Self {
        // Every answer asks for it.
        const OF: [Source; REASONS] = {
            let mut all = [Source::Table; REASONS];
            let mut at = 0;
            while at < REASONS {
                all[Reason::ALL[at] as usize] = match Reason::ALL[at] {
                    Reason::Forwarded => Source::Upstream,
                    Reason::Protocol | Reason::UpstreamFailed | Reason::Overloaded | Reason::Loop => Source::None,
                    _ => Source::Table,
                };
                at += 1;
            }
            all
        };
        OF[reason as usize]
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

/// How long answers took that came from one source.
#[derive(Debug)]
struct Times {
    nanos: AtomicU64,
    counts: [AtomicU64; BUCKETS],
}

/// One writer's counters, or those of several if `SHARED`.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counts<const SHARED: bool = true> {
    cells: Cells,
}

/// By transport, UDP first.
type ByTransport<T> = [T; 2];

#[derive(Debug)]
struct Cells {
    request_sizes: ByTransport<Sizes>,
    response_sizes: ByTransport<Sizes>,
    requests: ByTransport<[[AtomicU64; TYPES.len()]; 2]>,
    responses: [[[AtomicU64; REASONS]; SOURCES]; RCODES.len()],
    times: [Times; SOURCES],
    hidden: [[AtomicU64; SEGMENTS]; SEGMENTS],
    ignored: AtomicU64,
    cache_hits: [AtomicU64; HITS.len()],
    cache: [AtomicU64; 4],
}

impl Cells {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            request_sizes: Default::default(),
            response_sizes: Default::default(),
            requests: std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| zero()))),
            responses: std::array::from_fn(|_| std::array::from_fn(|_| std::array::from_fn(|_| zero()))),
            times: std::array::from_fn(|_| Times { nanos: zero(), counts: std::array::from_fn(|_| zero()) }),
            hidden: std::array::from_fn(|_| std::array::from_fn(|_| zero())),
            ignored: zero(),
            cache_hits: std::array::from_fn(|_| zero()),
            cache: std::array::from_fn(|_| zero()),
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

#[inline]
fn transport_slot(transport: Transport) -> usize {
    usize::from(transport == Transport::Tcp)
}

/// An IPv4-mapped IPv6 address is an IPv4 address.
#[inline]
fn family_slot(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(six) => usize::from(six.to_ipv4_mapped().is_none()),
    }
}

impl<const SHARED: bool> Counts<SHARED> {
    fn new() -> Self {
        Self { cells: Cells::new() }
    }

    /// A writer that is alone needs no locked instruction.
    #[inline]
    fn add(counter: &AtomicU64, more: u64) {
        if SHARED {
            counter.fetch_add(more, Relaxed);
        } else {
            counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
        }
    }

    #[inline]
    fn bump(counter: &AtomicU64) {
        Self::add(counter, 1);
    }

    #[inline]
    fn sized(sizes: &Sizes, size: usize) {
        Self::bump(sizes.count(size));
        Self::add(sizes.octets(), size as u64);
    }

    /// A query of so many octets came in.
    #[inline]
    pub fn request(&self, transport: Transport, from: IpAddr, rtype: u16, size: usize) {
        let transport = transport_slot(transport);
        Self::bump(&self.cells.requests[transport][family_slot(from)][type_slot(rtype)]);
        Self::sized(&self.cells.request_sizes[transport], size);
    }

    /// A packet came in that gets no answer: no header, or a response (R24).
    #[inline]
    pub fn ignored(&self) {
        Self::bump(&self.cells.ignored);
    }

    /// The cache had the answer, within its time.
    #[inline]
    pub fn cache_hit(&self, kind: Kind) {
        Self::bump(&self.cells.cache_hits[hit_slot(kind)]);
    }

    /// Something else about the cache.
    #[inline]
    pub fn cached(&self, what: Cached) {
        Self::bump(&self.cells.cache[what as usize]);
    }

    /// It was answered, with so many octets.
    #[inline]
    pub fn response(&self, transport: Transport, code: u16, source: Source, reason: Reason, size: usize) {
        Self::bump(&self.cells.responses[rcode_slot(code)][source as usize][reason as usize]);
        Self::sized(&self.cells.response_sizes[transport_slot(transport)], size);
    }

    /// So many answers from one source took so many nanoseconds each.
    pub fn took(&self, source: Source, answers: u64, nanos: u64) {
        let times = &self.cells.times[source as usize];
        Self::add(&times.counts[histogram::bucket(nanos)], answers);
        Self::add(&times.nanos, nanos.saturating_mul(answers));
    }

    /// A name of one segment was hidden from a caller of another; both by [`crate::table::Table::slot`].
    #[inline]
    pub fn hidden(&self, caller: u8, segment: u8) {
        Self::bump(&self.cells.hidden[usize::from(caller) % SEGMENTS][usize::from(segment) % SEGMENTS]);
    }
}

/// Everyone's counters.
#[derive(Debug, Default)]
pub struct Registry {
    own: Writers<Counts<false>>,
    shared: Writers<Counts>,
    samples: Rings,
}

impl Registry {
    /// Counters for one more writer. What a writer has left is another's then, with what was counted in it.
    #[must_use]
    pub fn own(&self) -> Arc<Counts<false>> {
        self.own.register(Counts::new)
    }

    /// Counters for several writers.
    #[must_use]
    pub fn shared(&self) -> Arc<Counts> {
        self.shared.register(Counts::new)
    }

    /// Some of the queries of the last minute.
    #[must_use]
    pub fn samples(&self) -> &Rings {
        &self.samples
    }

    /// Looks at the counters of all writers.
    fn look<R>(&self, look: impl FnOnce(&[&Cells]) -> R) -> R {
        let (own, shared) = (self.own.all(), self.shared.all());
        let all = own.iter().map(|counts| &counts.cells).chain(shared.iter().map(|counts| &counts.cells));
        look(&all.collect::<Vec<_>>())
    }

    fn sum(&self, of: impl Fn(&Cells) -> u64) -> u64 {
        self.look(|all| all.iter().map(|cells| of(cells)).sum())
    }

    /// Queries by transport (`udp`, `tcp`), family (`1` for IPv4, `2` for IPv6, as CoreDNS has it) and type.
    #[must_use]
    pub fn requests(&self) -> Vec<([&'static str; 3], u64)> {
        let mut out = Vec::new();
        for (t, transport) in TRANSPORTS.into_iter().enumerate() {
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

    /// Octets of queries, and of answers, by transport.
    #[must_use]
    pub fn sizes(&self) -> [ByTransport<(&'static str, Reading)>; 2] {
        let read = |of: fn(&Cells) -> &ByTransport<Sizes>| {
            std::array::from_fn(|t| {
                (TRANSPORTS[t], self.look(|all| Sizes::read(all.iter().map(|cells| &of(cells)[t]))))
            })
        };
        [read(|cells| &cells.request_sizes), read(|cells| &cells.response_sizes)]
    }

    /// How long answers took, by source.
    #[must_use]
    pub fn times(&self) -> [(&'static str, Reading); SOURCES] {
        Source::ALL.map(|source| {
            let at = source as usize;
            let counts = (0..BUCKETS).map(|bucket| self.sum(|cells| cells.times[at].counts[bucket].load(Relaxed)));
            (source.word(), Reading::of_times(counts, self.sum(|cells| cells.times[at].nanos.load(Relaxed))))
        })
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
