//! The line of one field, looked up only when there is something to say about it.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, with_deserializer_from_str_with_options};

use crate::watch::decode::Step;

/// An object over this is not parsed a second time for the sake of a line.
const MAX_OBJECT: usize = 1024 * 1024;

/// The line (from 1) of the field at `path` of the object that starts at `line` and `column` (both from 1); of its nearest
/// container if the field is not there. `None` where the object does not stand apart by its indentation, as in JSON.
pub fn line_of(text: &str, line: u64, column: u64, path: &[Step]) -> Option<u64> {
    let object = cut(text, usize::try_from(line).ok()?.checked_sub(1)?, usize::try_from(column).ok()?.checked_sub(1)?)?;
    (1..=path.len()).rev().find_map(|steps| {
        let seed = Find(&path[..steps]);
        let found = with_deserializer_from_str_with_options(&object, super::options(), |de| seed.deserialize(de));
        found.ok().flatten().map(|found| found + line - 1)
    })
}

/// The lines of one object, with what stands before it in its first line blanked.
fn cut(text: &str, skip: usize, indent: usize) -> Option<String> {
    let mut lines = text.split_inclusive('\n').skip(skip);
    let first = lines.next()?;
    let mut object = " ".repeat(indent);
    object.push_str(first.get(indent..)?);
    for line in lines {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        let blank = line.trim().is_empty();
        if (!blank && spaces < indent) || (indent == 0 && line.starts_with("---")) {
            break;
        }
        object.push_str(line);
        if object.len() > MAX_OBJECT {
            return None;
        }
    }
    Some(object)
}

/// Walks down a path.
struct Find<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return Ok(Some(Spanned::<IgnoredAny>::deserialize(deserializer)?.referenced.line()));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match &self.0[0] {
                Step::Key(step) if *step == key => found = map.next_value_seed(Find(&self.0[1..]))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        for index in 0.. {
            let more = match &self.0[0] {
                Step::Index(step) if *step == index => {
                    let line = seq.next_element_seed(Find(&self.0[1..]))?;
                    found = line.flatten();
                    line.is_some()
                }
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }
}
