//! When a change is answered: questions from threads, over UDP, until the answer is the one that was waited for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::support::wire::query;

/// After so long a change counts as never answered.
const LOST: Duration = Duration::from_secs(30);

/// What is to be answered some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One address.
    Address(Ipv4Addr),
    /// This response code.
    Code(u8),
}

impl Wanted {
    fn is(self, answer: &[u8]) -> bool {
        match self {
            // Without EDNS, the record's address is the end of the message.
            Self::Address(ip) => answer.get(3).is_some_and(|b| b & 15 == 0) && answer.ends_with(&ip.octets()),
            Self::Code(code) => answer.get(3).is_some_and(|b| b & 15 == code),
        }
    }
}

/// A socket of one caller.
#[derive(Debug)]
pub struct Caller(UdpSocket);

impl Caller {
    /// At this address.
    #[must_use]
    pub fn new(from: IpAddr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((from, 0)).expect("an address on loopback");
        socket.connect(server).expect("a server");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("an option");
        Self(socket)
    }

    /// Asks once. A datagram that the kernel had no room for is sent again.
    fn ask(&self, wire: &[u8], into: &mut [u8]) -> usize {
        loop {
            let _ = self.0.send(wire);
            if let Ok(length) = self.0.recv(into) {
                return length;
            }
        }
    }

    /// Asks until the answer is this one.
    ///
    /// # Panics
    /// It never comes.
    pub fn until(&self, name: &str, wanted: Wanted) {
        let (wire, mut buffer, end) = (query(7, name, 1, false), [0; 1500], Instant::now() + LOST);
        loop {
            let length = self.ask(&wire, &mut buffer);
            if wanted.is(&buffer[..length]) {
                return;
            }
            assert!(Instant::now() < end, "{name}: {:02x?}, not {wanted:?}", &buffer[..length]);
        }
    }
}

/// A change that was made, and how it shows.
#[derive(Debug)]
pub struct Job {
    /// What kind of change.
    pub what: &'static str,
    /// When it was made.
    pub made: Instant,
    /// Who asks.
    pub from: IpAddr,
    /// For which name.
    pub name: String,
    /// Until this is answered.
    pub wanted: Wanted,
}

/// Threads that ask for what has changed.
#[derive(Debug)]
pub struct Askers {
    jobs: Vec<Sender<Job>>,
    next: usize,
    threads: Vec<JoinHandle<Took>>,
}

/// How long each change took, with its kind.
pub type Took = Vec<(&'static str, Duration)>;

impl Askers {
    /// Starts them.
    #[must_use]
    pub fn start(count: usize, server: SocketAddr) -> Self {
        let (jobs, threads) = (0..count)
            .map(|_| {
                let (send, jobs) = mpsc::channel();
                (send, thread::spawn(move || work(&jobs, server)))
            })
            .unzip();
        Self { jobs, next: 0, threads }
    }

    /// Gives one of them a job.
    pub fn give(&mut self, job: Job) {
        self.next = (self.next + 1) % self.jobs.len();
        self.jobs[self.next].send(job).expect("the thread runs");
    }

    /// How long each took.
    #[must_use]
    pub fn finish(self) -> Took {
        drop(self.jobs);
        self.threads.into_iter().flat_map(|t| t.join().expect("it asks to the end")).collect()
    }
}

fn work(jobs: &Receiver<Job>, server: SocketAddr) -> Took {
    let mut took = Vec::new();
    let mut caller: Option<(IpAddr, Caller)> = None;
    for job in jobs {
        let (_, caller) = match &caller {
            Some(known) if known.0 == job.from => known,
            _ => caller.insert((job.from, Caller::new(job.from, server))),
        };
        caller.until(&job.name, job.wanted);
        took.push((job.what, job.made.elapsed()));
    }
    took
}

/// Somebody who asks all the time for names that do not change.
#[derive(Debug)]
pub struct Noise {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Noise {
    /// Begins.
    #[must_use]
    pub fn start(from: IpAddr, server: SocketAddr, names: Vec<String>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (caller, mut buffer, mut took) = (Caller::new(from, server), [0; 1500], Vec::new());
            let wires: Vec<Vec<u8>> = names.iter().map(|name| query(8, name, 1, false)).collect();
            for wire in wires.iter().cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let begun = Instant::now();
                let length = caller.ask(wire, &mut buffer);
                assert_eq!(buffer[..length][3] & 15, 0, "what does not change is answered all the time");
                took.push(begun.elapsed());
                // It is to be there all the time, and not to take a core away from what is measured.
                thread::sleep(Duration::from_micros(500));
            }
            took
        });
        Self { stop, thread }
    }

    /// Ends; how long each answer took, sorted.
    #[must_use]
    pub fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = self.thread.join().expect("it asks to the end");
        all.sort_unstable();
        all
    }
}

/// Those of one kind, or all, sorted.
#[must_use]
pub fn times(took: &Took, what: Option<&str>) -> Vec<Duration> {
    let mut times: Vec<Duration> =
        took.iter().filter(|(kind, _)| what.is_none_or(|what| what == *kind)).map(|(_, time)| *time).collect();
    times.sort_unstable();
    times
}

/// The value that this share of them is within.
#[must_use]
pub fn within(sorted: &[Duration], per_mille: usize) -> Duration {
    let at = (sorted.len() * per_mille).div_ceil(1000).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or_default()
}

/// Milliseconds, as text.
#[must_use]
pub fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
