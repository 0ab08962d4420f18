//! One persistent connection to an upstream: pipelined, answered in any order (RFC 7766).
//!
//! It is replaced when it is a minute old, since behind a Service's address each connection leads to one backend only:
//! new questions go to a new one, and the old one closes when it has answered what it was asked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::health::Health;
use super::query::{Checked, Sent};
use super::stats::{Reject, Stats};
use super::{Message, Trouble, Tuning, trouble};

/// Questions that wait to be taken up by the connection's task.
const QUEUE: usize = 256;
/// Octets that wait to be sent before no more questions are taken up.
const UNSENT: usize = 64 * 1024;
/// Unanswered questions before the abandoned ones among them are looked for.
const PURGE: usize = 1024;
/// Unanswered questions at most: IDs must stay easy to find.
const MOST: usize = 32 * 1024;
/// Messages in a row that are no answers before the connection is given up.
const WRONG: u32 = 100;

/// The way to one upstream over TCP.
#[derive(Debug)]
pub(super) struct Line {
    upstream: SocketAddr,
    idle: Duration,
    age: Duration,
    stats: Arc<Stats>,
    health: Arc<Health>,
    current: Mutex<Option<Handle>>,
    /// The same, for those who do not wait for a connection that is being made.
    latest: std::sync::Mutex<Weak<Pulse>>,
}

#[derive(Clone, Debug)]
struct Handle {
    jobs: mpsc::Sender<Job>,
    pulse: Arc<Pulse>,
    until: Instant,
}

/// What askers and the connection's task tell each other.
#[derive(Debug)]
struct Pulse {
    begun: Instant,
    /// When something was read last, in microseconds since `begun`, so that an asker can tell a silent connection from a
    /// slow answer.
    heard: AtomicU64,
    /// No new questions: it has been silent for a whole try.
    given_up: AtomicBool,
    /// Nothing is expected from it any more: what waits is to be asked elsewhere, now.
    cut: Notify,
}

#[derive(Debug)]
struct Job {
    sent: Arc<Sent>,
    answer: oneshot::Sender<Checked>,
}

impl Pulse {
    fn new() -> Self {
        let (heard, given_up, cut) = (AtomicU64::new(0), AtomicBool::new(false), Notify::new());
        Self { begun: Instant::now(), heard, given_up, cut }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }

    fn has_read_since(&self, then: Instant) -> bool {
        self.heard.load(Ordering::Relaxed) >= self.micros(then).max(1)
    }
}

impl Line {
    /// Nothing is connected before the first question.
    pub(super) fn new(upstream: SocketAddr, tuning: &Tuning, stats: Arc<Stats>, health: Arc<Health>) -> Self {
        let (idle, age) = (tuning.tcp_idle, tuning.tcp_age);
        Self { upstream, idle, age, stats, health, current: Mutex::default(), latest: std::sync::Mutex::default() }
    }

    /// Asks; if the connection closes under the question, once more on a new one.
    ///
    /// # Errors
    /// [`Trouble`], of which [`Trouble::Timeout`] after `until`.
    pub(super) async fn ask(&self, sent: &Arc<Sent>, until: Instant) -> Result<Message, Trouble> {
        for _ in 0..2 {
            let handle = tokio::select! {
                biased;
                handle = timeout_at(until, self.handle()) => handle.unwrap_or(Err(Trouble::Timeout))?,
                // Whoever waits for a connection that never comes up is on none that could be cut.
                () = self.health.fallen() => return Err(Trouble::Timeout),
            };
            match handle.ask(Arc::clone(sent), until).await? {
                Some(Checked::Whole(message)) => return Ok(message),
                // Truncated over TCP: there is no bigger way to ask.
                Some(_) => return Err(Trouble::Failed),
                None => handle.pulse.given_up.store(true, Ordering::Relaxed),
            }
            if self.health.is_down() {
                return Err(Trouble::Timeout);
            }
        }
        Err(Trouble::Closed)
    }

    /// Ends the connection, and sends what waits on it elsewhere.
    pub(super) fn cut(&self) {
        let pulse = self.latest.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(pulse) = pulse {
            pulse.given_up.store(true, Ordering::Relaxed);
            pulse.cut.notify_one();
        }
    }

    /// Whether there is a connection that nothing came over since then.
    pub(super) fn is_silent_since(&self, then: Instant) -> bool {
        let pulse = self.latest.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        pulse.is_some_and(|pulse| pulse.begun < then && !pulse.has_read_since(then))
    }

    /// The connection, or a new one. Whoever comes meanwhile waits for that one instead of opening a second.
    async fn handle(&self) -> Result<Handle, Trouble> {
        let mut current = self.current.lock().await;
        if let Some(handle) = &*current
            && handle.is_usable()
        {
            return Ok(handle.clone());
        }
        // The old one's task must see that nobody holds its queue any more.
        *current = None;
        let stream = TcpStream::connect(self.upstream).await.map_err(|error| trouble(&error))?;
        stream.set_nodelay(true).map_err(|error| trouble(&error))?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let pulse = Arc::new(Pulse::new());
        let task = Task {
            queue,
            pulse: Arc::clone(&pulse),
            stats: self.stats.clone(),
            health: self.health.clone(),
            idle: self.idle,
            pending: HashMap::new(),
            purge_at: PURGE,
            outbox: Vec::new(),
            wrong: 0,
        };
        tokio::spawn(task.run(stream));
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&pulse);
        let handle = Handle { jobs, pulse, until: Instant::now() + self.age.mul_f64(rand::random_range(0.9..1.1)) };
        *current = Some(handle.clone());
        Ok(handle)
    }
}

impl Handle {
    fn is_usable(&self) -> bool {
        !self.jobs.is_closed() && !self.pulse.given_up.load(Ordering::Relaxed) && Instant::now() < self.until
    }

    /// `None`: the connection was closed before an answer came.
    async fn ask(&self, sent: Arc<Sent>, until: Instant) -> Result<Option<Checked>, Trouble> {
        let asked = Instant::now();
        let (answer, wait) = oneshot::channel();
        let exchange = async {
            self.jobs.send(Job { sent, answer }).await.ok()?;
            wait.await.ok()
        };
        timeout_at(until, exchange).await.map_err(|_| {
            // A peer that vanished would otherwise swallow questions until the kernel gives up, minutes later.
            if !self.pulse.has_read_since(asked) {
                self.pulse.given_up.store(true, Ordering::Relaxed);
            }
            Trouble::Timeout
        })
    }
}

/// Owns a connection; dropping it drops all that waits, which is how askers learn that it closed.
struct Task {
    queue: mpsc::Receiver<Job>,
    pulse: Arc<Pulse>,
    stats: Arc<Stats>,
    health: Arc<Health>,
    idle: Duration,
    pending: HashMap<u16, Job>,
    purge_at: usize,
    outbox: Vec<u8>,
    wrong: u32,
}

impl Task {
    /// Reads and writes at once: a peer that does not read while it writes must not stop us from reading.
    async fn run(mut self, mut stream: TcpStream) {
        let (mut reader, mut writer) = stream.split();
        let mut inbox = Vec::with_capacity(4096);
        let mut open = true;
        let pulse = Arc::clone(&self.pulse);
        let mut cut = pin!(pulse.cut.notified());
        let mut idle_at = Instant::now() + self.idle;
        while open || !self.pending.is_empty() {
            tokio::select! {
                read = reader.read_buf(&mut inbox) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        self.pulse.heard.store(self.pulse.micros(Instant::now()).max(1), Ordering::Relaxed);
                        self.deliver(&mut inbox);
                        if self.wrong >= WRONG {
                            return;
                        }
                    }
                },
                written = writer.write(&self.outbox), if !self.outbox.is_empty() => match written {
                    Ok(0) | Err(_) => return,
                    Ok(length) => drop(self.outbox.drain(..length)),
                },
                job = self.queue.recv(), if open && self.outbox.len() < UNSENT => match job {
                    Some(job) => self.take_up(job),
                    None => open = false,
                },
                () = &mut cut => return,
                () = sleep_until(idle_at) => return,
            }
            idle_at = Instant::now() + self.idle;
        }
    }

    /// Gives a question an ID that is free on this connection, and queues its octets.
    fn take_up(&mut self, job: Job) {
        if self.pending.len() >= self.purge_at {
            self.pending.retain(|_, job| !job.answer.is_closed());
            self.purge_at = PURGE.max(2 * self.pending.len());
        }
        if self.pending.len() >= MOST {
            return;
        }
        loop {
            let id = rand::random();
            if let Entry::Vacant(free) = self.pending.entry(id) {
                self.outbox.extend((job.sent.length() as u16).to_be_bytes());
                job.sent.write(id, &mut self.outbox);
                free.insert(job);
                return;
            }
        }
    }

    /// Hands out every whole message; what is wrong is passed over, as over UDP.
    fn deliver(&mut self, inbox: &mut Vec<u8>) {
        let mut at = 0;
        while let Some([high, low]) = inbox.get(at..).and_then(|rest| rest.first_chunk()) {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let Some(message) = inbox.get(at + 2..at + 2 + length) else { break };
            self.hand_out(message);
            at += 2 + length;
        }
        inbox.drain(..at);
    }

    fn hand_out(&mut self, message: &[u8]) {
        let id = message.first_chunk().map(|id| u16::from_be_bytes(*id));
        let checked = match id.map(|id| (id, self.pending.entry(id))) {
            None => Checked::Wrong(Reject::Malformed),
            Some((_, Entry::Vacant(_))) => Checked::Wrong(Reject::Id),
            Some((id, Entry::Occupied(job))) => match job.get().sent.check(id, message) {
                Checked::Wrong(reason) => Checked::Wrong(reason),
                checked => {
                    self.wrong = 0;
                    self.health.heard(Instant::now());
                    // An asker that has gone away since is no error.
                    return drop(job.remove().answer.send(checked));
                }
            },
        };
        if let Checked::Wrong(reason) = checked {
            self.wrong += 1;
            self.stats.rejected(reason);
        }
    }
}
