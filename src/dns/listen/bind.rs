//! Opening the sockets of one address: UDP sockets for the workers and one TCP listener.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::{ListenError, Transport};

/// Asked for each UDP socket and direction, in octets; the kernel grants at most `net.core.{r,w}mem_max`.
const UDP_BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often a free port is looked for that is free for UDP and TCP alike.
const PORT_ATTEMPTS: usize = 16;

/// All sockets of one address.
pub(super) struct Bound {
    /// The address with the port that was really given.
    pub(super) address: SocketAddr,
    /// In the order of their numbers in the group.
    pub(super) udp: Vec<Socket>,
    /// Non-blocking, listening.
    pub(super) tcp: TcpListener,
}

/// Opens the sockets of an address, so many for UDP. Port 0 takes a port that is free for both transports.
///
/// # Errors
/// [`ListenError`] names the address and what to do about it.
pub(super) fn bind(asked: SocketAddr, count: usize) -> Result<Bound, ListenError> {
    let mut attempt = 1;
    loop {
        match bind_once(asked, count) {
            Err(ListenError::InUse { .. }) if asked.port() == 0 && attempt < PORT_ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}

fn bind_once(asked: SocketAddr, count: usize) -> Result<Bound, ListenError> {
    let udp_error = |address| move |source| ListenError::new(Transport::Udp, address, source);
    let first = udp(asked).map_err(udp_error(asked))?;
    let address = first.local_addr().and_then(internet).map_err(udp_error(asked))?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(udp(address).map_err(udp_error(address))?);
    }
    let tcp = tcp(address).map_err(|source| ListenError::new(Transport::Tcp, address, source))?;
    Ok(Bound { address, udp: sockets, tcp })
}

fn internet(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| ErrorKind::InvalidData.into())
}

/// A blocking UDP socket of a SO_REUSEPORT group.
pub(super) fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel may give a port of somebody else's group to a socket that is willing to share: to be given a port
    // of its own, it becomes willing only afterwards.
    if address.port() == 0 {
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
    } else {
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
    }
    // A smaller buffer is no reason not to serve.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    Ok(socket)
}

/// Makes a UDP socket deaf to new datagrams, so that it can be read to its end: connected to itself it takes them from nobody
/// else, and their senders are told that nobody listens. Answers can still be sent.
pub(super) fn close_to_strangers(socket: &Socket, address: SocketAddr) {
    // One that goes on listening is closed later, that is all.
    let _ = socket.connect(&address.into());
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn refusal(address: SocketAddr) -> String {
        bind(address, 1).err().expect("the address is held").to_string()
    }

    #[test]
    fn a_port_that_a_foreign_program_holds_is_named() {
        let foreign = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = foreign.local_addr().unwrap();
        assert_eq!(refusal(address), format!("address in use: another program holds UDP {address}"));

        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = foreign.local_addr().unwrap();
        assert_eq!(refusal(address), format!("address in use: another program holds TCP {address}"));
    }

    #[test]
    fn an_address_that_the_node_lacks_is_named() {
        let text = refusal("192.0.2.1:0".parse().unwrap());
        assert_eq!(text, "cannot listen on UDP 192.0.2.1:0: no interface of this node has the address 192.0.2.1");
    }

    #[test]
    fn port_zero_gives_all_sockets_one_port() {
        let bound = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_ne!(bound.address.port(), 0);
        assert_eq!(bound.tcp.local_addr().unwrap(), bound.address);
        for socket in &bound.udp {
            assert_eq!(socket.local_addr().unwrap().as_socket(), Some(bound.address));
        }
    }
}
