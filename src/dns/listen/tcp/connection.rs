//! One TCP connection: frames in, answers out, as they get ready.

use std::io::{self, ErrorKind, Read};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};

use crate::moment::Moment;

use super::super::{Context, Done, Outcome, Phase, Respond, Transport, add, reach};
use super::{Desk, MESSAGE_OCTETS, READ_OCTETS, Seat};

/// Queries of one connection on the general path at a time; beyond it reading stops.
pub(super) const PIPELINE: usize = 128;
/// Octets of unsent answers from which on reading stops.
const OUTPUT_HIGH: usize = 64 << 10;
/// Sent octets that count as an answer taken: a client that reads octet by octet does not live on it.
const PROGRESS: usize = 4096;
/// How often at most a connection is read from when the server stops: who goes on sending has no end.
const LAST_READS: usize = 8;
/// Capacity that an idle connection may keep.
const KEEP: usize = 4096;
/// From one attempt to give the connection away to the next, while the other process is busy with those before.
const GIVE_AGAIN: Duration = Duration::from_millis(2);

pub(super) struct Connection<R: Respond> {
    seat: Seat,
    stream: TcpStream,
    from: SocketAddr,
    /// Octets received that are no complete query yet, or that have to wait.
    input: Vec<u8>,
    /// Frames to be sent, from `sent` on.
    output: Vec<u8>,
    sent: usize,
    /// Octets sent since the last that counted as progress.
    progress: usize,
    in_flight: usize,
    answered: mpsc::Sender<Option<Vec<u8>>>,
    answers: mpsc::Receiver<Option<Vec<u8>>>,
    /// Nothing more is read: the client has closed its half, or we are stopping.
    ended: bool,
    /// Nothing more is read, because another process will.
    giving: bool,
    active: Instant,
    /// Last, and so dropped last: who waits for the context to go may count on the connection being closed.
    context: Arc<Context<R>>,
}

impl<R: Respond> Connection<R> {
    /// One that has just been accepted, or taken over with some octets of `input`.
    pub(super) fn new(
        context: Arc<Context<R>>,
        (stream, from): (TcpStream, SocketAddr),
        seat: Seat,
        input: Vec<u8>,
    ) -> Self {
        let (answered, answers) = mpsc::channel(PIPELINE);
        Self {
            context,
            seat,
            stream,
            from,
            input,
            output: Vec::new(),
            sent: 0,
            progress: 0,
            in_flight: 0,
            answered,
            answers,
            ended: false,
            giving: false,
            active: Instant::now(),
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) {
        // An error is a client that went away: nobody is left to be told.
        let _ = self.serve().await;
    }

    async fn serve(&mut self) -> io::Result<()> {
        let mut phase = self.context.phase.clone();
        let mut draining = false;
        let mut timer = pin!(sleep_until(self.deadline().into()));
        loop {
            self.advance()?;
            let quiet = self.in_flight == 0 && self.unsent() == 0;
            if quiet && (self.ended || (self.giving && self.give()?)) {
                return Ok(());
            }
            let interest = self.interest();
            tokio::select! {
                biased;
                () = self.seat.place.evicted.notified() => return Ok(()),
                seen = reach(&mut phase, |phase| phase == Phase::Abort || (phase == Phase::Drain && !draining)) => {
                    if seen == Phase::Abort {
                        return Ok(());
                    }
                    draining = true;
                }
                Some(answer) = self.answers.recv() => self.collect(answer),
                ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                    if ready?.is_readable() && self.may_read() {
                        self.receive(Self::read)?;
                    }
                }
                () = sleep(GIVE_AGAIN), if quiet && self.giving => {}
                () = &mut timer => {
                    if self.deadline() <= Instant::now() {
                        self.time_out();
                        return Ok(());
                    }
                    timer.as_mut().reset(self.deadline().into());
                }
            }
            if draining && !self.ended && !self.giving {
                self.giving = self.seat.succession.is_taken();
                if !self.giving {
                    self.finish()?;
                }
            }
        }
    }

    /// Reads for the last time: what the kernel has got already was sent to a server that was up.
    fn finish(&mut self) -> io::Result<()> {
        let mut reads = 0;
        while reads < LAST_READS && self.receive(Self::read_unasked)? == READ_OCTETS {
            reads += 1;
        }
        self.ended = true;
        Ok(())
    }

    /// Gives the connection to the process that goes on; says whether it is over for this one.
    fn give(&mut self) -> io::Result<bool> {
        match self.seat.succession.give(self.stream.as_fd(), &self.input) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            // Nobody goes on any more.
            Err(_) => {
                self.giving = false;
                self.finish()?;
                self.advance()?;
                Ok(self.in_flight == 0 && self.unsent() == 0)
            }
        }
    }

    /// Sends what is ready and takes up queries that had to wait, until neither gets any further.
    fn advance(&mut self) -> io::Result<()> {
        loop {
            self.flush()?;
            if !self.may_take() || next_frame(&self.input).is_none() {
                return Ok(());
            }
            self.with_desk(|connection, desk| connection.take_input(desk));
        }
    }

    /// The time at which the connection is over, unless something happens before. Waiting for our own general path is
    /// not the client's fault.
    fn deadline(&self) -> Instant {
        let waits_for_us = self.in_flight > 0 && self.unsent() == 0;
        let from = if waits_for_us { Instant::now() } else { self.active };
        from + self.context.tcp.idle
    }

    fn time_out(&self) {
        let stats = &self.context.stats;
        add(if self.unsent() > 0 { &stats.tcp_write_timeouts } else { &stats.tcp_idle_closed });
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Back-pressure: no further query while too many are in flight or too many answers unread.
    fn may_take(&self) -> bool {
        self.in_flight < PIPELINE && self.unsent() < OUTPUT_HIGH
    }

    fn may_read(&self) -> bool {
        !self.ended && !self.giving && self.may_take()
    }

    fn interest(&self) -> Option<Interest> {
        match (self.may_read(), self.unsent() > 0) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    fn touch(&mut self, now: Instant) {
        self.active = now;
        self.seat.place.active.store(self.seat.registry.since_start(now), Relaxed);
    }

    fn with_desk<T>(&mut self, work: impl FnOnce(&mut Self, &mut Desk<R>) -> T) -> T {
        let context = self.context.clone();
        let mut desk = context.tcp.desk(&context.respond);
        let result = work(self, &mut desk);
        context.tcp.give_back(desk);
        result
    }

    fn receive(&mut self, read: fn(&mut Self, &mut [u8]) -> io::Result<usize>) -> io::Result<usize> {
        self.with_desk(|connection, desk| {
            let got = read(connection, &mut desk.input)?;
            if connection.input.is_empty() {
                // The usual case: whole frames, answered from the shared buffer without a copy.
                let input = mem::take(&mut desk.input);
                let taken = connection.take_frames(desk, &input[..got]);
                connection.input.extend_from_slice(&input[taken..got]);
                desk.input = input;
            } else {
                connection.input.extend_from_slice(&desk.input[..got]);
                connection.take_input(desk);
            }
            Ok(got)
        })
    }

    /// Reads once. A short read says that there is no more, which saves the call that would find out.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut got = None;
        let read = self.stream.try_io(Interest::READABLE, || {
            let n = (&*SockRef::from(&self.stream)).read(buffer)?;
            got = Some(n);
            if n < buffer.len() { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (got, read) {
            (Some(0), _) => self.ended = true,
            (Some(n), _) => return Ok(n),
            (None, Err(error)) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Err(error);
            }
            (None, _) => {}
        }
        Ok(0)
    }

    /// Reads once, whether or not the runtime has heard of something to read: what has just come it does not know yet.
    fn read_unasked(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&*SockRef::from(&self.stream)).read(buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            read => read,
        }
    }

    fn take_input(&mut self, desk: &mut Desk<R>) {
        let mut input = mem::take(&mut self.input);
        let taken = self.take_frames(desk, &input);
        input.drain(..taken);
        if input.len() < KEEP {
            input.shrink_to(KEEP);
        }
        self.input = input;
    }

    /// Takes up the complete queries of the input, as far as back-pressure allows; gives the octets consumed.
    fn take_frames(&mut self, desk: &mut Desk<R>, input: &[u8]) -> usize {
        let mut taken = 0;
        let mut queries = 0;
        let respond = self.context.respond.clone();
        let now = Instant::now();
        respond.begin(&mut desk.worker, Moment::now());
        while self.may_take()
            && let Some(query) = next_frame(&input[taken..])
        {
            taken += 2 + query.len();
            // A frame without a message is neither a query nor worth a connection.
            if !query.is_empty() {
                queries += 1;
                self.take(&respond, desk, query);
            }
        }
        respond.end(&mut desk.worker);
        if queries > 0 {
            self.touch(now);
        }
        taken
    }

    fn take(&mut self, respond: &R, desk: &mut Desk<R>, query: &[u8]) {
        let call = || respond.respond(&mut desk.worker, query, self.from, Transport::Tcp, &mut desk.answer);
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Outcome::Reply(len)) => self.push(&desk.answer[..len.min(MESSAGE_OCTETS)]),
            Ok(Outcome::Drop) => {}
            Ok(Outcome::Later) => {
                let answered = self.answered.clone();
                // There is room for as many as are in flight, and a closed connection needs no answer.
                let done = Done::Told(Box::new(move |answer| drop(answered.try_send(answer))));
                if self.context.later(&mut desk.worker, query, (self.from, Transport::Tcp), done) {
                    self.set_in_flight(self.in_flight + 1);
                } else {
                    let len = respond.overloaded(query, &mut desk.answer);
                    self.push(&desk.answer[..len.min(MESSAGE_OCTETS)]);
                }
            }
            Err(_) => add(&self.context.stats.panics),
        }
    }

    fn set_in_flight(&mut self, in_flight: usize) {
        self.in_flight = in_flight;
        self.seat.place.in_flight.store(in_flight, Relaxed);
    }

    /// Takes the answers that are ready, to be sent in one write.
    fn collect(&mut self, first: Option<Vec<u8>>) {
        if self.unsent() == 0 {
            // The time for reading it starts now, however long it took to be found.
            self.touch(Instant::now());
        }
        let mut next = Some(first);
        while let Some(answer) = next {
            self.set_in_flight(self.in_flight - 1);
            match answer {
                Some(answer) if answer.len() <= MESSAGE_OCTETS => self.push(&answer),
                Some(_) => add(&self.context.stats.send_errors),
                None => {}
            }
            next = self.answers.try_recv().ok();
        }
    }

    fn push(&mut self, answer: &[u8]) {
        if !answer.is_empty() {
            self.output.extend_from_slice(&(answer.len() as u16).to_be_bytes());
            self.output.extend_from_slice(answer);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unsent() == 0 {
            return Ok(());
        }
        while self.unsent() > 0 {
            match self.stream.try_write(&self.output[self.sent..]) {
                Ok(n) => {
                    self.sent += n;
                    self.progress += n;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    add(&self.context.stats.send_errors);
                    return Err(error);
                }
            }
        }
        let done = self.unsent() == 0;
        if done || self.progress >= PROGRESS {
            self.progress = 0;
            self.touch(Instant::now());
        }
        if done {
            self.output.clear();
            self.output.shrink_to(KEEP);
        } else {
            self.output.drain(..self.sent);
        }
        self.sent = 0;
        Ok(())
    }
}

/// The message of the frame at the start, if it is complete.
fn next_frame(input: &[u8]) -> Option<&[u8]> {
    let (len, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}
