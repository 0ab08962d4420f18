//! What upstreams know, asked for as seldom as R23 allows.
//!
//! ```text
//! Resolver::ask -> Cache -> Inflight (bounds) -> Flights (one for identical questions) -> Forwarder (whom, how long) -> Cache
//! ```
//!
//! `Resolver::depart` goes the same way without a task, where there is nothing to be decided on the way.
//!
//! Everything that is not in the table comes through here. Nothing here depends on who asks but the bounds: what an answer
//! means to a caller is decided before, and judged after (R13, R16).

mod flights;
mod inflight;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::cache::{Cache, Found, Kept, Loaded, Look, Question, State};
use super::count::{Cached, Counts, Source};
use super::forward::{Departures, Failure, Forwarder, Message, Query, Section, Taker};
use super::query::rcode;
use crate::table::Name;
use crate::table::decide::rtype;
use crate::table::key::Key;

use flights::{Boarded, Flights, Landed, Passenger, Pilot, Route};
use inflight::{Inflight, Place};

/// How long an asker waits for a fresh answer while a stale one is there (RFC 8767 section 5; R23).
const PATIENCE: Duration = Duration::from_millis(400);
/// Whose questions those are that nobody waits for: all of them together have the bounds of one client.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// How many questions may wait for upstreams at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all clients together (`limits.inflight`).
    pub inflight: usize,
    /// Of one client address (`limits.inflightPerClient`).
    pub per_client: usize,
}

/// What upstreams say to a question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The message, from which the reply of each asker is made.
    pub message: Arc<Message>,
    /// Where it came from.
    pub source: Source,
}

/// Who waits for an answer without a task.
pub trait Waiter: Send + 'static {
    /// What came of the question. Must not block.
    fn landed(self, landed: Result<Answer, Failure>);
}

/// Asks for what the table does not hold. Shared by all who ask; must be used inside a tokio runtime.
#[derive(Debug)]
pub struct Resolver {
    cache: Arc<Cache>,
    forwarder: Arc<Forwarder>,
    flights: Arc<Flights>,
    inflight: Inflight,
    counts: Arc<Counts>,
}

/// A question of the general path, with what the cache is asked for it.
struct Asked<'q> {
    query: &'q Query<'q>,
    /// In lower case, without the root octet.
    name: &'q [u8],
    /// The name under which a denial is kept that holds for this one too (see [`crate::table::decide::Forward`]).
    proof: Option<&'q [u8]>,
}

impl Asked<'_> {
    fn question(&self) -> Question<'_> {
        Question {
            name: self.name,
            rtype: self.query.rtype,
            dnssec_ok: self.query.edns == Some(true),
            checking_disabled: self.query.checking_disabled,
        }
    }

    /// Whether the asker wants to know about authenticity (RFC 6840 section 5.7).
    fn authentic(&self) -> bool {
        self.query.authentic_data || self.query.edns == Some(true)
    }

    /// What was found, as the answer to this question. That nobody answered it is remembered, too.
    fn told(&self, found: &Found<'_>, source: Source) -> Result<Answer, Failure> {
        let message = found.message(self.query.name, self.query.rtype, source == Source::Stale);
        Ok(Answer { message: Arc::new(message.ok_or(Failure::Timeout)?), source })
    }
}

impl Resolver {
    /// Asks through `forwarder`, within these limits, and keeps answers in `cache`. `counts` has many writers.
    #[must_use]
    pub fn new(forwarder: Arc<Forwarder>, cache: Arc<Cache>, limits: Limits, counts: Arc<Counts>) -> Self {
        Self { cache, forwarder, flights: Arc::default(), inflight: Inflight::new(limits), counts }
    }

    /// The cache, for the hot path and the admin side.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Takes other limits, for questions that come from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.inflight.set_limits(limits);
    }

    /// Who is asked.
    #[must_use]
    pub fn forwarder(&self) -> &Forwarder {
        &self.forwarder
    }

    /// The node's search domains, see [`Forwarder::search_domains`].
    #[must_use]
    pub fn search_domains(&self) -> Arc<[Name]> {
        self.forwarder.search_domains()
    }

    /// How many questions wait for upstreams now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inflight.total()
    }

    /// The answer to one question of a client. Dropping the future gives up its place, but what is on its way to an
    /// upstream goes on: others may wait for it, and the cache does.
    ///
    /// `proof` is the name, as wire without root octet, that denies this one too if it does not exist itself.
    ///
    /// # Errors
    /// [`Failure`], at once where waiting would not help.
    pub async fn ask(&self, query: &Query<'_>, client: IpAddr, proof: Option<&[u8]>) -> Result<Answer, Failure> {
        if self.forwarder.is_probe(query.name) {
            return Err(Failure::Loop);
        }
        let mut key = Key::default();
        if key.read(query.name).is_none() {
            return Err(Failure::NoUpstream);
        }
        let asked = Asked { query, name: key.span(key.all()), proof };
        let now = self.cache.now();
        let look = if query.recursion_desired { Look::Use } else { Look::Pass };
        let Some(loaded) = self.cache.load(&asked.question(), asked.authentic(), now, look) else {
            return self.miss(&asked, client).await;
        };
        let found = loaded.found();
        match found.state {
            State::Fresh => self.hit(&asked, &found),
            State::Ripe => {
                if self.refresh(&asked) {
                    self.counts.cached(Cached::Prefetch);
                }
                self.hit(&asked, &found)
            }
            State::Unsure { in_vain } => self.unsure(&asked, client, &found, in_vain).await,
            State::Stale { in_vain } => self.stale(&asked, client, &found, in_vain).await,
        }
    }

    /// As [`Resolver::ask`], without a task, for a question that was just looked for in vain in the cache: `waiter` gets
    /// the answer, on whichever thread receives it. It leaves by [`Forwarder::send`].
    ///
    /// # Errors
    /// `waiter`, if there is more to it than asking one upstream: [`Resolver::ask`] knows what.
    pub fn depart<W: Waiter>(
        &self,
        query: &Query<'_>,
        client: IpAddr,
        proof: Option<&[u8]>,
        (waiter, batch): (W, &mut Departures),
    ) -> Result<(), W> {
        let plain = self.forwarder.plain(query.name).filter(|_| !self.forwarder.is_probe(query.name));
        let Some((plain, place)) = plain.and_then(|plain| Some((plain, self.inflight.enter(client)?))) else {
            return Err(waiter);
        };
        let Some(pilot) = Route::of(query).and_then(|route| self.flights.start(route)) else { return Err(waiter) };
        self.counts.cached(Cached::Miss);
        let voyage = Voyage(Some((Flight::new(self, query, proof, place), pilot, waiter)));
        self.forwarder.depart(plain, query, voyage, batch);
        Ok(())
    }

    /// From the cache, within its time.
    fn hit(&self, asked: &Asked<'_>, found: &Found<'_>) -> Result<Answer, Failure> {
        self.counts.cache_hit(found.kind());
        asked.told(found, Source::Cache)
    }

    /// Asks first, but not for long, and then takes what is there (RFC 8767).
    async fn stale(
        &self,
        asked: &Asked<'_>,
        client: IpAddr,
        found: &Found<'_>,
        in_vain: bool,
    ) -> Result<Answer, Failure> {
        if !in_vain
            && !self.forwarder.is_down(asked.query.name)
            && let Some(fresh) = self.better(asked, client).await
        {
            return Ok(fresh);
        }
        self.counts.cached(Cached::Stale);
        asked.told(found, Source::Stale)
    }

    /// Asks first, as [`Resolver::stale`] does: only an upstream knows about authenticity.
    async fn unsure(
        &self,
        asked: &Asked<'_>,
        client: IpAddr,
        found: &Found<'_>,
        in_vain: bool,
    ) -> Result<Answer, Failure> {
        if !in_vain
            && !self.forwarder.is_down(asked.query.name)
            && let Some(sure) = self.better(asked, client).await
        {
            return Ok(sure);
        }
        self.hit(asked, found)
    }

    /// What an upstream says soon, if it is better than what is in the cache.
    async fn better(&self, asked: &Asked<'_>, client: IpAddr) -> Option<Answer> {
        let message = timeout(PATIENCE, self.fly(asked, client)).await.ok()?.ok()?;
        matches!(message.rcode(), rcode::NOERROR | rcode::NXDOMAIN).then(|| {
            self.counts.cached(Cached::Miss);
            Answer { message, source: Source::Upstream }
        })
    }

    async fn miss(&self, asked: &Asked<'_>, client: IpAddr) -> Result<Answer, Failure> {
        let denial = asked.proof.and_then(|proof| self.cache.load_denial(proof, self.cache.now(), Look::Use));
        let denial = denial.as_ref().map(Loaded::found);
        if let Some(found) = denial.filter(|found| found.state == State::Fresh) {
            return self.hit(asked, &found);
        }
        self.counts.cached(Cached::Miss);
        match (self.fly(asked, client).await, denial) {
            (Ok(message), _) => Ok(Answer { message, source: Source::Upstream }),
            (Err(_), Some(found)) => {
                self.counts.cached(Cached::Stale);
                asked.told(&found, Source::Stale)
            }
            (Err(failure), None) => Err(failure),
        }
    }

    /// Joins the flight for a question, or starts one, and waits for it to land.
    async fn fly(&self, asked: &Asked<'_>, client: IpAddr) -> Landed {
        let place = self.inflight.enter(client).ok_or(Failure::Busy)?;
        let (passenger, _waits) = self.board(asked, place).ok_or(Failure::NoUpstream)?;
        passenger.wait().await
    }

    /// Asks again for what is in the cache; nobody waits for it. Whether that was done; it is not for one who does not
    /// want recursion, as the answer would not be kept.
    fn refresh(&self, asked: &Asked<'_>) -> bool {
        let place = self.inflight.enter(NOBODY).filter(|_| asked.query.recursion_desired);
        place.and_then(|place| self.board(asked, place)).is_some()
    }

    /// A flight keeps the place of who started it; who joins one keeps its own. `None` for a name that is none.
    fn board(&self, asked: &Asked<'_>, place: Place) -> Option<(Passenger, Option<Place>)> {
        Some(match self.flights.board(Route::of(asked.query)?) {
            Boarded::Joined(passenger) => (passenger, Some(place)),
            Boarded::Starts(pilot, passenger) => {
                let flight = Flight::new(self, asked.query, asked.proof, place);
                tokio::spawn(flight.run(asked.query.name.into(), pilot));
                (passenger, None)
            }
        })
    }
}

/// One question on its way, which no longer depends on who asked it.
struct Flight {
    cache: Arc<Cache>,
    forwarder: Arc<Forwarder>,
    proof: Option<Box<[u8]>>,
    /// All of the question but its name.
    bits: Query<'static>,
    /// [`Cache::flushes`] when it started.
    flushes: u64,
    _place: Place,
}

impl Flight {
    fn new(resolver: &Resolver, query: &Query<'_>, proof: Option<&[u8]>, place: Place) -> Self {
        Self {
            cache: resolver.cache.clone(),
            forwarder: resolver.forwarder.clone(),
            proof: proof.map(Into::into),
            bits: Query { name: &[], ..*query },
            flushes: resolver.cache.flushes(),
            _place: place,
        }
    }

    async fn run(self, name: Box<[u8]>, pilot: Pilot) {
        let landed = self.forwarder.ask(&Query { name: &name, ..self.bits }).await;
        drop(self.land(pilot, landed));
    }

    /// Keeps what was said, and tells who waits for it.
    fn land(&self, pilot: Pilot, landed: Result<Message, Failure>) -> Landed {
        let landed = landed.map(|mut message| {
            self.cache.cap(self.bits.rtype, &mut message);
            Arc::new(message)
        });
        self.keep(pilot.route().name(), &landed);
        pilot.land(&landed);
        landed
    }

    /// What a resolver says without being asked to resolve (RD 0) may be a referral, and is nobody else's answer.
    fn keep(&self, name: &[u8], landed: &Landed) {
        if !self.bits.recursion_desired || self.cache.flushes() != self.flushes {
            return;
        }
        let asked = Asked { query: &self.bits, name, proof: self.proof.as_deref() };
        let now = self.cache.now();
        match landed {
            Ok(message) => {
                let proof = asked.proof.filter(|proof| denies_all(message, proof));
                match proof.map(|proof| self.cache.store_denial(proof, message, now)) {
                    // An entry of its own would outlive the proof, and be asked for by itself.
                    Some(Kept::As { .. }) => self.cache.forget(&asked.question()),
                    _ => drop(self.cache.store(&asked.question(), asked.authentic(), message, now)),
                }
            }
            // All upstreams are down: that is known without the cache, and so is that they are back.
            Err(Failure::Unreachable | Failure::NoUpstream | Failure::Busy | Failure::Loop) => {}
            Err(Failure::Timeout) => drop(self.cache.store_failure(&asked.question(), now)),
        }
    }
}

/// A flight that no task waits for, and who waits for it.
struct Voyage<W>(Option<(Flight, Pilot, W)>);

impl<W: Waiter> Taker for Voyage<W> {
    fn take(&mut self, landed: Result<Message, Failure>) {
        let Some((flight, pilot, waiter)) = self.0.take() else { return };
        let landed = flight.land(pilot, landed);
        drop(flight);
        waiter.landed(landed.map(|message| Answer { message, source: Source::Upstream }));
    }
}

/// Whether a denial is that of the zone which `proof` (wire without root octet) is a child of: only then does it speak of
/// the others below `proof`.
fn denies_all(message: &Message, proof: &[u8]) -> bool {
    let zone = proof.split_first().and_then(|(length, rest)| rest.get(usize::from(*length)..));
    let soa = message.records(Section::Authority).find(|record| record.rtype() == rtype::SOA);
    message.rcode() == rcode::NXDOMAIN
        && zone.zip(soa).is_some_and(|(zone, soa)| soa.owner().strip_suffix(&[0]).is_some_and(|owner| owner == zone))
}
