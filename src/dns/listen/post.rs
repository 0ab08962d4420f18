//! One address: its sockets, from opening or inheriting them to the end, and the threads that read them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use socket2::Socket;

use super::bind::{self, Bound};
use super::floods::Groups;
use super::handover::{Place, Succession};
use super::udp::{self, Seat};
use super::{Context, ListenError, Respond, Transport, tcp, threads};

/// An address, whoever opened its sockets.
pub(super) struct Post<R: Respond> {
    address: SocketAddr,
    workers: usize,
    /// Of its first worker thread.
    number: usize,
    /// The sockets are another process's too.
    is_inherited: bool,
    succession: Arc<Succession>,
    groups: Groups,
    state: Mutex<State>,
    /// Last, and so dropped last: who waits for the context to go may count on the sockets being gone.
    context: Arc<Context<R>>,
}

#[derive(Default)]
struct State {
    serves: bool,
    /// In the order of their numbers in the group.
    udp: Vec<Arc<Socket>>,
    tcp: Option<TcpListener>,
    all: Team,
    /// Those that read what this process has inherited and does not need.
    surplus: Team,
}

/// Threads that are told to end together.
#[derive(Default)]
struct Team {
    threads: Vec<JoinHandle<()>>,
    told: Arc<AtomicBool>,
}

impl Team {
    fn end(&mut self) {
        self.told.store(true, SeqCst);
        threads::end(std::mem::take(&mut self.threads));
    }
}

/// What a listener does with an address, whatever answers there.
pub(super) trait Posted: Place {
    /// Reads the sockets from now on, if it did not before.
    ///
    /// # Errors
    /// The system grants no thread, or TCP cannot be served.
    fn serve(&self) -> Result<(), ListenError>;
    /// Reads no more, except what nobody else would.
    fn end(&self);
    #[cfg(test)]
    fn udp(&self) -> Vec<Arc<Socket>>;
}

impl<R: Respond> Post<R> {
    /// An address whose sockets are not read yet, by as many workers as asked and as many more that sleep.
    pub(super) fn new(
        context: Arc<Context<R>>,
        bound: Bound,
        is_inherited: bool,
        workers: usize,
        place: usize,
        groups: Groups,
    ) -> Self {
        let udp = bound.udp.into_iter().map(Arc::new).collect();
        let state = State { udp, tcp: Some(bound.tcp), ..State::default() };
        Self {
            address: bound.address,
            workers,
            number: place * 2 * workers,
            is_inherited,
            succession: Arc::default(),
            groups,
            state: Mutex::new(state),
            context,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sockets are added at the end of the group, where no program that is there sends anything.
    fn complete(&self, state: &mut State) {
        while state.udp.len() < 2 * self.workers {
            match bind::udp(self.address) {
                Ok(socket) => state.udp.push(Arc::new(socket)),
                Err(error) => {
                    let (address, has) = (self.address, state.udp.len());
                    tracing::warn!(%address, %error, has, "fewer UDP sockets than workers: no more could be opened beside those inherited");
                    return;
                }
            }
        }
    }

    fn start(&self, state: &mut State) -> Result<(), ListenError> {
        let wildcard = self.address.ip().is_unspecified();
        for (place, socket) in state.udp.iter().enumerate() {
            let team = if place < 2 * self.workers { &mut state.all } else { &mut state.surplus };
            let seat = Seat {
                socket: Arc::clone(socket),
                wildcard,
                spare: place >= self.workers,
                told: Arc::clone(&team.told),
                succession: Arc::clone(&self.succession),
            };
            let thread = udp::start(Arc::clone(&self.context), seat, self.number + place);
            team.threads.push(thread.map_err(ListenError::Thread)?);
        }
        let tcp = state.tcp.as_ref().map(TcpListener::try_clone).transpose();
        let started = tcp.and_then(|tcp| match tcp {
            Some(tcp) => tcp::start(Arc::clone(&self.context), tcp, Arc::clone(&self.succession)),
            None => Ok(()),
        });
        started.map_err(|source| ListenError::new(Transport::Tcp, self.address, source))
    }
}

impl<R: Respond> Posted for Post<R> {
    fn serve(&self) -> Result<(), ListenError> {
        let mut state = self.state();
        if state.serves {
            return Ok(());
        }
        if self.is_inherited {
            self.complete(&mut state);
        }
        let can_be_steered = self.groups.add(&state.udp, self.workers, self.address);
        if !can_be_steered && !self.is_inherited {
            state.udp.truncate(self.workers);
        }
        self.start(&mut state)?;
        state.serves = true;
        drop(state);
        self.succession.tell_serving();
        Ok(())
    }

    fn end(&self) {
        self.succession.leave();
        self.groups.rest(self.address, true);
        let mut state = self.state();
        if !self.succession.is_shared() {
            state.udp.iter().for_each(|socket| bind::close_to_strangers(socket, self.address));
        }
        state.all.end();
        state.surplus.end();
        state.udp.clear();
        state.tcp = None;
    }

    #[cfg(test)]
    fn udp(&self) -> Vec<Arc<Socket>> {
        self.state().udp.clone()
    }
}

impl<R: Respond> Place for Post<R> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn succession(&self) -> &Arc<Succession> {
        &self.succession
    }

    fn serves(&self) -> bool {
        self.state().serves
    }

    fn sockets(&self) -> Option<(Vec<Arc<Socket>>, OwnedFd)> {
        let state = self.state();
        let tcp = state.tcp.as_ref().filter(|_| state.serves)?.try_clone().ok()?;
        Some((state.udp.clone(), tcp.into()))
    }

    fn begin(&self) {
        match self.serve() {
            Ok(()) => {}
            Err(error) => tracing::error!(address = %self.address, %error, "what was taken over cannot be served"),
        }
    }

    fn adopt(&self, connection: std::net::TcpStream, input: Vec<u8>) {
        // A client that has gone away in between needs nothing.
        let adopted: io::Result<()> = tcp::adopt(&self.context, &self.succession, connection, input);
        if let Err(error) = adopted {
            tracing::debug!(address = %self.address, %error, "a TCP connection was not taken over");
        }
    }

    fn inherited_all(&self) {
        let mut state = self.state();
        if state.udp.len() > 2 * self.workers {
            // The last ones go, so that the numbers of the others stay.
            state.udp.truncate(2 * self.workers);
            state.surplus.end();
        }
    }

    fn shares(&self, with_newcomer: bool) {
        self.groups.rest(self.address, with_newcomer);
    }
}
