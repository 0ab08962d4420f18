//! Values that are read whatever their type is, so that one wrong field costs that field and nothing around it.
//!
//! A derived `Deserialize` stops at the first wrong type, and a whole file or watch with it. These never fail on a type:
//! they keep a word on what stands there instead, and [`super::decode`] makes a fault of it.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field: not there (or null), read, or of another type than it has to be.
#[derive(Debug, Default)]
pub enum Loose<T> {
    /// Not there, or null.
    #[default]
    Absent,
    /// As it should be.
    Read(T),
    /// What stands there instead, e.g. `the boolean true`.
    Wrong(Box<str>),
}

/// What a [`Loose`] field may hold; every method that is not written says "not this".
pub trait Shape<'de>: Sized {
    /// What it has to be, for messages: `a string`.
    const WANT: &'static str;
    /// From a string.
    fn text(_text: Cow<'de, str>) -> Option<Self> {
        None
    }
    /// From a boolean.
    fn boolean(_value: bool) -> Option<Self> {
        None
    }
    /// From a whole number that is not negative.
    fn number(_value: u64) -> Option<Self> {
        None
    }
    /// From a mapping; has to consume it.
    ///
    /// # Errors
    /// Those of the format, e.g. malformed YAML.
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
    /// From a list; has to consume it.
    ///
    /// # Errors
    /// Those of the format, e.g. malformed YAML.
    fn seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// A string, borrowed from the input where it stands there verbatim.
pub type Text<'a> = Loose<Cow<'a, str>>;
/// A list.
pub type List<T> = Loose<Vec<Loose<T>>>;

impl<'de: 'a, 'a> Shape<'de> for Cow<'a, str> {
    const WANT: &'static str = "a string";
    fn text(text: Cow<'de, str>) -> Option<Self> {
        Some(text)
    }
}

impl<'de> Shape<'de> for bool {
    const WANT: &'static str = "true or false";
    fn boolean(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl<'de> Shape<'de> for u64 {
    const WANT: &'static str = "a number";
    fn number(value: u64) -> Option<Self> {
        Some(value)
    }
}

impl<'de, T: Deserialize<'de>> Shape<'de> for Vec<T> {
    const WANT: &'static str = "a list";
    fn seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Option<Self>, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(Some(list))
    }
}

/// A mapping of strings to strings, in the order given: labels, annotations, `matchLabels`.
#[derive(Debug, Default)]
pub struct Pairs<'a>(pub Vec<(Cow<'a, str>, Text<'a>)>);

impl<'de: 'a, 'a> Shape<'de> for Pairs<'a> {
    const WANT: &'static str = "a mapping";
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut pairs = Vec::new();
        while let Some((Word(key), value)) = map.next_entry()? {
            // YAML says so itself. Labels decide who sees what, so neither of two may count by chance.
            if pairs.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format_args!("the key {} stands twice", quoted(&key))));
            }
            pairs.push((key, value));
        }
        Ok(Some(Self(pairs)))
    }
}

/// The keys of a mapping and nothing of their values.
#[derive(Debug, Default)]
pub struct Keys<'a>(pub Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Shape<'de> for Keys<'a> {
    const WANT: &'static str = "a mapping";
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut keys = Vec::new();
        while let Some((Word(key), IgnoredAny)) = map.next_entry()? {
            keys.push(key);
        }
        Ok(Some(Self(keys)))
    }
}

/// A mapping's key: any scalar, as written.
struct Word<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Word<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;
        impl<'de> Visitor<'de> for WordVisitor {
            type Value = Word<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string as key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Word(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Word(Cow::Owned(text.to_owned())))
            }
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Word(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(WordVisitor)
    }
}

struct LooseVisitor<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> Deserialize<'de> for Loose<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor(PhantomData))
    }
}

/// Cuts what a message quotes: a value may be megabytes long.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}

fn wrong<T>(what: impl Into<Box<str>>) -> Loose<T> {
    Loose::Wrong(what.into())
}

impl<'de, T: Shape<'de>> Visitor<'de> for LooseVisitor<T> {
    type Value = Loose<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WANT)
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Loose::Absent)
    }
    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Loose::Absent)
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(T::text(Cow::Borrowed(text)).map_or_else(|| wrong(format!("the string {}", quoted(text))), Loose::Read))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let what = quoted(text);
        Ok(T::text(Cow::Owned(text.to_owned())).map_or_else(|| wrong(format!("the string {what}")), Loose::Read))
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(T::boolean(value).map_or_else(|| wrong(format!("the boolean {value}")), Loose::Read))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(T::number(value).map_or_else(|| wrong(format!("the number {value}")), Loose::Read))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        let read = u64::try_from(value).ok().and_then(T::number);
        Ok(read.map_or_else(|| wrong(format!("the number {value}")), Loose::Read))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Self::Value, E> {
        Ok(wrong(format!("the number {value}")))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Self::Value, E> {
        Ok(wrong(format!("the number {value}")))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(wrong(format!("the number {value}")))
    }
    fn visit_bytes<E>(self, _bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(wrong("binary data"))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok(T::map(map)?.map_or_else(|| wrong("a mapping"), Loose::Read))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Ok(T::seq(seq)?.map_or_else(|| wrong("a list"), Loose::Read))
    }
}
