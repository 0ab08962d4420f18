//! A question's name, folded and split once, so that every suffix of it can be looked up without another pass.

/// Longest name on the wire without its root octet.
const MAX: usize = 254;
/// Most labels that fit in it.
const MAX_LABELS: usize = 127;

/// Octets of zero behind a name, so that this many can be read from any octet of it.
const PAD: usize = 16;
/// Room for the longest name and what is behind it.
const ROOM: usize = 256 + PAD;

/// A name in wire form without the root octet, lower case, with the place of each label. Meant to be reused.
#[derive(Clone)]
pub struct Key {
    /// [`PAD`] octets of zero stand behind the name; what is behind them is left from an earlier one.
    bytes: [u8; ROOM],
    starts: [u8; MAX_LABELS + 1],
    count: u8,
}

/// A run of labels of a [`Key`]: from the first (inclusive) to the last (exclusive), counted from the left.
pub type Span = std::ops::Range<usize>;

impl Default for Key {
    fn default() -> Self {
        Self { bytes: [0; ROOM], starts: [0; MAX_LABELS + 1], count: 0 }
    }
}

impl Key {
    /// Reads an uncompressed name off the front of `wire`; the length it takes there, root octet included. `None` if it
    /// is cut off, over 255 octets, or has a compression pointer or another extended label (RFC 1035 section 3.1).
    #[inline(always)]
    pub fn read(&mut self, wire: &[u8]) -> Option<usize> {
        // Where the longest name has its root octet.
        let wire = wire.get(..=MAX).unwrap_or(wire);
        // Nothing is left of an earlier name if this is none.
        self.count = 0;
        // With what stands behind the name, before it is known where that is: a place in here needs no check.
        fold_case(wire, self.bytes.get_mut(..wire.len())?);
        let mut at = 0;
        let mut count = 0;
        loop {
            // What stands there was left by an earlier name.
            if at >= wire.len() {
                return None;
            }
            let len = self.bytes[at & 0xff];
            if len.wrapping_sub(1) > 62 {
                if len == 0 {
                    break;
                }
                return None;
            }
            self.starts[count & MAX_LABELS] = small(at);
            count += 1;
            at += 1 + usize::from(len);
        }
        self.starts[count & MAX_LABELS] = small(at);
        *self.bytes.get_mut(at..)?.first_chunk_mut()? = [0; PAD];
        self.count = small(count);
        Some(at + 1)
    }

    /// As [`Key::read`], of a wire name without root octet, as nodes have it.
    pub fn read_wire(&mut self, wire: &[u8]) -> Option<()> {
        let mut whole = [0; MAX + 1];
        whole.get_mut(..wire.len()).filter(|_| wire.len() <= MAX)?.copy_from_slice(wire);
        self.read(&whole[..=wire.len()]).filter(|len| *len == wire.len() + 1).map(|_| ())
    }

    /// Reads a name written as text (`a.b` or `a.b.`, `.` for the root). No escapes: names of services need none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::from_wire(&wire_of(text.strip_suffix('.').unwrap_or(text))?)
    }

    /// Reads a wire name without root octet, as nodes have it.
    #[must_use]
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut key = Self::default();
        key.read_wire(wire)?;
        Some(key)
    }

    /// How many labels it has.
    #[inline]
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// All labels.
    #[must_use]
    pub fn all(&self) -> Span {
        0..self.count()
    }

    /// The octets of some of its labels, with their length octets.
    #[inline(always)]
    #[must_use]
    pub fn span(&self, span: Span) -> &[u8] {
        &self.bytes[usize::from(self.starts[span.start])..usize::from(self.starts[span.end])]
    }

    /// One label without its length octet.
    #[must_use]
    pub fn label(&self, ix: usize) -> &[u8] {
        &self.span(ix..ix + 1)[1..]
    }

    /// Where a label starts, counted from the start of the name: what a compression pointer points at.
    #[inline]
    #[must_use]
    pub fn start(&self, ix: usize) -> usize {
        usize::from(self.starts[ix])
    }

    /// Sixteen octets from one of the name on; zero behind its end.
    #[inline]
    fn sixteen(&self, at: usize) -> u128 {
        let at = at & 0xff;
        u128::from_le_bytes(self.bytes[at..at + 16].first_chunk().copied().unwrap_or_default())
    }

    /// The name as text, without a trailing dot.
    #[must_use]
    pub fn text(&self, span: Span) -> String {
        text_of(self.span(span))
    }
}

/// An offset in a name, or a count of its labels.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a name has at most 255 octets")]
fn small(n: usize) -> u8 {
    n as u8
}

/// Copies a name with its letters in lower case; both have the same length. Length octets are at most 63, below 'A', so
/// folding the whole run leaves them alone.
#[inline(always)]
fn fold_case(from: &[u8], to: &mut [u8]) {
    // Sixteen at a time, the last ones once more: a loop over single octets costs as much as the rest of the query.
    if let (Some(last), Some(end)) = (from.last_chunk(), to.last_chunk_mut()) {
        lower(last, end);
        if let (Some(first), Some(start)) = (from.first_chunk(), to.first_chunk_mut()) {
            lower(first, start);
        }
        if from.len() > 32 {
            for (from, to) in from[16..].as_chunks().0.iter().zip(to[16..].as_chunks_mut().0) {
                lower(from, to);
            }
        }
    } else {
        for (from, to) in from.iter().zip(to) {
            *to = from.to_ascii_lowercase();
        }
    }
}

/// Sixteen octets, eight at a time: whether a compiler would do so with single ones depends on what stands around.
#[inline(always)]
fn lower(from: &[u8; 16], to: &mut [u8; 16]) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let (from, to) = (from.as_chunks::<8>().0, to.as_chunks_mut::<8>().0);
    for (from, to) in from.iter().zip(to) {
        let eight = u64::from_le_bytes(*from);
        // Without its highest bit no octet reaches into the next one; that bit of each sum tells how the octet compares.
        let low = eight & (EACH * 0x7f);
        let (from_a, behind_z) = (low + EACH * u64::from(0x80 - b'A'), low + EACH * u64::from(0x7f - b'Z'));
        let upper = (from_a ^ behind_z) & !eight & (EACH * 0x80);
        *to = (eight | upper >> 2).to_le_bytes();
    }
}

/// A name as wire without the root octet; `None` if it cannot be one. The empty text is the root.
#[must_use]
pub fn wire_of(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(text.len() + 1);
    (text.is_empty() || wire_into(text, &mut wire)).then_some(wire)
}

/// Appends a name that is not the root as wire without the root octet; false if it cannot be one.
pub fn wire_into(text: &str, wire: &mut Vec<u8>) -> bool {
    let start = wire.len();
    wire.push(0);
    wire.extend_from_slice(text.as_bytes());
    // Where a dot is, the next label's length has to be.
    let mut label = 0;
    for at in (0..text.len()).filter(|at| text.as_bytes()[*at] == b'.').chain([text.len()]) {
        let Some(len) = u8::try_from(at - label).ok().filter(|len| (1..=63).contains(len)) else { return false };
        wire[start + label] = len;
        label = at + 1;
    }
    wire.len() <= MAX
}

/// A wire name without root octet as text; octets that are no part of host names are escaped (RFC 1035 section 5.1).
#[must_use]
pub fn text_of(mut wire: &[u8]) -> String {
    let mut text = String::new();
    while let Some((len, rest)) = wire.split_first().filter(|(len, _)| **len != 0) {
        let (label, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        if !text.is_empty() {
            text.push('.');
        }
        for &octet in label {
            match octet {
                b'.' | b'\\' => text.extend(['\\', char::from(octet)]),
                0x21..=0x7e => text.push(char::from(octet)),
                _ => text.push_str(&format!("\\{octet:03}")),
            }
        }
        wire = rest;
    }
    text
}

/// Whether two short runs of octets are the same, without a call.
#[inline]
#[must_use]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    if one.len() >= 16 {
        let ends = one.first_chunk::<16>() == other.first_chunk() && one.last_chunk::<16>() == other.last_chunk();
        let middle = one.len() <= 32 || one[16..32] == other[16..32];
        ends && middle && (one.len() <= 48 || one[32..] == other[32..])
    } else if let (Some(last), Some(end)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        last == end && one.first_chunk::<8>() == other.first_chunk::<8>()
    } else {
        one == other
    }
}

/// Hashes names and parts of them, sixteen octets at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hasher {
    seed: u64,
    /// Second secret, so that no octets make a product of zero for everyone.
    salt: u64,
}

impl Hasher {
    /// With a seed that nobody outside can know: names are chosen by tenants.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, salt: fold(seed ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93) }
    }

    /// The hash of a wire name without root octet. Length octets tell where a name ends, so its last octets need no mark.
    #[must_use]
    pub fn of_wire(self, wire: &[u8]) -> u64 {
        wire.chunks(16).fold(self.seed, |hash, chunk| {
            let mut sixteen = [0; 16];
            sixteen[..chunk.len()].copy_from_slice(chunk);
            self.step(hash, u128::from_le_bytes(sixteen))
        })
    }

    /// The same of some labels of a key.
    #[inline]
    #[must_use]
    pub fn of(self, key: &Key, span: Span) -> u64 {
        let (mut at, end) = (key.start(span.start), key.start(span.end));
        let mut hash = self.seed;
        if span.end == key.count() {
            while at < end {
                hash = self.step(hash, key.sixteen(at));
                at += 16;
            }
            return hash;
        }
        while at < end {
            // What stands behind the last label is left out.
            let mask = u128::MAX >> (128 - 8 * (end - at).min(16));
            hash = self.step(hash, key.sixteen(at) & mask);
            at += 16;
        }
        hash
    }

    /// The hash of a name, of which `hash` is given, together with something that belongs to it.
    #[inline]
    #[must_use]
    pub fn with(self, hash: u64, more: u64) -> u64 {
        fold(hash ^ more, self.salt)
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "both halves are wanted")]
    fn step(self, hash: u64, sixteen: u128) -> u64 {
        fold(hash ^ sixteen as u64, self.salt ^ (sixteen >> 64) as u64)
    }
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "both halves are wanted")]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_folded_and_every_suffix_hashes_as_the_name_it_is() {
        let key = Key::from_text("Details.Back.mesh.ACME.").unwrap();
        assert_eq!(key.text(key.all()), "details.back.mesh.acme");
        assert_eq!(key.label(1), b"back");
        let hasher = Hasher::new(7);
        let suffix = Key::from_text("mesh.acme").unwrap();
        assert_eq!(hasher.of(&key, 0..4), hasher.of_wire(&wire_of("details.back.mesh.acme").unwrap()));
        assert_eq!(hasher.of(&key, 4..4), hasher.of_wire(b""));
        assert_eq!(hasher.of(&key, 2..4), hasher.of(&suffix, 0..2));
        assert_eq!(hasher.of(&key, 2..4), hasher.of_wire(&wire_of("mesh.acme").unwrap()));
        assert_ne!(hasher.of(&key, 1..4), hasher.of(&key, 2..4));
    }

    #[test]
    fn a_name_of_any_length_is_folded_and_hashed_by_all_of_its_octets() {
        let hasher = Hasher::new(7);
        let mut seen = std::collections::HashSet::new();
        for length in 1..=63 {
            let text: String = (0..length).map(|n| if n % 2 == 0 { 'Z' } else { 'a' }).collect();
            let mut key = Key::from_text("what.stands.here.from.another.name.is.longer.than.the.next.one").unwrap();
            key.read(&[&wire_of(&text).unwrap()[..], &[0]].concat()).unwrap();
            assert_eq!(key.text(key.all()), text.to_lowercase());
            assert_eq!(hasher.of(&key, 0..1), hasher.of_wire(&wire_of(&text.to_lowercase()).unwrap()), "{text}");
            assert!(seen.insert(hasher.of(&key, 0..1)), "{text}");
        }
        let odd: Vec<u8> = (0..=255).collect();
        for octets in odd.chunks(16) {
            let wire = [&[16], octets, &[0]].concat();
            let mut key = Key::default();
            key.read(&wire).unwrap();
            assert_eq!(key.label(0), octets.to_ascii_lowercase());
        }
    }

    #[test]
    fn what_is_no_uncompressed_name_is_refused() {
        let mut key = Key::default();
        let long: Vec<u8> = (0..5).flat_map(|_| [63].into_iter().chain([b'a'; 63])).chain([0]).collect();
        let cases: [&[u8]; 6] = [b"", b"\x01", b"\x01a", b"\xc0\x0c", b"\x41aaaa\0", &long];
        for wire in cases {
            assert_eq!(key.read(wire), None, "{wire:?}");
        }
        assert_eq!(key.read(b"\0rest"), Some(1));
        let most: Vec<u8> = (0..127).flat_map(|_| [1, b'a']).chain([0]).collect();
        assert_eq!(key.read(&most), Some(255));
        assert_eq!(key.count(), 127);
        assert_eq!(Hasher::new(7).of(&key, key.all()), Hasher::new(7).of_wire(&most[..254]));
    }

    #[test]
    fn what_an_earlier_name_has_left_completes_no_other() {
        let mut key = Key::default();
        let wire = [&wire_of("details.back.mesh.acme").unwrap()[..], &[0]].concat();
        for length in 0..wire.len() {
            assert_eq!(key.read(&wire), Some(wire.len()));
            assert_eq!((key.read(&wire[..length]), key.count()), (None, 0), "{length}");
        }
    }

    #[test]
    fn short_runs_are_the_same_only_if_every_octet_is() {
        let text: Vec<u8> = (0..70).collect();
        for length in 0..text.len() {
            assert!(same(&text[..length], &text.clone()[..length]));
            assert!(!same(&text[..length], &text[..=length]));
            for at in 0..length {
                let mut other = text[..length].to_vec();
                other[at] ^= 0x20;
                assert!(!same(&text[..length], &other), "{at} of {length}");
            }
        }
    }

    #[test]
    fn odd_octets_are_escaped() {
        assert_eq!(text_of(b"\x03a.b\x02\x00\xff"), "a\\.b.\\000\\255");
    }
}
