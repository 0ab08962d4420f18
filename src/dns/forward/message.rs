//! An upstream's answer, checked once when it came in and then only copied from.

use std::ops::Range;

use super::wire::{self, HEADER};

/// The type of the EDNS pseudo-record (RFC 6891).
pub(super) const OPT: u16 = 41;
/// Type, class, TTL and length of the data.
const FIXED: usize = 10;

/// Where one record stands; a message has at most 65535 octets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Its owner's first octet.
    pub(super) start: u16,
    /// Its type, after the owner.
    pub(super) fixed: u16,
    /// After its data.
    pub(super) end: u16,
}

/// A part of a message that holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// The SOA of a negative answer, or the name servers.
    Authority,
    /// What the asker may want next.
    Additional,
}

/// One record of a [`Message`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    wire: &'a [u8],
    span: Span,
}

impl Record<'_> {
    fn fixed(&self) -> usize {
        usize::from(self.span.fixed)
    }

    /// The type's number.
    #[must_use]
    pub fn rtype(&self) -> u16 {
        wire::u16_at(self.wire, self.fixed()).unwrap_or_default()
    }

    /// The class's number.
    #[must_use]
    pub fn class(&self) -> u16 {
        wire::u16_at(self.wire, self.fixed() + 2).unwrap_or_default()
    }

    /// Seconds to live, as the upstream said; with the top bit set it means 0 (RFC 2181 section 8).
    #[must_use]
    pub fn ttl(&self) -> u32 {
        let ttl = wire::u32_at(self.wire, self.ttl_at()).unwrap_or_default();
        if ttl > i32::MAX as u32 { 0 } else { ttl }
    }

    /// The offset of the TTL's four octets; the same in every reply made from the message, counted from its ID.
    #[must_use]
    pub fn ttl_at(&self) -> usize {
        self.fixed() + 4
    }

    /// Where the data stands in [`Message::wire`].
    #[must_use]
    pub fn data(&self) -> Range<usize> {
        self.fixed() + FIXED..usize::from(self.span.end)
    }

    /// The owner, uncompressed, in lower case, with the root octet.
    #[must_use]
    pub fn owner(&self) -> Vec<u8> {
        wire::name_at(self.wire, usize::from(self.span.start)).map_or_else(|| vec![0], |(name, _)| name)
    }
}

/// A well-formed response with one question; its OPT is taken out, since it speaks about one hop only.
///
/// Checked are the header, every owner, and the names in the data of the types that may compress them: a reply copied
/// from it has no pointer that loops or leads out of it.
#[derive(Clone, Debug)]
pub struct Message {
    pub(super) wire: Vec<u8>,
    /// After the question's name, where its type stands.
    pub(super) name_end: usize,
    pub(super) spans: Vec<Span>,
    /// How many records answer and authority hold, and answer, authority and additional: ends as indices.
    pub(super) ends: [usize; 3],
    rcode: u16,
}

impl Message {
    /// Reads a message; octets after the last record are cut off.
    ///
    /// `None`: no response (QR not set), not exactly one question, a record that does not fit into the message, a name
    /// that loops or is too long, data that is not of the form of its type, an OPT in the wrong place, or two.
    #[must_use]
    pub fn parse(wire: &[u8]) -> Option<Self> {
        if wire.len() > usize::from(u16::MAX) || wire.get(2)? & 0x80 == 0 || wire::u16_at(wire, 4)? != 1 {
            return None;
        }
        let name_end = wire::skip_name(wire, HEADER)?;
        let mut at = name_end + 4;
        // Room for what most answers hold, whatever the counts say.
        let mut spans = Vec::with_capacity(8);
        let mut ends = [0; 3];
        let mut opt = None;
        for (section, end) in ends.iter_mut().enumerate() {
            for _ in 0..wire::u16_at(wire, 6 + 2 * section)? {
                let (span, rtype) = record_at(wire, at)?;
                if rtype == OPT {
                    let at_root = span.fixed == span.start + 1;
                    if section != 2 || !at_root || opt.replace(spans.len()).is_some() {
                        return None;
                    }
                }
                at = usize::from(span.end);
                spans.push(span);
            }
            *end = spans.len();
        }
        let mut rcode = u16::from(wire.get(3)? & 0x0F);
        let mut wire = wire.get(..at)?.to_vec();
        if let Some(index) = opt {
            rcode |= u16::from(wire[usize::from(spans[index].fixed) + 4]) << 4;
            take_out(&mut wire, &mut spans, index);
            ends[2] = spans.len();
            let additional = u16::try_from(ends[2] - ends[1]).unwrap_or_default();
            wire[10..12].copy_from_slice(&additional.to_be_bytes());
        }
        Some(Self { wire, name_end, spans, ends, rcode })
    }

    /// The response code, the upper eight bits from the OPT included (RFC 6891 section 6.1.3).
    #[must_use]
    pub fn rcode(&self) -> u16 {
        self.rcode
    }

    /// Whether the upstream says that the data is authenticated (AD, RFC 4035 section 3.2.3).
    #[must_use]
    pub fn authentic_data(&self) -> bool {
        self.wire[3] & 0x20 != 0
    }

    /// Its octets without the OPT; header and question are still the upstream's, the counts too.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// The records of a section, in order.
    pub fn records(&self, section: Section) -> impl ExactSizeIterator<Item = Record<'_>> {
        let [answers, authority, additional] = self.ends;
        let range = match section {
            Section::Answer => 0..answers,
            Section::Authority => answers..authority,
            Section::Additional => authority..additional,
        };
        self.spans[range].iter().map(|span| Record { wire: &self.wire, span: *span })
    }

    /// Sets the TTL of each record to what `ttl` makes of it, seconds.
    pub fn set_ttls(&mut self, ttl: impl Fn(&Record<'_>, Section) -> u32) {
        let [answers, authority, _] = self.ends;
        for index in 0..self.spans.len() {
            let section = match index {
                _ if index < answers => Section::Answer,
                _ if index < authority => Section::Authority,
                _ => Section::Additional,
            };
            let record = self.record(index);
            let (at, seconds) = (record.ttl_at(), ttl(&record, section));
            self.wire[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
        }
    }

    /// The name at an offset of [`Message::wire`], such as a CNAME's target: uncompressed, lower case, with the root
    /// octet. `None` where no sound name stands.
    #[must_use]
    pub fn name_at(&self, at: usize) -> Option<Vec<u8>> {
        wire::name_at(&self.wire, at).map(|(name, _)| name)
    }

    /// The record of an index over all sections.
    pub(super) fn record(&self, index: usize) -> Record<'_> {
        Record { wire: &self.wire, span: self.spans[index] }
    }
}

/// A pointer to the name of the question.
const TO_QUESTION: [u8; 2] = [0xC0, HEADER as u8];

/// Checks the record at an offset behind the question, whose name is sound; gives its place and its type.
fn record_at(wire: &[u8], start: usize) -> Option<(Span, u16)> {
    let fixed = match wire.get(start..start + 2)? {
        // Most records have the name that was asked for.
        owner if *owner == TO_QUESTION => start + 2,
        _ => wire::skip_name(wire, start)?,
    };
    let rtype = wire::u16_at(wire, fixed)?;
    let class = wire::u16_at(wire, fixed + 2)?;
    let data = fixed + FIXED;
    let end = data + usize::from(wire::u16_at(wire, fixed + 8)?);
    if end > wire.len() || !wire::data_is_sound(wire, rtype, class, data..end) {
        return None;
    }
    let short = |offset: usize| u16::try_from(offset).ok();
    Some((Span { start: short(start)?, fixed: short(fixed)?, end: short(end)? }, rtype))
}

/// Takes the OPT out, moves what stands behind it, and corrects the moved records' compression pointers.
///
/// Nearly every server writes the OPT last, and then nothing moves. Should a moved record point into the OPT, or not be
/// sound any more, it and all behind it are left out: they are in the additional section, which may be cut (RFC 2181
/// section 9).
fn take_out(wire: &mut Vec<u8>, spans: &mut Vec<Span>, index: usize) {
    let opt = spans.remove(index);
    wire.drain(usize::from(opt.start)..usize::from(opt.end));
    for moved in index..spans.len() {
        let start = spans[moved].start - (opt.end - opt.start);
        match move_up(wire, usize::from(start), opt) {
            Some(span) => spans[moved] = span,
            None => {
                wire.truncate(usize::from(start));
                return spans.truncate(moved);
            }
        }
    }
}

/// Corrects the pointers of a record that stands at `start` now that the OPT is gone, and checks it again.
fn move_up(wire: &mut [u8], start: usize, opt: Span) -> Option<Span> {
    let (fixed, _) = wire::as_it_stands(wire, start)?;
    let rtype = wire::u16_at(wire, fixed)?;
    for at in wire::pointers(wire, start, rtype, fixed + FIXED) {
        let target = wire::u16_at(wire, at)? & 0x3FFF;
        if target >= opt.end {
            let corrected = 0xC000 | (target - (opt.end - opt.start));
            wire[at..at + 2].copy_from_slice(&corrected.to_be_bytes());
        } else if target >= opt.start {
            return None;
        }
    }
    record_at(wire, start).map(|(span, _)| span)
}
