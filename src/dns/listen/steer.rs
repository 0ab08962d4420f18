//! Which socket of a SO_REUSEPORT group a datagram goes to: a classic BPF program that the kernel runs for each one.
//!
//! Without a program the kernel spreads datagrams over the sockets of a group by a hash of their addresses and ports. The
//! program does the same over a part of the sockets, and sends the callers on a list to another part. It needs no
//! privilege. What it returns is the number of a socket in the group, in the order of binding; where that is too large the
//! kernel falls back to its hash.
//!
//! Two processes that share an address are one group, with the program that was attached last; and when a socket is closed,
//! the last of the group gets its number. So any socket may come to be in any part: all are alike, and each has a reader.

use std::io;
use std::net::IpAddr;
use std::ops::Range;

use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MISC, BPF_MOD, BPF_MUL, BPF_RET,
};
use libc::{BPF_RSH, BPF_TAX, BPF_W, BPF_X, SKF_NET_OFF, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

/// The callers on a list are at most so many: all of them are compared with each datagram's source.
pub(super) const MOST: usize = 8;

/// Where the source address is in an IPv4 header, in octets; and the source port behind one without options. With options
/// something else is hashed there, which does as well.
const V4: Header = Header { source: 12, port: 20 };
/// The same for IPv6; extension headers are as options are above.
const V6: Header = Header { source: 8, port: 40 };
/// A prime next to 2^32 divided by the golden ratio: addresses and ports that follow one another are spread evenly by
/// the upper half of its product with them (Knuth's multiplicative hashing).
const GOLDEN: u32 = 0x9e37_79b1;

struct Header {
    source: u32,
    port: u32,
}

/// Which sockets of a group serve whom, by their numbers in it. A part is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Everybody but those on the list.
    pub(super) everybody: Range<u32>,
    /// Those on the list.
    pub(super) apart: Range<u32>,
}

/// The program of a group whose address is IPv6 (`six`) or IPv4; callers of the other family never come there. Of a longer
/// list the first [`MOST`] count.
pub(super) fn program(parts: &Parts, list: &[IpAddr], six: bool) -> Vec<sock_filter> {
    let list: Vec<_> = list.iter().filter(|ip| ip.is_ipv6() == six).take(MOST).map(|ip| words(*ip)).collect();
    let everybody = spread(&parts.everybody, six);
    let mut program = Vec::new();
    for (at, caller) in list.iter().enumerate() {
        let left: usize = list[at + 1..].iter().map(|other| 2 * other.len()).sum();
        program.extend(compare(caller, six, left + everybody.len()));
    }
    program.extend(everybody);
    if !list.is_empty() {
        program.extend(spread(&parts.apart, six));
    }
    program
}

/// Puts a program in the place of a group's last one; `socket` is any of the group.
///
/// # Errors
/// The system's: none of its memory is left for programs, or it has none (gVisor, a filter of system calls).
pub(super) fn attach(socket: &Socket, program: &mut [sock_filter]) -> io::Result<()> {
    let len = program.len().try_into().map_err(io::Error::other)?;
    setsockopt(socket, sockopt::AttachReusePortCbpf, &sock_fprog { len, filter: program.as_mut_ptr() })?;
    Ok(())
}

/// One of these sockets by source address and port: a caller with one socket stays with one worker, one with many uses all.
fn spread(part: &Range<u32>, six: bool) -> Vec<sock_filter> {
    let count = part.end.saturating_sub(part.start);
    if count <= 1 {
        return vec![step(BPF_RET | BPF_K, part.start)];
    }
    let header = header(six);
    let mut program = Vec::new();
    if six {
        // Callers of a node differ in the lower half.
        program.extend([load(header.source + 8), step(BPF_MISC | BPF_TAX, 0), load(header.source + 12)]);
        program.push(step(BPF_ALU | BPF_ADD | BPF_X, 0));
    } else {
        program.push(load(header.source));
    }
    program.extend([
        // Else the next address with the port before would be the same again.
        step(BPF_ALU | BPF_MUL | BPF_K, GOLDEN),
        step(BPF_MISC | BPF_TAX, 0),
        step(BPF_LD | BPF_H | BPF_ABS, in_header(header.port)),
        step(BPF_ALU | BPF_ADD | BPF_X, 0),
        step(BPF_ALU | BPF_MUL | BPF_K, GOLDEN),
        step(BPF_ALU | BPF_RSH | BPF_K, 16),
        step(BPF_ALU | BPF_MOD | BPF_K, count),
        step(BPF_ALU | BPF_ADD | BPF_K, part.start),
        step(BPF_RET | BPF_A, 0),
    ]);
    program
}

/// Compares the source with a caller, two steps a word, the last word first, in which callers of a node differ. If it is this
/// caller, `behind` steps that follow are left out.
fn compare(caller: &[u32], six: bool, behind: usize) -> Vec<sock_filter> {
    let source = header(six).source;
    let mut program = Vec::new();
    for (at, word) in caller.iter().enumerate().rev() {
        // Of at most MOST callers the program is shorter than a jump can be.
        let (yes, no) = if at == 0 { (behind as u8, 0) } else { (0, 2 * at as u8) };
        program.push(load(source + 4 * at as u32));
        program.push(sock_filter { jt: yes, jf: no, ..step(BPF_JMP | BPF_JEQ | BPF_K, *word) });
    }
    program
}

fn header(six: bool) -> Header {
    if six { V6 } else { V4 }
}

fn words(ip: IpAddr) -> Vec<u32> {
    match ip {
        IpAddr::V4(ip) => vec![ip.to_bits()],
        IpAddr::V6(ip) => ip.octets().as_chunks().0.iter().map(|word| u32::from_be_bytes(*word)).collect(),
    }
}

fn load(offset: u32) -> sock_filter {
    step(BPF_LD | BPF_W | BPF_ABS, in_header(offset))
}

/// An offset in the network header; offsets as such are in the UDP payload.
fn in_header(offset: u32) -> u32 {
    SKF_NET_OFF.cast_unsigned() + offset
}

fn step(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests;
