//! Questions of our own, which find out whether an upstream lives.
//!
//! Each goes out on a socket or connection of its own, so that what is wrong with those in use does not count. They are
//! counted apart from clients' questions ([`Stats::probes`]).

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::health::Why;
use super::peer::Peer;
use super::query::{Checked, Query, Sent};
use super::stats::{Reject, Stats};
use super::udp::connected;
use super::{Trouble, Tuning, trouble};

/// Messages that are no answers before a probe over TCP ends; over UDP anyone can send them, so time ends it.
const WRONG: usize = 16;
/// Between two probes of one that is down, while questions would go there at once.
const WANTED_EVERY: Duration = Duration::from_millis(100);
const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;

/// What an upstream of this zone should answer from memory: of the root the name servers, of any other the SOA; and
/// `localhost` (RFC 6761 section 6.3) without being asked to resolve anything. A name that does not exist would have to be
/// asked of others by a resolver, and their silence is not its own.
pub(super) fn questions(zone: &[u8]) -> [Sent; 2] {
    const LOCALHOST: &[u8] = b"\x09localhost\0";
    let own = plain(zone, if zone == [0] { NS } else { SOA });
    let local = Query { recursion_desired: false, ..plain(LOCALHOST, A) };
    [own, local].map(|query| Sent::new(&query))
}

/// A question as a stub resolver without EDNS asks it.
pub(super) fn plain(name: &[u8], rtype: u16) -> Query<'_> {
    Query {
        name,
        rtype,
        class: 1,
        recursion_desired: true,
        checking_disabled: false,
        authentic_data: false,
        edns: None,
    }
}

/// Probes a suspect until it answers, or until nobody uses it any more.
pub(super) async fn watch(peer: Weak<Peer>, mut why: Why) {
    let known = peer.upgrade().map(|peer| (peer.tuning, Arc::clone(&peer.health)));
    let Some((Tuning { verdict, .. }, health)) = known else { return };
    let began = Instant::now();
    let mut down = false;
    let (mut last, mut next) = (began, began);
    let mut probes = JoinSet::new();
    loop {
        let answered = tokio::select! {
            Some(done) = probes.join_next() => match done {
                Ok(Ok(())) => true,
                Ok(Err(refused @ (Trouble::Refused | Trouble::Closed))) if !down => {
                    why = if refused == Trouble::Refused { Why::Refused } else { Why::Closed };
                    down = true;
                    let Some(peer) = peer.upgrade() else { return };
                    peer.fall(why);
                    false
                }
                _ => false,
            },
            () = sleep_until(next) => {
                let Some(peer) = peer.upgrade() else { return };
                let heard = peer.health.heard_since(began);
                last = Instant::now();
                next = last + interval(began.elapsed(), &peer.tuning);
                peer.health.tell(peer.address, peer.tcp);
                for sent in peer.probes() {
                    let peer = Arc::clone(&peer);
                    probes.spawn(async move { send(&peer, &sent).await });
                }
                heard
            }
            // Many may want it at once.
            () = health.wanted(), if down => {
                next = next.min(last + WANTED_EVERY);
                false
            }
            () = sleep_until(began + verdict), if !down => {
                let Some(peer) = peer.upgrade() else { return };
                let heard = peer.health.heard_since(began);
                if !heard {
                    down = true;
                    peer.fall(why);
                }
                heard
            }
        };
        if answered {
            return peer.upgrade().map_or((), |peer| peer.rise(began));
        }
    }
}

/// Until the next probe: short at first, longer for one that has been away for long.
fn interval(away: Duration, tuning: &Tuning) -> Duration {
    (away / 20).clamp(tuning.probe_every, tuning.probe_every * 8).mul_f64(rand::random_range(0.8..1.2))
}

/// One probe with its count.
pub(super) async fn send(peer: &Peer, sent: &Sent) -> Result<(), Trouble> {
    let way = async {
        if peer.tcp {
            over_tcp(peer.address, sent, &peer.stats).await
        } else {
            over_udp(peer.address, sent, &peer.stats).await
        }
    };
    let result = timeout(peer.tuning.verdict, way).await.unwrap_or(Err(Trouble::Timeout));
    peer.stats.probed(result);
    if result.is_ok() {
        peer.health.heard(Instant::now());
    }
    result
}

async fn over_udp(upstream: SocketAddr, sent: &Sent, stats: &Stats) -> Result<(), Trouble> {
    let said = |error: std::io::Error| trouble(&error);
    let socket: UdpSocket = connected(upstream).map_err(said)?;
    let id = rand::random();
    let mut datagram = Vec::with_capacity(sent.length());
    sent.write(id, &mut datagram);
    socket.send(&datagram).await.map_err(said)?;
    let mut buffer = vec![0; 4096];
    loop {
        let (length, source) = socket.recv_from(&mut buffer).await.map_err(said)?;
        let same = (source.ip(), source.port()) == (upstream.ip(), upstream.port());
        match if same { sent.check(id, &buffer[..length]) } else { Checked::Wrong(Reject::Source) } {
            Checked::Whole(_) | Checked::Truncated => return Ok(()),
            Checked::Wrong(reason) => stats.rejected(reason),
        }
    }
}

async fn over_tcp(upstream: SocketAddr, sent: &Sent, stats: &Stats) -> Result<(), Trouble> {
    let mut stream = TcpStream::connect(upstream).await.map_err(|error| trouble(&error))?;
    let id = rand::random();
    let mut frame = (sent.length() as u16).to_be_bytes().to_vec();
    sent.write(id, &mut frame);
    stream.write_all(&frame).await.map_err(|_| Trouble::Closed)?;
    for _ in 0..WRONG {
        let length = stream.read_u16().await.map_err(|_| Trouble::Closed)?;
        frame.resize(length.into(), 0);
        stream.read_exact(&mut frame).await.map_err(|_| Trouble::Closed)?;
        match sent.check(id, &frame) {
            Checked::Whole(_) | Checked::Truncated => return Ok(()),
            Checked::Wrong(reason) => stats.rejected(reason),
        }
    }
    Err(Trouble::Closed)
}
