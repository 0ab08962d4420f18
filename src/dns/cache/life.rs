//! What is kept of upstreams' answers, and how long (RFC 1035, RFC 2308, RFC 8767, rule R23).

use crate::dns::forward::{Message, Record, Section};
use crate::dns::query::rcode;
use crate::dns::wire::u32_at;
use crate::table::decide::rtype;

use super::Options;
use super::entry::{Head, Kind};

const IN: u16 = 1;
/// SERVFAIL is kept for at most this long (RFC 2308 section 7.1 allows five minutes), seconds.
const MOST_ERROR: u64 = 5;
/// An error that ended less than this long ago is remembered, milliseconds.
const MEMORY: u64 = 10_000;
/// Who asks in vain is told so for this long, milliseconds.
pub(super) const IN_VAIN: u64 = 5000;

/// What an answer is, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) kind: Kind,
    /// Never 0.
    pub(super) seconds: u32,
}

/// How old an entry is to whom it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Within its lifetime.
    Fresh {
        /// Milliseconds until its end.
        left: u64,
    },
    /// Over its lifetime, but better than nothing (RFC 8767).
    Stale,
    /// Of no use any more.
    Gone,
}

/// The phase of an entry at `now`, both in milliseconds since the cache was made.
#[inline]
pub(super) fn phase(head: Head, now: u64, serve_stale: u64) -> Phase {
    let end = head.made().saturating_add(head.lifetime() * 1000);
    if now < end {
        return Phase::Fresh { left: end - now };
    }
    let lasting = matches!(head.kind(), Kind::Success | Kind::Denial);
    if lasting && now - end < serve_stale { Phase::Stale } else { Phase::Gone }
}

/// Whether an entry with `left` milliseconds to live is near enough to its end to be fetched anew: the last tenth of its
/// life, but no less than the last second of one that has three.
#[inline]
pub(super) fn is_ending(head: Head, left: u64) -> bool {
    let tenth = head.lifetime() * 100;
    left <= if head.lifetime() >= 3 { tenth.max(1000) } else { tenth }
}

/// What an answer to a question for `asked` is, and how long it is kept. `None`: not at all.
pub(super) fn of(asked: u16, message: &Message, options: &Options) -> Option<Life> {
    const TRUNCATED: u8 = 2;
    if message.wire().get(2)? & TRUNCATED != 0 {
        return None;
    }
    let answered = || message.records(Section::Answer).any(|record| asked == rtype::ANY || is(&record, asked));
    match message.rcode() {
        rcode::NOERROR if answered() => {
            let least = all(message).map(|record| record.ttl()).min()?;
            lasting(Kind::Success, least.min(options.max_ttl))
        }
        rcode::NOERROR | rcode::NXDOMAIN => denial(message, options),
        rcode::SERVFAIL => Some(Life { kind: Kind::Error, seconds: 1 }),
        _ => None,
    }
}

/// How long a negative answer is kept: not at all without an SOA (RFC 2308 section 5).
pub(super) fn denial(message: &Message, options: &Options) -> Option<Life> {
    let soas = || message.records(Section::Authority).filter(|record| is(record, rtype::SOA));
    let soa = soas().map(|soa| soa.ttl().min(minimum(message, &soa))).min()?;
    let answers = message.records(Section::Answer).map(|record| record.ttl()).min().unwrap_or(u32::MAX);
    lasting(Kind::Denial, soa.min(answers).min(options.max_negative_ttl).min(options.max_ttl))
}

/// The TTL that a record of an entry starts with.
pub(super) fn ttl(record: &Record<'_>, section: Section, life: Life, options: &Options) -> u32 {
    let most = match life.kind {
        Kind::Denial if section == Section::Authority && is(record, rtype::SOA) => life.seconds,
        _ => options.max_ttl,
    };
    record.ttl().min(most)
}

/// How long the next error is kept, given what stands there now.
pub(super) fn error_seconds(before: Option<Head>, now: u64) -> u32 {
    let errors = before.filter(|head| matches!(head.kind(), Kind::Error | Kind::Failure));
    let recent = errors.filter(|head| now < head.made().saturating_add(head.lifetime() * 1000 + MEMORY));
    recent.map_or(1, |head| u32::try_from((2 * head.lifetime()).min(MOST_ERROR)).unwrap_or(1))
}

/// Whether the record is of a type, and of class IN.
pub(super) fn is(record: &Record<'_>, rtype: u16) -> bool {
    record.rtype() == rtype && record.class() == IN
}

fn lasting(kind: Kind, seconds: u32) -> Option<Life> {
    (seconds > 0).then_some(Life { kind, seconds })
}

fn all(message: &Message) -> impl Iterator<Item = Record<'_>> {
    [Section::Answer, Section::Authority, Section::Additional].into_iter().flat_map(|section| message.records(section))
}

/// The last number of an SOA, which has come to mean this (RFC 2308 section 4).
fn minimum(message: &Message, soa: &Record<'_>) -> u32 {
    let seconds = u32_at(message.wire(), soa.data().end - 4).unwrap_or_default();
    if seconds > i32::MAX as u32 { 0 } else { seconds }
}
