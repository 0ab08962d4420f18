//! Writes answers from prebuilt parts into a reused buffer: no allocation, no lock, no syscall.
//!
//! What is written here is everything that the hot path answers by itself. The general path uses it too, for the same
//! decisions, so that both give the same octets.

use crate::table::Table;
use crate::table::decide::{Decision, Reason, Verdict, rtype};
use crate::table::key::Key;
use crate::table::node::{A, AAAA};

use super::query::{HEADER, PAYLOAD, Query, flag, rcode};

/// Extended DNS errors (RFC 8914) that we send.
pub mod ede {
    /// The answer is over its lifetime (RFC 8767).
    pub const STALE: u16 = 3;
    /// Not ready yet.
    pub const NOT_READY: u16 = 14;
    /// The asker is not one that may ask this.
    pub const PROHIBITED: u16 = 18;
    /// No upstream can be reached.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
}

/// A query with its packet, its name and how long its answer may be.
#[derive(Clone, Copy)]
pub struct Asked<'p> {
    /// The packet.
    pub packet: &'p [u8],
    /// What it asks.
    pub query: &'p Query,
    /// Its name.
    pub key: &'p Key,
    /// Longest answer, octets.
    pub limit: usize,
}

/// Octets of an OPT record without options.
const OPT: usize = 11;
/// Octets of an extended error without text.
const EDE: usize = 6;

pub(super) struct Writer<'o> {
    pub(super) out: &'o mut [u8],
    pub(super) at: usize,
}

impl Writer<'_> {
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// As [`Writer::put`], of tens of octets: without a call.
    #[inline(always)]
    pub(super) fn put_short(&mut self, bytes: &[u8]) {
        let to = &mut self.out[self.at..self.at + bytes.len()];
        self.at += bytes.len();
        // What is between the ends is copied twice, which is cheaper than to look how much that is.
        if let (Some(first), 48..=64) = (bytes.first_chunk::<48>(), bytes.len()) {
            to[..48].copy_from_slice(first);
        } else if let (Some(first), 32..48) = (bytes.first_chunk::<32>(), bytes.len()) {
            to[..32].copy_from_slice(first);
        } else if let (Some(first), 16..32) = (bytes.first_chunk::<16>(), bytes.len()) {
            to[..16].copy_from_slice(first);
        } else {
            return to.copy_from_slice(bytes);
        }
        if let (Some(last), Some(end)) = (bytes.last_chunk::<16>(), to.last_chunk_mut()) {
            *end = *last;
        }
    }

    #[inline]
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    #[inline]
    pub(super) fn set_u16(&mut self, at: usize, value: u16) {
        self.out[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// A pointer to the question's name.
const QUESTION: [u8; 2] = [0xc0, HEADER as u8];

/// A pointer to an octet of this message (RFC 1035 section 4.1.4).
#[inline]
fn pointer(to: usize) -> [u8; 2] {
    (0xc000 | u16::try_from(to & 0x3fff).unwrap_or(0)).to_be_bytes()
}

/// Octets that the OPT of an answer takes.
#[inline]
pub(super) fn opt_size(query: &Query, ede: Option<u16>) -> usize {
    match (query.edns, ede) {
        (None, _) => 0,
        (Some(_), None) => OPT,
        (Some(_), Some(_)) => OPT + EDE,
    }
}

#[inline]
pub(super) fn put_opt(w: &mut Writer<'_>, query: &Query, code: u16, ede: Option<u16>) {
    let Some(edns) = query.edns else { return };
    let extended = u8::try_from(code >> 4).unwrap_or(0);
    let [high, low] = PAYLOAD.to_be_bytes();
    let dnssec_ok = if edns.dnssec_ok { 0x80 } else { 0 };
    w.put(&[0, 0, 41, high, low, extended, 0, dnssec_ok, 0, 0, if ede.is_some() { 6 } else { 0 }]);
    if let Some(code) = ede {
        w.put(&[0, 15, 0, 2]);
        w.put_u16(code);
    }
}

/// Header and question; the section counts stay zero but for the question's and the OPT's.
#[inline(always)]
pub(super) fn put_head(w: &mut Writer<'_>, asked: &Asked<'_>, flags: u16, code: u16) {
    let query = asked.query;
    let kept = query.flags & (flag::OPCODE | flag::RD | flag::CD);
    let [high, low] = (flag::QR | flag::RA | kept | flags | (code & 0xf)).to_be_bytes();
    let (questions, opts) = (u8::from(query.question != 0), u8::from(query.edns.is_some()));
    // The ID and the question come from the asker, what is between them does not.
    w.put_short(&asked.packet[..HEADER + query.question]);
    if let Some(between) = w.out.get_mut(2..HEADER) {
        between.copy_from_slice(&[high, low, 0, questions, 0, 0, 0, 0, 0, opts]);
    }
}

/// An answer without records: an error (R24), with an extended error where it explains one.
#[must_use]
pub fn bare(asked: &Asked<'_>, code: u16, ede: Option<u16>, out: &mut [u8]) -> usize {
    if out.len() < HEADER + asked.query.question + opt_size(asked.query, ede) {
        return 0;
    }
    let mut w = Writer { out, at: 0 };
    put_head(&mut w, asked, 0, code);
    put_opt(&mut w, asked.query, code, ede);
    w.at
}

/// Writes what was decided. `None` if the general path has to: what is not written from prebuilt parts.
/// `rotation` turns the order of several addresses.
#[inline(always)]
#[must_use]
pub fn decided(
    table: &Table,
    decision: &Decision<'_>,
    asked: &Asked<'_>,
    rotation: usize,
    out: &mut [u8],
) -> Option<usize> {
    let limit = asked.limit.min(out.len());
    if limit < HEADER + asked.query.question + OPT + EDE {
        return None;
    }
    let (code, view) = match decision.verdict {
        Verdict::Addresses(view) => (rcode::NOERROR, Some(view)),
        Verdict::NoData => (rcode::NOERROR, None),
        Verdict::NxDomain => (rcode::NXDOMAIN, None),
        Verdict::ServFail => return Some(bare(asked, rcode::SERVFAIL, explains(decision.reason), out)),
        Verdict::Chain(..) | Verdict::Cname(_) | Verdict::Services(_) | Verdict::Apex | Verdict::Any => return None,
        Verdict::Forward(_) | Verdict::Complete(_) | Verdict::HoldThenFail | Verdict::HoldThenForward => return None,
    };
    let mut w = Writer { out, at: 0 };
    put_head(&mut w, asked, flag::AA, code);
    if let Some(view) = view {
        let (turn, labels) = ((rotation, limit), decision.mesh_labels);
        if asked.query.rtype == rtype::A {
            put_addresses(&mut w, table, asked, view.a().as_chunks::<A>().0, turn, labels);
        } else {
            put_addresses(&mut w, table, asked, view.aaaa().as_chunks::<AAAA>().0, turn, labels);
        }
    } else {
        put_negative(&mut w, table, decision, asked, limit);
    }
    put_opt(&mut w, asked.query, 0, None);
    Some(w.at)
}

/// The extended error that explains a SERVFAIL; none of them depends on a name that the caller may not see (R13).
#[must_use]
pub fn explains(reason: Reason) -> Option<u16> {
    match reason {
        Reason::NotSynced | Reason::Grace => Some(ede::NOT_READY),
        Reason::CallerInvalid | Reason::CallerUnknown => Some(ede::PROHIBITED),
        Reason::UpstreamFailed => Some(ede::NO_REACHABLE_AUTHORITY),
        _ => None,
    }
}

/// R21: the CNAME from the question to the mesh name at its front, in the asker's spelling. Returns where the mesh name
/// stands in the message.
#[inline]
fn put_search_path(w: &mut Writer<'_>, table: &Table, asked: &Asked<'_>, labels: u8) -> usize {
    let length = asked.key.start(usize::from(labels));
    w.put(&record(QUESTION, rtype::CNAME, table.policy.ttl, length + 1));
    let at = w.at;
    w.put(&asked.packet[HEADER..HEADER + length]);
    w.put(&[0]);
    at
}

/// Octets that [`put_search_path`] takes.
fn search_path_size(asked: &Asked<'_>, labels: u8) -> usize {
    RECORD + asked.key.start(usize::from(labels)) + 1
}

/// What is before the RDATA of a record: its owner is where a pointer leads to.
const RECORD: usize = 12;

/// An owner that the message has already, type, class IN, TTL, and how long the RDATA is that follows.
#[inline]
fn record([to, owner]: [u8; 2], rtype: u16, ttl: u32, length: usize) -> [u8; RECORD] {
    let [r, r1] = rtype.to_be_bytes();
    let [t, t1, t2, t3] = ttl.to_be_bytes();
    let [high, low] = u16::try_from(length).unwrap_or(0).to_be_bytes();
    [to, owner, r, r1, 0, 1, t, t1, t2, t3, high, low]
}

/// Addresses, as many as fit: nearly always one of them, without anything before it.
#[inline(always)]
fn put_addresses<const SIZE: usize>(
    w: &mut Writer<'_>,
    table: &Table,
    asked: &Asked<'_>,
    addresses: &[[u8; SIZE]],
    (rotation, limit): (usize, usize),
    mesh_labels: Option<u8>,
) {
    let room = limit - opt_size(asked.query, None);
    if let (None, [one], true) = (mesh_labels, addresses, w.at + RECORD + SIZE <= room) {
        w.put(&record(QUESTION, asked.query.rtype, table.policy.ttl, SIZE));
        w.put(one);
        return w.set_u16(6, 1);
    }
    put_several(w, table, asked, addresses, (rotation, room), mesh_labels);
}

#[inline(never)]
fn put_several<const SIZE: usize>(
    w: &mut Writer<'_>,
    table: &Table,
    asked: &Asked<'_>,
    addresses: &[[u8; SIZE]],
    (rotation, room): (usize, usize),
    mesh_labels: Option<u8>,
) {
    let mut answers = 0;
    let mut owner = HEADER;
    if let Some(labels) = mesh_labels {
        if w.at + search_path_size(asked, labels) > room {
            return truncate(w);
        }
        owner = put_search_path(w, table, asked, labels);
        answers = 1;
    }
    let head = record(pointer(owner), asked.query.rtype, table.policy.ttl, SIZE);
    let fit = ((room - w.at) / (RECORD + SIZE)).min(addresses.len());
    let (last, first) = addresses.split_at(rotation % addresses.len().max(1));
    for address in first.iter().chain(last).take(fit) {
        w.put(&head);
        w.put(address);
    }
    w.set_u16(6, answers + u16::try_from(fit).unwrap_or(0));
    if fit < addresses.len() {
        truncate(w);
    }
}

#[inline]
fn truncate(w: &mut Writer<'_>) {
    w.out[2] |= (flag::TC >> 8) as u8;
}

/// The SOA of the zone that says no (RFC 2308); outside all zones that of the name itself.
#[inline]
fn put_negative(w: &mut Writer<'_>, table: &Table, decision: &Decision<'_>, asked: &Asked<'_>, limit: usize) {
    let room = limit - opt_size(asked.query, None);
    let (mut name, mut end) = (HEADER, asked.key.count());
    if let Some(labels) = decision.mesh_labels {
        if w.at + search_path_size(asked, labels) > room {
            return truncate(w);
        }
        name = put_search_path(w, table, asked, labels);
        end = usize::from(labels);
        w.set_u16(6, 1);
        // Who asks for the link has all of it.
        if asked.query.rtype == rtype::CNAME {
            return;
        }
    }
    if w.at + RECORD + table.zones.soa.len() > room {
        return truncate(w);
    }
    let apex = decision.zone.map_or(0, |z| end.saturating_sub(table.zones.get(z).labels));
    let owner = pointer(name + asked.key.start(apex));
    w.put(&record(owner, rtype::SOA, table.policy.negative_ttl, table.zones.soa.len()));
    w.put_short(&table.zones.soa);
    w.set_u16(8, 1);
}
