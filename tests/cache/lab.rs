//! A server before an upstream that answers as a test scripts it, and octets to compare.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use hickory_proto::op::Message;
use serde_json::{Value, json};

use crate::support::client::{Client, Proto, next_id, read_framed, write_framed};
use crate::support::server::{Server, http};
use crate::support::{HERE, UPSTREAM, fixture, free_port, objects, wire};

/// A pod of the fixture.
pub const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 10, 1, 11));
pub const A: u16 = 1;
pub const TXT: u16 = 16;
pub const SOA: u16 = 6;
pub const OPT: u16 = 41;
pub const NOERROR: u8 = 0;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
/// Header flags, of octet 3.
pub const AD: u8 = 0x20;
pub const CD: u8 = 0x10;
/// How often the upstream's threads look whether they are to end.
const TICK: Duration = Duration::from_millis(20);

/// A question as the upstream got it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// In lower case, without a final dot.
    pub name: String,
    pub rtype: u16,
    pub wire: Vec<u8>,
    pub tcp: bool,
}

impl Ask {
    fn read(wire: &[u8], tcp: bool) -> Option<Self> {
        let message = Message::from_vec(wire).ok()?;
        let query = message.queries.first()?;
        let name = query.name.to_ascii().to_lowercase().trim_end_matches('.').to_owned();
        Some(Self { name, rtype: query.query_type.into(), wire: wire.to_vec(), tcp })
    }

    /// Whether segdns asks for itself: whether the upstream lives, or whether it sends questions back.
    fn is_probe(&self) -> bool {
        self.name.is_empty() || self.name.starts_with("segdns-")
    }

    /// The answer with these records, and with TC and none if it is too long for UDP.
    pub fn reply(&self, rcode: u8, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
        let edns = self.wire[11] == 1;
        let mut out = self.wire[..2].to_vec();
        out.extend([0x80 | (self.wire[2] & 1), 0x80 | rcode, 0, 1]);
        for (section, records) in sections.into_iter().enumerate() {
            let count = records.len() + usize::from(edns && section == 2);
            out.extend(u16::try_from(count).expect("few records").to_be_bytes());
        }
        let question = 12 + wire::question_len(&self.wire).expect("a question");
        out.extend(&self.wire[12..question]);
        out.extend(sections.map(<[_]>::concat).concat());
        if edns {
            out.extend(wire::opt());
        }
        if !self.tcp && out.len() > if edns { 1232 } else { 512 } {
            out.truncate(question);
            out[2] |= 2;
            out[6..12].fill(0);
        }
        out
    }

    /// NOERROR with one address of the name.
    pub fn address(&self, last: u8, ttl: u32) -> Vec<u8> {
        self.reply(NOERROR, [&[wire::record(&self.name, A, ttl, &[192, 0, 2, last])], &[], &[]])
    }

    /// Without an answer, and with this TTL and MINIMUM of the SOA.
    pub fn denial(&self, rcode: u8, ttl: u32, minimum: u32) -> Vec<u8> {
        self.reply(rcode, [&[], &[soa(ttl, minimum)], &[]])
    }
}

/// An SOA of `example`.
pub fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    let text = format!("ns.example. root.example. 1 7200 1800 86400 {minimum}");
    wire::record("example", SOA, ttl, &wire::rdata("SOA", &text))
}

/// What is answered (nothing: silence), and after which time.
type Script = Arc<dyn Fn(&Ask) -> (Option<Vec<u8>>, Duration) + Send + Sync>;

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<Ask>>,
    ended: AtomicBool,
}

/// An upstream over UDP and TCP; it stops when dropped. Probes get an empty answer, unless it is silent.
pub struct Upstream {
    shared: Arc<Shared>,
    pub address: SocketAddr,
    threads: Vec<thread::JoinHandle<()>>,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Upstream {
    pub fn start(says: impl Fn(&Ask) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::new(UPSTREAM, free_port()), says)
    }

    pub fn at(address: SocketAddr, says: impl Fn(&Ask) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let udp = UdpSocket::bind(address).expect("a socket");
        udp.set_read_timeout(Some(TICK)).expect("a timeout");
        let tcp = TcpListener::bind(address).expect("a listener");
        tcp.set_nonblocking(true).expect("not blocking");
        let script: Script = Arc::new(move |ask| (Some(says(ask)), Duration::ZERO));
        let shared =
            Arc::new(Shared { script: Mutex::new(script), asked: Mutex::default(), ended: AtomicBool::new(false) });
        let (one, two) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![thread::spawn(move || one.over_udp(&udp)), thread::spawn(move || two.over_tcp(&tcp))];
        Self { shared, address, threads }
    }

    /// From now on it answers so.
    pub fn says(&self, says: impl Fn(&Ask) -> Vec<u8> + Send + Sync + 'static) {
        self.says_after(Duration::ZERO, says);
    }

    /// From now on it answers so, after this time.
    pub fn says_after(&self, after: Duration, says: impl Fn(&Ask) -> Vec<u8> + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(move |ask| (Some(says(ask)), after));
    }

    /// From now on it answers nothing.
    pub fn is_silent(&self) {
        *lock(&self.shared.script) = Arc::new(|_| (None, Duration::ZERO));
    }

    /// The questions of clients for a name.
    pub fn asked(&self, name: &str) -> Vec<Ask> {
        lock(&self.shared.asked).iter().filter(|ask| ask.name == name.to_lowercase()).cloned().collect()
    }

    /// How often clients' questions for a name came.
    pub fn count(&self, name: &str) -> usize {
        self.asked(name).len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn answer(&self, wire: &[u8], tcp: bool) -> Option<(Vec<u8>, Duration)> {
        let ask = Ask::read(wire, tcp)?;
        let script = Arc::clone(&lock(&self.script));
        if ask.is_probe() {
            return script(&ask).0.map(|_| (ask.reply(NOERROR, [&[], &[], &[]]), Duration::ZERO));
        }
        lock(&self.asked).push(ask.clone());
        let (answer, after) = script(&ask);
        Some((answer?, after))
    }

    fn over_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while !self.ended.load(Relaxed) {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
            match self.answer(&buffer[..length], false) {
                Some((answer, Duration::ZERO)) => drop(socket.send_to(&answer, peer)),
                Some((answer, after)) => {
                    let socket = socket.try_clone().expect("a second handle");
                    thread::spawn(move || {
                        thread::sleep(after);
                        socket.send_to(&answer, peer)
                    });
                }
                None => {}
            }
        }
    }

    fn over_tcp(self: Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Relaxed) {
            let Ok((mut stream, _)) = listener.accept() else {
                thread::sleep(TICK / 4);
                continue;
            };
            let shared = Arc::clone(&self);
            thread::spawn(move || {
                let _ = stream.set_nonblocking(false);
                while let Ok(query) = read_framed(&mut stream) {
                    let Some((answer, after)) = shared.answer(&query, true) else { continue };
                    thread::sleep(after);
                    if write_framed(&mut stream, &answer).is_err() {
                        return;
                    }
                }
            });
        }
    }
}

/// A server, and where to ask it.
pub struct Lab {
    pub server: Server,
    pub at: SocketAddr,
    pub upstream: Upstream,
}

impl Lab {
    /// With this laid over the configuration.
    pub fn start(over: &Value, says: impl Fn(&Ask) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let upstream = Upstream::start(says);
        let (server, at) = serve(json!([upstream.address]), over);
        Self { server, at, upstream }
    }

    pub fn ask(&self, proto: Proto, query: &[u8]) -> Vec<u8> {
        ask(self.at, proto, query)
    }

    /// Over UDP with EDNS, for A.
    pub fn look(&self, name: &str) -> Seen {
        Seen::read(&self.ask(Proto::Udp, &wire::query(next_id(), name, A, true)))
    }

    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        crate::support::steady::metric(&self.server, name, labels)
    }

    /// `/debug/flush` with these parameters: status and text.
    pub fn flush(&self, parameters: &str) -> (u16, String) {
        http(self.server.admin(), "POST", &format!("/debug/flush{parameters}")).expect("an answer")
    }
}

/// A server with these upstreams for everything.
pub fn serve(upstreams: Value, over: &Value) -> (Server, SocketAddr) {
    let at = SocketAddr::new(HERE, free_port());
    let mut config = json!({
        "listen": [at], "admin": SocketAddr::new(HERE, free_port()),
        "sources": {"manifests": [{"cluster": "cluster1", "path": fixture::root().join("namespace-segments/cluster1")}]},
        "forward": [{"zone": ".", "upstreams": upstreams}],
        "drain": {"lameduck": "0s", "deadline": "2s"},
    });
    objects::merge(&mut config, over);
    (Server::start(&config).expect("a server"), at)
}

pub fn ask(at: SocketAddr, proto: Proto, query: &[u8]) -> Vec<u8> {
    Client::default().ask(CALLER, at, proto, query).expect("an answer")
}

/// A query with these flags in octet 3, and an OPT of this DO bit and payload.
pub fn query(name: &str, rtype: u16, flags: u8, opt: Option<(bool, u16)>) -> Vec<u8> {
    let mut wire = wire::query(next_id(), name, rtype, opt.is_some());
    wire[3] = flags;
    if let Some((dnssec_ok, payload)) = opt {
        let at = wire.len() - 8;
        wire[at..at + 2].copy_from_slice(&payload.to_be_bytes());
        wire[at + 4] = u8::from(dnssec_ok) << 7;
    }
    wire
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub code: u8,
    pub flags: u8,
    pub truncated: bool,
    /// Last octet and TTL of each address, or the TTL of the SOA with 0.
    pub records: Vec<(u8, u32)>,
    pub ede: Option<u16>,
}

impl Seen {
    pub fn read(answer: &[u8]) -> Self {
        Message::from_vec(answer).expect("a message that a library reads");
        let mut records = Vec::new();
        let mut ede = None;
        for (_, rtype, ttl, data) in places(answer) {
            let octets = &answer[data.clone()];
            match rtype {
                A => records.push((octets[3], ttl)),
                SOA => records.push((0, ttl)),
                OPT if octets.len() >= 6 && octets[..2] == [0, 15] => {
                    ede = Some(u16::from_be_bytes([octets[4], octets[5]]));
                }
                _ => {}
            }
        }
        Self { code: answer[3] & 15, flags: answer[3] & 0xf0, truncated: answer[2] & 2 != 0, records, ede }
    }

    /// The last octet of its only address, and its TTL.
    pub fn address(&self) -> Option<(u8, u32)> {
        if let [one] = self.records[..] { Some(one).filter(|_| self.code == NOERROR && one.0 != 0) } else { None }
    }

    pub fn ttl(&self) -> u32 {
        self.records.first().expect("a record").1
    }
}

/// Each record: where its TTL stands, its type, its TTL, and where its data is.
pub fn places(wire: &[u8]) -> Vec<(usize, u16, u32, std::ops::Range<usize>)> {
    let short = |at: usize| u16::from_be_bytes([wire[at], wire[at + 1]]);
    let skip = |mut at: usize| loop {
        match wire[at] {
            0 => return at + 1,
            length if length >= 0xc0 => return at + 2,
            length => at += usize::from(length) + 1,
        }
    };
    let count = [6, 8, 10].map(|at| usize::from(short(at))).iter().sum();
    let mut at = skip(12) + 4;
    let mut all = Vec::new();
    for _ in 0..count {
        let fixed = skip(at);
        at = fixed + 10 + usize::from(short(fixed + 8));
        let ttl = u32::from(short(fixed + 4)) << 16 | u32::from(short(fixed + 6));
        all.push((fixed + 4, short(fixed), ttl, fixed + 10..at));
    }
    assert_eq!(at, wire.len(), "octets behind the last record");
    all
}

/// The answer without its ID and TTLs.
pub fn without_ttls(answer: &[u8]) -> Vec<u8> {
    let mut bare = answer.to_vec();
    bare[..2].fill(0);
    for (at, rtype, ..) in places(answer) {
        if rtype != OPT {
            bare[at..at + 4].fill(0);
        }
    }
    bare
}
