//! `recvmmsg` and `sendmmsg` over IPv4, for the echo, the upstream and the generator: the bench's only unsafe code for sockets.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{iovec, mmsghdr, sockaddr_in, socklen_t};

/// Room for one datagram: no question or answer of the bench is longer.
pub const OCTETS: usize = 512;

/// Buffers for so many datagrams, each with the address it came from.
pub struct Batch {
    headers: Vec<mmsghdr>,
    // The headers point into these three, which are therefore never moved or grown.
    vecs: Box<[iovec]>,
    names: Box<[sockaddr_in]>,
    buffers: Box<[[u8; OCTETS]]>,
    /// Headers whose lengths the last call has changed.
    used: usize,
}

impl Batch {
    /// Room for `slots` datagrams. A connected socket needs no addresses, and is faster without.
    #[must_use]
    pub fn new(slots: usize, connected: bool) -> Self {
        // SAFETY: integers and raw pointers are valid when zero.
        let (name, vec, header) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        let mut batch = Self {
            headers: vec![header; slots],
            vecs: vec![vec; slots].into_boxed_slice(),
            names: vec![name; slots].into_boxed_slice(),
            buffers: vec![[0; OCTETS]; slots].into_boxed_slice(),
            used: slots,
        };
        let (vecs, names) = (batch.vecs.as_mut_ptr(), batch.names.as_mut_ptr());
        for (at, header) in batch.headers.iter_mut().enumerate() {
            batch.vecs[at].iov_base = batch.buffers[at].as_mut_ptr().cast();
            header.msg_hdr.msg_iov = vecs.wrapping_add(at);
            header.msg_hdr.msg_iovlen = 1;
            if !connected {
                header.msg_hdr.msg_name = names.wrapping_add(at).cast();
            }
        }
        batch
    }

    /// Takes what is there, and how many that is; if `wait`, at least one.
    ///
    /// # Errors
    /// The system's; `WouldBlock` if nothing is there.
    pub fn receive(&mut self, socket: &impl AsRawFd, wait: bool) -> io::Result<usize> {
        for (header, vec) in self.headers.iter_mut().zip(&mut self.vecs).take(self.used) {
            header.msg_hdr.msg_namelen = mem::size_of::<sockaddr_in>() as socklen_t;
            vec.iov_len = OCTETS;
        }
        self.used = 0;
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        let (headers, slots) = (self.headers.as_mut_ptr(), self.headers.len());
        // SAFETY: every header points at a vector, a name and a buffer of its own that self owns and does not move.
        let got = unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, slots as _, flags as _, ptr::null_mut()) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        self.used = got as usize;
        Ok(self.used)
    }

    /// A received datagram.
    #[must_use]
    pub fn datagram(&self, at: usize) -> &[u8] {
        &self.buffers[at][..(self.headers[at].msg_len as usize).min(OCTETS)]
    }

    /// Its buffer, to write what is sent from this slot; see [`Batch::set_length`].
    pub fn buffer(&mut self, at: usize) -> &mut [u8; OCTETS] {
        &mut self.buffers[at]
    }

    /// So many octets of the buffer are sent.
    pub fn set_length(&mut self, at: usize, octets: usize) {
        self.vecs[at].iov_len = octets.min(OCTETS);
        self.used = self.used.max(at + 1);
    }

    /// Sends the first `count` slots, each to where its last datagram came from, or to whom the socket is connected to.
    /// Tells how many were sent.
    ///
    /// # Errors
    /// The system's, if not even the first was sent.
    pub fn send(&mut self, socket: &impl AsRawFd, count: usize) -> io::Result<usize> {
        let headers = &mut self.headers[..count];
        // SAFETY: as in `receive`.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as _, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}
