//! Octets that stand for what is kept of many objects: numbers, and parts with their length in front. They are read where
//! they lie.
//!
//! A number is a varint: seven bits an octet, the lowest first; the highest bit of an octet says that more follow.

pub mod records;

use std::fmt;

/// What is packed here can be read here.
const OURS: &str = "octets that were packed here";

/// Room to pack something in before it is known how much it takes. What it held says nothing of any state.
#[derive(Clone, Default)]
pub struct Room(Vec<u8>);

impl Room {
    /// The room, empty.
    pub fn empty(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        &mut self.0
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Room")
    }
}

/// Appends a number.
#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The number that `bytes` begin with, and what stands after it.
///
/// # Panics
/// There is none: these are not octets that were packed here.
#[inline]
#[must_use]
pub fn split_number(bytes: &[u8]) -> (u64, &[u8]) {
    let (mut number, mut at) = (0, 0);
    loop {
        let octet = bytes[at];
        number |= u64::from(octet & 127) << (7 * at);
        at += 1;
        if octet & 128 == 0 {
            return (number, &bytes[at..]);
        }
    }
}

/// Appends a part.
pub fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    put_number(out, part.len() as u64);
    out.extend_from_slice(part);
}

/// How many octets a part takes with its length.
#[must_use]
pub fn part_len(part: usize) -> usize {
    part + std::iter::successors(Some(part), |rest| (*rest >= 128).then_some(*rest >> 7)).count()
}

/// The part that `bytes` begin with, and what stands after it.
///
/// # Panics
/// There is none: these are not octets that were packed here.
#[inline]
#[must_use]
pub fn split_part(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (len, rest) = split_number(bytes);
    rest.split_at(usize::try_from(len).expect(OURS))
}

/// A part that is text.
///
/// # Panics
/// It is none.
#[inline]
#[must_use]
pub fn text(part: &[u8]) -> &str {
    std::str::from_utf8(part).expect(OURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_any_length_read_back() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 100_000] {
            let mut bytes = vec![7];
            put_part(&mut bytes, &vec![1; len]);
            assert_eq!(bytes.len(), 1 + part_len(len));
            put_part(&mut bytes, b"rest");
            let (part, rest) = split_part(&bytes[1..]);
            assert_eq!((part.len(), split_part(rest)), (len, (&b"rest"[..], &b""[..])));
        }
    }

    #[test]
    fn numbers_of_any_size_read_back() {
        for number in [0, 127, 128, 1 << 35, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            bytes.push(9);
            assert_eq!(split_number(&bytes), (number, &[9][..]));
        }
    }
}
