//! A question's name, folded and split once, so that every suffix of it can be looked up without another pass.

/// Longest name on the wire without its root octet.
const MAX: usize = 254;
/// Most labels that fit in it.
const MAX_LABELS: usize = 127;

/// Octets behind the longest name, so that eight can be read from the start of any label's last ones.
const PAD: usize = 8;

/// A name in wire form without the root octet, lower case, with the place of each label. Meant to be reused.
#[derive(Clone)]
pub struct Key {
    /// What stands behind the name is left from an earlier one.
    bytes: [u8; MAX + 1 + PAD],
    starts: [u8; MAX_LABELS + 1],
    count: u8,
}

/// A run of labels of a [`Key`]: from the first (inclusive) to the last (exclusive), counted from the left.
pub type Span = std::ops::Range<usize>;

impl Default for Key {
    fn default() -> Self {
        Self { bytes: [0; MAX + 1 + PAD], starts: [0; MAX_LABELS + 1], count: 0 }
    }
}

impl Key {
    /// Reads an uncompressed name off the front of `wire`; the length it takes there, root octet included. `None` if it
    /// is cut off, over 255 octets, or has a compression pointer or another extended label (RFC 1035 section 3.1).
    #[inline]
    pub fn read(&mut self, wire: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut count = 0;
        loop {
            let len = usize::from(*wire.get(at)?);
            if len == 0 {
                break;
            }
            if len > 63 || at + len >= MAX {
                return None;
            }
            self.starts[count] = small(at);
            count += 1;
            at += 1 + len;
        }
        fold_case(wire.get(..at)?, self.bytes.get_mut(..at)?);
        self.starts[count] = small(at);
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
    #[must_use]
    pub fn start(&self, ix: usize) -> usize {
        usize::from(self.starts[ix])
    }

    /// Eight octets from one on, which is at most the last.
    #[inline]
    fn eight(&self, at: usize) -> u64 {
        let at = at & 0xff;
        u64::from_le_bytes(self.bytes[at..at + 8].first_chunk().copied().unwrap_or_default())
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
#[inline]
fn fold_case(from: &[u8], to: &mut [u8]) {
    // Sixteen at a time, the last ones once more: a loop over single octets costs as much as the rest of the query.
    if let (Some(last), Some(end)) = (from.last_chunk(), to.last_chunk_mut()) {
        lower(last, end);
        for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
            lower(from, to);
        }
    } else {
        for (from, to) in from.iter().zip(to) {
            *to = from.to_ascii_lowercase();
        }
    }
}

/// Sixteen octets, which a compiler folds as one.
#[inline]
fn lower(from: &[u8; 16], to: &mut [u8; 16]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.to_ascii_lowercase();
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

/// Hashes names and parts of them, eight octets at a time.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    seed: u64,
}

impl Hasher {
    /// With a seed that nobody outside can know: names are chosen by tenants.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The hash of a wire name without root octet. Length octets tell where a name ends, so its last octets need no mark.
    #[must_use]
    pub fn of_wire(self, wire: &[u8]) -> u64 {
        wire.chunks(8).fold(self.seed, |hash, chunk| {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            fold(hash ^ u64::from_le_bytes(eight))
        })
    }

    /// The same of some labels of a key.
    #[inline]
    #[must_use]
    pub fn of(self, key: &Key, span: Span) -> u64 {
        let (mut at, mut left) = (key.start(span.start), key.span(span).len());
        if left == 0 {
            return self.seed;
        }
        let mut hash = self.seed;
        while left > 8 {
            hash = fold(hash ^ key.eight(at));
            (at, left) = (at + 8, left - 8);
        }
        // What stands behind the last label is left out.
        fold(hash ^ (key.eight(at) & (u64::MAX >> ((64 - 8 * left) & 63))))
    }
}

#[inline]
fn fold(value: u64) -> u64 {
    let product = u128::from(value) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    #[allow(clippy::cast_possible_truncation, reason = "both halves are wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
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
    }

    #[test]
    fn odd_octets_are_escaped() {
        assert_eq!(text_of(b"\x03a.b\x02\x00\xff"), "a\\.b.\\000\\255");
    }
}
