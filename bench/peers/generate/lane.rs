//! One stream of questions: which sockets, how fast, and what came back.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::{Asked, Outcome, PATIENCE, Pace, Questions};
use crate::data::Numbers;
use crate::mmsg::Batch;

/// Questions of one socket in flight, a power of two: the low bits of an ID are the place it is kept in.
const PLACES: usize = 256;
/// After so long the socket that waits longest lets others go first: a forwarder answers out of order.
const OUT_OF_ORDER: Duration = Duration::from_micros(200);
/// Datagrams of one system call.
const SLOTS: usize = 32;

/// A stream of questions over sockets of callers.
pub struct Lane<'a> {
    clients: Vec<Client<'a>>,
    pace: Pace,
    /// Clients that wait, the one that has waited longest first.
    waiting: VecDeque<usize>,
    /// Clients that do not.
    idle: VecDeque<usize>,
    in_flight: usize,
    /// When the next question is due, at a rate.
    due: Option<Instant>,
    numbers: Numbers,
    batch: Batch,
    outcome: Outcome,
    once: bool,
    echoed: bool,
    /// Sockets that are written to, and read, in one step.
    at_once: usize,
}

/// One caller's socket, and what it waits for.
struct Client<'a> {
    socket: &'a UdpSocket,
    questions: &'a [Asked],
    next: usize,
    id: u16,
    places: Box<[Option<Pending>]>,
    waits_for: usize,
    /// When the last answer came or, if later, the oldest question that is waited for was sent.
    since: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Pending {
    id: u16,
    question: usize,
    sent: Instant,
}

impl<'a> Lane<'a> {
    /// A stream of the questions' first callers, one for each socket.
    #[must_use]
    pub fn new(questions: &'a Questions, sockets: &'a [UdpSocket], pace: Pace) -> Self {
        Self::of(questions.by_caller.iter().zip(sockets), pace)
    }

    /// A stream of some callers, each with its questions and its socket.
    pub fn of(callers: impl Iterator<Item = (&'a Vec<Asked>, &'a UdpSocket)>, pace: Pace) -> Self {
        let clients: Vec<_> = callers.map(|(questions, socket)| Client::new(socket, questions)).collect();
        Self {
            idle: (0..clients.len()).collect(),
            waiting: VecDeque::with_capacity(clients.len()),
            clients,
            pace,
            in_flight: 0,
            due: None,
            numbers: Numbers::new(7),
            batch: Batch::new(SLOTS, true),
            outcome: Outcome::default(),
            once: false,
            echoed: false,
            at_once: usize::MAX,
        }
    }

    /// Every question is asked one time only.
    #[must_use]
    pub fn once(self) -> Self {
        Self { once: true, ..self }
    }

    /// Any answer will do: an echo has nothing to say.
    #[must_use]
    pub fn echoed(self, echoed: bool) -> Self {
        Self { echoed, ..self }
    }

    /// Short steps, of one socket each: what else the generator does is not late because of this lane.
    #[must_use]
    pub fn in_short_steps(self) -> Self {
        Self { at_once: 1, ..self }
    }

    /// Questions without an answer so far.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether there is nothing more to ask or to wait for.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.once && self.idle.is_empty() && self.waiting.is_empty()
    }

    /// What came of it.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Sends what is due, if it is still `open`, and takes what is there.
    ///
    /// # Errors
    /// The system's.
    pub fn step(&mut self, now: Instant, open: bool) -> io::Result<()> {
        if open {
            match self.pace {
                Pace::Full { window, burst } => self.fill(now, window, burst)?,
                Pace::Rate(rate) => self.keep_rate(now, rate)?,
            }
        }
        self.drain(now)
    }

    fn fill(&mut self, now: Instant, window: usize, burst: usize) -> io::Result<()> {
        for _ in 0..self.at_once.min(self.idle.len()) {
            if self.in_flight + burst > window {
                break;
            }
            let Some(client) = self.idle.pop_front() else { break };
            self.send(client, burst, now)?;
        }
        Ok(())
    }

    /// The moments between two questions are drawn as if callers knew nothing of each other (a Poisson process).
    fn keep_rate(&mut self, now: Instant, rate: f64) -> io::Result<()> {
        let mut due = *self.due.get_or_insert(now);
        while due <= now {
            // An idle caller if there is one, else the one that has the oldest question in flight, with one more.
            if let Some(client) = self.idle.pop_front() {
                self.send(client, 1, now)?;
            } else if let Some(client) = self.waiting.pop_front() {
                self.send(client, 1, now)?;
            }
            let uniform = (self.numbers.draw() >> 11) as f64 / (1_u64 << 53) as f64;
            due += Duration::from_secs_f64(-(1.0 - uniform).ln() / rate);
        }
        self.due = Some(due);
        Ok(())
    }

    fn send(&mut self, index: usize, count: usize, now: Instant) -> io::Result<()> {
        let client = &mut self.clients[index];
        let mut queued = 0;
        while queued < count.min(SLOTS) {
            if self.once && client.next >= client.questions.len() {
                break;
            }
            let question = client.next % client.questions.len();
            client.id = client.id.wrapping_add(1);
            let place = &mut client.places[usize::from(client.id) % PLACES];
            if place.is_some() {
                break;
            }
            *place = Some(Pending { id: client.id, question, sent: now });
            client.next += 1;
            let wire = &client.questions[question].wire;
            let buffer = self.batch.buffer(queued);
            buffer[..wire.len()].copy_from_slice(wire);
            buffer[..2].copy_from_slice(&client.id.to_be_bytes());
            self.batch.set_length(queued, wire.len());
            queued += 1;
        }
        if queued > 0 {
            // What the kernel refuses is lost, and counted so after the patience.
            match self.batch.send(client.socket, queued) {
                Err(error) if !passing(&error) => return Err(error),
                _ => {}
            }
        }
        client.waits_for += queued;
        self.in_flight += queued;
        if client.waits_for > 0 {
            client.since.get_or_insert(now);
            self.waiting.push_back(index);
        }
        Ok(())
    }

    /// Takes answers from the clients that wait, until one has none yet.
    fn drain(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..self.at_once.min(self.waiting.len()) {
            let Some(&index) = self.waiting.front() else { break };
            let got = self.take(index, now)?;
            let client = &mut self.clients[index];
            if client.waits_for == 0 {
                client.since = None;
                self.waiting.pop_front();
                self.idle.push_back(index);
                continue;
            }
            if got == 0 && client.since.is_some_and(|since| now.saturating_duration_since(since) > OUT_OF_ORDER) {
                self.waiting.pop_front();
                self.waiting.push_back(index);
                self.expire(index, now);
                continue;
            }
            break;
        }
        Ok(())
    }

    fn take(&mut self, index: usize, now: Instant) -> io::Result<usize> {
        let client = &mut self.clients[index];
        let got = match self.batch.receive(client.socket, false) {
            Ok(got) => got,
            Err(error) if passing(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        let arrived = Instant::now();
        for at in 0..got {
            let answer = self.batch.datagram(at);
            let Some(id) = answer.first_chunk().map(|id| u16::from_be_bytes(*id)) else { continue };
            let place = &mut client.places[usize::from(id) % PLACES];
            // Any other is late, and was counted as lost.
            let Some(pending) = place.take_if(|pending| pending.id == id) else { continue };
            client.waits_for -= 1;
            self.in_flight -= 1;
            if self.echoed || client.questions[pending.question].answered_by(answer) {
                self.outcome.answered += 1;
                self.outcome.latency.record(arrived - pending.sent);
            } else {
                self.outcome.wrong += 1;
            }
        }
        client.since = Some(now);
        Ok(got)
    }

    fn expire(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        for place in &mut client.places {
            if place.take_if(|pending| now.saturating_duration_since(pending.sent) > PATIENCE).is_some() {
                client.waits_for -= 1;
                self.in_flight -= 1;
                self.outcome.lost += 1;
            }
        }
    }
}

impl<'a> Client<'a> {
    fn new(socket: &'a UdpSocket, questions: &'a [Asked]) -> Self {
        let places = vec![None; PLACES].into_boxed_slice();
        Self { socket, questions, next: 0, id: 0, places, waits_for: 0, since: None }
    }
}

/// Nothing there, a full buffer, or an ICMP error of an earlier datagram: the loss is counted, and the load goes on.
fn passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionRefused | Interrupted | WouldBlock) || error.raw_os_error() == Some(libc::ENOBUFS)
}
