//! The floor: what the kernel takes for a datagram in and one out, with nothing in between.
//!
//! It sends back what came with so many octets of zero behind it, so that its datagrams are as long as segdns's answers.

use std::io;
use std::net::UdpSocket;

use super::mmsg::{Batch, OCTETS};

/// Datagrams per system call.
const SLOTS: usize = 32;

/// Serves until it is killed.
///
/// # Errors
/// What the system says of the socket.
pub fn serve(socket: &UdpSocket, append: usize) -> io::Result<()> {
    let mut batch = Batch::new(SLOTS, false);
    loop {
        let got = match batch.receive(socket, true) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for at in 0..got {
            // What lies behind the datagram in its buffer is never written, and so is zero.
            let octets = batch.datagram(at).len() + append;
            batch.set_length(at, octets.min(OCTETS));
        }
        // What the kernel refuses is lost, and the generator counts it.
        let _ = batch.send(socket, got);
    }
}
