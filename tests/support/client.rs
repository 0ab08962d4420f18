//! A client that asks from an address of its choice.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use socket2::{Domain, Socket, Type};

use super::netns::Pods;
use super::wire;

/// How long an answer may take; longer than the server's own limit of 4 s (R23).
const TIMEOUT: Duration = Duration::from_secs(6);

/// How often it is asked until an answer is as wanted.
const LOOK: Duration = Duration::from_millis(5);

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// One datagram.
    Udp,
    /// A connection of its own.
    Tcp,
}

/// Asks questions; with network namespaces, also from addresses that are not the node's own.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Where callers outside 127.0.0.0/8 live.
    pub pods: Option<Arc<Pods>>,
}

impl Client {
    /// Sends one message from `src` to `dst` and returns the answer. The socket is connected, so that an answer from any
    /// other address than the one that was asked does not arrive (R24).
    ///
    /// # Errors
    /// Whatever the sockets say; a missing answer is a timeout.
    pub fn ask(&self, src: IpAddr, dst: SocketAddr, proto: Proto, wire: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.socket(src, proto)?;
        if proto == Proto::Tcp {
            socket.set_reuse_address(true)?;
        }
        socket.bind(&SocketAddr::new(src, 0).into())?;
        socket.connect_timeout(&dst.into(), TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        if proto == Proto::Tcp {
            let mut stream = TcpStream::from(socket);
            write_framed(&mut stream, wire)?;
            return read_framed(&mut stream);
        }
        let socket = UdpSocket::from(socket);
        socket.send(wire)?;
        let mut answer = vec![0; 65_535];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }

    /// Response code and addresses, in order, of one question for A over UDP with EDNS.
    ///
    /// # Panics
    /// There is no answer, or none that can be read.
    #[must_use]
    pub fn addresses(&self, src: IpAddr, dst: SocketAddr, name: &str) -> (u8, Vec<String>) {
        let answer = self.ask(src, dst, Proto::Udp, &wire::query(next_id(), name, 1, true)).expect("an answer");
        let message = Message::from_vec(&answer).expect("a message");
        let mut all: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
        all.sort_unstable();
        (answer[3] & 15, all)
    }

    /// Waits until this is answered, at most so long.
    ///
    /// # Panics
    /// It is not in time.
    pub fn until(&self, src: IpAddr, dst: SocketAddr, name: &str, want: (u8, &[&str]), limit: Duration) {
        let end = Instant::now() + limit;
        loop {
            let (code, addresses) = self.addresses(src, dst, name);
            if code == want.0 && addresses == want.1 {
                return;
            }
            assert!(Instant::now() < end, "{name} from {src}: {code} {addresses:?} after {limit:?}, not {want:?}");
            std::thread::sleep(LOOK);
        }
    }

    fn socket(&self, src: IpAddr, proto: Proto) -> io::Result<Socket> {
        let kind = if proto == Proto::Tcp { Type::STREAM } else { Type::DGRAM };
        let make = move || Socket::new(Domain::for_address(SocketAddr::new(src, 0)), kind, None);
        match &self.pods {
            Some(pods) if !src.is_loopback() => pods.inside(make)?,
            _ => make(),
        }
    }
}

/// A fresh query ID.
#[must_use]
pub fn next_id() -> u16 {
    static LAST: AtomicU16 = AtomicU16::new(0x1000);
    LAST.fetch_add(0x2f1d, Ordering::Relaxed)
}

/// Writes a message with its length before it, as TCP wants it.
///
/// # Errors
/// The stream's.
pub fn write_framed(stream: &mut impl Write, wire: &[u8]) -> io::Result<()> {
    let length = u16::try_from(wire.len()).map_err(io::Error::other)?.to_be_bytes();
    stream.write_all(&[&length, wire].concat())
}

/// Reads one message with its length before it.
///
/// # Errors
/// The stream's.
pub fn read_framed(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut wire = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut wire)?;
    Ok(wire)
}
