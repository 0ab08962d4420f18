//! A scripted upstream over UDP and TCP that misbehaves as told, and remembers what it was asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::wire;

/// The truth, unless a scenario says otherwise.
pub const TRUTH: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What lies say.
pub const LIE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
/// How names begin that are never answered, whatever its manner.
pub const SWALLOWED: &str = "lost-";
/// How much earlier than the truth a lie is there.
const HEAD_START: Duration = Duration::from_millis(50);
/// From where answers come that nobody asked there.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 77, 9, 9);

/// What it knows of every name.
#[derive(Clone, Copy, Debug)]
pub enum Content {
    /// One address, with a TTL.
    Address(Ipv4Addr, u32),
    /// So many addresses.
    Many(u8),
    /// NXDOMAIN with an SOA of this TTL and MINIMUM.
    Absent(u32),
    /// SERVFAIL.
    Fails,
}

/// An answer that comes before the true one and must not be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Another ID.
    Id,
    /// An answer to another question.
    Question,
    /// From another address.
    Source,
}

/// How it behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Nothing is answered, over TCP neither; no ICMP error comes.
    pub silent: bool,
    /// Answers come so late.
    pub after: Duration,
    /// What is answered.
    pub content: Content,
    /// Over UDP: TC and no record.
    pub truncates: bool,
    /// What comes over UDP before.
    pub lie: Option<Lie>,
    /// Every question of this number is lost over UDP; 0: none.
    pub loses: usize,
}

impl Default for Manner {
    fn default() -> Self {
        let content = Content::Address(TRUTH, 60);
        Self { silent: false, after: Duration::ZERO, content, truncates: false, lie: None, loses: 0 }
    }
}

/// An upstream; it stops when dropped.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    /// Names over UDP, and over TCP.
    asked: Mutex<[Vec<String>; 2]>,
}

impl Upstream {
    /// Listens on an address of its own.
    ///
    /// # Errors
    /// The system's.
    pub async fn start(manner: Manner) -> io::Result<Self> {
        Self::listen(manner, true).await
    }

    /// As [`Upstream::start`], but TCP connections are refused.
    ///
    /// # Errors
    /// The system's.
    pub async fn without_tcp(manner: Manner) -> io::Result<Self> {
        Self::listen(manner, false).await
    }

    async fn listen(manner: Manner, tcp: bool) -> io::Result<Self> {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let ip = IpAddr::from([127, 77, 1, NEXT.fetch_add(1, Ordering::Relaxed).max(1)]);
        let shared = Arc::new(Shared { manner: Mutex::new(manner), asked: Mutex::default() });
        let (udp, listener) = bind(ip).await?;
        let address = udp.local_addr()?;
        let mut tasks = vec![tokio::spawn(Arc::clone(&shared).serve_udp(udp)).abort_handle()];
        if tcp {
            tasks.push(tokio::spawn(Arc::clone(&shared).serve_tcp(listener)).abort_handle());
        }
        Ok(Self { shared, address, tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It behaves so from now on.
    pub fn set(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// How often it was asked for this name, over UDP and over TCP.
    #[must_use]
    pub fn asked(&self, name: &str) -> [usize; 2] {
        let asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.each_ref().map(|names| names.iter().filter(|n| n.eq_ignore_ascii_case(name)).count())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut answers = JoinSet::new();
        let mut buffer = [0; 4096];
        let mut count = 0;
        loop {
            // An error is that of an earlier answer, which nobody was there for any more.
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
            while answers.try_join_next().is_some() {}
            let manner = self.note(&buffer[..length], 0);
            count += 1;
            if manner.silent || swallowed(&buffer[..length]) || (manner.loses != 0 && count % manner.loses == 0) {
                continue;
            }
            let (socket, query) = (Arc::clone(&socket), buffer[..length].to_vec());
            answers.spawn(async move {
                sleep(manner.after).await;
                if let Some(lie) = manner.lie {
                    let _ = send_lie(&socket, &query, peer, lie).await;
                    sleep(HEAD_START).await;
                }
                if let Some(answer) = answer(&query, manner.content, manner.truncates) {
                    let _ = socket.send_to(&answer, peer).await;
                }
            });
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                connections.spawn(Arc::clone(&self).serve_connection(stream));
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream) -> io::Result<()> {
        let (mut read, mut write) = stream.into_split();
        let (told, mut tell) = mpsc::unbounded_channel::<Vec<u8>>();
        let mut answers = JoinSet::new();
        answers.spawn(async move {
            while let Some(answer) = tell.recv().await {
                let length = u16::try_from(answer.len()).expect("a short answer").to_be_bytes();
                if write.write_all(&[&length, &answer[..]].concat()).await.is_err() {
                    return;
                }
            }
        });
        loop {
            let mut query = vec![0; usize::from(read.read_u16().await?)];
            read.read_exact(&mut query).await?;
            let manner = self.note(&query, 1);
            let told = told.clone();
            answers.spawn(async move {
                sleep(manner.after).await;
                if let Some(answer) =
                    answer(&query, manner.content, false).filter(|_| !manner.silent && !swallowed(&query))
                {
                    let _ = told.send(answer);
                }
            });
        }
    }

    /// Notes the question, and tells how to behave.
    fn note(&self, query: &[u8], over: usize) -> Manner {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked[over].extend(qname(query));
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same free port for both.
async fn bind(ip: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::other("no free port");
    for _ in 0..100 {
        let udp = UdpSocket::bind((ip, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn send_lie(socket: &UdpSocket, query: &[u8], peer: SocketAddr, lie: Lie) -> io::Result<()> {
    let Some(mut wrong) = answer(query, Content::Address(LIE, 60), false) else { return Ok(()) };
    match lie {
        Lie::Id => wrong[1] ^= 0x55,
        // The first letter of the name becomes another one.
        Lie::Question => wrong[13] = if wrong[13] == b'x' { b'y' } else { b'x' },
        Lie::Source => {
            let port = socket.local_addr()?.port();
            UdpSocket::bind((STRANGER, port)).await?.send_to(&wrong, peer).await?;
            return Ok(());
        }
    }
    socket.send_to(&wrong, peer).await.map(drop)
}

fn swallowed(query: &[u8]) -> bool {
    query.get(13..).is_some_and(|name| name.starts_with(SWALLOWED.as_bytes()))
}

fn qname(query: &[u8]) -> Option<String> {
    let end = 12 + wire::question_len(query)? - 5;
    let mut labels = Vec::new();
    let mut at = 12;
    while at < end {
        let length = usize::from(*query.get(at)?);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).into_owned());
        at += length + 1;
    }
    Some(labels.join("."))
}

/// An answer whose owners point at the question.
fn answer(query: &[u8], content: Content, truncated: bool) -> Option<Vec<u8>> {
    let question = query.get(12..12 + wire::question_len(query)?)?;
    let edns = query[11] != 0;
    let for_address = question.ends_with(&[0, 1, 0, 1]);
    let (rcode, answers, authority) = match content {
        _ if truncated => (0, Vec::new(), None),
        // Probes of a server's own; no client here asks for anything but addresses.
        Content::Address(..) | Content::Many(_) if !for_address => (0, Vec::new(), None),
        Content::Address(address, ttl) => (0, vec![record(1, ttl, &address.octets())], None),
        Content::Many(count) => (0, (0..count).map(|n| record(1, 60, &[192, 0, 2, n])).collect(), None),
        Content::Absent(ttl) => {
            let text = format!("ns.example hostmaster.example 1 7200 1800 86400 {ttl}");
            (3, Vec::new(), Some(wire::record("example", 6, ttl, &wire::rdata("SOA", &text))))
        }
        Content::Fails => (2, Vec::new(), None),
    };
    let mut out = query[..2].to_vec();
    let count = u8::try_from(answers.len()).ok()?;
    out.extend([0x80 | (query[2] & 1) | if truncated { 2 } else { 0 }, 0x80 | rcode]);
    out.extend([0, 1, 0, count, 0, u8::from(authority.is_some()), 0, u8::from(edns)]);
    out.extend_from_slice(question);
    out.extend(answers.concat());
    out.extend(authority.unwrap_or_default());
    if edns {
        out.extend(wire::opt());
    }
    Some(out)
}

fn record(rtype: u8, ttl: u32, rdata: &[u8; 4]) -> Vec<u8> {
    let mut out = vec![0xc0, 12, 0, rtype, 0, 1];
    out.extend(ttl.to_be_bytes());
    out.extend([0, 4]);
    out.extend(rdata);
    out
}
