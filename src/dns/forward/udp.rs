//! Questions over UDP: a few connected sockets to one upstream, each used for some time and then replaced.
//!
//! What protects answers from forgers who cannot see the questions (RFC 5452): every socket has a port that the kernel
//! picked at random and is connected, so that only datagrams with the upstream's address and port come in; each question
//! goes out on one of [`SLOTS`] sockets, picked at random, with a random ID that nothing else on the socket waits with.
//! A forger has to hit that one port and that one ID, about 28,000 x 65,536 possibilities with Linux's usual range of
//! ports: a socket for each question has no more. What is given up is that a port that was found out by other means
//! could be used for long; therefore a socket lives for some seconds and some hundred questions, and one that gets many
//! wrong messages is given up at once, with its questions asked over TCP (section 9.3 leaves the defence to us).
//!
//! Retries of a question take another socket, so that behind a Service's address another backend is likely to be asked.

mod port;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::errand::Errand;
use super::health::Health;
use super::query::Sent;
use super::stats::Stats;
use super::{Message, Trouble, Tuning};

pub(super) use port::connected;
use port::{Port, Waiting};

/// Sockets in use to one upstream.
const SLOTS: usize = 8;

/// What came of a question: `Ok(None)` is to be asked over TCP.
pub(super) type Outcome = Result<Option<Message>, Trouble>;

/// The way to one upstream over UDP.
#[derive(Debug)]
pub(super) struct Pool {
    upstream: SocketAddr,
    limits: Limits,
    stats: Arc<Stats>,
    health: Arc<Health>,
    /// Held by their tasks alone, so that what is not used for some time closes.
    slots: [Mutex<Weak<Port>>; SLOTS],
    /// All sockets that something may still wait on, replaced ones too.
    alive: Mutex<Vec<Weak<Port>>>,
}

/// How long a socket is used.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For new questions.
    life: Duration,
    /// Questions at most.
    questions: u32,
    /// What was asked is waited for so long after that, so that late answers are known as such.
    drain: Duration,
}

impl Pool {
    /// No socket is made before the first question.
    pub(super) fn new(upstream: SocketAddr, tuning: &Tuning, stats: Arc<Stats>, health: Arc<Health>) -> Self {
        let limits = Limits { life: tuning.udp_life, questions: tuning.udp_questions, drain: tuning.one_try * 2 };
        Self { upstream, limits, stats, health, slots: Default::default(), alive: Mutex::default() }
    }

    /// Asks and waits for the answer, for ever: the caller sets the time. `number` counts the tries of one question.
    /// `None`: the answer is truncated, or nothing on that socket can be trusted: ask over TCP.
    ///
    /// # Errors
    /// [`Trouble::Refused`] at once if nobody listens there, [`Trouble::Failed`] for any other error of the socket,
    /// [`Trouble::Timeout`] if the upstream goes down meanwhile.
    pub(super) async fn ask(&self, sent: &Arc<Sent>, number: usize, now: Instant) -> Outcome {
        let (tell, answer) = oneshot::channel();
        let waiting = Waiting::Task(Arc::clone(sent), tell);
        let (port, id) = self.enlist(waiting, usize::from(sent.start) + number, now).map_err(|(_, error)| error)?;
        if let Err(error) = port.send(sent, id).await {
            // What the system says of an earlier question is true for all; a full queue is only this one's trouble.
            if error == Trouble::Refused {
                port.close(error);
            }
            return Err(error);
        }
        drop(port);
        answer.await.unwrap_or(Err(Trouble::Timeout))
    }

    /// Sends the question of an errand, which waits on the socket from now on. Given back is one that could not be sent.
    pub(super) fn post(&self, errand: Box<Errand>) -> Result<(), Box<Errand>> {
        let (slot, now) = (usize::from(errand.sent().start), errand.start());
        let sent = match self.enlist(Waiting::Errand(errand), slot, now) {
            Ok((port, id)) => port.post(id),
            Err((Waiting::Errand(errand), _)) => Err(Some(errand)),
            Err((Waiting::Task(..), _)) => Ok(()),
        };
        sent.or_else(|errand| errand.map_or(Ok(()), Err))
    }

    /// A place among those who wait on a socket.
    fn enlist(&self, one: Waiting, slot: usize, now: Instant) -> Result<(Arc<Port>, u16), (Waiting, Trouble)> {
        let mut one = one;
        let mut slot = self.slots[slot % SLOTS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(port) = slot.upgrade() {
            match port.enlist(one, now, &self.limits) {
                Ok(id) => return Ok((port, id)),
                Err(back) => one = back,
            }
            port.retire();
        }
        let port = match Port::open(self.upstream, self.limits, &self.stats, &self.health) {
            Ok(port) => port,
            Err(error) => return Err((one, error)),
        };
        let id = port.enlist(one, now, &self.limits).map_err(|one| (one, Trouble::Failed))?;
        *slot = Arc::downgrade(&port);
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if alive.len() == alive.capacity() {
            alive.retain(|port| port.strong_count() > 0);
        }
        alive.push(Arc::downgrade(&port));
        Ok((port, id))
    }

    /// New questions go out on new sockets: a load balancer may have pinned the old ones to a backend that is gone.
    pub(super) fn renew(&self) {
        for slot in &self.slots {
            let port = std::mem::take(&mut *slot.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(port) = port.upgrade() {
                port.retire();
            }
        }
    }

    /// Nothing is waited for any more.
    pub(super) fn cut(&self) {
        self.renew();
        let alive = std::mem::take(&mut *self.alive.lock().unwrap_or_else(PoisonError::into_inner));
        alive.iter().filter_map(Weak::upgrade).for_each(|port| port.close(Trouble::Timeout));
    }
}
