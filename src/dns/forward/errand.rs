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
    /// Takes what came of it; called exactly once, on a thread of the runtime or on the caller's own. Must not block.
    fn take(self: Box<Self>, landed: Result<Message, Failure>);
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
pub(super) struct Errand {
    plain: Plain,
    sent: Arc<Sent>,
    taker: Box<dyn Taker>,
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

    /// Sends the question. What cannot be sent in place is asked by a task.
    pub(super) fn depart(self, query: &Query<'_>, taker: Box<dyn Taker>) {
        self.peer.latency.earn();
        let peer = Arc::clone(&self.peer);
        let errand = Box::new(Errand { sent: Arc::new(Sent::new(query)), plain: self, taker });
        if let Err(errand) = peer.post(errand) {
            tokio::spawn(errand.ask_again());
        }
    }
}

impl Errand {
    pub(super) fn sent(&self) -> &Arc<Sent> {
        &self.sent
    }

    pub(super) fn start(&self) -> Instant {
        self.plain.start
    }

    /// When a task has to take it up.
    pub(super) fn due(&self) -> Instant {
        self.plain.due
    }

    /// Passes on what came of it.
    pub(super) fn arrive(self: Box<Self>, outcome: Outcome) {
        match outcome {
            Ok(Some(message)) if !rounds::says_no(&message) => {
                self.plain.peer.answered(&self.sent, &message, self.plain.start.elapsed(), 1);
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
        tokio::spawn(async move {
            let Self { plain: Plain { roster, peer, start, .. }, sent, taker } = *self;
            let tuning = peer.tuning;
            let begun = Begun { peer, start, answer };
            taker.take(rounds::rounds(&roster, sent, Some(begun), &tuning).await);
        });
    }

    async fn ask_again(self: Box<Self>) {
        let Self { plain: Plain { roster, peer, .. }, sent, taker } = *self;
        taker.take(rounds::rounds(&roster, sent, None, &peer.tuning).await);
    }
}
