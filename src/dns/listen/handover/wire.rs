//! What an old and a new process tell each other: one message per packet of a SOCK_SEQPACKET socket, with descriptors.
//!
//! ```text
//! old -> new   offer ADDRESS COUNT   with the Unix listener and the TCP listener; COUNT UDP sockets follow
//!              sockets               the next of them, in the order of their numbers in the group
//!              leave                 I stop reading: begin, whatever you still wait for
//!              connection            with a TCP connection, and the octets of it that are no complete query yet
//! new -> old   serving               I read these sockets now
//! ```
//!
//! Each begins with [`VERSION`]. Whoever gets anything else goes its way without the other.

#![expect(unsafe_code, reason = "descriptors that the kernel has just made are taken as owned")]

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The first words of every message. Another number is another language.
const VERSION: &str = "segdns 1 ";
/// Descriptors of a message; the kernel takes 253 (SCM_MAX_FD).
pub(super) const TOGETHER: usize = 128;
/// The longest message: more than a connection keeps of what was received, and less than the kernel's default send buffer.
const OCTETS: usize = 160 << 10;

/// A message; its descriptors travel beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Offer { address: SocketAddr, udp: usize },
    Sockets,
    Leave,
    Connection(Vec<u8>),
    Serving,
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let head = match self {
            Self::Offer { address, udp } => format!("{VERSION}offer {address} {udp}"),
            Self::Sockets => format!("{VERSION}sockets"),
            Self::Leave => format!("{VERSION}leave"),
            Self::Connection(_) => format!("{VERSION}connection\n"),
            Self::Serving => format!("{VERSION}serving"),
        };
        let octets = if let Self::Connection(input) = self { input.as_slice() } else { &[] };
        [head.as_bytes(), octets].concat()
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let rest = octets.strip_prefix(VERSION.as_bytes())?;
        if let Some(input) = rest.strip_prefix(b"connection\n") {
            return Some(Self::Connection(input.to_vec()));
        }
        let words: Vec<&str> = str::from_utf8(rest).ok()?.split(' ').collect();
        match words[..] {
            ["offer", address, udp] => Some(Self::Offer { address: address.parse().ok()?, udp: udp.parse().ok()? }),
            ["sockets"] => Some(Self::Sockets),
            ["leave"] => Some(Self::Leave),
            ["serving"] => Some(Self::Serving),
            _ => None,
        }
    }
}

/// The connection to another process. It does not block.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Link {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Sends a message at once or not at all; the descriptors stay open here.
    ///
    /// # Errors
    /// The other is gone; or `WouldBlock`, as long as it has not read what was sent before.
    pub(super) fn send(&self, message: &Message, with: &[BorrowedFd<'_>]) -> io::Result<()> {
        let descriptors: Vec<RawFd> = with.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights };
        let octets = message.encode();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &[IoSlice::new(&octets)], rights, flags, None)?;
        Ok(())
    }

    /// The next message, with its descriptors; `None` if the other has closed, or died.
    ///
    /// # Errors
    /// `WouldBlock` if there is none yet, and `InvalidData` for one that is not understood.
    pub(super) fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; OCTETS];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let mut control = cmsg_space!([RawFd; 253]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let got = recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for control in got.cmsgs()? {
            if let ControlMessageOwned::ScmRights(all) = control {
                // SAFETY: the kernel has just put these descriptors into this process, and nobody else knows of them.
                descriptors.extend(all.into_iter().map(|one| unsafe { OwnedFd::from_raw_fd(one) }));
            }
        }
        let (length, cut) = (got.bytes, got.flags.contains(MsgFlags::MSG_TRUNC));
        if length == 0 {
            return Ok(None);
        }
        match Message::decode(&buffer[..length]).filter(|_| !cut) {
            Some(message) => Ok(Some((message, descriptors))),
            None => Err(ErrorKind::InvalidData.into()),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (Link, Link) {
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Link::new(one), Link::new(other))
    }

    #[test]
    fn what_is_said_is_heard_with_its_descriptors() {
        let (one, other) = pair();
        assert_eq!(other.receive().unwrap_err().kind(), ErrorKind::WouldBlock);
        let messages = [
            Message::Offer { address: "[::1]:53".parse().unwrap(), udp: 4 },
            Message::Sockets,
            Message::Leave,
            Message::Connection(b"\0\x05ab\n".to_vec()),
            Message::Connection(Vec::new()),
            Message::Connection(vec![7; 100 << 10]),
            Message::Serving,
        ];
        for (count, message) in messages.into_iter().enumerate() {
            one.send(&message, &vec![one.as_fd(); count]).unwrap();
            let (heard, descriptors) = other.receive().unwrap().unwrap();
            assert_eq!((heard, descriptors.len()), (message, count));
        }
        drop(one);
        assert!(other.receive().unwrap().is_none());
        assert!(other.send(&Message::Leave, &[]).is_err());
    }

    #[test]
    fn another_language_is_not_understood() {
        let lines: [&[u8]; 7] = [
            b"segdns 2 serving",
            b"segdns 1 offer",
            b"segdns 1 offer 127.0.0.1 4",
            b"segdns 1 offer 127.0.0.1:53 -1",
            b"segdns 1 serving ",
            b"segdns 1 \xff",
            b"GET / HTTP/1.1",
        ];
        for line in lines {
            let (one, other) = pair();
            nix::unistd::write(&one, line).unwrap();
            let error = other.receive().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{}", line.escape_ascii());
        }
    }
}
