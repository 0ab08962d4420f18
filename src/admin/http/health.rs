//! A query to itself, through the sockets that pods use, and whether every worker gets on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::dns::listen::pulse::{Hung, Pulses};
use crate::dns::query::HEADER;
use crate::mesh::name::Name;
use crate::table::decide::rtype;
use crate::table::key::wire_of;

/// How long an answer may take.
const WAIT: Duration = Duration::from_secs(1);
/// A batch takes microseconds; on a node out of breath, milliseconds.
const HUNG: Duration = Duration::from_secs(5);

/// Workers that have been at one batch for too long, a line each: the query to itself may have been answered by another one, or
/// by another process that holds the same sockets.
pub fn hung(pulses: &Pulses) -> Vec<String> {
    let line = |Hung { worker, address, busy }: Hung| {
        let of = address.map_or(String::new(), |address| format!(" of {address}"));
        format!("worker {worker}{of} has been busy for {} s", busy.as_secs())
    };
    pulses.hung(HUNG).into_iter().map(line).collect()
}

/// Asks the first address for the SOA of `apex`; any answer will do.
///
/// # Errors
/// Why there was none, for people.
pub async fn ask(listen: &[SocketAddr], apex: &Name) -> Result<(), String> {
    let first = listen.first().ok_or("there is no address to ask")?;
    let to = SocketAddr::new(reachable(first.ip()), first.port());
    let id: u16 = rand::random();
    match timeout(WAIT, exchange(to, id, &query(id, apex))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("a query to {to} cannot be sent: {error}")),
        Err(_) => Err(format!("a query to {to} was not answered within {} s", WAIT.as_secs())),
    }
}

/// A wildcard address is asked on loopback.
pub fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn query(id: u16, apex: &Name) -> Vec<u8> {
    let mut wire = Vec::with_capacity(64);
    for word in [id, 0, 1, 0, 0, 0] {
        wire.extend(word.to_be_bytes());
    }
    wire.extend(wire_of(apex.as_str()).unwrap_or_default());
    wire.push(0);
    wire.extend(rtype::SOA.to_be_bytes());
    wire.extend(1u16.to_be_bytes());
    wire
}

async fn exchange(to: SocketAddr, id: u16, query: &[u8]) -> std::io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(to).await?;
    socket.send(query).await?;
    let mut answer = [0; 512];
    loop {
        let size = socket.recv(&mut answer).await?;
        if size >= HEADER && answer[..2] == id.to_be_bytes() {
            return Ok(());
        }
    }
}
