//! The same over TCP: one connection for each caller, and several questions in each at once.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Asked, Outcome, PATIENCE, Questions};
use crate::data::Plan;

/// Room for what one read finds.
const ROOM: usize = 64 * 1024;

struct Connection<'a> {
    stream: TcpStream,
    questions: &'a [Asked],
    next: usize,
    /// Which question was sent when, by ID, which is the place.
    pending: Vec<Option<(usize, Instant)>>,
    waits_for: usize,
    /// When last something was sent, which follows what is received.
    heard: Instant,
    /// The beginning of an answer whose end is not there yet.
    rest: Vec<u8>,
}

/// Keeps so many questions (`burst`) in flight on a connection of each caller, for so long.
///
/// # Errors
/// The system's; `UnexpectedEof` if the server closes a connection, `TimedOut` if it answers nothing for a while.
pub fn run<'a>(
    plan: &Plan,
    server: SocketAddr,
    questions: &'a Questions,
    burst: usize,
    duration: Duration,
) -> io::Result<Outcome> {
    let connect =
        |(caller, questions): (usize, &'a Vec<Asked>)| Connection::new(plan, caller, server, questions, burst);
    let mut connections: Vec<_> = questions.by_caller.iter().enumerate().map(connect).collect::<io::Result<_>>()?;
    let mut outcome = Outcome::default();
    let mut buffer = vec![0; ROOM];
    let mut waiting = VecDeque::new();
    for (index, connection) in connections.iter_mut().enumerate() {
        connection.fill()?;
        waiting.push_back(index);
    }
    let end = Instant::now() + duration;
    while let Some(index) = waiting.pop_front() {
        let connection = &mut connections[index];
        let got = connection.receive(&mut buffer, &mut outcome)?;
        if got > 0 && Instant::now() < end {
            connection.fill()?;
        }
        if connection.waits_for > 0 {
            waiting.push_back(index);
        }
    }
    Ok(outcome)
}

impl<'a> Connection<'a> {
    fn new(plan: &Plan, caller: usize, server: SocketAddr, questions: &'a [Asked], burst: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::new(IpAddr::V4(plan.caller(caller)), 0).into())?;
        socket.connect(&server.into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            stream: socket.into(),
            questions,
            next: 0,
            pending: vec![None; burst],
            waits_for: 0,
            heard: Instant::now(),
            rest: Vec::new(),
        })
    }

    /// A question for each free place, in one write. As it goes out with every answer, no acknowledgement is ever waited for.
    fn fill(&mut self) -> io::Result<()> {
        let mut out = Vec::with_capacity(self.pending.len() * 80);
        let now = Instant::now();
        for (id, place) in self.pending.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            let question = self.next % self.questions.len();
            let wire = &self.questions[question].wire;
            out.extend_from_slice(&(wire.len() as u16).to_be_bytes());
            out.extend_from_slice(&(id as u16).to_be_bytes());
            out.extend_from_slice(&wire[2..]);
            *place = Some((question, now));
            self.next += 1;
            self.waits_for += 1;
        }
        self.heard = now;
        self.stream.write_all(&out)
    }

    /// Takes what is there, and tells how many answers that is.
    fn receive(&mut self, buffer: &mut [u8], outcome: &mut Outcome) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(octets) => self.rest.extend_from_slice(&buffer[..octets]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Long enough for a server whose core is full; TCP loses nothing.
                return if self.heard.elapsed() > 10 * PATIENCE { Err(io::ErrorKind::TimedOut.into()) } else { Ok(0) };
            }
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let (mut at, mut got) = (0, 0);
        while let Some(length) = self.rest[at..].first_chunk().map(|l| usize::from(u16::from_be_bytes(*l))) {
            let Some(answer) = self.rest.get(at + 2..at + 2 + length) else { break };
            let id = answer.first_chunk().map(|id| usize::from(u16::from_be_bytes(*id)));
            let pending = id.and_then(|id| self.pending.get_mut(id)).and_then(Option::take);
            match pending {
                Some((question, sent)) if self.questions[question].answered_by(answer) => {
                    outcome.answered += 1;
                    outcome.latency.record(now - sent);
                }
                _ => outcome.wrong += 1,
            }
            self.waits_for -= usize::from(pending.is_some());
            at += 2 + length;
            got += 1;
        }
        self.rest.drain(..at);
        Ok(got)
    }
}
