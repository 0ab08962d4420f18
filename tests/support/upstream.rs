//! A scripted upstream over UDP and TCP that remembers what it was asked.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::Message;

use super::client::{read_framed, write_framed};
use super::wire;
use super::world::World;

/// How often its threads look whether they are to end.
const TICK: Duration = Duration::from_millis(100);

/// An upstream; it stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    world: World,
    seen: Mutex<BTreeSet<(String, u16)>>,
    count: AtomicU64,
    closing: AtomicBool,
}

impl Upstream {
    /// Listens on `address`, UDP and TCP.
    ///
    /// # Errors
    /// The address is taken.
    pub fn start(world: World, address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address)?;
        udp.set_read_timeout(Some(TICK))?;
        let tcp = TcpListener::bind(address)?;
        tcp.set_nonblocking(true)?;
        let (seen, count, closing) = (Mutex::default(), AtomicU64::new(0), AtomicBool::new(false));
        let shared = Arc::new(Shared { world, seen, count, closing });
        let (for_udp, for_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || for_udp.serve_udp(&udp)),
            std::thread::spawn(move || for_tcp.serve_tcp(&tcp)),
        ];
        Ok(Self { shared, address, threads })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many questions it was asked.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Whether it was asked this, in any spelling.
    #[must_use]
    pub fn asked(&self, name: &str, rtype: u16) -> bool {
        let key = (name.to_lowercase().trim_end_matches('.').to_owned(), rtype);
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
    }

    /// All names it was asked for.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while !self.closing.load(Ordering::Relaxed) {
            // An error is a timeout, or an ICMP error of an earlier answer.
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
            if let Some(answer) = self.answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, peer);
            }
        }
    }

    fn serve_tcp(self: Arc<Self>, listener: &TcpListener) {
        while !self.closing.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&self);
                    std::thread::spawn(move || shared.serve_connection(stream));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn serve_connection(&self, mut stream: TcpStream) {
        if stream.set_nonblocking(false).is_err() {
            return;
        }
        while let Ok(query) = read_framed(&mut stream) {
            if let Some(answer) = self.answer(&query)
                && write_framed(&mut stream, &answer).is_err()
            {
                return;
            }
        }
    }

    /// The answer to a message, with AA set as CoreDNS does on its own names: segdns must not pass that on.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let message = Message::from_vec(query).ok()?;
        let question = message.queries.first()?;
        let qname = question.name.to_ascii();
        let rtype = u16::from(question.query_type);
        let key = (qname.to_lowercase().trim_end_matches('.').to_owned(), rtype);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        let answer = self.world.answer(&qname, &wire::type_text(rtype));
        let count = |n: usize| u8::try_from(n).expect("a short answer");
        let edns = message.edns.is_some();
        let mut out = query[..2].to_vec();
        out.extend_from_slice(&[0x84 | (query[2] & 1), 0x80 | answer.rcode, 0, 1]);
        out.extend_from_slice(&[0, count(answer.answers.len()), 0, count(answer.authorities.len()), 0, u8::from(edns)]);
        out.extend_from_slice(&query[12..12 + wire::question_len(query)?]);
        out.extend(answer.answers.concat());
        out.extend(answer.authorities.concat());
        if edns {
            out.extend(wire::opt());
        }
        Some(out)
    }
}
