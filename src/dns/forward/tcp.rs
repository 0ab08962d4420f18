//! One persistent connection to an upstream: pipelined, answered in any order (RFC 7766).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::query::{Checked, Sent};
use super::stats::Stats;
use super::udp::trouble;
use super::{Message, Trouble};

/// Questions that wait to be taken up by the connection's task.
const QUEUE: usize = 256;
/// Octets that wait to be sent before no more questions are taken up.
const UNSENT: usize = 64 * 1024;
/// Unanswered questions before the abandoned ones among them are looked for.
const PURGE: usize = 1024;
/// Unanswered questions at most: IDs must stay easy to find.
const MOST: usize = 32 * 1024;

/// The way to one upstream over TCP.
#[derive(Debug)]
pub(super) struct Line {
    upstream: SocketAddr,
    idle: Duration,
    stats: Arc<Stats>,
    current: Mutex<Option<Handle>>,
}

#[derive(Clone, Debug)]
struct Handle {
    jobs: mpsc::Sender<Job>,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// Counts what was read, so that an asker can tell a silent connection from a slow answer.
    heard: AtomicU64,
    /// No new questions: it has been silent for a whole try.
    given_up: AtomicBool,
}

#[derive(Debug)]
struct Job {
    sent: Sent,
    answer: oneshot::Sender<Checked>,
}

impl Line {
    /// Nothing is connected before the first question; `idle` without traffic closes the connection.
    pub(super) fn new(upstream: SocketAddr, idle: Duration, stats: Arc<Stats>) -> Self {
        Self { upstream, idle, stats, current: Mutex::default() }
    }

    /// Asks; if the connection closes under the question, once more on a new one.
    ///
    /// # Errors
    /// [`Trouble`], of which [`Trouble::Timeout`] after `until`.
    pub(super) async fn ask(&self, sent: &Sent, until: Instant) -> Result<Message, Trouble> {
        for _ in 0..2 {
            let handle = timeout_at(until, self.handle()).await.map_err(|_| Trouble::Timeout)??;
            match handle.ask(sent.clone(), until).await? {
                Some(Checked::Whole(message)) => return Ok(message),
                Some(_) => return Err(Trouble::Failed),
                None => handle.health.given_up.store(true, Ordering::Relaxed),
            }
        }
        Err(Trouble::Failed)
    }

    /// The connection, or a new one. Whoever comes meanwhile waits for that one instead of opening a second.
    async fn handle(&self) -> Result<Handle, Trouble> {
        let mut current = self.current.lock().await;
        if let Some(handle) = &*current
            && handle.is_usable()
        {
            return Ok(handle.clone());
        }
        let stream = TcpStream::connect(self.upstream).await.map_err(trouble)?;
        stream.set_nodelay(true).map_err(trouble)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let handle = Handle { jobs, health: Arc::default() };
        let task = Task {
            queue,
            health: handle.health.clone(),
            stats: self.stats.clone(),
            idle: self.idle,
            pending: HashMap::new(),
            purge_at: PURGE,
            outbox: Vec::new(),
        };
        tokio::spawn(task.run(stream));
        *current = Some(handle.clone());
        Ok(handle)
    }
}

impl Handle {
    fn is_usable(&self) -> bool {
        !self.jobs.is_closed() && !self.health.given_up.load(Ordering::Relaxed)
    }

    /// `None`: the connection was closed before an answer came.
    async fn ask(&self, sent: Sent, until: Instant) -> Result<Option<Checked>, Trouble> {
        let heard = self.health.heard.load(Ordering::Relaxed);
        let (answer, wait) = oneshot::channel();
        let exchange = async {
            self.jobs.send(Job { sent, answer }).await.ok()?;
            wait.await.ok()
        };
        timeout_at(until, exchange).await.map_err(|_| {
            // A peer that vanished would otherwise swallow questions until the kernel gives up, minutes later.
            if self.health.heard.load(Ordering::Relaxed) == heard {
                self.health.given_up.store(true, Ordering::Relaxed);
            }
            Trouble::Timeout
        })
    }
}

/// Owns a connection; dropping it drops all that waits, which is how askers learn that it closed.
struct Task {
    queue: mpsc::Receiver<Job>,
    health: Arc<Health>,
    stats: Arc<Stats>,
    idle: Duration,
    pending: HashMap<u16, Job>,
    purge_at: usize,
    outbox: Vec<u8>,
}

impl Task {
    /// Reads and writes at once: a peer that does not read while it writes must not stop us from reading.
    async fn run(mut self, mut stream: TcpStream) {
        let (mut reader, mut writer) = stream.split();
        let mut inbox = Vec::with_capacity(4096);
        let mut open = true;
        let mut idle_at = Instant::now() + self.idle;
        while open || !self.pending.is_empty() {
            tokio::select! {
                read = reader.read_buf(&mut inbox) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {
                        self.health.heard.fetch_add(1, Ordering::Relaxed);
                        self.deliver(&mut inbox);
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
                () = sleep_until(idle_at) => return,
            }
            idle_at = Instant::now() + self.idle;
        }
    }

    /// Gives a question an ID that is free on this connection, and queues its octets.
    fn take_up(&mut self, mut job: Job) {
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
                job.sent.set_id(id);
                self.outbox.extend((job.sent.wire().len() as u16).to_be_bytes());
                self.outbox.extend(job.sent.wire());
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
        let Some(id) = message.first_chunk().map(|id| u16::from_be_bytes(*id)) else {
            return self.stats.rejected(super::Reject::Malformed);
        };
        let Entry::Occupied(job) = self.pending.entry(id) else {
            return self.stats.rejected(super::Reject::Id);
        };
        match job.get().sent.check(message) {
            Checked::Wrong(reason) => self.stats.rejected(reason),
            // An asker that has gone away since is no error.
            checked => drop(job.remove().answer.send(checked)),
        }
    }
}
