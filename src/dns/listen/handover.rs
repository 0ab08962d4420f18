//! Sockets handed over from an old process to a new one, so that an upgrade loses nothing: a socket that is never closed
//! keeps its queue, and every TCP connection that waits to be accepted.
//!
//! ```text
//! wire      what the two say
//! inherit   the newcomer asks, and checks what it gets
//! Door      a thread: hands over to whoever asks, and hears of what becomes of both sides
//! ```
//!
//! Each address has an abstract Unix socket where a newcomer asks; its name is in the network namespace, which all processes
//! of the host network share. Only the own user's processes, or root's, are given anything, and believed. The order of events:
//!
//! 1. The newcomer asks and gets all sockets, which it does not read yet. The old one goes on as if nothing had happened.
//! 2. The newcomer is ready, and reads. From now on both do, which harms nobody, and the newcomer opens the door to the next.
//! 3. The old one is told to end. It stops reading at once, answers what it has read, and gives its TCP connections away.
//!
//! A newcomer that dies changes nothing at any time. If the old one dies or leaves, the newcomer reads at once, ready or not:
//! a late answer, or SERVFAIL, is better than none.

#![expect(unsafe_code, reason = "a descriptor that the kernel has just made is taken as owned")]

mod inherit;
mod wire;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen, socket, sockopt,
};
use nix::unistd::{Uid, geteuid};
use socket2::Socket;
use tokio::sync::watch;

pub(super) use inherit::{Ours, inherit};
use wire::{Link, Message, TOGETHER};

/// Newcomers of one address at a time.
const HEIRS: usize = 8;
/// How often a door that somebody else holds is tried again: a process that gave us nothing will end some time.
const AGAIN: Duration = Duration::from_secs(1);
/// The pause after a newcomer that could not be let in.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The name of an address's door.
fn name(address: SocketAddr) -> String {
    format!("segdns/hand-over/{address}")
}

fn unix_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// Whether the other end is of the own user, or root's; else whose it is.
fn is_trusted(socket: &OwnedFd) -> io::Result<Result<(), String>> {
    let user = Uid::from_raw(getsockopt(socket, sockopt::PeerCredentials)?.uid());
    Ok(if user == geteuid() || user.is_root() { Ok(()) } else { Err(format!("UID {user}")) })
}

/// Who has the sockets of an address besides this process.
#[derive(Debug, Default)]
pub(super) struct Succession {
    kin: Mutex<Kin>,
    /// As it was last known, cheap to be read.
    taken: AtomicBool,
    /// A newcomer has had them, and may have them still.
    given: AtomicBool,
}

#[derive(Debug, Default)]
struct Kin {
    predecessor: Option<Arc<Link>>,
    heirs: Vec<Heir>,
}

#[derive(Debug)]
struct Heir {
    link: Arc<Link>,
    serves: bool,
}

impl Succession {
    fn kin(&self) -> MutexGuard<'_, Kin> {
        self.kin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another process reads the same sockets, and goes on when this one stops.
    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(SeqCst)
    }

    /// Another process may have the same sockets: nothing may be done to them that it would notice. An old one that is gone
    /// has none, and a newcomer that is not heard of any more may go on.
    pub(super) fn is_shared(&self) -> bool {
        self.given.load(SeqCst) || self.kin().predecessor.is_some()
    }

    /// Says to the old process that this one serves.
    pub(super) fn tell_serving(&self) {
        if let Some(link) = &self.kin().predecessor {
            // One that is gone need not know.
            let _ = link.send(&Message::Serving, &[]);
        }
    }

    /// Says to all newcomers that this process stops reading; whoever hears it serves from now on.
    pub(super) fn leave(&self) {
        let mut kin = self.kin();
        kin.heirs.retain(|heir| heir.link.send(&Message::Leave, &[]).is_ok());
        self.taken.store(!kin.heirs.is_empty(), SeqCst);
    }

    /// Gives a connection away, with what of its octets was received and not taken up. The own one may then be closed: the
    /// client does not notice.
    ///
    /// # Errors
    /// `WouldBlock` if it has to be tried again soon; anything else if nobody takes it.
    pub(super) fn give(&self, connection: BorrowedFd<'_>, input: &[u8]) -> io::Result<()> {
        let kin = self.kin();
        // The youngest, which is the last of those that serve, will be there for the longest time.
        let heir = kin.heirs.iter().max_by_key(|heir| heir.serves).ok_or(ErrorKind::NotConnected)?;
        heir.link.send(&Message::Connection(input.to_vec()), &[connection])
    }
}

/// What the door thread needs of an address.
pub(super) trait Place: Send + Sync {
    /// Where it is.
    fn address(&self) -> SocketAddr;
    /// Who else has its sockets.
    fn succession(&self) -> &Arc<Succession>;
    /// Whether it reads them.
    fn serves(&self) -> bool;
    /// What is handed over: the UDP sockets in order, and the TCP listener. `None` before it serves.
    fn sockets(&self) -> Option<(Vec<Arc<Socket>>, OwnedFd)>;
    /// Reads from now on, if it did not before.
    fn begin(&self);
    /// Takes over a connection, with octets of it that were received already.
    fn adopt(&self, connection: TcpStream, input: Vec<u8>);
    /// The old process is gone.
    fn inherited_all(&self);
    /// A newcomer reads the same sockets (`true`), or none does any more.
    fn shares(&self, with_newcomer: bool);
}

/// The running thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Door {
    wake: Arc<EventFd>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    succeeded: watch::Receiver<bool>,
}

impl Door {
    /// Starts it for these addresses, each with its socket and old process if it was inherited.
    ///
    /// # Errors
    /// The system grants no thread or no descriptor.
    pub(super) fn open(places: Vec<(Arc<dyn Place>, Option<Ours>)>) -> io::Result<Self> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let over = Arc::new(AtomicBool::new(false));
        let (say, succeeded) = watch::channel(false);
        let mut held: Vec<Held> = places.into_iter().map(|(place, inherited)| Held::new(place, inherited)).collect();
        // Whoever finds the addresses served finds the doors open.
        held.iter_mut().for_each(Held::open);
        let porter = Porter { held, wake: Arc::clone(&wake), over: Arc::clone(&over), say };
        let thread = thread::Builder::new().name("hand-over".into()).spawn(move || porter.run())?;
        Ok(Self { wake, over, thread: Some(thread), succeeded })
    }

    /// Something has changed that the thread has to look at.
    pub(super) fn look(&self) {
        // It fails only if the thread has been told more often than can be counted.
        let _ = self.wake.write(1);
    }

    /// Whether other processes read the sockets of all addresses, so that nobody misses this one.
    pub(super) fn succeeded(&self) -> watch::Receiver<bool> {
        self.succeeded.clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        self.look();
        // Whoever asked before has got everything then, and nobody does after.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// An address at the door.
struct Held {
    place: Arc<dyn Place>,
    door: Option<OwnedFd>,
    /// The door is somebody else's, which was said.
    said: bool,
}

impl Held {
    fn new(place: Arc<dyn Place>, inherited: Option<Ours>) -> Self {
        let (door, link) = inherited.map(|Ours { door, link }| (door, link)).unzip();
        place.succession().kin().predecessor = link.map(Arc::new);
        Self { place, door, said: false }
    }

    /// Opens the door, if nobody holds it.
    fn open(&mut self) {
        if self.door.is_some() || !self.place.serves() {
            return;
        }
        let address = self.place.address();
        let open = || {
            let door = unix_socket()?;
            bind(door.as_raw_fd(), &UnixAddr::new_abstract(name(address).as_bytes())?)?;
            listen(&door, Backlog::new(16)?)?;
            Ok::<_, Errno>(door)
        };
        match open() {
            Ok(door) => self.door = Some(door),
            Err(_) if self.said => {}
            Err(error) => {
                self.said = true;
                tracing::warn!(
                    %address, why = %io::Error::from(error),
                    "the next process cannot ask for the sockets of this address yet, because another one is asked there; tried \
                     again each second"
                );
            }
        }
    }

    /// A newcomer may ask; not while another serves, which is asked then.
    fn is_open(&self) -> bool {
        self.place.serves() && !self.place.succession().is_taken()
    }

    fn ask_in(&self) {
        let Some(door) = &self.door else { return };
        let socket = match accept4(door.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            Ok(socket) => socket,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return,
            // The system is out of descriptors or memory. Who asks stays at the door, so that trying again at once would spin.
            Err(_) => return thread::sleep(ACCEPT_PAUSE),
        };
        // SAFETY: the descriptor was made by this call, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let address = self.place.address();
        match is_trusted(&socket) {
            Ok(Ok(())) => {}
            Ok(Err(who)) => {
                tracing::warn!(%address, %who, "another user's process asked for the sockets of this address, and got none");
                return;
            }
            Err(error) => {
                tracing::warn!(%address, %error, "who asks for the sockets of this address cannot be found out");
                return;
            }
        }
        let link = Link::new(socket);
        if let Err(error) = self.offer(&link) {
            tracing::warn!(%address, %error, "the sockets of this address could not be handed over");
            return;
        }
        tracing::info!(%address, "a new process has the sockets of this address too, and will serve when it is ready");
        let succession = self.place.succession();
        succession.given.store(true, SeqCst);
        succession.kin().heirs.push(Heir { link: Arc::new(link), serves: false });
    }

    fn offer(&self, link: &Link) -> io::Result<()> {
        let succession = self.place.succession();
        if succession.kin().heirs.len() >= HEIRS {
            return Err(io::Error::other("too many have them already"));
        }
        let (Some((udp, tcp)), Some(door)) = (self.place.sockets(), &self.door) else {
            return Err(ErrorKind::NotConnected.into());
        };
        let offer = Message::Offer { address: self.place.address(), udp: udp.len() };
        link.send(&offer, &[door.as_fd(), tcp.as_fd()])?;
        for some in udp.chunks(TOGETHER) {
            let some: Vec<_> = some.iter().map(|socket| socket.as_fd()).collect();
            link.send(&Message::Sockets, &some)?;
        }
        Ok(())
    }

    /// Another process reads the sockets: the newcomer, or still the old one.
    fn is_not_missed(&self) -> bool {
        self.place.succession().is_taken() || !self.place.serves()
    }

    /// Hears the old process, if it says something. Its end may come without a word.
    fn hear_predecessor(&self, link: &Arc<Link>) -> bool {
        let place = &self.place;
        match link.receive() {
            Ok(Some((Message::Leave, _))) => place.begin(),
            Ok(Some((Message::Connection(input), connections))) => {
                connections.into_iter().take(1).for_each(|one| place.adopt(one.into(), input.clone()));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return false,
            Ok(Some(_) | None) | Err(_) => {
                place.succession().kin().predecessor = None;
                place.begin();
                place.inherited_all();
                return false;
            }
        }
        true
    }

    fn hear_heir(&self, link: &Arc<Link>) {
        let (address, succession) = (self.place.address(), self.place.succession());
        let mut kin = succession.kin();
        let serves = match link.receive() {
            Ok(Some((Message::Serving, _))) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Ok(Some(_) | None) | Err(_) => false,
        };
        let its = |heir: &Heir| Arc::ptr_eq(&heir.link, link);
        if serves {
            kin.heirs.iter_mut().filter(|heir| its(heir)).for_each(|heir| heir.serves = true);
            tracing::info!(%address, "the new process serves this address too");
        } else {
            kin.heirs.retain(|heir| !its(heir));
            tracing::warn!(%address, "the new process has ended, or given up; this one goes on");
        }
        let (before, now) = (succession.is_taken(), kin.heirs.iter().any(|heir| heir.serves));
        succession.taken.store(now, SeqCst);
        drop(kin);
        if before != now {
            self.place.shares(now);
        }
    }
}

/// Whom a descriptor that has something to say belongs to: an address by its place, and who of it.
enum Who {
    Wake,
    Asks(usize),
    Predecessor(usize, Arc<Link>),
    Heir(usize, Arc<Link>),
}

/// The thread's own.
struct Porter {
    held: Vec<Held>,
    wake: Arc<EventFd>,
    over: Arc<AtomicBool>,
    say: watch::Sender<bool>,
}

impl Porter {
    fn run(mut self) {
        while !self.over.load(SeqCst) {
            self.held.iter_mut().for_each(Held::open);
            let all = self.held.iter().all(Held::is_not_missed);
            self.say.send_if_modified(|said| std::mem::replace(said, all) != all);
            for who in self.wait() {
                match who {
                    Who::Wake => drop(self.wake.read()),
                    Who::Asks(at) => self.held[at].ask_in(),
                    Who::Predecessor(at, link) => drop(self.held[at].hear_predecessor(&link)),
                    Who::Heir(at, link) => self.held[at].hear_heir(&link),
                }
            }
        }
        // What the old process has given away is nobody else's.
        for held in &self.held {
            let predecessor = held.place.succession().kin().predecessor.clone();
            while predecessor.as_ref().is_some_and(|link| held.hear_predecessor(link)) {}
        }
    }

    /// Everybody who has something to say, as soon as there is one.
    fn wait(&self) -> Vec<Who> {
        let mut all = vec![Who::Wake];
        for (at, held) in self.held.iter().enumerate() {
            let kin = held.place.succession().kin();
            all.extend(kin.predecessor.iter().map(|link| Who::Predecessor(at, Arc::clone(link))));
            all.extend(kin.heirs.iter().map(|heir| Who::Heir(at, Arc::clone(&heir.link))));
            drop(kin);
            if held.door.is_some() && held.is_open() {
                all.push(Who::Asks(at));
            }
        }
        let mut descriptors: Vec<PollFd<'_>> = all.iter().map(|who| self.descriptor(who)).collect();
        let is_shut = |held: &Held| held.door.is_none() && held.place.serves();
        let wait = if self.held.iter().any(is_shut) {
            PollTimeout::try_from(AGAIN).unwrap_or(PollTimeout::MAX)
        } else {
            PollTimeout::NONE
        };
        if poll(&mut descriptors, wait).is_err() {
            return Vec::new();
        }
        let ready: Vec<bool> = descriptors.iter().map(|one| one.any().unwrap_or(true)).collect();
        all.into_iter().zip(ready).filter_map(|(who, ready)| ready.then_some(who)).collect()
    }

    fn descriptor<'a>(&'a self, who: &'a Who) -> PollFd<'a> {
        let descriptor = match who {
            Who::Wake => self.wake.as_fd(),
            Who::Predecessor(_, link) | Who::Heir(_, link) => link.as_fd(),
            Who::Asks(at) => self.held[*at].door.as_ref().map_or_else(|| self.wake.as_fd(), AsFd::as_fd),
        };
        PollFd::new(descriptor, PollFlags::POLLIN)
    }
}
