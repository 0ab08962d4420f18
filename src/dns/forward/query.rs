//! The question as it goes to an upstream, and whether what comes back is its answer.

use smallvec::SmallVec;

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

/// The longest query that [`Sent::write`] makes: a name of 255 octets and an OPT.
pub(super) const LONGEST: usize = HEADER + 255 + 4 + OPT_OCTETS;
/// Of an OPT without options.
pub(super) const OPT_OCTETS: usize = 11;
/// Octets of nearly all queries; longer ones take a piece of memory of their own.
const USUAL: usize = 96;

/// A query on the wire, but for the ID, which each try has of its own; shared by all tries of one question.
#[derive(Debug)]
pub(super) struct Sent {
    wire: SmallVec<[u8; USUAL]>,
    name_end: usize,
    /// Where its first try goes out; the next ones go elsewhere.
    pub(super) start: u8,
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
        let mut wire = SmallVec::with_capacity(HEADER + query.name.len() + 4 + OPT_OCTETS);
        let asks = u8::from(query.recursion_desired);
        let wants = u8::from(query.authentic_data) << 5 | u8::from(query.checking_disabled) << 4;
        wire.extend_from_slice(&[0, 0, asks, wants, 0, 1, 0, 0, 0, 0, 0, u8::from(query.edns.is_some())]);
        wire.extend_from_slice(query.name);
        let name_end = wire.len();
        let ([t, y], [c, l]) = (query.rtype.to_be_bytes(), query.class.to_be_bytes());
        wire.extend_from_slice(&[t, y, c, l]);
        if let Some(dnssec_ok) = query.edns {
            wire.extend_from_slice(&opt(dnssec_ok, 0));
        }
        Self { wire, name_end, start: rand::random() }
    }

    /// Its length in octets.
    pub(super) fn length(&self) -> usize {
        self.wire.len()
    }

    /// Appends it with an ID.
    pub(super) fn write(&self, id: u16, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&self.wire);
        out[at..at + 2].copy_from_slice(&id.to_be_bytes());
    }

    /// Writes it with an ID to `out`; `None` if that is too short, which [`LONGEST`] is not.
    pub(super) fn put(&self, id: u16, out: &mut [u8; LONGEST]) -> Option<usize> {
        out.get_mut(..self.length())?.copy_from_slice(&self.wire);
        out[..2].copy_from_slice(&id.to_be_bytes());
        Some(self.length())
    }

    /// Judges a message that came while `id` was waited for, the cheap and telling things first. A truncated one is not
    /// parsed: some servers cut within a record.
    pub(super) fn check(&self, id: u16, wire: &[u8]) -> Checked {
        if wire.len() < HEADER {
            return Checked::Wrong(Reject::Malformed);
        }
        if wire[..2] != id.to_be_bytes() {
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

/// An OPT of version 0 that offers [`PAYLOAD`] and holds so many octets of options, which have to follow.
pub(super) fn opt(dnssec_ok: bool, options: u16) -> [u8; OPT_OCTETS] {
    let ([t, y], [p, q], [l, m]) = (OPT.to_be_bytes(), PAYLOAD.to_be_bytes(), options.to_be_bytes());
    [0, t, y, p, q, 0, 0, u8::from(dnssec_ok) << 7, 0, l, m]
}
