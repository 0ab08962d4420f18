//! The thread that takes what upstreams send over UDP, from all sockets, and passes it on.
//!
//! Answers come in bunches. One wake-up takes all that have come on all sockets, one system call all of one socket; and
//! nothing else waits for this thread or makes it wait: it shares no runtime with watches, the admin side and TCP.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::time::Instant;

use super::port::Port;
use crate::dns::forward::Trouble;
use crate::dns::listen::mmsg::Batch;
use crate::dns::listen::outbox::together;

/// Sockets looked at in one wake-up.
const EVENTS: usize = 64;
/// The key of the bell; ports have smaller ones.
const BELL: u64 = u64::MAX;
/// Nothing is due.
const NEVER: u64 = u64::MAX;

/// Starts the thread when the first socket is there, and ends it when dropped; what then waits gets no answer.
#[derive(Debug, Default)]
pub(in crate::dns::forward) struct Receiver(Mutex<Option<Arc<Desk>>>);

/// What the thread and those who open sockets share.
#[derive(Debug)]
pub(super) struct Desk {
    epoll: Epoll,
    bell: EventFd,
    base: Instant,
    /// When some port has to be looked at, whatever comes: microseconds since `base`.
    due: AtomicU64,
    ended: AtomicBool,
    ports: Mutex<Ports>,
}

#[derive(Debug, Default)]
struct Ports {
    open: HashMap<u64, Arc<Port>, foldhash::fast::RandomState>,
    next: u64,
}

impl Receiver {
    pub(super) fn desk(&self) -> io::Result<Arc<Desk>> {
        let mut desk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*desk {
            Some(desk) => Ok(Arc::clone(desk)),
            None => Ok(Arc::clone(desk.insert(Desk::start()?))),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(desk) = self.0.get_mut().unwrap_or_else(PoisonError::into_inner) {
            desk.ended.store(true, SeqCst);
            desk.ring();
        }
    }
}

impl Desk {
    fn start() -> io::Result<Arc<Self>> {
        let desk = Arc::new(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            bell: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            base: Instant::now(),
            due: AtomicU64::new(NEVER),
            ended: AtomicBool::new(false),
            ports: Mutex::default(),
        });
        desk.epoll.add(&desk.bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        let shared = Arc::clone(&desk);
        thread::Builder::new().name("upstreams".into()).spawn(move || shared.run())?;
        Ok(desk)
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives for a port from now on, until it has nothing to wait for any more.
    pub(super) fn add(&self, port: &Arc<Port>) -> io::Result<()> {
        let mut ports = self.ports();
        let key = ports.next;
        // Told once of what comes: whoever is told takes all that is there.
        let wanted = EpollFlags::EPOLLIN | EpollFlags::EPOLLERR | EpollFlags::EPOLLET;
        self.epoll.add(port.socket(), EpollEvent::new(wanted, key))?;
        ports.next += 1;
        ports.open.insert(key, Arc::clone(port));
        Ok(())
    }

    /// Some port has to be looked at then.
    pub(super) fn due(&self, at: Instant) {
        let at = self.stamp(at);
        if self.due.fetch_min(at, SeqCst) > at {
            self.ring();
        }
    }

    /// Rounded up, so that what is due then is due.
    fn stamp(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_micros()).map_or(NEVER - 1, |micros| micros + 1)
    }

    fn ring(&self) {
        // It cannot fail but for a bell that rings already.
        let _ = self.bell.write(1);
    }

    fn run(&self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut batch = Batch::new(false);
        while !self.ended.load(SeqCst) {
            let got = self.epoll.wait(&mut events, self.patience()).unwrap_or_default();
            together(|| events[..got].iter().for_each(|event| self.take(event.data(), &mut batch)));
            let now = Instant::now();
            if self.stamp(now) >= self.due.load(SeqCst) {
                self.look(now);
            }
        }
        self.ports().open.clear();
    }

    /// Takes what has come on a socket.
    fn take(&self, key: u64, batch: &mut Batch) {
        if key == BELL {
            let _ = self.bell.read();
            return;
        }
        let port = self.ports().open.get(&key).map(Arc::clone);
        port.into_iter().for_each(|port| self.attend(key, &port, |port| port.read(batch)));
    }

    fn patience(&self) -> EpollTimeout {
        match self.due.load(SeqCst) {
            NEVER => EpollTimeout::NONE,
            due => {
                let left = due.saturating_sub(self.stamp(Instant::now())).div_ceil(1000);
                EpollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX))
            }
        }
    }

    /// Does what is due.
    fn look(&self, now: Instant) {
        // Before looking: what comes to be due meanwhile is not missed.
        self.due.store(NEVER, SeqCst);
        let open: Vec<_> = self.ports().open.iter().map(|(key, port)| (*key, Arc::clone(port))).collect();
        for (key, port) in open {
            self.attend(key, &port, |port| port.look(now));
        }
    }

    /// Lets a port do something, which says when it is to be looked at again, if ever.
    fn attend(&self, key: u64, port: &Arc<Port>, what: impl FnOnce(&Port) -> Option<Instant>) {
        let Ok(next) = catch_unwind(AssertUnwindSafe(|| what(port))) else {
            // A panic is the loss of this socket, not of all.
            port.close(Trouble::Failed);
            return self.remove(key, port);
        };
        match next {
            Some(next) => drop(self.due.fetch_min(self.stamp(next), SeqCst)),
            None => self.remove(key, port),
        }
    }

    fn remove(&self, key: u64, port: &Port) {
        let _ = self.epoll.delete(port.socket().as_fd());
        self.ports().open.remove(&key);
    }
}
