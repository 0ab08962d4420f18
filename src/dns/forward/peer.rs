//! One upstream address over one transport, with all that is known of it; zones that name the same one share it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::errand::{Errand, Many};
use super::health::{Health, State, Why};
use super::latency::Latency;
use super::query::Sent;
use super::stats::Stats;
use super::tcp::Line;
use super::udp::{Outcome, Pool, Receiver};
use super::{Message, Trouble, Tuning, probe};

/// A question that was answered is remembered for this long before another one is.
const REMEMBER: Duration = Duration::from_secs(1);

/// One try.
#[derive(Debug)]
pub(super) struct Try {
    /// How many there were for the same question.
    pub(super) number: usize,
    /// When it began.
    pub(super) start: Instant,
    /// What comes of it if it is on its way over UDP already.
    pub(super) answer: Option<oneshot::Receiver<Outcome>>,
    /// How much it counts for [`Latency`].
    pub(super) weight: u32,
}

impl Try {
    /// One that begins now.
    pub(super) fn new(number: usize, weight: u32) -> Self {
        Self { number, start: Instant::now(), answer: None, weight }
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Asked over TCP always.
    pub(super) tcp: bool,
    pub(super) stats: Arc<Stats>,
    pub(super) health: Arc<Health>,
    pub(super) latency: Latency,
    pub(super) tuning: Tuning,
    /// What it is probed with, beside what it has answered before.
    probes: [Arc<Sent>; 2],
    answered: Mutex<Option<(Instant, Arc<Sent>)>>,
    renewed: Mutex<Option<Instant>>,
    pool: Pool,
    line: Line,
}

impl Peer {
    /// `zone` is a name in wire form that it should be able to answer at once.
    pub(super) fn new(
        (address, tcp): (SocketAddr, bool),
        zone: &[u8],
        stats: Arc<Stats>,
        receiver: Arc<Receiver>,
        tuning: Tuning,
    ) -> Self {
        let health = Arc::new(Health::new());
        Self {
            address,
            tcp,
            latency: Latency::new(),
            tuning,
            probes: probe::questions(zone).map(Arc::new),
            answered: Mutex::default(),
            renewed: Mutex::default(),
            pool: Pool::new(address, &tuning, (Arc::clone(&stats), Arc::clone(&health)), receiver),
            line: Line::new(address, &tuning, Arc::clone(&stats), Arc::clone(&health)),
            stats,
            health,
        }
    }

    /// Asks over UDP for those who do not wait: whoever receives the answers gives them to them. Given back are those that
    /// could not be sent.
    pub(super) fn post(&self, errands: impl Iterator<Item = Box<Errand>>) -> Many {
        self.pool.post(errands)
    }

    /// One try; TCP after a truncated answer has a time of its own, as it is a question of its own.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        sent: &Arc<Sent>,
        this: Try,
        deadline: Instant,
    ) -> Result<Message, Trouble> {
        let Try { number, start, answer, weight } = this;
        let until = |from: Instant| deadline.min(from + self.tuning.one_try);
        let silence = start + self.tuning.silence;
        let mut own_way = true;
        let result = async {
            if !self.tcp {
                let mut answer = pin!(self.udp(sent, number, start, answer));
                let answer = match timeout_at(until(start).min(silence), &mut answer).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        self.is_silent_since(start);
                        timeout_at(until(start), answer).await.unwrap_or(Err(Trouble::Timeout))
                    }
                };
                if let Some(message) = answer? {
                    return Ok(message);
                }
                own_way = false;
            }
            // Boxed, since it is large and most questions never come here.
            let mut answer = Box::pin(self.line.ask(sent, until(Instant::now())));
            if own_way && let Ok(answer) = timeout_at(silence, &mut answer).await {
                return answer;
            }
            if own_way {
                self.is_silent_since(start);
            }
            answer.await
        }
        .await;
        let now = Instant::now();
        let took = now.saturating_duration_since(start);
        match &result {
            Ok(message) => self.answered(sent, message, (start, now), weight),
            Err(trouble) => {
                self.stats.failed(*trouble);
                if *trouble == Trouble::Timeout && took >= self.tuning.one_try {
                    self.latency.note(took, weight);
                }
                // That it has no TCP beside its UDP says nothing about what it is asked first.
                if own_way {
                    self.blame(*trouble, start);
                }
            }
        }
        result
    }

    async fn udp(
        &self,
        sent: &Arc<Sent>,
        number: usize,
        start: Instant,
        begun: Option<oneshot::Receiver<Outcome>>,
    ) -> Outcome {
        match begun {
            Some(answer) => answer.await.unwrap_or(Err(Trouble::Timeout)),
            None => self.pool.ask(sent, number, start).await,
        }
    }

    /// Notes an answer to a question of `start` that came `now`.
    pub(super) fn answered(&self, sent: &Arc<Sent>, message: &Message, (start, now): (Instant, Instant), weight: u32) {
        let took = now.saturating_duration_since(start);
        self.stats.answered(message.rcode(), took);
        self.latency.note(took, weight);
        self.remember(sent, now);
    }

    /// What a question that was asked then and failed says about the upstream.
    pub(super) fn blame(self: &Arc<Self>, trouble: Trouble, start: Instant) {
        match trouble {
            Trouble::Refused => self.suspect(Why::Refused),
            Trouble::Closed => self.suspect(Why::Closed),
            Trouble::Timeout => drop(self.is_silent_since(start)),
            // A socket of ours, or an answer that is no good: the upstream lives.
            Trouble::Failed => {}
        }
    }

    /// Whether nothing came since then, if that is long enough ago to mean anything. If so, it is suspect.
    pub(super) fn is_silent_since(self: &Arc<Self>, then: Instant) -> bool {
        let long = self.tuning.silence.min(self.tuning.one_try);
        let silent = then.elapsed() >= long && !self.health.heard_since(then);
        if silent {
            self.suspect(Why::Silent);
        }
        silent
    }

    /// Probes it, unless that is going on already.
    pub(super) fn suspect(self: &Arc<Self>, why: Why) {
        if self.health.state() == State::Up && self.health.doubt() {
            self.renew();
            tokio::spawn(probe::watch(Arc::downgrade(self), why));
        }
    }

    /// What it is asked to find out whether it lives. What a zone's name servers say may be the very thing that it cannot
    /// tell, or that something on the way drops, so it is asked a question, too, that it has answered before.
    pub(super) fn probes(&self) -> Vec<Arc<Sent>> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        self.probes.iter().cloned().chain(answered.as_ref().map(|(_, sent)| Arc::clone(sent))).collect()
    }

    /// Remembers a question that was answered, one of many.
    fn remember(&self, sent: &Arc<Sent>, now: Instant) {
        // Whoever holds it remembers another one.
        let Ok(mut answered) = self.answered.try_lock() else { return };
        if answered.as_ref().is_none_or(|(since, _)| now.saturating_duration_since(*since) > REMEMBER) {
            *answered = Some((now, Arc::clone(sent)));
        }
    }

    /// New sockets for new questions, but no more often than questions may wait for the old ones.
    fn renew(&self) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.is_none_or(|last| last.elapsed() > self.tuning.one_try) {
            *renewed = Some(Instant::now());
            self.pool.renew();
        }
    }

    /// Leaves it out; what waits for it is asked elsewhere at once.
    pub(super) fn fall(&self, why: Why) {
        self.health.fall(self.address, self.tcp, why);
        self.pool.cut();
        self.line.cut();
    }

    /// It answered after it was suspected then.
    pub(super) fn rise(&self, suspected: Instant) {
        // It lives, but the connection may lead to a backend that does not.
        if self.tcp && self.line.is_silent_since(suspected) {
            self.line.cut();
        }
        self.health.rise(self.address, self.tcp);
    }
}
