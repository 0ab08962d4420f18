//! One connected socket, and those who wait on it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, ErrorKind};
use std::iter::Peekable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use socket2::Socket;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::super::errand::{Errand, Many};
use super::super::health::Health;
use super::super::query::{Checked, LONGEST, Sent};
use super::super::stats::{Reject, Stats};
use super::super::{Message, Trouble, trouble};
use super::receive::Desk;
use super::{Limits, Outcome};
use crate::dns::listen::mmsg::{Batch, QUERY_OCTETS, SLOTS, send_all};

/// Wrong messages within a second that make a socket untrustworthy: 100 guesses hit one of 65,536 IDs rarely.
const WRONG: u32 = 100;
/// Octets for the questions of one batch; more if they need more.
const ROOM: usize = 2048;
/// Octets that the kernel keeps of answers until they are taken: all that one socket waits for, and more.
const BUFFER: usize = 1 << 20;
/// How long a socket is used beyond its time when there is no other; it is asked again then.
const LONGER: Duration = Duration::from_secs(1);
/// Until a datagram is tried again that the kernel had no room for.
const NO_ROOM: Duration = Duration::from_millis(1);

/// See the module's page.
#[derive(Debug)]
pub(super) struct Port {
    socket: Socket,
    upstream: SocketAddr,
    limits: Limits,
    stats: Arc<Stats>,
    health: Arc<Health>,
    book: Mutex<Book>,
    desk: Arc<Desk>,
    /// Where tasks take up what does not go by itself.
    runtime: Handle,
}

#[derive(Debug)]
struct Book {
    waiting: HashMap<u16, Waiting, RandomState>,
    used: u32,
    /// When it ends to take questions, or, once it is draining, to wait for answers.
    end: Instant,
    draining: bool,
    /// Has to drain.
    retired: bool,
    /// What whoever comes too late gets; nothing waits any more.
    closed: Option<Trouble>,
    /// Wrong messages since then.
    wrong: (u32, Instant),
    /// When an errand will have waited for too long; `None` while there is none.
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

    fn errand(self) -> Option<Box<Errand>> {
        match self {
            Self::Errand(errand) => Some(errand),
            Self::Task(..) => None,
        }
    }

    fn give(self, outcome: Outcome, now: Instant) {
        match self {
            // Askers that have gone away since are no error.
            Self::Task(_, answer) => drop(answer.send(outcome)),
            Self::Errand(errand) => errand.arrive(outcome, now),
        }
    }
}

impl Book {
    fn takes_more(&self, now: Instant, limits: &Limits) -> bool {
        self.closed.is_none() && !self.draining && self.used < limits.questions && now < self.end
    }

    /// Gives it a free ID.
    fn enlist(&mut self, one: Waiting) -> u16 {
        self.used += 1;
        loop {
            let id = rand::random();
            if let Entry::Vacant(free) = self.waiting.entry(id) {
                free.insert(one);
                return id;
            }
        }
    }

    /// Takes out who waits for a message.
    fn take(&mut self, wire: &[u8], from_upstream: bool) -> Result<(Waiting, Option<Message>), Reject> {
        // The kernel filters by source once connected, but not what arrived before that.
        if !from_upstream {
            return Err(Reject::Source);
        }
        let id = wire.first_chunk().map(|id| u16::from_be_bytes(*id)).ok_or(Reject::Malformed)?;
        let Entry::Occupied(waiting) = self.waiting.entry(id) else { return Err(Reject::Id) };
        let outcome = match waiting.get().sent().check(id, wire) {
            Checked::Whole(message) => Some(message),
            Checked::Truncated => None,
            // Far above what we offer; it was cut to fill the buffer.
            Checked::Wrong(Reject::Malformed) if wire.len() == QUERY_OCTETS => None,
            Checked::Wrong(reason) => return Err(reason),
        };
        Ok((waiting.remove(), outcome))
    }

    /// Notes a wrong message; whether the socket can be trusted nevertheless.
    fn trusts(&mut self, now: Instant) -> bool {
        if now >= self.wrong.1 + Duration::from_secs(1) {
            self.wrong = (0, now);
        }
        self.wrong.0 += 1;
        self.wrong.0 < WRONG
    }

    /// When to look again; `None` when that is over, as nothing is waited for any more.
    fn next(&mut self) -> Option<Instant> {
        if self.draining && self.waiting.is_empty() {
            self.closed.get_or_insert(Trouble::Timeout);
        }
        let next = self.due.map_or(self.end, |due| due.min(self.end));
        self.closed.is_none().then_some(next)
    }

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
    /// A socket on a port that the kernel picks at random. It stays open until all that waits on it has come to an end.
    pub(super) fn open(
        upstream: SocketAddr,
        limits: Limits,
        (stats, health): (&Arc<Stats>, &Arc<Health>),
        desk: Arc<Desk>,
    ) -> io::Result<Arc<Self>> {
        let socket = Socket::from(open(upstream)?);
        // The answers to whole batches come at once. A smaller buffer is no reason not to ask.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let now = Instant::now();
        let end = now + limits.life;
        let book = Mutex::new(Book {
            waiting: HashMap::default(),
            used: 0,
            end,
            draining: false,
            retired: false,
            closed: None,
            wrong: (0, now),
            due: None,
        });
        let (stats, health) = (Arc::clone(stats), Arc::clone(health));
        let port = Arc::new(Self { socket, upstream, limits, stats, health, book, desk, runtime: Handle::current() });
        port.desk.add(&port)?;
        port.desk.due(end);
        Ok(port)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether new questions may go out here.
    pub(super) fn takes_more(&self, now: Instant) -> bool {
        self.book().takes_more(now, &self.limits)
    }

    /// Whether it can be used longer than it should be, and is from now on: for so many questions again, and a second.
    pub(super) fn goes_on(&self, now: Instant) -> bool {
        let mut book = self.book();
        let can = book.closed.is_none() && !book.draining && !book.retired;
        if can {
            book.used = 0;
            book.end = book.end.max(now + LONGER);
        }
        can
    }

    /// A free ID.
    ///
    /// # Errors
    /// This socket takes no more questions.
    pub(super) fn enlist(&self, one: Waiting, now: Instant) -> Result<u16, Waiting> {
        let mut book = self.book();
        if book.takes_more(now, &self.limits) { Ok(book.enlist(one)) } else { Err(one) }
    }

    /// Sends the questions of errands in place, as many as it takes. Left are those that could not be sent.
    pub(super) fn post(&self, errands: &mut Peekable<impl Iterator<Item = Box<Errand>>>, slot: u8, left: &mut Many) {
        let (mut octets, mut posted) = (Vec::with_capacity(ROOM), Vec::with_capacity(SLOTS));
        let mut book = self.book();
        let before = book.due;
        while let Some(mut errand) = errands.next_if(|errand| book.takes_more(errand.start(), &self.limits)) {
            errand.starts_at(slot);
            let (sent, due, start) = (Arc::clone(errand.sent()), errand.due(), octets.len());
            let id = book.enlist(Waiting::Errand(errand));
            sent.write(id, &mut octets);
            posted.push((id, start..octets.len()));
            book.due = Some(book.due.map_or(due, |before| before.min(due)));
        }
        let due = book.due.filter(|due| before.is_none_or(|before| *due < before));
        drop(book);
        due.into_iter().for_each(|due| self.desk.due(due));
        let mut failed = Vec::new();
        let datagrams = posted.iter().map(|(_, range)| (None, &octets[range.clone()]));
        send_all(&self.socket, datagrams, |index, error| failed.push((posted[index].0, trouble(&error))));
        for (id, trouble) in failed {
            // A task may have taken it up since.
            let waiting = self.book().waiting.remove(&id);
            left.extend(waiting.and_then(Waiting::errand));
            if trouble == Trouble::Refused {
                self.close(trouble);
            }
        }
    }

    /// Sends in place, and waits only if the kernel has no room.
    pub(super) async fn send(&self, sent: &Sent, id: u16) -> Result<(), Trouble> {
        loop {
            match self.try_send(sent, id) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(NO_ROOM).await,
                sent => return sent.map_err(|error| trouble(&error)),
            }
        }
    }

    fn try_send(&self, sent: &Sent, id: u16) -> io::Result<()> {
        let mut datagram = [0; LONGEST];
        let length = sent.put(id, &mut datagram).ok_or(ErrorKind::InvalidInput)?;
        self.socket.send(&datagram[..length]).map(drop)
    }

    /// No new questions come: it closes when all are answered, or have waited long enough.
    pub(super) fn retire(&self) {
        self.book().retired = true;
        self.desk.due(Instant::now());
    }

    /// Ends all waiting.
    pub(super) fn close(&self, trouble: Trouble) {
        self.end(|| Err(trouble), trouble);
        self.desk.due(Instant::now());
    }

    fn end(&self, outcome: impl Fn() -> Outcome, late: Trouble) {
        let mut book = self.book();
        book.closed = Some(late);
        let waiting = std::mem::take(&mut book.waiting);
        drop(book);
        let now = Instant::now();
        waiting.into_values().for_each(|one| one.give(outcome(), now));
    }

    /// Takes all that has come. When to look at it again, if ever.
    pub(super) fn read(&self, batch: &mut Batch) -> Option<Instant> {
        let _inside = self.runtime.enter();
        loop {
            let got = match batch.receive(&self.socket, false) {
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => {
                    self.end(|| Err(trouble(&error)), trouble(&error));
                    return None;
                }
            };
            self.take(batch, got, Instant::now());
            if got < SLOTS {
                return self.book().next();
            }
        }
    }

    /// Does what is due. When to look again, if ever.
    pub(super) fn look(&self, now: Instant) -> Option<Instant> {
        let _inside = self.runtime.enter();
        let mut book = self.book();
        book.hand_over(now);
        if !book.draining && (book.retired || now >= book.end) {
            book.draining = true;
            book.end = now + self.limits.drain;
        }
        if book.draining && now >= book.end {
            drop(book);
            self.end(|| Err(Trouble::Timeout), Trouble::Timeout);
            return None;
        }
        book.next()
    }

    /// Gives datagrams to whom they belong.
    fn take(&self, batch: &mut Batch, got: usize, now: Instant) {
        let mut given = Vec::with_capacity(got);
        let mut book = self.book();
        let mut trusted = true;
        for index in 0..got {
            let Some(datagram) = batch.datagram(index) else { continue };
            let of = datagram.from;
            let ours = (of.ip(), of.port()) == (self.upstream.ip(), self.upstream.port());
            match book.take(datagram.query, ours) {
                Ok(one) => given.push(one),
                Err(reason) => {
                    self.stats.rejected(reason);
                    trusted = trusted && book.trusts(now);
                }
            }
            if !trusted {
                break;
            }
        }
        drop(book);
        if !given.is_empty() {
            self.health.heard(now);
        }
        for (waiting, outcome) in given {
            waiting.give(Ok(outcome), now);
        }
        if !trusted {
            tracing::debug!(upstream = %self.upstream, "too many wrong messages on a socket; its questions go over TCP");
            self.end(|| Ok(None), Trouble::Failed);
        }
    }
}

fn open(upstream: SocketAddr) -> io::Result<StdSocket> {
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = StdSocket::bind((any, 0))?;
    socket.connect(upstream)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket on a random port, connected, for a task.
pub(in super::super) fn connected(upstream: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::from_std(open(upstream)?)
}
