//! How an entry stands in the log: five words of head, the name, the records, where their TTLs and owners are.
//!
//! All places count from the first record, so that the same records can follow a question of any length.

use crate::table::key::same;

use super::life::Life;

/// Words of a head.
pub(super) const HEAD: usize = 5;
/// Words that any head with its name fits into; a name has at most 254 octets here.
pub(super) const LOCATOR: usize = HEAD + 32;
/// The word that tells until when nobody needs to ask again.
pub(super) const IN_VAIN: usize = 4;

/// The asker wants DNSSEC records (DO).
pub(super) const DO: u8 = 1;
/// The asker checks by itself (CD).
pub(super) const CD: u8 = 1 << 1;
/// Not an answer, but the proof that a name does not exist.
pub(super) const PROOF: u8 = 1 << 2;
/// Asked by one who wants to know about authenticity, or it does not matter.
pub(super) const AUTHENTIC: u8 = 1 << 3;
/// The upstream set AD.
pub(super) const AD: u8 = 1 << 4;
/// There is more than addresses of the name that was asked.
pub(super) const NAMES: u8 = 1 << 5;
/// The bits that belong to the key.
const KEY_BITS: u8 = DO | CD | PROOF;

/// What an entry answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of the type that was asked for.
    Success,
    /// NXDOMAIN or NODATA (RFC 2308).
    Denial,
    /// An upstream's SERVFAIL.
    Error,
    /// No upstream gave any answer; there is no message.
    Failure,
}

/// What an entry is found by; the class is always IN.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    /// Folded, without the root octet.
    pub(super) name: &'a [u8],
    pub(super) rtype: u16,
    /// [`DO`], [`CD`] and [`PROOF`].
    pub(super) bits: u8,
}

impl Key<'_> {
    /// Whether this is the key of an entry, given its words up to the end of the name.
    #[inline]
    pub(super) fn is_of(&self, words: &[u64]) -> bool {
        const MASK: u64 = (KEY_BITS as u64) << 40 | 0x00ff_ffff_0000;
        let Some(first) = words.first() else { return false };
        let want = u64::from(self.bits) << 40 | (self.name.len() as u64) << 32 | u64::from(self.rtype) << 16;
        first & MASK == want && same(Entry { words }.name(), self.name)
    }
}

/// The first words of an entry:
///
/// ```text
/// 0  words 16 | type 16 | octets of the name 8 | bits 8 | code 8 | kind 7, claimed 1
/// 1  made: milliseconds since the cache was made
/// 2  lifetime 32: seconds | octets of the records 16 | TTLs 16
/// 3  answers 16 | authorities 16 | additionals 16 | owners 16
/// 4  asked in vain until: milliseconds since the cache was made
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Head(pub(super) [u64; HEAD]);

impl Head {
    /// Sixteen bits of a word, counted from its lowest.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "sixteen bits are wanted")]
    fn short(self, word: usize, bit: u32) -> u16 {
        (self.0[word] >> bit) as u16
    }

    #[inline]
    fn octet(self, bit: u32) -> u8 {
        (self.0[0] >> bit) as u8
    }

    /// Words of the whole entry.
    #[inline]
    pub(super) fn words(self) -> usize {
        usize::from(self.short(0, 0))
    }

    #[inline]
    pub(super) fn rtype(self) -> u16 {
        self.short(0, 16)
    }

    #[inline]
    pub(super) fn name_length(self) -> usize {
        usize::from(self.octet(32))
    }

    #[inline]
    pub(super) fn has(self, bit: u8) -> bool {
        self.octet(40) & bit != 0
    }

    /// The bits that belong to the key.
    #[inline]
    pub(super) fn key_bits(self) -> u8 {
        self.octet(40) & KEY_BITS
    }

    #[inline]
    pub(super) fn rcode(self) -> u16 {
        u16::from(self.octet(48))
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        match self.octet(56) & 0x7f {
            0 => Kind::Success,
            1 => Kind::Denial,
            2 => Kind::Error,
            _ => Kind::Failure,
        }
    }

    #[inline]
    pub(super) fn made(self) -> u64 {
        self.0[1]
    }

    /// Seconds.
    #[inline]
    pub(super) fn lifetime(self) -> u64 {
        self.0[2] & 0xffff_ffff
    }

    #[inline]
    fn records_length(self) -> usize {
        usize::from(self.short(2, 32))
    }

    #[inline]
    fn ttl_count(self) -> usize {
        usize::from(self.short(2, 48))
    }

    /// Records in answer, authority and additional.
    #[inline]
    pub(super) fn counts(self) -> [u16; 3] {
        [0, 16, 32].map(|bit| self.short(3, bit))
    }

    #[inline]
    fn owner_count(self) -> usize {
        usize::from(self.short(3, 48))
    }

    /// Until when nobody needs to ask again, milliseconds since the cache was made.
    #[inline]
    pub(super) fn in_vain(self) -> u64 {
        self.0[IN_VAIN]
    }
}

/// Remembers in an entry that moves that its prefetch was given away already.
#[inline]
pub(super) fn set_claimed(words: &mut [u64], claimed: bool) {
    words[0] = words[0] & !(1 << 63) | u64::from(claimed) << 63;
}

/// Whether [`set_claimed`] was told so.
#[inline]
pub(super) fn is_claimed(words: &[u64]) -> bool {
    words[0] >> 63 != 0
}

/// Gives an entry another lifetime, seconds.
pub(super) fn set_lifetime(words: &mut [u64], seconds: u32) {
    words[2] = words[2] & !0xffff_ffff | u64::from(seconds);
}

/// Where the records start, in octets.
#[inline]
fn records_at(name: usize) -> usize {
    HEAD * 8 + name
}

/// Words that hold a head and a name.
#[inline]
pub(super) fn locator(name: usize) -> usize {
    records_at(name).div_ceil(8)
}

/// An entry, or its beginning up to the end of the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'w> {
    pub(super) words: &'w [u64],
}

impl<'w> Entry<'w> {
    #[inline]
    pub(super) fn head(self) -> Head {
        Head(self.words.first_chunk().copied().unwrap_or_default())
    }

    #[inline]
    fn octets(self, from: usize, length: usize) -> &'w [u8] {
        bytemuck::cast_slice::<u64, u8>(self.words).get(from..from + length).unwrap_or_default()
    }

    #[inline]
    pub(super) fn name(self) -> &'w [u8] {
        self.octets(HEAD * 8, self.head().name_length())
    }

    #[inline]
    pub(super) fn key(self) -> Key<'w> {
        let head = self.head();
        Key { name: self.name(), rtype: head.rtype(), bits: head.key_bits() }
    }

    /// The records of all sections as they follow the question.
    #[inline]
    pub(super) fn records(self) -> &'w [u8] {
        let head = self.head();
        self.octets(records_at(head.name_length()), head.records_length())
    }

    /// Where TTLs stand, and owners that are written out and equal the question.
    #[inline]
    pub(super) fn places(self) -> (impl Iterator<Item = usize> + 'w, impl Iterator<Item = usize> + 'w) {
        let head = self.head();
        let at = (records_at(head.name_length()) + head.records_length()).next_multiple_of(2);
        let places = self.octets(at, 2 * (head.ttl_count() + head.owner_count()));
        let (ttls, owners) = places.split_at((2 * head.ttl_count()).min(places.len()));
        let each = |places: &'w [u8]| {
            places.chunks_exact(2).map(|place| usize::from(u16::from_ne_bytes([place[0], place[1]])))
        };
        (each(ttls), each(owners))
    }
}

/// What an entry is made from.
pub(super) struct Parts<'a> {
    pub(super) key: Key<'a>,
    pub(super) life: Life,
    /// Milliseconds since the cache was made.
    pub(super) made: u64,
    /// [`AUTHENTIC`], [`AD`] and [`NAMES`].
    pub(super) bits: u8,
    pub(super) rcode: u16,
    pub(super) body: Body,
}

/// Records and what has to be known of them to write them for another asker.
#[derive(Default)]
pub(super) struct Body {
    /// Records in answer, authority and additional.
    pub(super) counts: [u16; 3],
    pub(super) records: Vec<u8>,
    /// Where TTLs stand.
    pub(super) ttls: Vec<u16>,
    /// Where owners stand that are written out in full and equal the question.
    pub(super) owners: Vec<u16>,
}

impl Parts<'_> {
    /// The words of the entry. `None` if it cannot be one: more records than a message can hold, a name too long.
    pub(super) fn pack(&self) -> Option<Vec<u64>> {
        let Self { key, body, .. } = self;
        let records = records_at(key.name.len());
        let places = (records + body.records.len()).next_multiple_of(2);
        let words = (places + 2 * (body.ttls.len() + body.owners.len())).div_ceil(8);
        let mut entry = vec![0_u64; words];
        let short = |value: usize| u16::try_from(value).ok().map(u64::from);
        let kind = match self.life.kind {
            Kind::Success => 0,
            Kind::Denial => 1,
            Kind::Error => 2,
            Kind::Failure => 3,
        };
        let name = u8::try_from(key.name.len()).ok()?;
        let code = u8::try_from(self.rcode).ok()?;
        let bits = key.bits & KEY_BITS | self.bits & !KEY_BITS;
        let [answers, authorities, additionals] = body.counts.map(u64::from);
        let head = [
            short(words)? | u64::from(key.rtype) << 16 | u64::from_le_bytes([0, 0, 0, 0, name, bits, code, kind]),
            self.made,
            u64::from(self.life.seconds) | short(body.records.len())? << 32 | short(body.ttls.len())? << 48,
            answers | authorities << 16 | additionals << 32 | short(body.owners.len())? << 48,
            0,
        ];
        entry[..HEAD].copy_from_slice(&head);
        let octets = bytemuck::cast_slice_mut::<u64, u8>(&mut entry);
        octets[HEAD * 8..records].copy_from_slice(key.name);
        octets[records..records + body.records.len()].copy_from_slice(&body.records);
        for (to, place) in octets[places..].chunks_exact_mut(2).zip(body.ttls.iter().chain(&body.owners)) {
            to.copy_from_slice(&place.to_ne_bytes());
        }
        Some(entry)
    }
}
