//! One question over UDP: a socket of its own, on a port that the kernel picks at random.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::query::{Checked, Sent};
use super::stats::{Reject, Stats};
use super::{Message, Trouble};

/// Above what we offer; a datagram that fills it is taken as truncated.
const LONGEST: usize = 4096;

/// Asks and waits for the answer, for ever: the caller sets the time. `None`: the answer is truncated, ask over TCP.
///
/// # Errors
/// [`Trouble::Refused`] at once if nobody listens there, [`Trouble::Failed`] for any other error of the socket.
pub(super) async fn ask(upstream: SocketAddr, sent: &Sent, stats: &Stats) -> Result<Option<Message>, Trouble> {
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(trouble)?;
    socket.connect(upstream).await.map_err(trouble)?;
    socket.send(sent.wire()).await.map_err(trouble)?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, source) = socket.recv_from(&mut buffer).await.map_err(trouble)?;
        // The kernel filters by source once connected, but not what arrived between bind and connect.
        let checked = if (source.ip(), source.port()) == (upstream.ip(), upstream.port()) {
            sent.check(&buffer[..length])
        } else {
            Checked::Wrong(Reject::Source)
        };
        match checked {
            Checked::Whole(message) => return Ok(Some(message)),
            Checked::Truncated => return Ok(None),
            Checked::Wrong(Reject::Malformed) if length == LONGEST => return Ok(None),
            Checked::Wrong(reason) => stats.rejected(reason),
        }
    }
}

/// An error of a socket, in the forwarder's words.
pub(super) fn trouble(error: io::Error) -> Trouble {
    if error.kind() == io::ErrorKind::ConnectionRefused { Trouble::Refused } else { Trouble::Failed }
}
