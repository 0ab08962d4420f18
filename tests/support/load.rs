//! A steady load over UDP and TCP that counts every query and its answer, for what must not lose one.
//!
//! ```text
//! UDP      eight sockets; an answer may take as long as the server's own limit
//! single   TCP, one query a connection: nothing may fail, since nobody has a reason to ask again
//! stream   TCP, one connection that is kept; a query left over when the server closes it is asked again (RFC 7766 section
//!          6.2.4), and counted apart
//! ```

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::{read_framed, write_framed};
use super::wire;

/// Sockets of the UDP client, which the kernel spreads over the workers.
const SOCKETS: usize = 8;
/// How long an answer may take; longer than the server's own limit of 4 s (R23).
const PATIENCE: Duration = Duration::from_secs(6);
/// Pauses between two queries.
const UDP_EVERY: Duration = Duration::from_millis(2);
const SINGLE_EVERY: Duration = Duration::from_millis(7);
const STREAM_EVERY: Duration = Duration::from_millis(5);

/// What is asked: a name, with `#` where a number makes it another one each time, and the address it has.
pub type Ask = (&'static str, [u8; 4]);

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Queries.
    pub asked: usize,
    /// Queries that were asked again because the server had closed the connection.
    pub again: usize,
    /// Queries without an answer, with the time and the reason.
    pub lost: Vec<String>,
    /// Answers that were wrong.
    pub wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.asked += other.asked;
        self.again += other.again;
        self.lost.extend(other.lost);
        self.wrong.extend(other.wrong);
    }
}

/// The running load.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Begins to ask this at these addresses, each of them from its own loopback address.
    #[must_use]
    pub fn start(at: &[SocketAddr], asks: &'static [Ask]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for &at in at {
            for run in [udp, single, stream] {
                let source = Source { at, asks, over: Arc::clone(&over), count: 0, begun: Instant::now() };
                threads.push(thread::spawn(move || run(source)));
            }
        }
        Self { over, threads }
    }

    /// Ends it, when everything is answered or lost.
    #[must_use]
    pub fn end(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            all.add(thread.join().expect("it asked to the end"));
        }
        assert!(all.asked > 0, "nothing was asked");
        all
    }
}

/// Where queries come from.
struct Source {
    at: SocketAddr,
    asks: &'static [Ask],
    over: Arc<AtomicBool>,
    count: usize,
    begun: Instant,
}

/// A query that waits for its answer.
struct Pending {
    query: Vec<u8>,
    address: [u8; 4],
    sent: Instant,
}

impl Source {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn here(&self) -> IpAddr {
        if self.at.is_ipv4() { super::HERE } else { "::1".parse().expect("an address") }
    }

    fn next(&mut self) -> (u16, Pending) {
        let (name, address) = self.asks[self.count % self.asks.len()];
        self.count += 1;
        let id = u16::try_from(self.count % 65_536).expect("16 bits");
        let name = name.replace('#', &format!("{}-{}", self.at.port(), rand::random::<u32>()));
        (id, Pending { query: wire::query(id, &name, 1, false), address, sent: Instant::now() })
    }

    fn lost(&self, pending: &Pending, why: &str) -> String {
        let since = pending.sent.duration_since(self.begun);
        format!("{} asked at {since:?}: {why}: {}", self.at, pending.query[12..].escape_ascii())
    }
}

/// Whether an answer is of this query, and what it has to be.
fn is_right(pending: &Pending, answer: &[u8]) -> bool {
    let question = pending.query.len();
    answer.len() > question
        && answer[..2] == pending.query[..2]
        && answer[12..question] == pending.query[12..]
        && answer[3] & 15 == 0
        && answer.ends_with(&pending.address)
}

fn udp(mut source: Source) -> Tally {
    let mut tally = Tally::default();
    let open = || {
        let socket = UdpSocket::bind((source.here(), 0)).expect("a socket");
        socket.connect(source.at).expect("connected");
        socket.set_nonblocking(true).expect("not blocking");
        (socket, HashMap::<u16, Pending>::new())
    };
    let mut sockets: Vec<_> = (0..SOCKETS).map(|_| open()).collect();
    let mut turn = 0;
    while !source.is_over() || sockets.iter().any(|(_, pending)| !pending.is_empty()) {
        if !source.is_over() {
            let (id, pending) = source.next();
            let (socket, waiting) = &mut sockets[turn % SOCKETS];
            turn += 1;
            tally.asked += 1;
            match socket.send(&pending.query) {
                Ok(_) => drop(waiting.insert(id, pending)),
                Err(error) => tally.lost.push(source.lost(&pending, &error.to_string())),
            }
        }
        for (socket, waiting) in &mut sockets {
            hear(socket, waiting, &mut tally);
            for (_, late) in waiting.extract_if(|_, pending| pending.sent.elapsed() > PATIENCE) {
                tally.lost.push(source.lost(&late, "no answer over UDP"));
            }
        }
        thread::sleep(UDP_EVERY);
    }
    tally
}

fn hear(socket: &UdpSocket, waiting: &mut HashMap<u16, Pending>, tally: &mut Tally) {
    let mut buffer = [0; 1500];
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let id = u16::from_be_bytes([buffer[0], buffer[1]]);
                let right = waiting.remove(&id).is_some_and(|pending| is_right(&pending, &buffer[..length]));
                if !right {
                    tally.wrong.push(format!("over UDP: {}", buffer[..length].escape_ascii()));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => tally.lost.push(format!("a UDP socket says {error}")),
        }
    }
}

fn connect(source: &Source) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&source.at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn single(mut source: Source) -> Tally {
    let mut tally = Tally::default();
    while !source.is_over() {
        let (_, pending) = source.next();
        tally.asked += 1;
        let answer = connect(&source).and_then(|mut stream| {
            write_framed(&mut stream, &pending.query)?;
            read_framed(&mut stream)
        });
        match answer {
            Ok(answer) if is_right(&pending, &answer) => {}
            Ok(answer) => tally.wrong.push(format!("over TCP: {}", answer.escape_ascii())),
            Err(error) => tally.lost.push(source.lost(&pending, &format!("one query over TCP: {error}"))),
        }
        thread::sleep(SINGLE_EVERY);
    }
    tally
}

/// Asks and reads in turn, with many queries in flight, as answers come out of order.
fn stream(mut source: Source) -> Tally {
    let mut tally = Tally::default();
    let mut waiting = HashMap::<u16, Pending>::new();
    let mut left: Vec<(u16, Pending)> = Vec::new();
    'connections: while !source.is_over() || !waiting.is_empty() || !left.is_empty() {
        left.extend(waiting.drain());
        tally.again += left.len();
        let mut connection = match connect(&source) {
            Ok(connection) => connection,
            Err(error) => {
                tally.lost.extend(left.drain(..).map(|(_, pending)| source.lost(&pending, &error.to_string())));
                thread::sleep(STREAM_EVERY);
                continue;
            }
        };
        while !source.is_over() || !waiting.is_empty() || !left.is_empty() {
            if left.is_empty() && !source.is_over() {
                tally.asked += 1;
                left.push(source.next());
            }
            while let Some((id, pending)) = left.pop() {
                let sent = write_framed(&mut connection, &pending.query);
                waiting.insert(id, pending);
                if sent.is_err() {
                    continue 'connections;
                }
            }
            loop {
                match is_readable(&connection) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => continue 'connections,
                }
                let Ok(answer) = read_framed(&mut connection) else { continue 'connections };
                let id = u16::from_be_bytes([answer[0], answer[1]]);
                if !waiting.remove(&id).is_some_and(|pending| is_right(&pending, &answer)) {
                    tally.wrong.push(format!("over TCP: {}", answer.escape_ascii()));
                }
            }
            for (_, late) in waiting.extract_if(|_, pending| pending.sent.elapsed() > PATIENCE) {
                tally.lost.push(source.lost(&late, "no answer on a TCP connection"));
            }
            thread::sleep(STREAM_EVERY);
        }
    }
    tally
}

/// Whether something is there to be read.
fn is_readable(connection: &TcpStream) -> io::Result<bool> {
    connection.set_nonblocking(true)?;
    let peeked = connection.peek(&mut [0]);
    connection.set_nonblocking(false)?;
    match peeked {
        Ok(0) => Err(ErrorKind::ConnectionAborted.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
