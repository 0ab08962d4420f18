//! The upstream of caches and forwarders: it knows every name of the world, and costs as little as it can.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use super::cores;
use super::data::{self, EXTERNAL_ADDRESS, FLEETING};
use super::mmsg::Batch;

/// Datagrams per system call.
const SLOTS: usize = 64;
/// Longer than any run of the bench, so that what is cached stays.
const TTL: u32 = 3600;
/// How the names end that a search path makes of external ones: they do not exist.
const SEARCHED: &[u8] = b"\x05local\0";
/// How names begin that nobody has.
const ABSENT: &[u8] = b"\x0axyz-";
/// The type NS, which some ask for the root with.
const NS: u8 = 2;

/// Starts it on a port of 127.0.0.1 and tells where. It runs as long as the process.
///
/// # Errors
/// The system's.
pub fn start() -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    super::generate::widen(&socket);
    let address = socket.local_addr()?;
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        cores::pin(cores::GENERATOR);
        // It shares a core with the generator, which never sleeps.
        cores::be_urgent();
        let error = serve(&socket);
        eprintln!("peers: the upstream ended: {error:?}");
    })?;
    Ok(address)
}

fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut batch = Batch::new(SLOTS, false);
    loop {
        let got = match batch.receive(socket, true) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for at in 0..got {
            let length = batch.datagram(at).len();
            let octets = answer(batch.buffer(at), length);
            batch.set_length(at, octets);
        }
        let _ = batch.send(socket, got);
    }
}

/// Turns a query into its answer, in place, and tells its length. EDNS is dropped: nobody here needs it.
fn answer(message: &mut [u8], length: usize) -> usize {
    let Some(end) = question_end(&message[..length]) else { return length.min(12) };
    let (name, rtype) = (&message[12..end - 4], message[end - 3]);
    let searched = name.ends_with(SEARCHED) && name.windows(5).any(|part| part == b"host-");
    let ttl: u32 = if name[1..].starts_with(FLEETING.as_bytes()) { 0 } else { TTL };
    let absent = searched || name.starts_with(ABSENT);
    let ip = service(&name[1..]).map_or(EXTERNAL_ADDRESS, data::address);
    let address = !absent && rtype == 1 && name.len() > 1;
    message[2] = 0x80 | message[2] & 1;
    message[3] = if absent { 0x83 } else { 0x80 };
    message[4..12].copy_from_slice(&[0, 1, 0, u8::from(address), 0, u8::from(!address && rtype != NS), 0, 0]);
    let mut at = end;
    let mut put = |octets: &[u8]| {
        message[at..at + octets.len()].copy_from_slice(octets);
        at += octets.len();
    };
    if address {
        put(&[0xc0, 12, 0, 1, 0, 1]);
        put(&ttl.to_be_bytes());
        put(&[0, 4]);
        put(&ip.octets());
    } else if rtype != NS {
        // An SOA of the root, with names that are the root's: the shortest that is valid.
        put(&[0, 0, 6, 0, 1]);
        put(&TTL.to_be_bytes());
        put(&[0, 22, 0, 0]);
        for number in [1, 7200, 1800, 86_400, TTL] {
            put(&number.to_be_bytes());
        }
    }
    at
}

/// The number of a service, if the first label names one.
fn service(name: &[u8]) -> Option<usize> {
    std::str::from_utf8(name.strip_prefix(b"svc-")?.get(..6)?).ok()?.parse().ok()
}

/// Where the one question ends; `None` if it does not.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*message.get(at)?) {
            0 => break,
            label => at += 1 + label,
        }
    }
    (at + 5 <= message.len()).then_some(at + 5)
}
