//! Labels and annotations, packed: most objects have a handful, of which nearly all keys, and many values, are the same few
//! words.
//!
//! ```text
//! labels   (text | text)*   a key, a value
//! text     128 + n for the word of this number, 191 for the object's own name, else octets | 0
//! ```
//!
//! No text begins with an octet that stands for another, because none of UTF-8 does. The object's own name is only left out
//! where it is at hand.

mod words;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::mesh::pack::put_number;
use words::{WORDS, place};

/// The octet of the first word.
const FIRST: u8 = 128;
/// Stands for the object's own name.
const OWN: u8 = 191;

/// Labels or annotations in one allocation; look-up is linear, which suits the handful that objects carry.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[u8]>);

impl Labels {
    /// Packs pairs. Keys and values that hold a NUL cannot exist in Kubernetes and are left out.
    #[must_use]
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // Room for what most have, so that it grows for few.
        let mut packed = Vec::with_capacity(256);
        for (key, value) in pairs {
            if !key.contains('\0') && !value.contains('\0') {
                put(&mut packed, key);
                put(&mut packed, value);
            }
        }
        Self(packed.into())
    }

    /// The value of `key`, if it is there.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.view().get(key)
    }

    /// All pairs, in the order they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
        octets(self.view()).map(move |(key, value)| (text(key), text(value)))
    }

    /// The same, borrowed.
    #[must_use]
    pub fn view(&self) -> LabelsView<'_> {
        LabelsView { packed: &self.0, own: "" }
    }
}

/// [`Labels`] where they lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelsView<'p> {
    packed: &'p [u8],
    own: &'p str,
}

impl<'p> LabelsView<'p> {
    /// Of a part that [`LabelsView::put_in`] wrote, of an object of this name.
    #[must_use]
    pub(in crate::mesh) const fn of_part(packed: &'p [u8], own: &'p str) -> Self {
        Self { packed, own }
    }

    /// Appends them as a part, for an object of this name.
    pub(in crate::mesh) fn put_in(self, out: &mut Vec<u8>, own: &str) {
        let texts = || texts(self).map(|(text, octets)| if text == own.as_bytes() { &[OWN] } else { octets });
        put_number(out, texts().map(<[u8]>::len).sum::<usize>() as u64);
        texts().for_each(|octets| out.extend_from_slice(octets));
    }

    /// The value of `key`, if it is there.
    #[must_use]
    pub fn get(self, key: &str) -> Option<&'p str> {
        let [value] = self.find([key]);
        value
    }

    /// The values of several keys, found in one pass: a Service's labels are looked at whenever its names are.
    #[must_use]
    pub fn find<const N: usize>(self, keys: [&str; N]) -> [Option<&'p str>; N] {
        let mut found = [None; N];
        for (key, value) in octets(self) {
            let wanted = keys.iter().position(|k| k.as_bytes() == key);
            if let Some(slot) = wanted.map(|at| &mut found[at]).filter(|slot| slot.is_none()) {
                *slot = std::str::from_utf8(value).ok();
            }
        }
        found
    }

    /// The labels themselves.
    #[must_use]
    pub fn to_owned(self) -> Labels {
        let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
        Labels::new(octets(self).map(|(key, value)| (text(key), text(value))))
    }
}

fn put(packed: &mut Vec<u8>, text: &str) {
    if let Some(place) = place(text) {
        packed.push(FIRST + place);
    } else {
        packed.extend_from_slice(text.as_bytes());
        packed.push(0);
    }
}

/// The texts of packed labels, and the octets that stand for each.
fn texts(labels: LabelsView<'_>) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = labels.packed;
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let word =
            if first == OWN { Some(labels.own) } else { WORDS.get(usize::from(first.wrapping_sub(FIRST))).copied() };
        // Other keys and values are short: octet by octet is faster here than a search that is made for long texts.
        let end = if word.is_some() { 0 } else { rest.iter().position(|octet| *octet == 0)? };
        let (octets, after) = rest.split_at(end + 1);
        rest = after;
        Some((word.map_or(&octets[..end], str::as_bytes), octets))
    })
}

/// The pairs of packed labels.
fn octets(labels: LabelsView<'_>) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut texts = texts(labels).map(|(text, _)| text);
    std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
}

/// As one text: keys and values, each with a NUL behind it. What the words are is no part of a saved state.
impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.iter().flat_map(|(key, value)| [key, "\0", value, "\0"]).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let mut texts = text.split_terminator('\0');
        Ok(Self::new(std::iter::from_fn(|| Some((texts.next()?, texts.next()?)))))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::pack::split_part;

    /// Words and none, some like words, of every length around, and in other alphabets.
    const PAIRS: [(&str, &str); 7] = [
        ("app", "app"),
        ("", ""),
        ("solo.io/service-scope", "global"),
        ("solo.io/service-scop", "global-"),
        ("App", "true\u{7f}"),
        ("\u{80}", "\u{10ffff}\t\n"),
        ("app", "second"),
    ];

    #[test]
    fn what_is_packed_reads_back_whether_it_is_a_word_or_not() {
        let words = WORDS.iter().map(|word| (*word, *word));
        let all: Vec<_> = PAIRS.into_iter().chain(words).collect();
        let labels = Labels::new(all.iter().copied().chain([("nul\0", "x"), ("x", "\0")]));
        assert_eq!(labels.iter().collect::<Vec<_>>(), all);
        assert_eq!(labels.view().find(["app", "", "App", "none"]), [Some("app"), Some(""), Some("true\u{7f}"), None]);
        assert_eq!(labels.view().to_owned(), labels);
    }

    #[test]
    fn an_objects_own_name_is_left_out_and_reads_back() {
        let pairs = PAIRS.into_iter().chain([("name", "web"), ("web", "web-0"), ("x", "we")]);
        let labels = Labels::new(pairs);
        for (own, saved) in [("web", 6), ("", 0), ("app", 0), ("none", 0), ("\u{80}", 2)] {
            let mut part = Vec::new();
            labels.view().put_in(&mut part, own);
            let packed = split_part(&part).0;
            assert_eq!(packed.len() + saved, labels.0.len(), "{own:?}");
            let view = LabelsView::of_part(packed, own);
            assert_eq!((view.to_owned(), view.get("name")), (labels.clone(), Some("web")));
        }
    }

    #[test]
    fn a_saved_state_holds_them_as_text() {
        let labels = Labels::new(PAIRS);
        let saved = serde_json::to_string(&labels).unwrap();
        assert!(saved.contains("solo.io/service-scope\\u0000global\\u0000"), "{saved}");
        let octets = postcard::to_allocvec(&labels).unwrap();
        assert_eq!(postcard::from_bytes::<Labels>(&octets).unwrap(), labels);
    }
}
