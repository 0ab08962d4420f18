//! The question as it goes to an upstream, and whether what comes back is its answer.

use super::message::{Message, OPT};
use super::stats::Reject;
use super::wire::{self, HEADER};

pub use crate::dns::query::PAYLOAD;

/// One question of an asker, as far as it matters to upstreams (R23). Cookies, ECS and all other options stay here.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Uncompressed wire form with the root octet, in the asker's spelling; at most 255 octets, checked by the caller.
    pub name: &'a [u8],
    /// The type's number.
    pub rtype: u16,
    /// The class's number.
    pub class: u16,
    /// RD.
    pub recursion_desired: bool,
    /// CD.
    pub checking_disabled: bool,
    /// AD: the asker wants to know about authenticity (RFC 6840 section 5.7).
    pub authentic_data: bool,
    /// Whether the asker sent an OPT, and the DO bit in it.
    pub edns: Option<bool>,
}

/// A query on the wire.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    wire: Vec<u8>,
    name_end: usize,
}

/// What an incoming message is to a [`Sent`].
#[derive(Debug)]
pub(super) enum Checked {
    /// Its answer.
    Whole(Message),
    /// Its answer, but TC is set.
    Truncated,
    /// Something else: go on waiting.
    Wrong(Reject),
}

impl Sent {
    /// Builds the query anew: an OPT only if the asker had one, so that the upstream knows what the asker understands.
    pub(super) fn new(query: &Query<'_>) -> Self {
        let mut wire = Vec::with_capacity(HEADER + query.name.len() + 4 + 11);
        wire.extend(rand::random::<u16>().to_be_bytes());
        wire.push(u8::from(query.recursion_desired));
        wire.push(u8::from(query.authentic_data) << 5 | u8::from(query.checking_disabled) << 4);
        wire.extend([0, 1, 0, 0, 0, 0, 0, u8::from(query.edns.is_some())]);
        wire.extend(query.name);
        let name_end = wire.len();
        wire.extend(query.rtype.to_be_bytes());
        wire.extend(query.class.to_be_bytes());
        if let Some(dnssec_ok) = query.edns {
            push_opt(&mut wire, dnssec_ok, &[]);
        }
        Self { wire, name_end }
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }

    pub(super) fn set_id(&mut self, id: u16) {
        self.wire[..2].copy_from_slice(&id.to_be_bytes());
    }

    /// Judges a message, the cheap and telling things first. A truncated one is not parsed: some servers cut within a
    /// record.
    pub(super) fn check(&self, wire: &[u8]) -> Checked {
        if wire.len() < HEADER {
            return Checked::Wrong(Reject::Malformed);
        }
        if wire[..2] != self.wire[..2] {
            return Checked::Wrong(Reject::Id);
        }
        let (qr_and_opcode, truncated) = (wire[2] & 0xF8, wire[2] & 0x02 != 0);
        if qr_and_opcode != 0x80 {
            return Checked::Wrong(Reject::NoAnswer);
        }
        if !self.same_question(wire) {
            return Checked::Wrong(Reject::Question);
        }
        if truncated {
            return Checked::Truncated;
        }
        Message::parse(wire).map_or(Checked::Wrong(Reject::Malformed), Checked::Whole)
    }

    fn same_question(&self, wire: &[u8]) -> bool {
        let end = self.name_end;
        wire::u16_at(wire, 4) == Some(1)
            && wire.get(HEADER..end).is_some_and(|name| name.eq_ignore_ascii_case(&self.wire[HEADER..end]))
            && wire.get(end..end + 4) == Some(&self.wire[end..end + 4])
    }
}

/// Appends an OPT of version 0 that offers [`PAYLOAD`] and holds `options`.
pub(super) fn push_opt(out: &mut Vec<u8>, dnssec_ok: bool, options: &[u8]) {
    out.push(0);
    out.extend(OPT.to_be_bytes());
    out.extend(PAYLOAD.to_be_bytes());
    out.extend([0, 0, u8::from(dnssec_ok) << 7, 0]);
    out.extend((options.len() as u16).to_be_bytes());
    out.extend(options);
}
