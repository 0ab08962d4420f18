//! Whom one question goes to, in what order, and how long each is waited for (R23).
//!
//! Upstreams are asked in the configured order, one after the other; the first is preferred. Left out are those that are
//! down or in a loop; asked last are suspects, and those that are far slower than another for some time. If the one that
//! is asked takes longer than it nearly always does, or has gone silent, the next one is asked too without giving up the
//! first: the first good answer counts. An answer that says no (SERVFAIL, REFUSED and the like) waits for the others,
//! and the last one counts if nobody has better. If the last that was up falls, those that are down are probed at once: what
//! replaces it may be there already.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::health::{State, Why};
use super::latency;
use super::peer::{Peer, Try};
use super::query::Sent;
use super::udp::Outcome;
use super::zones::{Roster, Seat};
use super::{Failure, Message, Trouble, Tuning};

/// One question and what has come of it so far.
struct Rounds<'a> {
    tuning: &'a Tuning,
    sent: Arc<Sent>,
    deadline: Instant,
    begun: Option<Begun>,
    /// Tries so far.
    tries: usize,
    last: Option<Message>,
    /// Somebody may only have been slow.
    slow: bool,
    /// Somebody refused, which may have been one bad backend of several.
    refused: bool,
}

/// A first try that is under way already.
pub(super) struct Begun {
    /// Who was asked.
    pub(super) peer: Arc<Peer>,
    /// When.
    pub(super) start: Instant,
    /// What comes of it.
    pub(super) answer: oneshot::Receiver<Outcome>,
}

/// Whom one question goes to first, and how long that one is waited for before anything else is to be done; `None` if
/// there is more to be seen to: somebody is suspect, or far slower than another.
pub(super) fn plain(roster: &Roster, now: Instant) -> Option<(Arc<Peer>, Duration)> {
    let (first, others) = roster.seats().split_first()?;
    let (peer, tuning) = (&first.peer, &first.peer.tuning);
    let is_well = |seat: &Arc<Seat>| {
        let peer = &seat.peer;
        let fast = others.is_empty() || peer.latency.median().is_none_or(|median| !latency::is_bad(median));
        seat.is_usable() && peer.health.state() == State::Up && fast && !peer.health.is_overdue(now, tuning.silence)
    };
    if peer.tcp || !roster.seats().iter().all(is_well) {
        return None;
    }
    let patience = if others.is_empty() { tuning.silence.min(tuning.one_try) } else { patience(peer, tuning) };
    Some((Arc::clone(peer), patience))
}

/// The answer to one question, from one of the roster.
pub(super) async fn rounds(
    roster: &Roster,
    sent: Arc<Sent>,
    begun: Option<Begun>,
    tuning: &Tuning,
) -> Result<Message, Failure> {
    let start = begun.as_ref().map_or_else(Instant::now, |begun| begun.start);
    let mut rounds = Rounds {
        tuning,
        sent,
        deadline: start + tuning.in_all,
        begun,
        tries: 0,
        last: None,
        slow: false,
        refused: false,
    };
    let mut settled = false;
    // Goes round again as long as somebody may only have been slow: an upstream that refuses or says no does so at once,
    // and asking it alone again would be a storm.
    let mut asked = Vec::new();
    loop {
        let order = rounds.order(roster);
        asked.extend_from_slice(&order);
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
        if settled || rounds.last.is_some() {
            return rounds.last.ok_or(Failure::Unreachable);
        }
        settled = true;
        let lives = rounds.refused && rounds.settle(&order).await;
        if !lives && !rounds.revive(roster, &asked).await {
            return Err(Failure::Unreachable);
        }
    }
}

impl Rounds<'_> {
    /// Who may be asked, the first to be asked first.
    fn order(&self, roster: &Roster) -> Vec<Arc<Peer>> {
        let now = Instant::now();
        let usable = roster.seats().iter().filter(|seat| seat.is_usable()).map(|seat| Arc::clone(&seat.peer));
        let mut order: Vec<Arc<Peer>> = usable.collect();
        for peer in order.iter().filter(|peer| peer.health.is_overdue(now, self.tuning.silence)) {
            peer.suspect(Why::Silent);
        }
        if order.len() < 2 {
            return order;
        }
        let is_up = |peer: &&Arc<Peer>| peer.health.state() == State::Up;
        let best = order.iter().filter(is_up).filter_map(|peer| peer.latency.median()).min();
        let is_far_worse = |peer: &&Arc<Peer>| best.is_some_and(|best| peer.latency.is_far_worse(best));
        // Cached: what others find out meanwhile must not confuse the sorting.
        order.sort_by_cached_key(|peer| (!is_up(&peer), is_far_worse(&peer)));
        for slow in order.iter().skip(1).filter(is_up).filter(is_far_worse) {
            self.copy(slow, now);
        }
        order
    }

    /// Lets a slow upstream answer the question too now and then, for nobody, to see whether it is slow still.
    fn copy(&self, slow: &Arc<Peer>, now: Instant) {
        if self.tries == 0 && slow.latency.copy_is_due(now, self.tuning.copy_every) {
            let (slow, sent, deadline) = (Arc::clone(slow), Arc::clone(&self.sent), self.deadline);
            tokio::spawn(async move { slow.exchange(&sent, Try::new(0, latency::COPY), deadline).await });
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
        let begun = self.begun.take_if(|begun| Arc::ptr_eq(&begun.peer, peer));
        let (start, answer) = begun.map_or_else(|| (Instant::now(), None), |begun| (begun.start, Some(begun.answer)));
        if answer.is_none() {
            peer.latency.earn();
        }
        let (sent, deadline) = (Arc::clone(&self.sent), self.deadline);
        let mut first = pin!(peer.exchange(&sent, Try { number: self.tries, start, answer, weight: 1 }, deadline));
        self.tries += 1;
        let Some(second) = second else { return (self.take(first.await), false) };
        if let Ok(result) = timeout_at(start + patience(peer, self.tuning), &mut first).await {
            return (self.take(result), false);
        }
        if !peer.latency.pay() {
            if let Ok(result) = timeout_at(start + self.tuning.silence, &mut first).await {
                return (self.take(result), false);
            }
            // Who has gone silent is doubled whatever it costs.
            if !peer.is_silent_since(start) {
                return (self.take(first.await), false);
            }
        }
        (self.both(first, peer, second, start).await, true)
    }

    /// Waits for a question that went to one upstream at `start`, and asks a second one.
    async fn both(
        &mut self,
        mut first: Pin<&mut impl Future<Output = Result<Message, Trouble>>>,
        peer: &Peer,
        second: &Arc<Peer>,
        start: Instant,
    ) -> Option<Message> {
        second.stats.hedged();
        let (sent, asked_too) = (Arc::clone(&self.sent), Instant::now());
        // Boxed, since it is rare.
        let mut other = Box::pin(second.exchange(&sent, Try::new(self.tries, 1), self.deadline));
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
            if message.is_none() {
                continue;
            }
            if first_open {
                // That it took at least this long is all that will be known of it.
                peer.latency.note(start.elapsed(), 1);
                peer.health.left(start);
            }
            if other_open {
                second.health.left(asked_too);
            }
            return message;
        }
        None
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

    /// Has those probed at once that were down before they could be asked, and waits a little; whether one of them is back.
    async fn revive(&self, roster: &Roster, asked: &[Arc<Peer>]) -> bool {
        let was_asked = |peer: &Arc<Peer>| asked.iter().any(|other| Arc::ptr_eq(other, peer));
        let out = roster.seats().iter().filter(|seat| seat.peer.health.is_down() && !seat.is_looping());
        let mut back: JoinSet<()> = out
            .filter(|seat| !was_asked(&seat.peer))
            .map(|seat| Arc::clone(&seat.peer.health))
            .map(|health| async move {
                health.want();
                health.risen().await;
            })
            .collect();
        let until = self.deadline.min(Instant::now() + self.tuning.silence);
        matches!(timeout_at(until, back.join_next()).await, Ok(Some(_)))
    }
}

/// How long one is waited for before another is asked too.
fn patience(peer: &Peer, tuning: &Tuning) -> Duration {
    let known = peer.latency.percentile().unwrap_or(tuning.hedge_start);
    known.max(tuning.hedge_floor).min(tuning.silence)
}

/// Whether another upstream may know better: FORMERR, SERVFAIL, NOTIMP, REFUSED, or a code about the hop.
pub(super) fn says_no(message: &Message) -> bool {
    matches!(message.rcode(), 1 | 2 | 4 | 5 | 16..)
}
