//! `recvmmsg` and `sendmmsg`: unsafe code behind an interface that cannot be misused.
//!
//! The calls are made without the C library: glibc's are points of cancellation, which costs a lone query a tenth of its
//! instructions, and musl's `sendmmsg` sends one datagram at a time. Its headers are the kernel's on machines of 64 bits and
//! least significant octet first, where every padding is zero.
//!
//! nix shares one control message between all messages of a `sendmmsg`, and quinn-udp has no `sendmmsg`; so a reply
//! per datagram with its own source address takes the calls themselves.

#![expect(unsafe_code, reason = "recvmmsg and sendmmsg with a source address for each reply are in no safe crate")]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use libc::{c_void, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr, sockaddr_in, sockaddr_in6};
use libc::{sockaddr_storage, socklen_t};
use socket2::Socket;

const _: () = assert!(cfg!(all(target_pointer_width = "64", target_endian = "little")), "see the module's page");

/// Datagrams per system call: two calls for 64 queries are 0.03 calls a query.
pub(in crate::dns) const SLOTS: usize = 64;
/// Datagrams that [`send_all`] gives to one system call.
const TOGETHER: usize = 32;
/// Octets kept of a received datagram; what is longer is flagged as truncated.
pub(in crate::dns) const QUERY_OCTETS: usize = 4096;
/// Octets of an answer written in place; R24 clamps the UDP payload to 1232.
pub(super) const ANSWER_OCTETS: usize = 1536;

/// Enough for one `IP_PKTINFO` (32 octets) or `IPV6_PKTINFO` (40 octets) control message.
const CONTROL_OCTETS: usize = 40;

/// Control messages have to be aligned as `cmsghdr` is.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_OCTETS]);

/// One datagram and its answer. The odd size is wanted: buffers at multiples of 4096 would share cache sets.
#[repr(C)]
struct Slot {
    name: sockaddr_storage,
    control: Control,
    query_vec: iovec,
    answer_vec: iovec,
    answer: [u8; ANSWER_OCTETS],
    query: [u8; QUERY_OCTETS],
}

/// A received datagram, with the place its answer is written to.
pub(in crate::dns) struct Datagram<'a> {
    /// Who sent it.
    pub(in crate::dns) from: SocketAddr,
    /// What was received, up to [`QUERY_OCTETS`].
    pub(in crate::dns) query: &'a [u8],
    /// Where the answer goes.
    pub(super) answer: &'a mut [u8],
    /// The datagram was longer than [`QUERY_OCTETS`].
    pub(super) truncated: bool,
}

/// Where an answer goes to and which local address it leaves from, kept for an answer that comes later.
#[derive(Clone, Copy)]
pub(in crate::dns) struct Route {
    control: Control,
    control_len: u32,
    name_len: socklen_t,
    /// Room for either family: a `sockaddr_storage` would be four times what is in it.
    name: sockaddr_in6,
}

/// The buffers of one UDP worker: [`SLOTS`] datagrams and their answers, allocated once.
pub(in crate::dns) struct Batch {
    /// Owned, [`SLOTS`] long. The headers point into it, so it is only ever reached through this pointer: a `Box`
    /// would claim to be the only way in.
    slots: *mut Slot,
    received: Box<[mmsghdr]>,
    answers: Box<[mmsghdr]>,
    used: usize,
    queued: usize,
    control_len: usize,
}

impl Batch {
    /// Allocates the buffers; `wildcard` if the socket reports the address each datagram was sent to.
    pub(in crate::dns) fn new(wildcard: bool) -> Self {
        // SAFETY: integers, octet arrays and raw pointers are all valid when zero.
        let slots = unsafe { Box::<[Slot]>::new_zeroed_slice(SLOTS).assume_init() };
        let slots = Box::into_raw(slots).cast::<Slot>();
        let mut batch = Self {
            slots,
            received: (0..SLOTS).map(|_| empty_header()).collect(),
            answers: (0..SLOTS).map(|_| empty_header()).collect(),
            used: SLOTS,
            queued: 0,
            control_len: if wildcard { CONTROL_OCTETS } else { 0 },
        };
        for index in 0..SLOTS {
            batch.wire(index);
        }
        batch
    }

    /// Points the headers of one slot at its buffers; they stay there for good.
    fn wire(&mut self, index: usize) {
        // SAFETY: index < SLOTS, so the slot lies in the allocation; only field addresses are taken and plain
        // values written, no reference is made.
        unsafe {
            let slot = self.slots.add(index);
            (*slot).query_vec = iovec { iov_base: (&raw mut (*slot).query).cast(), iov_len: QUERY_OCTETS };
            (*slot).answer_vec = iovec { iov_base: (&raw mut (*slot).answer).cast(), iov_len: 0 };
            let header = &mut self.received[index].msg_hdr;
            header.msg_name = (&raw mut (*slot).name).cast();
            header.msg_iov = &raw mut (*slot).query_vec;
            header.msg_iovlen = 1;
            if self.control_len > 0 {
                header.msg_control = (&raw mut (*slot).control).cast();
            }
            self.answers[index].msg_hdr.msg_iovlen = 1;
        }
    }

    /// Waits for one datagram if it is to `wait`, and takes all that are there, up to [`SLOTS`]; gives their number. Zero means
    /// that the socket was shut down.
    ///
    /// # Errors
    /// What `recvmmsg` reports; `Interrupted` and `WouldBlock` are harmless.
    pub(in crate::dns) fn receive(&mut self, socket: &Socket, wait: bool) -> io::Result<usize> {
        for header in &mut self.received[..self.used] {
            header.msg_hdr.msg_namelen = mem::size_of::<sockaddr_storage>() as socklen_t;
            header.msg_hdr.msg_controllen = self.control_len as _;
            header.msg_hdr.msg_flags = 0;
        }
        self.used = 0;
        let headers = self.received.as_mut_ptr();
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: SLOTS headers, each wired to buffers of its own slot that live as long as self, which is borrowed
        // exclusively for the call.
        let got = unsafe {
            let none = ptr::null_mut::<libc::timespec>();
            libc::syscall(libc::SYS_recvmmsg, socket.as_raw_fd(), headers, SLOTS, flags, none)
        };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        self.used = got as usize;
        // A socket that was shut down reports one message from nobody.
        if got == 1 && self.received[0].msg_hdr.msg_namelen == 0 {
            return Ok(0);
        }
        Ok(self.used)
    }

    /// The datagram in a slot filled by the last [`Batch::receive`]; `None` if it has no Internet address.
    pub(in crate::dns) fn datagram(&mut self, index: usize) -> Option<Datagram<'_>> {
        let message = self.received[..self.used].get(index)?;
        let len = (message.msg_len as usize).min(QUERY_OCTETS);
        let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        // SAFETY: index < used <= SLOTS; self is borrowed exclusively as long as the reference lives, and the
        // kernel writes to the slot only within `receive`.
        let slot = unsafe { &mut *self.slots.add(index) };
        let from = socket_address(&slot.name, message.msg_hdr.msg_namelen)?;
        Some(Datagram { from, query: &slot.query[..len], answer: &mut slot.answer, truncated })
    }

    /// What was received in a slot by the last [`Batch::receive`]; nothing if it received less.
    pub(super) fn query(&self, index: usize) -> &[u8] {
        let Some(message) = self.received[..self.used].get(index) else { return &[] };
        let len = (message.msg_len as usize).min(QUERY_OCTETS);
        // SAFETY: index < used <= SLOTS, and nothing writes to the slot while self is borrowed.
        let slot = unsafe { &*self.slots.add(index) };
        &slot.query[..len]
    }

    /// Queues the first `len` octets of the slot's answer for [`Batch::send`].
    pub(super) fn answer(&mut self, index: usize, len: usize) {
        let from = &self.received[..self.used][index].msg_hdr;
        let (name_len, control_len): (_, usize) = (from.msg_namelen, from.msg_controllen as _);
        // SAFETY: index < used <= SLOTS, and self is borrowed exclusively; see `datagram`.
        let slot = unsafe { &mut *self.slots.add(index) };
        slot.answer_vec.iov_len = len.min(ANSWER_OCTETS);
        let header = &mut self.answers[self.queued].msg_hdr;
        header.msg_name = from.msg_name;
        header.msg_namelen = name_len;
        if self.control_len > 0 {
            free_of_interface(&mut slot.control, control_len);
            header.msg_control = if control_len > 0 { from.msg_control } else { ptr::null_mut() };
            header.msg_controllen = control_len as _;
        }
        // SAFETY: as above; the address of the field comes from the owning pointer and so outlives the reference.
        header.msg_iov = unsafe { &raw mut (*self.slots.add(index)).answer_vec };
        self.queued += 1;
    }

    /// The way back to the sender of a slot's datagram.
    pub(super) fn route(&self, index: usize) -> Route {
        let header = &self.received[..self.used][index].msg_hdr;
        // SAFETY: index < used <= SLOTS, and nothing writes to the slot while self is borrowed.
        let slot = unsafe { &*self.slots.add(index) };
        let control_len: usize = if self.control_len > 0 { header.msg_controllen as _ } else { 0 };
        let mut control = slot.control;
        free_of_interface(&mut control, control_len);
        // SAFETY: sockaddr_storage is at least as large and as aligned as sockaddr_in6, which any octets are good for.
        let name = unsafe { ptr::from_ref(&slot.name).cast::<sockaddr_in6>().read() };
        let name_len = header.msg_namelen.min(mem::size_of::<sockaddr_in6>() as socklen_t);
        Route { control, control_len: control_len.min(CONTROL_OCTETS) as u32, name_len, name }
    }

    /// Sends the queued answers without waiting. A datagram that the kernel refuses (EPERM of a packet filter, EAGAIN
    /// of a full buffer) is handed to `failed` and left out; the rest is still sent. At most one call per datagram.
    pub(super) fn send(&mut self, socket: &Socket, mut failed: impl FnMut(io::Error)) {
        // SAFETY: every header in the slice was set by `answer` to point into slots that live as long as self.
        unsafe { send_headers(socket, &mut self.answers[..self.queued], |_, error| failed(error)) };
        self.queued = 0;
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: the pointer came out of a box of SLOTS slots in `new`, and nothing else frees it.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.slots, SLOTS)) });
    }
}

/// `sendmmsg` until everything was tried. What the kernel refuses is handed to `failed` by its number and left out.
///
/// # Safety
/// What the headers point at is there for as long as this takes, and may be read.
unsafe fn send_headers(socket: &Socket, headers: &mut [mmsghdr], mut failed: impl FnMut(usize, io::Error)) {
    let mut next = 0;
    while let Some(rest) = headers.get_mut(next..).filter(|rest| !rest.is_empty()) {
        let (at, all) = (rest.as_mut_ptr(), rest.len());
        // SAFETY: so many headers are there, and the caller vouches for what they point at.
        let sent = unsafe { libc::syscall(libc::SYS_sendmmsg, socket.as_raw_fd(), at, all, libc::MSG_DONTWAIT) };
        if sent > 0 {
            next += sent as usize;
        } else {
            failed(next, io::Error::last_os_error());
            next += 1;
        }
    }
}

/// Sends datagrams in order, each to where its route leads, or to where the socket is connected, without waiting. One that
/// the kernel refuses is handed to `failed` by its number and left out; the rest is still sent.
pub(in crate::dns) fn send_all<'a>(
    socket: &Socket,
    mut letters: impl Iterator<Item = (Option<&'a Route>, &'a [u8])>,
    mut failed: impl FnMut(usize, io::Error),
) {
    let mut first = 0;
    loop {
        let mut headers = [const { empty_header() }; TOGETHER];
        let mut vecs = [iovec { iov_base: ptr::null_mut(), iov_len: 0 }; TOGETHER];
        let mut count = 0;
        for ((header, vec), (route, octets)) in headers.iter_mut().zip(&mut vecs).zip(&mut letters) {
            *vec = iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
            header.msg_hdr = route.map_or_else(|| empty_header().msg_hdr, Route::header);
            header.msg_hdr.msg_iov = vec;
            header.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: each header points at its vec, which points at octets, and at a route or nothing; all outlive the call,
        // which writes to the headers only.
        unsafe { send_headers(socket, &mut headers[..count], |next, error| failed(first + next, error)) };
        first += count;
        if count < TOGETHER {
            return;
        }
    }
}

impl Route {
    /// A header that leads there and holds nothing yet. Good as long as the route stays where it is.
    fn header(&self) -> msghdr {
        let mut header = empty_header().msg_hdr;
        header.msg_name = (&raw const self.name).cast_mut().cast();
        header.msg_namelen = self.name_len;
        if self.control_len > 0 {
            header.msg_control = (&raw const self.control).cast_mut().cast();
            header.msg_controllen = self.control_len as _;
        }
        header
    }
}

/// A header without buffers; zeroed because libcs pad it differently.
const fn empty_header() -> mmsghdr {
    // SAFETY: integers and raw pointers are valid when zero.
    unsafe { mem::zeroed() }
}

/// Reads the address the kernel wrote.
fn socket_address(name: &sockaddr_storage, len: socklen_t) -> Option<SocketAddr> {
    let len = len as usize;
    let start = ptr::from_ref(name);
    match i32::from(name.ss_family) {
        libc::AF_INET if len >= mem::size_of::<sockaddr_in>() => {
            // SAFETY: sockaddr_storage is at least as large and as aligned, and the family says what it holds.
            let v4 = unsafe { &*start.cast::<sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 if len >= mem::size_of::<sockaddr_in6>() => {
            // SAFETY: as above.
            let v6 = unsafe { &*start.cast::<sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

/// Makes a received packet info fit for sending: the source address stays, but routing picks the interface, as for
/// any other socket of the node; a link-local IPv6 address means nothing without its interface, which is kept.
fn free_of_interface(control: &mut Control, len: usize) {
    let mut header: msghdr = empty_header().msg_hdr;
    header.msg_control = ptr::from_mut(control).cast::<c_void>();
    header.msg_controllen = len.min(CONTROL_OCTETS) as _;
    // SAFETY: the header describes `control`, aligned for cmsghdr and exclusively borrowed; CMSG_FIRSTHDR checks that
    // a cmsghdr fits, and the comparison with CMSG_LEN that the payload is whole. Payloads are accessed unaligned.
    unsafe {
        let first: *mut cmsghdr = libc::CMSG_FIRSTHDR(&raw const header);
        if first.is_null() || (*first).cmsg_len as usize > len {
            return;
        }
        let (kind, size, data) =
            (((*first).cmsg_level, (*first).cmsg_type), (*first).cmsg_len as usize, libc::CMSG_DATA(first));
        if kind == (libc::IPPROTO_IP, libc::IP_PKTINFO)
            && size >= libc::CMSG_LEN(mem::size_of::<in_pktinfo>() as u32) as usize
        {
            let mut info = data.cast::<in_pktinfo>().read_unaligned();
            info.ipi_ifindex = 0;
            data.cast::<in_pktinfo>().write_unaligned(info);
        } else if kind == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
            && size >= libc::CMSG_LEN(mem::size_of::<in6_pktinfo>() as u32) as usize
        {
            let mut info = data.cast::<in6_pktinfo>().read_unaligned();
            if !Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local() {
                info.ipi6_ifindex = 0;
                data.cast::<in6_pktinfo>().write_unaligned(info);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn one_refused_answer_does_not_take_the_rest_with_it() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for text in [b"a", b"b", b"c"] {
            client.send_to(text, server.local_addr().unwrap()).unwrap();
        }
        let server = Socket::from(server);
        let mut batch = Batch::new(false);
        assert_eq!(batch.receive(&server, true).unwrap(), 3);
        for index in 0..3 {
            let datagram = batch.datagram(index).unwrap();
            datagram.answer[0] = datagram.query[0];
            batch.answer(index, 1);
        }
        batch.answers[1].msg_hdr.msg_namelen = 1;
        let mut failures = Vec::new();
        batch.send(&server, |error| failures.push(error.raw_os_error()));
        assert_eq!(failures, [Some(libc::EINVAL)]);
        let mut buffer = [0; 8];
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], b'a');
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], b'c');
    }

    #[test]
    fn a_datagram_over_the_buffer_is_cut_and_flagged() {
        let server = UdpSocket::bind("[::1]:0").unwrap();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        client.send_to(&[7; QUERY_OCTETS + 1], server.local_addr().unwrap()).unwrap();
        let mut batch = Batch::new(false);
        assert_eq!(batch.receive(&Socket::from(server), true).unwrap(), 1);
        let datagram = batch.datagram(0).unwrap();
        assert!(datagram.truncated);
        assert_eq!(datagram.query, [7; QUERY_OCTETS]);
        assert_eq!(datagram.from, client.local_addr().unwrap());
    }
}
