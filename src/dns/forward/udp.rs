//! Questions over UDP: a few connected sockets to one upstream, each used for some time and then replaced.
//!
//! What protects answers from forgers who cannot see the questions (RFC 5452): every socket has a port that the kernel
//! picked at random and is connected, so that only datagrams with the upstream's address and port come in; each question
//! goes out on one of [`SLOTS`] sockets, picked at random, with a random ID that nothing else on the socket waits with.
//! Questions that a worker took in at once leave by one socket: that tells nothing about its port. A forger has to hit that one port and that one ID, about 28,000 x 65,536 possibilities with Linux's usual range of
//! ports: a socket for each question has no more. What is given up is that a port that was found out by other means
//! could be used for long; therefore a socket lives for some seconds and some hundred questions, and one that gets many
//! wrong messages is given up at once, with its questions asked over TCP (section 9.3 leaves the defence to us).
//!
//! Retries of a question take another socket, so that behind a Service's address another backend is likely to be asked.

mod port;
mod receive;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::errand::{Errand, Many};
use super::health::Health;
use super::query::Sent;
use super::stats::Stats;
use super::{Message, Trouble, Tuning, trouble};

pub(super) use port::connected;
pub(super) use receive::Receiver;

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
    receiver: Arc<Receiver>,
    /// Held by the receiver alone, so that what is not used for some time closes.
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
    pub(super) fn new(
        upstream: SocketAddr,
        tuning: &Tuning,
        (stats, health): (Arc<Stats>, Arc<Health>),
        receiver: Arc<Receiver>,
    ) -> Self {
        let limits = Limits { life: tuning.udp_life, questions: tuning.udp_questions, drain: tuning.one_try * 2 };
        Self { upstream, limits, stats, health, receiver, slots: Default::default(), alive: Mutex::default() }
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
        let (port, id) = self.enlist(waiting, sent.start.wrapping_add(number as u8), now)?;
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

    /// Sends the questions of errands by one socket, on which they wait from now on; given back are those that could not be
    /// sent. Each has an ID of its own, and for a forger the port is as hard to guess as one for each would be.
    pub(super) fn post(&self, errands: impl Iterator<Item = Box<Errand>>) -> Many {
        let (slot, mut errands, mut left) = (rand::random(), errands.peekable(), Vec::new());
        while let Some(now) = errands.peek().map(|errand| errand.start()) {
            match self.port(slot, now) {
                Ok(port) => port.post(&mut errands, slot, &mut left),
                Err(_) => left.extend(errands.by_ref()),
            }
        }
        left
    }

    /// A place among those who wait on a socket.
    fn enlist(&self, one: Waiting, slot: u8, now: Instant) -> Result<(Arc<Port>, u16), Trouble> {
        let mut one = one;
        loop {
            let port = self.port(slot, now)?;
            match port.enlist(one, now) {
                Ok(id) => return Ok((port, id)),
                // Others have used it up meanwhile.
                Err(back) => one = back,
            }
        }
    }

    /// A socket that takes questions.
    fn port(&self, slot: u8, now: Instant) -> Result<Arc<Port>, Trouble> {
        let mut slot = self.slots[usize::from(slot) % SLOTS].lock().unwrap_or_else(PoisonError::into_inner);
        let used_up = slot.upgrade();
        if let Some(port) = used_up.as_ref().filter(|port| port.takes_more(now)) {
            return Ok(Arc::clone(port));
        }
        let open = |desk| Port::open(self.upstream, self.limits, (&self.stats, &self.health), desk);
        let port = match self.receiver.desk().and_then(open).map_err(|error| trouble(&error)) {
            Ok(port) => port,
            Err(Trouble::Failed) => {
                drop(slot);
                let longer = used_up.filter(|port| port.goes_on(now)).or_else(|| self.any_longer(now));
                return longer.ok_or(Trouble::Failed);
            }
            Err(trouble) => return Err(trouble),
        };
        if let Some(port) = used_up {
            port.retire();
        }
        *slot = Arc::downgrade(&port);
        let mut alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if alive.len() == alive.capacity() {
            alive.retain(|port| port.strong_count() > 0);
        }
        alive.push(Arc::downgrade(&port));
        Ok(port)
    }

    /// One of the sockets that there are, beyond its time: better than none, where the system grants no other.
    fn any_longer(&self, now: Instant) -> Option<Arc<Port>> {
        self.slots.iter().find_map(|slot| {
            let port = slot.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
            port.filter(|port| port.goes_on(now))
        })
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
