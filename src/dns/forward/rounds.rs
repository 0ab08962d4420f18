//! Whom one question goes to, in what order, and how long each is waited for (R23).
//!
//! Upstreams are asked in the configured order, one after the other; the first is preferred. Left out are those that are
//! down or in a loop; asked last are suspects, and those that are far slower than another for some time. If the one that
//! is asked takes longer than it nearly always does, or has gone silent, the next one is asked too without giving up the
//! first: the first good answer counts. An answer that says no (SERVFAIL, REFUSED and the like) waits for the others,
//! and the last one counts if nobody has better.

use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::health::State;
use super::latency::{self, Latency};
use super::peer::Peer;
use super::query::{Query, Sent};
use super::zones::Roster;
use super::{Failure, Message, Trouble, Tuning};

/// One question and what has come of it so far.
struct Rounds<'a> {
    tuning: &'a Tuning,
    sent: Arc<Sent>,
    deadline: Instant,
    /// Tries so far.
    tries: usize,
    last: Option<Message>,
    /// Somebody may only have been slow.
    slow: bool,
    /// Somebody refused, which may have been one bad backend of several.
    refused: bool,
}

/// The answer to one question, from one of the roster.
pub(super) async fn rounds(roster: &Roster, query: &Query<'_>, tuning: &Tuning) -> Result<Message, Failure> {
    let mut rounds = Rounds {
        tuning,
        sent: Arc::new(Sent::new(query)),
        deadline: Instant::now() + tuning.in_all,
        tries: 0,
        last: None,
        slow: false,
        refused: false,
    };
    let mut settled = false;
    // Goes round again as long as somebody may only have been slow: an upstream that refuses or says no does so at once,
    // and asking it alone again would be a storm.
    loop {
        let order = rounds.order(roster);
        (rounds.slow, rounds.refused) = (false, false);
        if let Some(message) = rounds.round(&order).await {
            return Ok(message);
        }
        if Instant::now() >= rounds.deadline {
            return rounds.last.ok_or(Failure::Timeout);
        }
        if rounds.slow && !order.is_empty() {
            continue;
        }
        if settled || rounds.last.is_some() || !rounds.refused || !rounds.settle(&order).await {
            return rounds.last.ok_or(Failure::Unreachable);
        }
        settled = true;
    }
}

impl Rounds<'_> {
    /// Who may be asked, the first to be asked first.
    fn order(&self, roster: &Roster) -> Vec<Arc<Peer>> {
        let now = Instant::now();
        let mut order: Vec<Arc<Peer>> = Vec::with_capacity(roster.seats().len());
        for seat in roster.seats().iter().filter(|seat| seat.is_usable()) {
            if seat.peer.health.is_overdue(now, self.tuning.silence) {
                seat.peer.suspect(super::health::Why::Silent);
            }
            order.push(Arc::clone(&seat.peer));
        }
        if order.len() > 1 {
            let is_up = |peer: &&Arc<Peer>| peer.health.state() == State::Up;
            let best = order.iter().filter(is_up).filter_map(|peer| peer.latency.median()).min();
            let is_far_worse = |latency: &Latency| best.is_some_and(|best| latency.is_far_worse(best));
            order.sort_by_key(|peer| (peer.health.state() != State::Up, is_far_worse(&peer.latency)));
            for slow in order.iter().skip(1).filter(is_up).filter(|peer| is_far_worse(&peer.latency)) {
                self.copy(slow, now);
            }
        }
        order
    }

    /// Lets a slow upstream answer the question too now and then, for nobody, to see whether it is slow still.
    fn copy(&self, slow: &Arc<Peer>, now: Instant) {
        if self.tries == 0 && slow.latency.copy_is_due(now, self.tuning.copy_every) {
            let (slow, sent, deadline) = (Arc::clone(slow), Arc::clone(&self.sent), self.deadline);
            tokio::spawn(async move { slow.exchange(&sent, 0, deadline, latency::COPY).await });
        }
    }

    /// Asks everyone once.
    async fn round(&mut self, order: &[Arc<Peer>]) -> Option<Message> {
        let mut at = 0;
        while let Some(peer) = order.get(at) {
            at += 1;
            // It may have gone down since the order was made.
            if peer.health.is_down() {
                continue;
            }
            let second = order[at..].iter().find(|peer| peer.health.state() == State::Up);
            let (message, doubled) = self.leg(peer, second).await;
            if message.is_some() || Instant::now() >= self.deadline {
                return message;
            }
            if doubled && order.get(at).is_some_and(|next| second.is_some_and(|second| Arc::ptr_eq(next, second))) {
                at += 1;
            }
        }
        None
    }

    /// Asks one, and a second too if the first takes long. Whether that happened comes with what they say.
    async fn leg(&mut self, peer: &Arc<Peer>, second: Option<&Arc<Peer>>) -> (Option<Message>, bool) {
        peer.latency.earn();
        let (sent, deadline, start) = (Arc::clone(&self.sent), self.deadline, Instant::now());
        let mut first = pin!(peer.exchange(&sent, self.tries, deadline, 1));
        self.tries += 1;
        let silence = start + self.tuning.silence;
        let patience = second.map(|_| start + self.patience(peer));
        if let Some(patience) = patience {
            if let Ok(result) = timeout_at(patience, &mut first).await {
                return (self.take(result), false);
            }
        }
        // Who goes silent is doubled whatever it costs.
        let mut doubled = second.filter(|_| peer.latency.pay());
        if doubled.is_none() {
            if let Ok(result) = timeout_at(silence, &mut first).await {
                return (self.take(result), false);
            }
            doubled = second.filter(|_| peer.is_silent_since(start));
        }
        let Some(second) = doubled else { return (self.take(first.await), false) };
        second.stats.hedged();
        let asked_too = Instant::now();
        let mut other = Box::pin(second.exchange(&sent, self.tries, deadline, 1));
        self.tries += 1;
        let (mut first_open, mut other_open) = (true, true);
        while first_open || other_open {
            let message = tokio::select! {
                result = &mut first, if first_open => {
                    first_open = false;
                    self.take(result)
                }
                result = &mut other, if other_open => {
                    other_open = false;
                    self.take(result)
                }
            };
            if message.is_some() {
                if first_open {
                    // That it took at least this long is all that will be known of it.
                    peer.latency.note(start.elapsed(), 1);
                    peer.health.left(start);
                }
                if other_open {
                    second.health.left(asked_too);
                }
                return (message, true);
            }
        }
        (None, true)
    }

    /// How long one is waited for before another is asked too.
    fn patience(&self, peer: &Peer) -> std::time::Duration {
        let known = peer.latency.percentile().unwrap_or(self.tuning.hedge_start);
        known.max(self.tuning.hedge_floor).min(self.tuning.silence)
    }

    /// Notes what came of a try; gives an answer that is good.
    fn take(&mut self, result: Result<Message, Trouble>) -> Option<Message> {
        match result {
            Ok(message) if says_no(&message) => self.last = Some(message),
            Ok(message) => return Some(message),
            Err(trouble) => {
                self.slow |= trouble == Trouble::Timeout;
                self.refused |= trouble == Trouble::Refused;
            }
        }
        None
    }

    /// Waits until the probes have decided about those who refused; whether one of them lives.
    async fn settle(&self, order: &[Arc<Peer>]) -> bool {
        for peer in order {
            if timeout_at(self.deadline, peer.health.settled()).await == Ok(true) {
                return true;
            }
        }
        false
    }
}

/// Whether another upstream may know better: FORMERR, SERVFAIL, NOTIMP, REFUSED, or a code about the hop.
fn says_no(message: &Message) -> bool {
    matches!(message.rcode(), 1 | 2 | 4 | 5 | 16..)
}
