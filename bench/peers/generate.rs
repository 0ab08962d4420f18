//! The generator: 64 clients with sockets of their own in one thread, which never sleeps.
//!
//! It knows what has to be answered to every question, and counts what is wrong or lost. A socket sends some questions with one
//! `sendmmsg` and is read until their answers are there; as one worker answers in the order of arrival, the socket that waits
//! longest is read first, and hardly any call finds nothing.

pub mod lane;
pub mod tcp;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::data::{Plan, Question};
use super::stats::Histogram;
use lane::Lane;

/// An answer that takes longer is lost.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// Of sockets, so that a burst is not lost where nobody looks.
const BUFFER: usize = 4 << 20;

/// Questions by caller, each list asked over and over.
#[derive(Debug)]
pub struct Questions {
    /// One list for each caller, none empty.
    pub by_caller: Vec<Vec<Asked>>,
}

/// A question as the generator needs it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The query with ID 0.
    pub wire: Box<[u8]>,
    /// What the answer has to say.
    pub rcode: u8,
    /// The last octets of the address, which are the answer's last if it has one.
    pub end: Option<[u8; 4]>,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answers that were as they should be.
    pub answered: u64,
    /// Answers that were not.
    pub wrong: u64,
    /// Questions without an answer.
    pub lost: u64,
    /// From sending to receiving, of what was answered.
    pub latency: Histogram,
}

/// How fast is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As many questions as may be in flight, and so many in one call.
    Full { window: usize, burst: usize },
    /// So many a second, at random moments, whatever comes back.
    Rate(f64),
}

impl Questions {
    /// Those of a plan.
    #[must_use]
    pub fn new(plan: &Plan, questions: &[Question]) -> Self {
        let mut by_caller = vec![Vec::new(); plan.callers];
        for question in questions {
            let wire = question.wire.as_slice().into();
            let end = question.address.and_then(|address| match address {
                IpAddr::V4(ip) => Some(ip.octets()),
                IpAddr::V6(ip) => ip.octets().last_chunk().copied(),
            });
            by_caller[question.caller].push(Asked { wire, rcode: question.rcode, end });
        }
        Self { by_caller }
    }
}

impl Asked {
    /// Whether this is the answer, apart from its ID: a response, whole, with the response code, and with the address as its
    /// one record, or without any.
    #[must_use]
    pub fn answered_by(&self, answer: &[u8]) -> bool {
        let [_, _, flags, code, _, _, high, low, ..] = *answer else { return false };
        let count = u8::from(self.end.is_some());
        flags & 0x82 == 0x80
            && code & 15 == self.rcode
            && [high, low] == [0, count]
            && self.end.is_none_or(|end| answer.ends_with(&end))
    }
}

/// A UDP socket of each caller, connected to the server.
///
/// # Errors
/// The system's.
pub fn sockets(plan: &Plan, server: SocketAddr) -> io::Result<Vec<UdpSocket>> {
    (0..plan.callers).map(|caller| socket(plan.caller(caller), server)).collect()
}

/// A UDP socket of this address, connected to the server.
///
/// # Errors
/// The system's.
pub fn socket(from: Ipv4Addr, server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    widen(&socket);
    socket.connect(server)?;
    Ok(socket)
}

/// Runs lanes side by side for so long, and then until nothing is in flight any more.
///
/// # Errors
/// The system's.
pub fn run(lanes: &mut [Lane<'_>], duration: Duration) -> io::Result<()> {
    let start = Instant::now();
    loop {
        let now = Instant::now();
        let open = now - start < duration;
        let mut busy = false;
        for lane in &mut *lanes {
            lane.step(now, open)?;
            busy |= lane.in_flight() > 0 || open && !lane.finished();
        }
        if !busy {
            return Ok(());
        }
    }
}

/// Asks every question once, few at a time, and again what was lost: caches are filled, and pages are there. Tells how many
/// were never answered as they should be.
///
/// # Errors
/// The system's.
pub fn warm(questions: &Questions, sockets: &[UdpSocket]) -> io::Result<u64> {
    let mut left = 0;
    for _ in 0..3 {
        let mut lane = Lane::new(questions, sockets, Pace::Full { window: 16, burst: 1 }).once();
        run(std::slice::from_mut(&mut lane), Duration::from_secs(20))?;
        left = lane.outcome().lost + lane.outcome().wrong;
        if left == 0 {
            break;
        }
    }
    Ok(left)
}

/// One query, and the answer's octets; for finding out whether a server is there, and how long its answers are.
///
/// # Errors
/// The system's, `TimedOut` and the like among them.
pub fn ask(from: Ipv4Addr, server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(query)?;
    let mut answer = vec![0; 4096];
    let octets = socket.recv(&mut answer)?;
    answer.truncate(octets);
    Ok(answer)
}

/// Gives a socket large buffers, as far as the system allows.
pub fn widen(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
}
