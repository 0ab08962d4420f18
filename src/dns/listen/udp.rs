//! The UDP workers: plain threads that receive a batch, answer it in place and send it.
//!
//! A worker sleeps in `recvmmsg` without a time-out: an idle worker wakes up never. To be stopped it is told so, and woken by
//! a signal ([`super::threads`]), because its socket may be another process's too, which reads on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use crate::moment::Moment;

use super::floods::Watch;
use super::handover::Succession;
use super::mmsg::{Batch, Datagram, SLOTS};
use super::outbox::Address;
use super::pulse::Pulse;
use super::{Context, Done, Outcome, Respond, Transport, add};

/// How long a stopping worker goes on with what its socket still holds; without end if clients keep sending.
const LAST_ROUNDS: Duration = Duration::from_millis(200);
/// The pause after an error of `recvmmsg` that repeating at once would not cure.
const RECEIVE_PAUSE: Duration = Duration::from_millis(10);
/// A spare worker that nothing came to for so long ends; its thread waits for the next one's first datagram.
const REST: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 10_000 });

/// A worker's socket, and what for.
pub(super) struct Seat {
    /// Nobody else in this process reads it.
    pub(super) socket: Arc<Socket>,
    /// It reports the address that each datagram was sent to.
    pub(super) wildcard: bool,
    /// Nothing comes to it for hours or for ever, see [`super::floods`].
    pub(super) spare: bool,
    /// The worker is to end: at once if another process reads the socket too, else with what it still holds.
    pub(super) told: Arc<AtomicBool>,
    /// Who else has the socket.
    pub(super) succession: Arc<Succession>,
}

impl Seat {
    /// Waits until something is there, at most so long; gives whether there is. The time-out is nothing that another reader of
    /// the socket would notice.
    ///
    /// # Errors
    /// What `poll` reports; `Interrupted` is harmless.
    fn wait(&self, limit: Option<Duration>) -> io::Result<bool> {
        let limit = limit.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        Ok(poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], limit)? > 0)
    }
}

/// Starts the worker `udp-<number>` of a seat. It ends once it is told to and woken.
///
/// # Errors
/// The system has no room for another thread.
pub(super) fn start<R: Respond>(context: Arc<Context<R>>, seat: Seat, number: usize) -> io::Result<JoinHandle<()>> {
    let name = format!("udp-{number}");
    let address = seat.socket.local_addr().ok().and_then(|address| address.as_socket());
    let pulse = context.stats.pulses.add(&name, address);
    let worker = move || {
        if seat.spare {
            stand_by(context, seat, pulse);
        } else {
            Worker::new(context, Arc::new(seat), pulse).run();
        }
    };
    thread::Builder::new().name(name).spawn(worker)
}

/// A worker that is there while something comes: its buffers, its counters and the table that it read last are not held for
/// nothing.
fn stand_by<R: Respond>(context: Arc<Context<R>>, seat: Seat, pulse: Arc<Pulse>) {
    let seat = Arc::new(seat);
    loop {
        // An error is found out better by the worker.
        let came = seat.wait(None).unwrap_or_else(|error| error.kind() != ErrorKind::Interrupted);
        if !came && !seat.told.load(Relaxed) {
            continue;
        }
        if Worker::new(context.clone(), seat.clone(), pulse.clone()).run() == Ended::Stopped {
            return;
        }
    }
}

/// Why a worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The context is stopping, and all that was there is answered.
    Stopped,
    /// Nothing came to a spare seat for a while.
    Idle,
}

struct Worker<R: Respond> {
    scratch: R::Worker,
    seat: Arc<Seat>,
    batch: Batch,
    watch: Watch,
    pulse: Arc<Pulse>,
    /// Last, and so dropped last: who waits for the context to go may count on the socket being gone.
    context: Arc<Context<R>>,
}

impl<R: Respond> Worker<R> {
    fn new(context: Arc<Context<R>>, seat: Arc<Seat>, pulse: Arc<Pulse>) -> Self {
        let watch = Watch::new(context.stats.clone(), context.floods.clone());
        Self { scratch: context.respond.worker(), batch: Batch::new(seat.wildcard), watch, pulse, seat, context }
    }

    fn run(mut self) -> Ended {
        let context = self.context.clone();
        let _entered = context.runtime.enter();
        let mut stopped: Option<Instant> = None;
        loop {
            let told = self.seat.told.load(Relaxed);
            if told && self.seat.succession.is_taken() {
                return Ended::Stopped;
            }
            let Some(got) = self.receive(told) else { return Ended::Idle };
            let now = Moment::now();
            if got == SLOTS {
                let caller = |slot| self.batch.datagram(slot).map(|datagram| datagram.from.ip());
                self.watch.full(now, SLOTS, caller);
            }
            self.pulse.begin(now);
            self.context.respond.begin(&mut self.scratch, now);
            self.answer(got);
            let stats = &self.context.stats;
            self.batch.send(&self.seat.socket, |_| add(&stats.send_errors));
            self.context.respond.end(&mut self.scratch);
            self.pulse.end();
            if told {
                let since = *stopped.get_or_insert_with(Instant::now);
                if got == 0 || since.elapsed() > LAST_ROUNDS {
                    return Ended::Stopped;
                }
            }
        }
    }

    /// How many datagrams there are; `None` if a spare worker has waited for [`REST`]. A worker that is told to end waits for
    /// none.
    fn receive(&mut self, told: bool) -> Option<usize> {
        if self.seat.spare && !told && self.seat.wait(Some(REST)).is_ok_and(|came| !came) {
            return None;
        }
        match self.batch.receive(&self.seat.socket, !told && !self.seat.spare) {
            Ok(got) => Some(got),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Some(0),
            Err(_) => {
                add(&self.context.stats.receive_errors);
                thread::sleep(RECEIVE_PAUSE);
                Some(0)
            }
        }
    }

    /// Answers the datagrams received. A panic costs only the datagram that caused it: the rest of the batch goes on
    /// behind it, and as long as there is none a batch sets up one landing place.
    fn answer(&mut self, got: usize) {
        // Of a few there is nothing to be gained.
        let ahead = if got > R::AHEAD { R::AHEAD } else { 0 };
        let (mut read, mut next) = (0, 0);
        while next < got {
            let rest = || {
                while read < ahead {
                    read += 1;
                    self.read(read - 1, true);
                }
                while next < got {
                    if read < got && read == next + ahead {
                        read += 1;
                        self.read(read - 1, ahead > 0);
                    }
                    next += 1;
                    self.answer_one(next - 1);
                }
            };
            if catch_unwind(AssertUnwindSafe(rest)).is_err() {
                add(&self.context.stats.panics);
            }
        }
    }

    #[inline]
    fn read(&mut self, index: usize, ahead: bool) {
        let respond = &*self.context.respond;
        respond.read(&mut self.scratch, index, self.batch.query(index));
        respond.fetch(&mut self.scratch, index, ahead);
    }

    fn answer_one(&mut self, index: usize) {
        let stats = &self.context.stats;
        let Some(datagram) = self.batch.datagram(index) else { return };
        if datagram.truncated {
            add(&stats.udp_truncated);
        }
        let from = datagram.from;
        // Nothing listens on port 0, and an answer to it can only be a reflection.
        if from.port() == 0 {
            add(&stats.udp_port_zero);
            return;
        }
        let Datagram { query, answer, .. } = datagram;
        match self.context.respond.answer(&mut self.scratch, index, query, from, Transport::Udp, answer) {
            Outcome::Reply(len) => self.batch.answer(index, len),
            Outcome::Drop => {}
            Outcome::Later => self.later(index, from),
        }
    }

    #[cold]
    fn later(&mut self, index: usize, from: SocketAddr) {
        let route = self.batch.route(index);
        let Some(datagram) = self.batch.datagram(index) else { return };
        let send = Done::Datagram(Address { socket: self.seat.socket.clone(), route });
        if !self.context.later(&mut self.scratch, datagram.query, (from, Transport::Udp), send) {
            let len = self.context.respond.overloaded(datagram.query, datagram.answer);
            if len > 0 {
                self.batch.answer(index, len);
            }
        }
    }
}

#[cfg(test)]
mod tests;
