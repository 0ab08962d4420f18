//! One connected socket, those who wait on it, and the task that hands them their answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::super::errand::Errand;
use super::super::health::Health;
use super::super::query::{Checked, LONGEST, Sent};
use super::super::stats::{Reject, Stats};
use super::super::{Trouble, trouble};
use super::{Limits, Outcome};

/// Above what we offer; a datagram that fills it is taken as truncated.
const ROOM: usize = 4096;
/// Datagrams taken before anything else is looked at.
const BATCH: usize = 32;
/// Wrong messages within a second that make a socket untrustworthy: 100 guesses hit one of 65,536 IDs rarely.
const WRONG: u32 = 100;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Port {
    socket: UdpSocket,
    upstream: SocketAddr,
    stats: Arc<Stats>,
    health: Arc<Health>,
    book: Mutex<Book>,
    retired: Notify,
    closed: Notify,
    /// [`Book::due`] is earlier than it was.
    hurried: Notify,
}

#[derive(Debug)]
struct Book {
    waiting: HashMap<u16, Waiting, RandomState>,
    born: Instant,
    used: u32,
    /// What whoever comes too late gets; nothing waits any more.
    closed: Option<Trouble>,
    /// Wrong messages since then.
    wrong: (u32, Instant),
    /// When the task has to look for errands that wait for too long; `None` while there is none.
    due: Option<Instant>,
}

/// A question. It stays when its asker has gone: a late answer still tells that the upstream lives, and is no forgery.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Of a task.
    Task(Arc<Sent>, oneshot::Sender<Outcome>),
    /// Of none.
    Errand(Box<Errand>),
}

impl Waiting {
    fn sent(&self) -> &Arc<Sent> {
        match self {
            Self::Task(sent, _) => sent,
            Self::Errand(errand) => errand.sent(),
        }
    }

    fn give(self, outcome: Outcome) {
        match self {
            // Askers that have gone away since are no error.
            Self::Task(_, answer) => drop(answer.send(outcome)),
            Self::Errand(errand) => errand.arrive(outcome),
        }
    }
}

impl Book {
    /// Lets a task wait for what an errand has waited for too long, and sees when to look again.
    fn hand_over(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        for waiting in self.waiting.values_mut() {
            let Waiting::Errand(errand) = waiting else { continue };
            let due = errand.due();
            if now < due {
                self.due = Some(self.due.map_or(due, |before| before.min(due)));
                continue;
            }
            let (answer, wait) = oneshot::channel();
            let task = Waiting::Task(errand.sent().clone(), answer);
            if let Waiting::Errand(errand) = std::mem::replace(waiting, task) {
                errand.go_on(wait);
            }
        }
    }
}

impl Port {
    /// A socket on a port that the kernel picks at random, and its task.
    pub(super) fn open(
        upstream: SocketAddr,
        limits: Limits,
        stats: &Arc<Stats>,
        health: &Arc<Health>,
    ) -> Result<Arc<Self>, Trouble> {
        let socket = connected(upstream).map_err(|error| trouble(&error))?;
        let now = Instant::now();
        let book = Book { waiting: HashMap::default(), born: now, used: 0, closed: None, wrong: (0, now), due: None };
        let (stats, health) = (Arc::clone(stats), Arc::clone(health));
        let [retired, closed, hurried] = std::array::from_fn(|_| Notify::new());
        let port = Arc::new(Self { socket, upstream, stats, health, book: Mutex::new(book), retired, closed, hurried });
        tokio::spawn(Arc::clone(&port).receive(limits));
        Ok(port)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A free ID.
    ///
    /// # Errors
    /// This socket takes no more questions.
    pub(super) fn enlist(&self, one: Waiting, now: Instant, limits: &Limits) -> Result<u16, Waiting> {
        let mut book = self.book();
        if book.closed.is_some() || book.used >= limits.questions || now >= book.born + limits.life {
            return Err(one);
        }
        book.used += 1;
        if let Waiting::Errand(errand) = &one
            && book.due.is_none_or(|due| errand.due() < due)
        {
            book.due = Some(errand.due());
            self.hurried.notify_one();
        }
        loop {
            let id = rand::random();
            if let Entry::Vacant(free) = book.waiting.entry(id) {
                free.insert(one);
                return Ok(id);
            }
        }
    }

    /// Sends the question of an errand in place. Given back is one that could not be sent, if nobody has taken it since.
    pub(super) fn post(&self, id: u16) -> Result<(), Option<Box<Errand>>> {
        let mut datagram = [0; LONGEST];
        let length = match self.book().waiting.get(&id) {
            Some(waiting) => waiting.sent().put(id, &mut datagram).unwrap_or_default(),
            None => return Err(None),
        };
        let Err(error) = self.socket.try_send(&datagram[..length]) else { return Ok(()) };
        let waiting = self.book().waiting.remove(&id);
        if trouble(&error) == Trouble::Refused {
            self.close(Trouble::Refused);
        }
        Err(waiting.and_then(|waiting| match waiting {
            Waiting::Errand(errand) => Some(errand),
            Waiting::Task(..) => None,
        }))
    }

    /// Sends in place, and waits only if the kernel has no room.
    pub(super) async fn send(&self, sent: &Sent, id: u16) -> Result<(), Trouble> {
        match self.try_send(sent, id) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Box::pin(self.send_later(sent, id)).await,
            sent => sent.map_err(|error| trouble(&error)),
        }
    }

    fn try_send(&self, sent: &Sent, id: u16) -> io::Result<()> {
        let mut datagram = [0; LONGEST];
        let length = sent.put(id, &mut datagram).ok_or(ErrorKind::InvalidInput)?;
        self.socket.try_send(&datagram[..length]).map(drop)
    }

    async fn send_later(&self, sent: &Sent, id: u16) -> Result<(), Trouble> {
        let mut datagram = Vec::with_capacity(sent.length());
        sent.write(id, &mut datagram);
        self.socket.send(&datagram).await.map_err(|error| trouble(&error)).map(drop)
    }

    /// No new questions come: the task ends when all are answered, or have waited long enough.
    pub(super) fn retire(&self) {
        self.retired.notify_one();
    }

    /// Ends all waiting.
    pub(super) fn close(&self, trouble: Trouble) {
        self.end(|| Err(trouble), trouble);
        self.closed.notify_one();
    }

    fn end(&self, outcome: impl Fn() -> Outcome, late: Trouble) {
        let mut book = self.book();
        book.closed = Some(late);
        let waiting = std::mem::take(&mut book.waiting);
        drop(book);
        waiting.into_values().for_each(|one| one.give(outcome()));
    }

    async fn receive(self: Arc<Self>, limits: Limits) {
        let mut buffer = vec![0; ROOM].into_boxed_slice();
        let mut retired = pin!(self.retired.notified());
        let mut closed = pin!(self.closed.notified());
        let mut hurried = pin!(self.hurried.notified());
        let mut draining = false;
        let mut end = pin!(sleep_until(Instant::now() + limits.life));
        let mut late = pin!(sleep_until(Instant::now() + limits.life));
        let mut due = None;
        loop {
            tokio::select! {
                biased;
                ready = self.socket.ready(Interest::READABLE | Interest::ERROR) => {
                    if let Err(error) = ready.and_then(|ready| self.read(ready, &mut buffer)) {
                        return self.end(|| Err(trouble(&error)), trouble(&error));
                    }
                }
                () = &mut closed => return,
                () = &mut hurried => hurried.set(self.hurried.notified()),
                () = &mut late, if due.is_some() => self.book().hand_over(Instant::now()),
                () = &mut retired, if !draining => {
                    draining = true;
                    end.as_mut().reset(Instant::now() + limits.drain);
                }
                () = &mut end => {
                    if draining {
                        return self.end(|| Err(Trouble::Timeout), Trouble::Timeout);
                    }
                    draining = true;
                    end.as_mut().reset(Instant::now() + limits.drain);
                }
            }
            let book = self.book();
            if book.closed.is_some() || (draining && book.waiting.is_empty()) {
                drop(book);
                return self.end(|| Err(Trouble::Timeout), Trouble::Timeout);
            }
            if book.due != due {
                due = book.due;
                late.as_mut().reset(due.unwrap_or_else(Instant::now));
            }
        }
    }

    /// Takes what has come, but not for ever: the task has other things to look at.
    fn read(&self, ready: Ready, buffer: &mut [u8]) -> io::Result<()> {
        if ready.is_error() {
            // An ICMP error makes a socket ready in no other way. One that was told to a sender already must not keep it
            // so.
            let _ = self.socket.try_io(Interest::ERROR, || Err::<(), _>(ErrorKind::WouldBlock.into()));
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
        }
        for _ in 0..BATCH {
            match self.socket.try_recv_from(buffer) {
                Ok((length, source)) => self.take(&buffer[..length], source),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives a datagram to whom it belongs.
    fn take(&self, wire: &[u8], source: SocketAddr) {
        // The kernel filters by source once connected, but not what arrived before that.
        if (source.ip(), source.port()) != (self.upstream.ip(), self.upstream.port()) {
            return self.wrong(self.book(), Reject::Source);
        }
        let mut book = self.book();
        let Some(id) = wire.first_chunk().map(|id| u16::from_be_bytes(*id)) else {
            return self.wrong(book, Reject::Malformed);
        };
        let Entry::Occupied(waiting) = book.waiting.entry(id) else { return self.wrong(book, Reject::Id) };
        let outcome = match waiting.get().sent().check(id, wire) {
            Checked::Whole(message) => Some(message),
            Checked::Truncated => None,
            Checked::Wrong(Reject::Malformed) if wire.len() == ROOM => None,
            Checked::Wrong(reason) => return self.wrong(book, reason),
        };
        let waiting = waiting.remove();
        drop(book);
        self.health.heard();
        waiting.give(Ok(outcome));
    }

    fn wrong(&self, mut book: MutexGuard<'_, Book>, reason: Reject) {
        self.stats.rejected(reason);
        let now = Instant::now();
        if now >= book.wrong.1 + Duration::from_secs(1) {
            book.wrong = (0, now);
        }
        book.wrong.0 += 1;
        if book.wrong.0 < WRONG {
            return;
        }
        drop(book);
        tracing::debug!(upstream = %self.upstream, "too many wrong messages on a socket; its questions go over TCP");
        self.end(|| Ok(None), Trouble::Failed);
    }
}

/// A socket on a random port, connected.
pub(in super::super) fn connected(upstream: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = StdSocket::bind((any, 0))?;
    socket.connect(upstream)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
