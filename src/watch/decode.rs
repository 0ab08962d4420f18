//! From a slim [`Item`] to the [`Object`] that the rules use, field by field: what cannot be used becomes a [`Problem`],
//! and everything else is used.
//!
//! Where reading less than was written could publish more than was meant (labels decide who sees what), the object as a
//! whole is [`Decoded::Broken`].

mod fields;
mod kinds;

use std::borrow::Cow;
use std::fmt;

use super::item::Item;
use super::loose::{Loose, Text};
use crate::mesh::object::{Fault, Key, Kind, Object};
use fields::Reader;

/// One step from an object's root to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a mapping. Nearly all keys are those of the API, and paths to them are at hand whether or not anything is wrong.
    Key(Cow<'static, str>),
    /// Into a list, from 0.
    Index(usize),
}

/// What in an object cannot be used. It becomes a [`Fault`] once someone knows where the object is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, from the object's root.
    pub path: Vec<Step>,
    /// What is wrong with it.
    pub what: String,
    /// What to change.
    pub remedy: String,
}

impl Problem {
    /// The fault, with the place that the object is from, e.g. `services.yaml:14` or `Service shop/cart`.
    #[must_use]
    pub fn fault(&self, place: impl fmt::Display) -> Fault {
        let path = self.path_text();
        let text =
            if path.is_empty() { format!("{place}: {}", self.what) } else { format!("{place}: {path}: {}", self.what) };
        Fault { text, remedy: self.remedy.clone() }
    }

    /// The field as an operator writes it: `spec.clusterIPs[0]`, `metadata.labels['solo.io/service-scope']`.
    #[must_use]
    pub fn path_text(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::Key(key) if key.contains(['.', '/']) => text.push_str(&format!("['{key}']")),
                Step::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(key);
                }
            }
        }
        text
    }
}

/// What came of an item.
#[derive(Debug)]
pub enum Decoded {
    /// An object, and what in it could not be used.
    Object(Object, Vec<Problem>),
    /// An object of a kind that is read, but not usable; the version held before stays. The key says which, if it
    /// could be read.
    Broken(Option<Key>, Vec<Problem>),
    /// Of a kind, or an API group, that is not read.
    Other,
}

/// Which kind that is read an `apiVersion` and `kind` mean; an object of the same kind name of another group is none.
#[must_use]
pub fn kind_of(api_version: &str, kind: &str) -> Option<Kind> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    match (group, kind) {
        ("", "Namespace") if version == "v1" => Some(Kind::Namespace),
        ("", "Service") if version == "v1" => Some(Kind::Service),
        ("", "Pod") if version == "v1" => Some(Kind::Pod),
        ("discovery.k8s.io", "EndpointSlice") => Some(Kind::EndpointSlice),
        ("admin.solo.io" | "admin.istio.io", "Segment") => Some(Kind::Segment),
        ("networking.istio.io", "ServiceEntry") => Some(Kind::ServiceEntry),
        ("networking.istio.io", "WorkloadEntry") => Some(Kind::WorkloadEntry),
        _ => None,
    }
}

/// Decodes one item by its own `apiVersion` and `kind`.
#[must_use]
pub fn item(item: &Item<'_>) -> Decoded {
    let mut reader = Reader::default();
    let kind = match (&item.api_version, &item.kind) {
        (Loose::Read(api_version), Loose::Read(kind)) => match kind_of(api_version, kind) {
            Some(kind) => kind,
            None => return Decoded::Other,
        },
        (version, kind) => {
            header(&mut reader, "apiVersion", version);
            header(&mut reader, "kind", kind);
            return Decoded::Broken(None, reader.problems);
        }
    };
    kinds::decode(kind, item, reader)
}

/// As [`item`], for a caller that knows the kind already: an API server leaves `kind` out inside its lists.
#[must_use]
pub fn item_as(kind: Kind, item: &Item<'_>) -> Decoded {
    kinds::decode(kind, item, Reader::default())
}

fn header(reader: &mut Reader, field: &'static str, value: &Text<'_>) {
    match value {
        Loose::Read(_) => {}
        Loose::Absent => reader.report(&[field.into()], "it is missing", &format!("add the object's {field}")),
        Loose::Wrong(found) => reader.wrong(&[field.into()], "a string", found),
    }
}

impl From<&'static str> for Step {
    fn from(key: &'static str) -> Self {
        Self::Key(Cow::Borrowed(key))
    }
}

impl From<String> for Step {
    fn from(key: String) -> Self {
        Self::Key(Cow::Owned(key))
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

#[cfg(test)]
mod tests;
