//! The newcomer's side: asking for an address's sockets, and trusting nothing that comes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{UnixAddr, connect, getsockname};
use socket2::{Socket, Type};
use thiserror::Error;

use super::super::bind::Bound;
use super::wire::{Link, Message};
use super::{is_trusted, name, unix_socket};

/// How long the old process may take to hand everything over.
const PATIENCE: Duration = Duration::from_secs(3);
/// More sockets than this are no offer of ours.
const MOST: usize = 1 << 14;

/// What of an inheritance is for the door.
#[derive(Debug)]
pub(in super::super) struct Ours {
    /// Where the next process will ask.
    pub(super) door: OwnedFd,
    /// The way to the old process.
    pub(super) link: Link,
}

/// Why what is there cannot be taken over.
#[derive(Debug, Error)]
enum Why {
    #[error("the process there runs as another user ({0})")]
    Foreign(String),
    #[error("it gives none: it is about to end, or does not trust this user")]
    Refused,
    #[error("it does not answer")]
    Silent,
    #[error("it speaks another language, of another version perhaps")]
    Language,
    #[error("what it gives is not what serves {address}: {what}")]
    Wrong { address: SocketAddr, what: &'static str },
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for Why {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// Gets the sockets of an address, which are read by another process until this one serves, and after. `None` if nobody does, or, with a warning, if they cannot be had.
pub(in super::super) fn inherit(address: SocketAddr) -> Option<(Bound, Ours)> {
    if address.port() == 0 {
        return None;
    }
    match ask(address) {
        Ok(inherited) => inherited,
        Err(why) => {
            tracing::warn!(
                %address, %why,
                "another segdns serves this address, and its sockets cannot be taken over: the address is shared with it, and \
                 queries may be lost when it ends"
            );
            None
        }
    }
}

fn ask(address: SocketAddr) -> Result<Option<(Bound, Ours)>, Why> {
    let socket = unix_socket()?;
    match connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name(address).as_bytes())?) {
        Ok(()) => {}
        Err(Errno::ECONNREFUSED) => return Ok(None),
        Err(Errno::EAGAIN) => return Err(Why::Silent),
        Err(error) => return Err(error.into()),
    }
    is_trusted(&socket)?.map_err(Why::Foreign)?;
    let link = Link::new(socket);
    let end = Instant::now() + PATIENCE;
    let (message, descriptors) = next(&link, end)?;
    let Message::Offer { address: offered, udp: count } = message else { return Err(Why::Language) };
    let wrong = |what| Why::Wrong { address, what };
    let [door, tcp] = <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| wrong("its offer has not two sockets"))?;
    if offered != address || count == 0 || count > MOST {
        return Err(wrong("its offer is of something else"));
    }
    let mut udp = Vec::new();
    while udp.len() < count {
        let (Message::Sockets, more) = next(&link, end)? else { return Err(Why::Language) };
        if more.is_empty() || udp.len() + more.len() > count {
            return Err(wrong("its sockets are not as many as it said"));
        }
        udp.extend(more.into_iter().map(Socket::from));
    }
    let tcp = Socket::from(tcp);
    check(address, &udp, &tcp, &door).map_err(wrong)?;
    Ok(Some((Bound { address, udp, tcp: tcp.into() }, Ours { door, link })))
}

fn next(link: &Link, end: Instant) -> Result<(Message, Vec<OwnedFd>), Why> {
    loop {
        match link.receive() {
            Ok(Some(got)) => return Ok(got),
            Ok(None) => return Err(Why::Refused),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                ErrorKind::InvalidData => return Err(Why::Language),
                // Closed with something unread.
                ErrorKind::ConnectionReset => return Err(Why::Refused),
                _ => return Err(error.into()),
            },
        }
        let left = end.checked_duration_since(Instant::now()).ok_or(Why::Silent)?;
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(link.as_fd(), PollFlags::POLLIN)], left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether these are the sockets of the address, as this version would have opened them.
fn check(address: SocketAddr, udp: &[Socket], tcp: &Socket, door: &OwnedFd) -> Result<(), &'static str> {
    let is_bound = |socket: &Socket| socket.local_addr().is_ok_and(|at| at.as_socket() == Some(address));
    let is_of = |socket: &Socket, kind: Type| socket.r#type().is_ok_and(|its| its == kind);
    for socket in udp {
        if !is_bound(socket) || !is_of(socket, Type::DGRAM) || !socket.reuse_port().is_ok_and(|shared| shared) {
            return Err("a UDP socket is none of this address's group");
        }
    }
    if !is_bound(tcp) || !is_of(tcp, Type::STREAM) || !tcp.is_listener().is_ok_and(|listens| listens) {
        return Err("the TCP socket does not listen there");
    }
    let at = getsockname::<UnixAddr>(door.as_raw_fd()).map_err(|_| "the Unix socket is none")?;
    if at.as_abstract() != Some(name(address).as_bytes()) {
        return Err("the Unix socket has another name");
    }
    tcp.set_nonblocking(true).map_err(|_| "the TCP socket cannot be used")?;
    Ok(())
}
