//! A question that goes out without a task of its own.
//!
//! Most questions are plain: the first upstream of their zone is healthy, and its answer comes soon and is good. Then there is
//! nothing to be decided between sending the question and passing on the answer, and whoever receives that passes it on in
//! place. All else goes on in a task, which takes the try up where it stands: no answer after the time when another upstream
//! is to be asked too, or when silence is suspicious; one that is truncated or says no; an error of the socket.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::peer::Peer;
use super::query::{Query, Sent};
use super::rounds::{self, Begun};
use super::udp::Outcome;
use super::zones::Roster;
use super::{Failure, Message};

/// Who waits for the answer of an errand.
pub trait Taker: Send {
    /// Takes what came of it; called once at most, and not at all only at the end of the process. By the thread that receives,
    /// or by one of the runtime. Must not block.
    fn take(&mut self, landed: Result<Message, Failure>);
}

/// Whom a plain question goes to; see [`super::Forwarder::plain`].
#[derive(Debug)]
pub struct Plain {
    roster: Arc<Roster>,
    peer: Arc<Peer>,
    due: Instant,
    start: Instant,
}

/// See the module's page.
pub(super) struct Errand<T: ?Sized = dyn Taker> {
    plain: Plain,
    sent: Arc<Sent>,
    taker: T,
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("plain", &self.plain).finish_non_exhaustive()
    }
}

impl Plain {
    /// The first of a roster, if asking it is plain now.
    pub(super) fn of(roster: Arc<Roster>) -> Option<Self> {
        let start = Instant::now();
        let (peer, patience) = rounds::plain(&roster, start)?;
        Some(Self { due: start + patience, peer, roster, start })
    }
}

/// Plain questions that leave together; dropped without [`super::Forwarder::send`], nobody asks them.
#[derive(Debug, Default)]
pub struct Departures(Many);

/// Each in one piece, with who waits for it.
#[allow(clippy::vec_box, reason = "they are of different types")]
pub(super) type Many = Vec<Box<Errand>>;

impl Departures {
    pub(super) fn add(&mut self, plain: Plain, query: &Query<'_>, taker: impl Taker + 'static) {
        plain.peer.latency.earn();
        self.0.push(Box::new(Errand { sent: Arc::new(Sent::new(query)), plain, taker }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends all. What cannot be sent in place is asked by a task.
    pub(super) fn send(&mut self) {
        while let Some(first) = self.0.first() {
            let peer = Arc::clone(&first.plain.peer);
            // Nearly always all.
            let run = self.0.iter().take_while(|errand| Arc::ptr_eq(&errand.plain.peer, &peer)).count();
            for errand in peer.post(self.0.drain(..run)) {
                tokio::spawn(errand.ask(None));
            }
        }
    }
}

impl Errand {
    pub(super) fn sent(&self) -> &Arc<Sent> {
        &self.sent
    }

    /// Its first try goes out there.
    pub(super) fn starts_at(&mut self, slot: u8) {
        // Nobody else has it before it is sent.
        if let Some(sent) = Arc::get_mut(&mut self.sent) {
            sent.start = slot;
        }
    }

    pub(super) fn start(&self) -> Instant {
        self.plain.start
    }

    /// When a task has to take it up.
    pub(super) fn due(&self) -> Instant {
        self.plain.due
    }

    /// Passes on what came of it.
    pub(super) fn arrive(mut self: Box<Self>, outcome: Outcome, now: Instant) {
        match outcome {
            Ok(Some(message)) if !rounds::says_no(&message) => {
                self.plain.peer.answered(&self.sent, &message, (self.plain.start, now), 1);
                // A panic is the loss of this question, not of all that wait on the socket.
                let _ = catch_unwind(AssertUnwindSafe(|| self.taker.take(Ok(message))));
            }
            other => {
                let (tell, wait) = oneshot::channel();
                drop(tell.send(other));
                self.go_on(wait);
            }
        }
    }

    /// Lets a task wait for the answer, and do what is to be done if none comes.
    pub(super) fn go_on(self: Box<Self>, answer: oneshot::Receiver<Outcome>) {
        let begun = Begun { peer: Arc::clone(&self.plain.peer), start: self.plain.start, answer };
        tokio::spawn(self.ask(Some(begun)));
    }

    /// Asks in a task, whatever it takes.
    pub(super) async fn ask(mut self: Box<Self>, begun: Option<Begun>) {
        let (roster, sent, tuning) = (Arc::clone(&self.plain.roster), Arc::clone(&self.sent), self.plain.peer.tuning);
        let landed = rounds::rounds(&roster, sent, begun, &tuning).await;
        self.taker.take(landed);
    }
}
