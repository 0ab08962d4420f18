//! What is found, and the reply made from it.

use std::time::Duration;

use crate::dns::forward::Message;
use crate::dns::query::{HEADER, MIN_PAYLOAD, flag, rcode};
use crate::dns::reply::{self, Asked, Writer, ede, opt_size, put_head, put_opt};

use super::entry::{AD, Entry, Head, Kind, LOCATOR, NAMES};

/// The TTL of what is given over its lifetime (RFC 8767 section 4), seconds.
pub const STALE_TTL: u32 = 30;
/// Words of a [`Scratch`].
const SCRATCH: usize = 512;
const _: () = assert!(SCRATCH >= LOCATOR);

/// Where a worker copies what it finds: 4 KiB, to be kept and used again.
#[derive(Clone, Debug)]
pub struct Scratch {
    pub(super) words: [u64; SCRATCH],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { words: [0; SCRATCH] }
    }
}

/// What a look into the cache on the hot path gives.
#[derive(Clone, Copy, Debug)]
pub enum Find<'s> {
    /// An entry.
    Hit(Found<'s>),
    /// An entry that may be good but is larger than a [`Scratch`]: [`super::Cache::load`] has to say.
    Large,
    /// Nothing that may be given.
    Miss,
}

/// How good an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Within its lifetime.
    Fresh,
    /// As [`State::Fresh`], and popular, and it ends soon: to be asked for again. [`super::Cache::load`] tells one finder
    /// only; [`super::Cache::find`] tells everyone until then.
    Ripe,
    /// Within its lifetime, but an upstream told it to one who did not want to know about authenticity, as the finder does:
    /// to be given only when no upstream can be asked.
    Unsure {
        /// An upstream was asked moments ago and had nothing better.
        in_vain: bool,
    },
    /// Over its lifetime: to be given only when no upstream has anything better (RFC 8767).
    Stale {
        /// An upstream was asked moments ago and had nothing better.
        in_vain: bool,
    },
}

/// An entry that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'s> {
    /// How good it is.
    pub state: State,
    /// Milliseconds that it stays fresh; 0 when it is not.
    pub(super) left: u64,
    /// Seconds since it was made.
    pub(super) age: u32,
    pub(super) entry: Entry<'s>,
}

impl Found<'_> {
    fn head(&self) -> Head {
        self.entry.head()
    }

    /// How long it stays fresh; zero when it is not.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        Duration::from_millis(self.left)
    }

    /// What it answers.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.head().kind()
    }

    /// Whether there is more than addresses of the name that was asked: names that policy may have to look at (R16).
    #[must_use]
    pub fn names(&self) -> bool {
        self.head().has(NAMES)
    }

    /// Whether there is no record in the answer section.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head().counts()[0] == 0
    }

    /// The response code.
    #[must_use]
    pub fn rcode(&self) -> u16 {
        self.head().rcode()
    }

    /// Writes the reply for an asker, octet for octet what [`Message::write`] makes of [`Found::message`] for it; how
    /// long it is. `stale`: with TTL 30 and an extended error that says so (RFC 8767, RFC 8914), not counted down.
    ///
    /// `None` if the whole does not fit into the asker's limit or `out`. Allocates nothing.
    #[inline]
    #[must_use]
    pub fn write(&self, asked: &Asked<'_>, stale: bool, out: &mut [u8]) -> Option<usize> {
        let head = self.head();
        if head.kind() == Kind::Failure {
            let size = reply::bare(asked, rcode::SERVFAIL, Some(ede::NO_REACHABLE_AUTHORITY), out);
            return Some(size).filter(|size| *size > 0);
        }
        let (query, error) = (asked.query, stale.then_some(ede::STALE));
        let (first, records) = (HEADER + query.question, self.entry.records());
        let limit = asked.limit.max(usize::from(MIN_PAYLOAD)).min(out.len());
        if first + records.len() + opt_size(query, error) > limit {
            return None;
        }
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        let authentic = head.has(AD) && (dnssec_ok || query.flags & flag::AD != 0);
        let mut w = Writer { out, at: 0 };
        put_head(&mut w, asked, if authentic { flag::AD } else { 0 }, head.rcode());
        let [answers, authorities, additionals] = head.counts();
        w.set_u16(6, answers);
        w.set_u16(8, authorities);
        w.set_u16(10, additionals + u16::from(query.edns.is_some()));
        w.put_short(records);
        self.adapt(stale, query.name(asked.packet), &mut w.out[first..]);
        put_opt(&mut w, query, head.rcode(), error);
        Some(w.at)
    }

    /// The message as an upstream would give it now, from which [`Message::write`] makes replies of any size.
    ///
    /// `name` (uncompressed, with the root octet) and `rtype` are the question it is to answer: for a proof any, else the
    /// entry's own. `None` for a [`Kind::Failure`], which no message stands for.
    #[must_use]
    pub fn message(&self, name: &[u8], rtype: u16, stale: bool) -> Option<Message> {
        let head = self.head();
        if head.kind() == Kind::Failure {
            return None;
        }
        let authentic = if head.has(AD) { flag::AD } else { 0 };
        let [answers, authorities, additionals] = head.counts();
        let mut wire = Vec::with_capacity(HEADER + name.len() + 4 + self.entry.records().len());
        for field in [0, flag::QR | authentic | head.rcode(), 1, answers, authorities, additionals] {
            wire.extend(field.to_be_bytes());
        }
        wire.extend(name);
        wire.extend(rtype.to_be_bytes());
        wire.extend([0, 1]);
        let first = wire.len();
        wire.extend(self.entry.records());
        self.adapt(stale, name, &mut wire[first..]);
        Message::parse(&wire)
    }

    /// Sets TTLs, and gives owners that equal the question the asker's spelling, in a copy of the records.
    #[inline]
    fn adapt(&self, stale: bool, name: &[u8], records: &mut [u8]) {
        let (ttls, owners) = self.entry.places();
        for at in ttls {
            let Some(ttl) = records.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else { continue };
            let left = u32::from_be_bytes(*ttl).saturating_sub(self.age);
            *ttl = if stale { STALE_TTL } else { left }.to_be_bytes();
        }
        for at in owners {
            if let Some(owner) = records.get_mut(at..at + name.len()) {
                owner.copy_from_slice(name);
            }
        }
    }
}

/// An entry of any size that was found off the hot path.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub(super) words: Vec<u64>,
    pub(super) state: State,
    pub(super) left: u64,
    pub(super) age: u32,
}

impl Loaded {
    /// What was found.
    #[must_use]
    pub fn found(&self) -> Found<'_> {
        Found { state: self.state, left: self.left, age: self.age, entry: Entry { words: &self.words } }
    }
}
