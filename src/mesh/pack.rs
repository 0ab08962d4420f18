//! Octets that stand for what is kept of many objects: parts with their length in front, and postcard.
//!
//! A length is a varint: seven bits an octet, the lowest first; the highest bit of an octet says that more follow.

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is packed here can be read here.
const OURS: &str = "octets that were packed here";

/// Appends a part.
#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
pub fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    let mut len = part.len();
    while len >= 128 {
        out.push(len as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
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
#[must_use]
pub fn split_part(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (mut len, mut at) = (0, 0);
    loop {
        let octet = bytes[at];
        len |= usize::from(octet & 127) << (7 * at);
        at += 1;
        if octet & 128 == 0 {
            return bytes[at..].split_at(len);
        }
    }
}

/// A part that is text.
///
/// # Panics
/// It is none.
#[must_use]
pub fn text(part: &[u8]) -> &str {
    std::str::from_utf8(part).expect(OURS)
}

/// Appends a value.
pub fn pack(value: &impl Serialize, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reserve(128);
    postcard::serialize_with_flavor(value, Append(bytes)).expect("every sequence of an object knows its length")
}

/// Reads a value that is all of `bytes`.
///
/// # Panics
/// It is not.
#[must_use]
pub fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> T {
    postcard::from_bytes(bytes).expect(OURS)
}

/// Reads a value that `bytes` begin with, and that may borrow from them.
///
/// # Panics
/// They do not.
#[must_use]
pub fn unpack_first<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> T {
    postcard::take_from_bytes(bytes).expect(OURS).0
}

/// Postcard's own writers to a `Vec` copy octet for octet.
struct Append(Vec<u8>);

impl Flavor for Append {
    type Output = Vec<u8>;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
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
}
