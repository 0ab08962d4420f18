//! What upstreams know: a function of the question, so that the model knows it too; and a server that answers so, and
//! remembers what it was asked.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::mesh::{CLUSTER, is_in};
use super::wire::{self, A, CNAME, PTR, Rec, SOA, SRV};

/// TTL of all that upstreams say.
pub const TTL: u32 = 30;

/// An upstream's answer.
#[derive(Clone, Debug)]
pub struct Said {
    /// 0 or 3.
    pub rcode: u16,
    /// The answer section.
    pub answers: Vec<Rec>,
    /// The zone whose SOA stands in the authority section.
    pub soa: Option<&'static str>,
}

/// Some number that depends on nothing but a text.
fn some(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193)) >> 7
}

fn record(owner: &str, rtype: u16, data: String) -> Rec {
    Rec { owner: owner.to_owned(), rtype, ttl: TTL, data }
}

/// The answer to a question, its name in lower case.
#[must_use]
pub fn says(name: &str, rtype: u16) -> Said {
    let zone = if is_in(name, CLUSTER) { CLUSTER } else { "" };
    let answers = match records(name) {
        None => return Said { rcode: 3, answers: Vec::new(), soa: Some(zone) },
        Some(all) => all.into_iter().filter(|r| r.rtype == rtype || r.rtype == CNAME).collect::<Vec<_>>(),
    };
    let mut answers = answers;
    if let Some(to) = answers.first().filter(|r| r.rtype == CNAME && rtype != CNAME).map(|r| r.data.clone()) {
        let more = says(&to, rtype);
        answers.extend(more.answers);
        return Said { answers, ..more };
    }
    Said { rcode: 0, soa: answers.is_empty().then_some(zone), answers }
}

/// All records of a name, if it exists.
fn records(name: &str) -> Option<Vec<Rec>> {
    let labels: Vec<&str> = name.split('.').collect();
    let [high, low] = [some(name) >> 8, some(name)].map(|n| n.to_le_bytes()[0]);
    let address = || record(name, A, Ipv4Addr::new(198, 51, high, low).to_string());
    if name == CLUSTER {
        return Some(vec![record(name, SOA, wire::soa(TTL))]);
    }
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let services = ["web.shop", "db.back", "web.acme", "api.lost"];
        let to = format!("{}.svc.{CLUSTER}", services[some(rest) as usize % 4]);
        return (some(rest) % 8 < 6).then(|| vec![record(name, PTR, to)]);
    }
    match &labels[..] {
        ["svc" | "pod", "cluster", "local"] | [_, "svc" | "pod", "cluster", "local"] => Some(Vec::new()),
        [_, _, "svc", "cluster", "local"] => (!some(name).is_multiple_of(4)).then(|| vec![address()]),
        [port, proto, service, ns, "svc", "cluster", "local"] if port.starts_with('_') && proto.starts_with('_') => {
            let to = format!("{service}.{ns}.svc.{CLUSTER}");
            (!some(name).is_multiple_of(2)).then(|| vec![record(name, SRV, format!("0 100 80 {to}"))])
        }
        [.., "cluster", "local"] => some(name).is_multiple_of(8).then(|| vec![address()]),
        _ => match some(name) % 8 {
            0..3 => None,
            3 => Some(Vec::new()),
            // Some more than 512 octets hold.
            5 if !name.ends_with("far.example") => {
                Some((0..20 + low % 41).map(|n| record(name, A, Ipv4Addr::new(198, 51, 100, n).to_string())).collect())
            }
            4 => Some(vec![record(name, CNAME, format!("c{}.far.example", some(name) % 16))]),
            _ => Some(vec![address()]),
        },
    }
}

/// A name that is answered and not remembered.
const SYNC: &str = "sync.upstream.test";

/// Such a server on loopback; it ends when it is dropped.
pub struct Upstream {
    shared: Arc<Shared>,
    to_it: UdpSocket,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<(String, u16)>>,
    closing: AtomicBool,
}

impl Upstream {
    /// Listens on a free port of an address.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn start(at: SocketAddr) -> Self {
        let socket = UdpSocket::bind(at).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let address = socket.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || for_thread.serve(&socket));
        let to_it = UdpSocket::bind(SocketAddr::new(at.ip(), 0)).expect("a free port");
        to_it.connect(address).expect("connected");
        to_it.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Self { shared, to_it, address, thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked since this was called last; names in lower case. What was sent before, a second try of something
    /// that is answered by now, say, does not come after: one socket has an order.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn take_asked(&self) -> Vec<(String, u16)> {
        let sync = wire::Query { name: SYNC.into(), rtype: A, class: 1, flags: 0, edns: None, tcp: false };
        self.to_it.send(&sync.packet(1)).expect("sent");
        self.to_it.recv(&mut [0; 512]).expect("an answer");
        std::mem::take(&mut *self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while !self.closing.load(Ordering::Relaxed) {
            let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
            let query = &buffer[..length];
            let Some((name, rtype, end)) = wire::question(query) else { continue };
            let name = name.to_lowercase();
            if name != SYNC {
                self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), rtype));
            }
            let _ = socket.send_to(&answer(query, end, &name, &says(&name, rtype)), peer);
        }
    }
}

/// Its answer, with AA set, which segdns must not pass on.
fn answer(query: &[u8], end: usize, name: &str, said: &Said) -> Vec<u8> {
    let edns = query[11] != 0;
    let count = |n: usize| u8::try_from(n).expect("few records");
    let mut out = query[..end].to_vec();
    out[2..4].copy_from_slice(&[0x84 | (query[2] & 1), 0x80 | count(usize::from(said.rcode))]);
    out[4..12].copy_from_slice(&[
        0,
        1,
        0,
        count(said.answers.len()),
        0,
        u8::from(said.soa.is_some()),
        0,
        u8::from(edns),
    ]);
    for record in &said.answers {
        let octets = wire::record(record);
        // As servers do: two octets point to the name that was asked.
        let owned = record.owner == name;
        out.extend(if owned { &[0xc0, 12][..] } else { &[] });
        out.extend(&octets[if owned { name.len() + 2 } else { 0 }..]);
    }
    if let Some(zone) = said.soa {
        out.extend(wire::record(&record(zone, SOA, wire::soa(TTL))));
    }
    if edns {
        out.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    out
}
