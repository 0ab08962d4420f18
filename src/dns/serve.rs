//! Both paths behind one door: decide over the newest table, then answer from it or hand over.
//!
//! [`Respond::read`] and [`Respond::answer`] are the hot path; [`Respond::fetch`] between them only tells the processor what to
//! fetch.
//! What may not happen there: a lock, an allocation, a syscall, a log line (unless the query log is on), a counter that
//! another thread writes (but for three marks of use in each lifetime of what is in the cache). It reads the packet in place,
//! finds the caller, decides, and copies prebuilt octets, of the table or of the cache, into the reused buffer; everything
//! else is [`Outcome::Later`]. A few queries a second are noted for `/debug/top` ([`Sampler`]), which takes none of these either.
//! What then only has to be passed on leaves with the rest of its batch ([`Respond::depart`], [`Respond::end`]); what needs more
//! is a task's.

use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache as Newest};

use crate::moment::Moment;
use crate::table::Caller;
use crate::table::Table;
use crate::table::ahead;
use crate::table::decide::{Decision, Forward, Question, Reason, Verdict, decide};
use crate::table::key::Key;
use crate::table::snapshot::{Cell, Snapshot};
use crate::table::zone::ZoneKind;

use super::cache::{self, Cache, Find, Found, Kind, Now, Scratch, State};
use super::count::sample::Sampler;
use super::count::{Cached, Counts, Registry, Source};
use super::forward::Departures;
use super::listen::{Back, Outcome, Respond, Transport};
use super::log::{Line, QueryLog};
use super::query::{self, Read, rcode};
use super::reply::{self, Asked, ede};
use super::resolve::Resolver;
use super::seen::{self, Seen};

/// What the server says of itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// `answers.chaos`: whether CHAOS TXT is answered.
    pub chaos: bool,
    /// What `hostname.bind` and `id.server` answer.
    pub node: String,
    /// `policy.identityHold` (R15, R22).
    pub identity_hold: Duration,
    /// Which queries are logged.
    pub queries: Arc<QueryLog>,
}

/// Answers queries; see the module's page.
#[derive(Debug)]
pub struct Server {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) options: ArcSwap<Options>,
    /// The query log of the options, where asking whether it is on costs one load.
    queries: Arc<QueryLog>,
    /// The counters of the general path, which has many writers.
    pub(super) general: Arc<Counts>,
    pub(super) sampler: Mutex<Sampler>,
    registry: Arc<Registry>,
    seen: Arc<Seen>,
}

/// What one UDP worker, or one thread of TCP, keeps to itself.
pub struct Worker {
    table: Newest<Cell, Arc<Table>>,
    /// By the place in the batch.
    questions: Box<[Asking; QUESTIONS]>,
    /// The place of the last one that was answered.
    last: usize,
    rotation: usize,
    counts: Arc<Counts<false>>,
    sampler: Sampler,
    /// Answers of the batch by source, whose time is not known yet.
    tally: [u32; Source::ALL.len()],
    seen: seen::Own,
    pub(super) aside: Aside,
}

/// Places for queries that were read and not answered: more than are read ahead, and a power of two.
const QUESTIONS: usize = (ahead::STEPS + 1).next_power_of_two();

/// A query that was read.
struct Asking {
    read: Read,
    key: Key,
    /// [`Table::hash`] of the key.
    hash: u64,
}

impl Default for Asking {
    fn default() -> Self {
        Self { read: Read::Ignore, key: Key::default(), hash: 0 }
    }
}

/// What a worker needs where the table has no answer.
#[derive(Default)]
pub(super) struct Aside {
    scratch: Box<Scratch>,
    clock: Clock,
    /// What leaves for upstreams at the end of a batch.
    departures: Departures,
    /// Of the last query, if it was left over only since neither table nor cache has it.
    pub(super) missed: Option<Missed>,
}

/// What time it is for queries that came at once.
#[derive(Default)]
struct Clock {
    /// When the batch came; [`Respond::begin`] tells.
    began: Option<Moment>,
    now: Option<Now>,
}

impl Clock {
    #[inline]
    fn read(&mut self, cache: &Cache) -> Now {
        match (self.began, self.now) {
            (Some(_), Some(now)) => now,
            (Some(began), None) => *self.now.insert(cache.at(began)),
            (None, _) => cache.now(),
        }
    }
}

/// What was decided about a name that the cache does not hold, and that is passed on as it comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missed {
    pub(super) query: query::Query,
    pub(super) how: Forward,
    pub(super) reason: Reason,
    pub(super) began: Moment,
}

/// A reply that was written, and how it came about.
struct Wrote {
    size: usize,
    source: Source,
    reason: Reason,
}

impl Server {
    /// Puts the parts together.
    ///
    /// # Panics
    /// Table and cache do not hash names alike ([`Cache::new`]).
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, resolver: Arc<Resolver>, options: Options, registry: Arc<Registry>) -> Self {
        assert_eq!(resolver.cache().hasher(), snapshot.load().hasher(), "a name is hashed once");
        let (general, sampler) = (registry.shared(), Mutex::new(registry.samples().sampler()));
        let (queries, options) = (Arc::clone(&options.queries), ArcSwap::from_pointee(options));
        Self { snapshot, resolver, options, queries, general, sampler, registry, seen: Arc::default() }
    }

    /// Takes other options, for queries that come from now on; the query log stays the one that it is.
    pub fn set_options(&self, options: Options) {
        self.options.store(Arc::new(options));
    }

    /// The options as they are.
    #[must_use]
    pub fn options(&self) -> Arc<Options> {
        self.options.load_full()
    }

    /// What it asks for the names that the table does not hold.
    #[must_use]
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Where this server's callers are counted.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Who has asked lately.
    #[must_use]
    pub fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }

    /// A line of the query log, if it is wanted.
    #[cold]
    pub(super) fn log(&self, line: &Line<'_>) {
        self.queries.write(&self.snapshot.load(), line);
    }

    #[inline]
    pub(super) fn logs(&self) -> bool {
        self.queries.is_on()
    }
}

/// Counts a name that was hidden from a caller.
#[inline]
pub(super) fn count_hidden<const SHARED: bool>(
    counts: &Counts<SHARED>,
    table: &Table,
    caller: &Caller,
    decision: &Decision<'_>,
) {
    if decision.reason == Reason::Hidden
        && let (Some(asker), Some(of)) = (caller.segment.segment(), decision.segment)
    {
        counts.hidden(table.slot(asker), table.slot(of));
    }
}

/// The response code of a reply that was written.
#[inline]
pub(super) fn code_of(reply: &[u8]) -> u16 {
    u16::from(reply.get(3).map_or(0, |b| b & 0xf))
}

/// The name that was asked, as the key has it; what was refused unread has none.
pub(super) fn asked_name<'k>(asked: &Asked<'k>, reason: Reason) -> &'k [u8] {
    if reason == Reason::Protocol { &[] } else { asked.key.span(asked.key.all()) }
}

/// What the hot path holds of a query once it is decided.
#[derive(Clone, Copy)]
struct Hand<'h> {
    table: &'h Table,
    decision: &'h Decision<'h>,
    asked: &'h Asked<'h>,
    /// [`Table::hash`] of the name.
    hash: u64,
    counts: &'h Counts<false>,
}

impl Hand<'_> {
    #[inline]
    fn answer_of_table(self, caller: &Caller, rotation: usize, out: &mut [u8]) -> Option<Wrote> {
        let size = reply::decided(self.table, self.decision, self.asked, rotation, out)?;
        count_hidden(self.counts, self.table, caller, self.decision);
        let reason = self.decision.reason;
        Some(Wrote { size, source: Source::of(reason), reason })
    }

    /// The answer without records that a policy makes of what is in the cache (R16, R19).
    fn instead(self, verdict: Verdict<'_>, source: Source, out: &mut [u8]) -> Option<Wrote> {
        let decision = Decision { verdict, ..*self.decision };
        let size = reply::decided(self.table, &decision, self.asked, 0, out)?;
        Some(Wrote { size, source, reason: decision.reason })
    }

    /// Whether a name that does not exist is only the first of those that the caller means.
    fn is_completed(self) -> bool {
        matches!(self.decision.verdict, Verdict::Complete(_))
    }

    fn is_reverse(self) -> bool {
        self.decision.zone.is_some_and(|zone| self.table.zones.get(zone).kind == ZoneKind::Reverse)
    }

    fn failed(self, source: Source, out: &mut [u8]) -> Option<Wrote> {
        let size = reply::bare(self.asked, rcode::SERVFAIL, Some(ede::NO_REACHABLE_AUTHORITY), out);
        Some(Wrote { size, source, reason: Reason::UpstreamFailed })
    }

    /// What was found in the cache, as this caller is answered it; the general path takes what needs a closer look.
    #[inline]
    fn found(self, found: &Found<'_>, how: Forward, stale: bool, out: &mut [u8]) -> Option<Wrote> {
        let source = if stale { Source::Stale } else { Source::Cache };
        let nxdomain = found.rcode() == rcode::NXDOMAIN;
        let wrote = if found.kind() == Kind::Failure {
            self.failed(source, out)
        } else if nxdomain && self.is_completed() {
            None
        } else if nxdomain && how.exists {
            self.instead(Verdict::NoData, source, out)
        } else if nxdomain && how.filtered && found.is_empty() && self.decision.zone.is_some() {
            self.instead(Verdict::NxDomain, source, out)
        } else if how.filtered && found.names() {
            None
        } else {
            let size = found.write(self.asked, stale, out)?;
            Some(Wrote { size, source, reason: self.decision.reason })
        }?;
        if stale {
            self.counts.cached(Cached::Stale);
        } else {
            self.counts.cache_hit(found.kind());
        }
        Some(wrote)
    }
}

impl Server {
    /// R23 without asking anyone: what the cache holds, or that nobody can be asked. `None` if someone has to be.
    #[inline]
    fn answer_of_cache(&self, hand: Hand<'_>, how: Forward, aside: &mut Aside, out: &mut [u8]) -> Option<Wrote> {
        // R16: whether a reverse name exists for the caller, its PTR records say, whatever was asked.
        if how.filtered && hand.is_reverse() {
            return None;
        }
        let Asked { packet, query, key, .. } = *hand.asked;
        let cache = self.resolver.cache();
        let question = cache::Question::of(hand.asked);
        let now = aside.clock.read(cache);
        let down = || self.resolver.forwarder().is_down(query.name(packet));
        match cache.find((&question, hand.hash), cache::wants_authentic(query), now, &mut aside.scratch) {
            Find::Hit(found) => match found.state {
                State::Fresh => return hand.found(&found, how, false, out),
                State::Stale { in_vain } if in_vain || down() => return hand.found(&found, how, true, out),
                State::Unsure { in_vain } if in_vain || down() => return hand.found(&found, how, false, out),
                State::Ripe | State::Unsure { .. } | State::Stale { .. } => return None,
            },
            Find::Large => return None,
            Find::Miss => {}
        }
        if let Some(Find::Hit(found)) = how.proof(key).map(|name| cache.find_denial(name, now, &mut aside.scratch)) {
            let stale = found.state != State::Fresh;
            return if stale && !down() { None } else { hand.found(&found, how, stale, out) };
        }
        // A probe of ours that comes back tells of a loop, which the general path has to see.
        if down() && !self.resolver.forwarder().is_probe(query.name(packet)) {
            hand.counts.cached(Cached::Broken);
            return hand.failed(Source::None, out);
        }
        if !(how.filtered || how.exists || hand.is_completed()) {
            let began = aside.clock.began.unwrap_or_else(Moment::now);
            aside.missed = Some(Missed { query: *query, how, reason: hand.decision.reason, began });
        }
        None
    }
}

impl Worker {
    /// What was answered since the batch began took so long.
    fn took(&mut self, began: Moment) {
        if self.tally == [0; Source::ALL.len()] {
            return;
        }
        let nanos = Moment::now().nanos_since(began);
        for (source, answers) in Source::ALL.into_iter().zip(&mut self.tally) {
            if *answers > 0 {
                self.counts.took(source, u64::from(mem::take(answers)), nanos);
            }
        }
    }
}

impl Respond for Server {
    type Worker = Worker;

    const AHEAD: usize = ahead::STEPS;

    fn worker(&self) -> Worker {
        Worker {
            table: Newest::new(self.snapshot.cell()),
            questions: Box::new(std::array::from_fn(|_| Asking::default())),
            last: 0,
            rotation: 0,
            counts: self.registry.own(),
            sampler: self.registry.samples().sampler(),
            tally: Default::default(),
            seen: self.seen.register(),
            aside: Aside::default(),
        }
    }

    fn begin(&self, worker: &mut Worker, now: Moment) {
        worker.aside.clock = Clock { began: Some(now), now: None };
        worker.sampler.tick(now);
    }

    #[inline]
    fn read(&self, worker: &mut Worker, place: usize, packet: &[u8]) {
        let asking = &mut worker.questions[place % QUESTIONS];
        // What stood there is answered; if this one cannot be read, nothing is.
        asking.read = Read::Ignore;
        asking.read = query::read(packet, &mut asking.key);
        asking.hash = worker.table.load().hash(&asking.key);
    }

    #[inline]
    fn fetch(&self, worker: &mut Worker, place: usize, ahead: bool) {
        let asking = |place: usize| &worker.questions[place % QUESTIONS];
        let (next, before) = (asking(place), asking(place.wrapping_sub(if ahead { ahead::STEP } else { 0 })));
        let table = worker.table.load();
        let may_stand = ahead::announce(table, next.hash, before.hash) || table.zones.may_hold(&before.key);
        if let (false, Read::Ask(query)) = (may_stand, &before.read) {
            self.resolver.cache().fetch(before.hash, query);
        }
    }

    #[inline]
    fn answer(
        &self,
        worker: &mut Worker,
        place: usize,
        packet: &[u8],
        from: SocketAddr,
        transport: Transport,
        out: &mut [u8],
    ) -> Outcome {
        worker.last = place % QUESTIONS;
        let Asking { read, key, hash } = &worker.questions[worker.last];
        let query = match read {
            Read::Ignore => {
                worker.counts.ignored();
                return Outcome::Drop;
            }
            Read::Ask(query) | Read::Chaos(query) | Read::Refuse(query, _) => query,
        };
        let ip = from.ip();
        worker.seen.mark(ip);
        worker.counts.request(transport, ip, query.rtype, packet.len());
        let asked = Asked { packet, query, key, limit: query.limit(transport == Transport::Tcp) };
        worker.aside.missed = None;
        let wrote = match read {
            Read::Refuse(_, code) => {
                let size = reply::bare(&asked, *code, None, out);
                Some(Wrote { size, source: Source::None, reason: Reason::Protocol })
            }
            Read::Chaos(_) | Read::Ignore => None,
            Read::Ask(_) => {
                let table = &**worker.table.load();
                let caller = table.callers.find(ip);
                let decision = decide(table, &caller, Question { key, rtype: query.rtype, hash: *hash });
                worker.rotation = worker.rotation.wrapping_add(1);
                let hand = Hand { table, decision: &decision, asked: &asked, hash: *hash, counts: &worker.counts };
                match decision.verdict {
                    Verdict::Forward(how) | Verdict::Complete(Some(how)) => {
                        self.answer_of_cache(hand, how, &mut worker.aside, out)
                    }
                    _ => hand.answer_of_table(&caller, worker.rotation, out),
                }
            }
        };
        let Some(Wrote { size, source, reason }) = wrote else { return Outcome::Later };
        let code = code_of(out);
        worker.counts.response(transport, code, source, reason, size);
        worker.tally[source as usize] += 1;
        if worker.sampler.counts_down() {
            worker.sampler.take(asked_name(&asked, reason), ip, code as u8);
        }
        if self.logs() {
            self.log(&Line { asked: &asked, from, transport, code, source, reason, took: None });
        }
        Outcome::Reply(size)
    }

    async fn later(&self, packet: Vec<u8>, from: SocketAddr, transport: Transport) -> Option<Vec<u8>> {
        self.general(packet, from, transport).await
    }

    fn depart(
        self: &Arc<Self>,
        worker: &mut Worker,
        packet: &[u8],
        from: SocketAddr,
        transport: Transport,
        back: Back,
    ) -> Result<(), Back> {
        match worker.aside.missed.take() {
            Some(missed) => {
                let batch = &mut worker.aside.departures;
                let key = &worker.questions[worker.last].key;
                let departed = self.errand(missed, (packet, key), (from, transport), back, batch);
                if worker.aside.clock.began.is_none() {
                    self.end(worker);
                }
                departed
            }
            None => Err(back),
        }
    }

    fn end(&self, worker: &mut Worker) {
        if let Some(began) = worker.aside.clock.began.take() {
            worker.took(began);
        }
        self.resolver.forwarder().send(&mut worker.aside.departures);
    }

    fn overloaded(&self, packet: &[u8], out: &mut [u8]) -> usize {
        let mut key = Key::default();
        match query::read(packet, &mut key) {
            Read::Ignore => 0,
            Read::Ask(query) | Read::Chaos(query) | Read::Refuse(query, _) => {
                let asked = Asked { packet, query: &query, key: &key, limit: query.limit(false) };
                reply::bare(&asked, rcode::SERVFAIL, None, out)
            }
        }
    }
}

/// Whether a decision waits for something that a newer table may bring (R15, R22).
#[must_use]
pub fn holds(verdict: &Verdict<'_>) -> bool {
    matches!(verdict, Verdict::HoldThenFail | Verdict::HoldThenForward)
}
