//! What a packet asks, read in place (RFC 1035 section 4, RFC 6891, rule R24).
//!
//! Every packet goes through here, on the hot path and on the general one, so both agree on what a question is. Nothing
//! is allocated, by a count field or otherwise.

pub use super::wire::HEADER;
use super::wire::{skip_name, u16_at};
use crate::table::decide::rtype;
use crate::table::key::Key;

/// What we offer and accept over UDP (R24), to askers and upstreams: no fragments on any usual path. Octets.
pub const PAYLOAD: u16 = 1232;
/// What everyone may be sent over UDP (RFC 1035 section 4.2.1), octets.
pub const MIN_PAYLOAD: u16 = 512;

/// Header flags, as the 16 bits stand.
pub mod flag {
    /// It is a response.
    pub const QR: u16 = 0x8000;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Authentic data (RFC 4035).
    pub const AD: u16 = 0x0020;
    /// Checking disabled (RFC 4035).
    pub const CD: u16 = 0x0010;
    /// The opcode's four bits.
    pub const OPCODE: u16 = 0x7800;
}

/// Response codes (IANA DNS parameters).
pub mod rcode {
    /// No error
    pub const NOERROR: u16 = 0;
    /// The query is none
    pub const FORMERR: u16 = 1;
    /// The server failed
    pub const SERVFAIL: u16 = 2;
    /// No such name
    pub const NXDOMAIN: u16 = 3;
    /// No such opcode here
    pub const NOTIMP: u16 = 4;
    /// Policy forbids
    pub const REFUSED: u16 = 5;
    /// No such EDNS version here (RFC 6891)
    pub const BADVERS: u16 = 16;
}

/// The asker's OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// What it can take over UDP, clamped to [`MIN_PAYLOAD`]..[`PAYLOAD`].
    pub payload: u16,
    /// DNSSEC records are wanted.
    pub dnssec_ok: bool,
    version: u8,
}

impl Edns {
    /// From the octets of a record: its class, its version, and the first half of its flags.
    #[inline]
    fn new(class: [u8; 2], version: u8, flags: u8) -> Self {
        let payload = u16::from_be_bytes(class).clamp(MIN_PAYLOAD, PAYLOAD);
        Self { payload, version, dnssec_ok: flags & 0x80 != 0 }
    }
}

/// A query, as far as an answer needs it. Its name is in the [`Key`] that was given to [`read`].
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The flags of its header.
    pub flags: u16,
    /// Octets of its question, from [`HEADER`] on; 0 if there is none that can be echoed.
    pub question: usize,
    /// QTYPE
    pub rtype: u16,
    /// QCLASS
    pub class: u16,
    /// Its OPT record, if it has one.
    pub edns: Option<Edns>,
}

impl Query {
    /// Where its name's octets are in the packet, root octet included.
    #[inline]
    #[must_use]
    pub fn name<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        packet.get(HEADER..HEADER + self.question.saturating_sub(4)).unwrap_or_default()
    }

    /// How long the answer may be.
    #[inline]
    #[must_use]
    pub fn limit(&self, tcp: bool) -> usize {
        if tcp { 65_535 } else { usize::from(self.edns.map_or(MIN_PAYLOAD, |e| e.payload)) }
    }
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// Answer it.
    Ask(Query),
    /// A CHAOS question.
    Chaos(Query),
    /// It is wrong, or not for us: answer this code.
    Refuse(Query, u16),
    /// No answer: no header, or a response.
    Ignore,
}

/// One question, and no record: nothing else has to be looked at.
const PLAIN: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
/// One question and one record, which is the asker's OPT in all likelihood.
const WITH_OPT: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 1];
const CLASS_IN: u16 = 1;
const CLASS_CHAOS: u16 = 3;
const TYPE_OPT: u16 = 41;

/// Reads a packet. See the module's page.
#[inline(always)]
#[must_use]
pub fn read(packet: &[u8], key: &mut Key) -> Read {
    let Some((header, rest)) = packet.split_first_chunk::<HEADER>() else { return Read::Ignore };
    let [_, _, high, low, counts @ ..] = *header;
    let flags = u16::from_be_bytes([high, low]);
    if flags & flag::QR != 0 {
        return Read::Ignore;
    }
    let question = if counts[..2] == [0, 1] { question(rest, key) } else { None };
    if let Some((question, rtype, class)) = question
        && class == CLASS_IN
        && flags & flag::OPCODE == 0
        && !matches!(rtype, rtype::AXFR | rtype::IXFR | TYPE_OPT)
    {
        if counts == PLAIN {
            return Read::Ask(Query { flags, question, rtype, class, edns: None });
        }
        let edns = if counts == WITH_OPT { lone_opt(rest.get(question..).unwrap_or_default()) } else { None };
        if edns.is_some() {
            return Read::Ask(Query { flags, question, rtype, class, edns });
        }
    }
    unusual(packet, flags, question)
}

/// As [`read`], of what is more than a plain question.
#[inline(never)]
fn unusual(packet: &[u8], flags: u16, question: Option<(usize, u16, u16)>) -> Read {
    let has_question = question.is_some();
    let (question, rtype, class) = question.unwrap_or_default();
    let mut query = Query { flags, question, rtype, class, edns: None };
    let [questions, answers, authorities, additionals] = [4, 6, 8, 10].map(|at| u16_at(packet, at).unwrap_or(0));
    let records = if has_question || questions == 0 {
        opt(packet, HEADER + query.question, [answers, authorities, additionals])
    } else {
        Err(None)
    };
    query.edns = records.unwrap_or_else(|first| first);
    if flags & flag::OPCODE != 0 {
        return Read::Refuse(query, rcode::NOTIMP);
    }
    let transfer = matches!(query.rtype, rtype::AXFR | rtype::IXFR);
    let extra = answers != 0 || (authorities != 0 && query.rtype != rtype::IXFR);
    if !has_question || records.is_err() || extra {
        return Read::Refuse(query, rcode::FORMERR);
    }
    if query.edns.is_some_and(|e| e.version > 0) {
        return Read::Refuse(query, rcode::BADVERS);
    }
    match query.class {
        CLASS_IN if transfer => Read::Refuse(query, rcode::REFUSED),
        CLASS_IN if query.rtype == TYPE_OPT => Read::Refuse(query, rcode::FORMERR),
        CLASS_IN => Read::Ask(query),
        CLASS_CHAOS => Read::Chaos(query),
        _ => Read::Refuse(query, rcode::REFUSED),
    }
}

/// The question's length, type and class.
#[inline(always)]
fn question(wire: &[u8], key: &mut Key) -> Option<(usize, u16, u16)> {
    let name = key.read(wire)?;
    let [t1, t2, c1, c2] = *wire.get(name..)?.first_chunk()?;
    Some((name + 4, u16::from_be_bytes([t1, t2]), u16::from_be_bytes([c1, c2])))
}

/// The OPT record that the wire begins with, if it is of version 0 and without options.
#[inline]
fn lone_opt(wire: &[u8]) -> Option<Edns> {
    match *wire.first_chunk()? {
        [0, 0, 41, high, low, _, 0, dnssec_ok, _, 0, 0] => Some(Edns::new([high, low], 0, dnssec_ok)),
        _ => None,
    }
}

/// The OPT record among the records from `at` on. `Err` if they cannot be read or there are two, with the first one.
#[inline]
fn opt(packet: &[u8], mut at: usize, counts: [u16; 3]) -> Result<Option<Edns>, Option<Edns>> {
    let mut found = None;
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let owner = skip_name(packet, at).ok_or(found)?;
            let fixed = packet.get(owner..owner + 10).ok_or(found)?;
            let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
            let rdata = packet.get(owner + 10..owner + 10 + length).ok_or(found)?;
            if section == 2 && fixed[..2] == TYPE_OPT.to_be_bytes() {
                if found.is_some() || owner != at + 1 || !options_fit(rdata) {
                    return Err(found);
                }
                found = Some(Edns::new([fixed[2], fixed[3]], fixed[5], fixed[6]));
            }
            at = owner + 10 + length;
        }
    }
    Ok(found)
}

/// Whether EDNS options fill their space exactly (RFC 6891 section 6.1.2).
fn options_fit(mut rdata: &[u8]) -> bool {
    while !rdata.is_empty() {
        let Some(length) = u16_at(rdata, 2) else { return false };
        let Some(rest) = rdata.get(4 + usize::from(length)..) else { return false };
        rdata = rest;
    }
    true
}

#[cfg(test)]
mod tests;
