//! Reading single fields, with a note on each that cannot be used.

use std::borrow::Cow;
use std::net::IpAddr;

use super::{Problem, Step};
use crate::mesh::object::{Labels, Port, Protocol};
use crate::watch::item::PortIn;
use crate::watch::loose::{List, Loose, Pairs, Shape, Text};

/// Values over this are no part of a DNS name (R9); one octet more than a name has still says so.
const MAX_ANNOTATION: usize = 254;
/// kubectl's copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Collects what could not be used.
#[derive(Debug, Default)]
pub struct Reader {
    pub problems: Vec<Problem>,
    /// Something that decides visibility could not be read, so the object as a whole is not usable.
    pub broken: bool,
}

impl Reader {
    pub fn report(&mut self, path: &[Step], what: &str, remedy: &str) {
        self.problems.push(Problem { path: path.to_vec(), what: what.to_owned(), remedy: remedy.to_owned() });
    }

    pub fn wrong(&mut self, path: &[Step], want: &str, found: &str) {
        let scalar = found.starts_with("the boolean") || found.starts_with("the number");
        let remedy = match found.rsplit_once(' ') {
            Some((_, value)) if scalar && want == "a string" => format!("put it in quotes: \"{value}\""),
            _ => format!("write {want}"),
        };
        self.report(path, &format!("{found} where {want} has to be"), &remedy);
    }

    /// A field of whatever shape; `None` if it is absent or wrong, and wrong is reported.
    pub fn field<'v, 'de, T: Shape<'de>>(&mut self, path: &[Step], value: &'v Loose<T>) -> Option<&'v T> {
        match value {
            Loose::Absent => None,
            Loose::Read(value) => Some(value),
            Loose::Wrong(found) => {
                self.wrong(path, T::WANT, found);
                None
            }
        }
    }

    /// As [`Reader::field`], for what the object cannot be used without.
    pub fn vital<'v, 'de, T: Shape<'de>>(&mut self, path: &[Step], value: &'v Loose<T>) -> Option<&'v T> {
        self.broken |= matches!(value, Loose::Wrong(_));
        self.field(path, value)
    }

    pub fn text<'v>(&mut self, path: &[Step], value: &'v Text<'_>) -> Option<&'v str> {
        match value {
            Loose::Read(text) => Some(text),
            _ => {
                self.field(path, value);
                None
            }
        }
    }

    /// Elements of a list that have the right shape, with their places.
    pub fn list<'v, 'de, T: Shape<'de>>(&mut self, path: &[Step], value: &'v List<T>) -> Vec<(Vec<Step>, &'v T)> {
        let Some(list) = self.elements(path, value) else { return Vec::new() };
        let mut out = Vec::with_capacity(list.len());
        for (index, element) in list.iter().enumerate() {
            let place = below(path, index);
            if let Some(element) = self.field(&place, element) {
                out.push((place, element));
            }
        }
        out
    }

    fn elements<'v, T>(&mut self, path: &[Step], value: &'v Loose<Vec<T>>) -> Option<&'v [T]> {
        match value {
            Loose::Absent => None,
            Loose::Read(list) => Some(list),
            Loose::Wrong(found) => {
                self.wrong(path, "a list", found);
                None
            }
        }
    }

    /// Elements of a list of strings, with their indices.
    pub fn texts<'v>(&mut self, path: &[Step], value: &'v Loose<Vec<Text<'_>>>) -> Vec<(usize, &'v str)> {
        let Some(list) = self.elements(path, value) else { return Vec::new() };
        let mut out = Vec::with_capacity(list.len());
        for (index, element) in list.iter().enumerate() {
            match element {
                Loose::Read(text) => out.push((index, &**text)),
                other => {
                    self.field(&below(path, index), other);
                }
            }
        }
        out
    }

    pub fn address(&mut self, path: impl FnOnce() -> Vec<Step>, text: &str) -> Option<IpAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.report(&path(), &format!("{text:?} is not an IP address"), "write an IPv4 or IPv6 address");
        }
        address
    }

    /// Labels, which decide who sees what: a wrong one makes the object unusable.
    pub fn labels(&mut self, path: &[Step], value: &Loose<Pairs<'_>>) -> Labels {
        let before = self.problems.len();
        let labels = self.pairs(path, value, |_, text| Some(text));
        self.broken |= self.problems.len() > before;
        labels
    }

    pub fn annotations(&mut self, path: &[Step], value: &Loose<Pairs<'_>>) -> Labels {
        self.pairs(path, value, |key, text| (key != LAST_APPLIED).then(|| cut(text)))
    }

    fn pairs<'v>(
        &mut self,
        path: &[Step],
        value: &'v Loose<Pairs<'_>>,
        keep: impl Fn(&str, &'v str) -> Option<&'v str>,
    ) -> Labels {
        let pairs = match value {
            Loose::Absent => return Labels::default(),
            Loose::Read(pairs) => &pairs.0,
            Loose::Wrong(found) => {
                self.wrong(path, "a mapping", found);
                return Labels::default();
            }
        };
        let mut out: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let text = match value {
                Loose::Read(text) => text,
                // As the API server reads it: null in a map of strings is the empty string.
                Loose::Absent => "",
                Loose::Wrong(found) => {
                    self.wrong(&below(path, key.to_string()), "a string", found);
                    continue;
                }
            };
            out.extend(keep(key, text).map(|text| (&**key, text)));
        }
        Labels::new(out)
    }

    /// Seconds since the epoch; 0 if absent or unreadable.
    pub fn time(&mut self, path: &[Step], value: &Text<'_>) -> i64 {
        let Some(text) = self.text(path, value) else { return 0 };
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => time.as_second(),
            Err(_) => {
                self.report(path, &format!("{text:?} is not a time"), "write it as 2026-01-31T12:00:00Z");
                0
            }
        }
    }

    /// Ports; `number` names the field that holds the number. A port without one (an EndpointSlice may say "all ports")
    /// is none that SRV could give.
    pub fn ports(&mut self, path: &[Step], value: &List<PortIn<'_>>, number: &'static str) -> Box<[Port]> {
        let mut out = Vec::new();
        for (place, port) in self.list(path, value) {
            let (value, at) = (if number == "number" { &port.number } else { &port.port }, || below(&place, number));
            let Some(wide) = (match value {
                Loose::Read(wide) => Some(*wide),
                other => self.field(&at(), other).copied(),
            }) else {
                continue;
            };
            let Some(number) = u16::try_from(wide).ok().filter(|number| *number != 0) else {
                self.report(&at(), &format!("{wide} is not a port"), "write a number from 1 to 65535");
                continue;
            };
            let protocol = match self.text(&[], &port.protocol) {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            };
            let name = self.text(&below(&place, "name"), &port.name).unwrap_or_default().into();
            out.push(Port { name, number, protocol });
        }
        out.into()
    }
}

/// The path of a field below another.
pub fn below(path: &[Step], step: impl Into<Step>) -> Vec<Step> {
    let mut path = path.to_vec();
    path.push(step.into());
    path
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ANNOTATION)]
}

/// The text of a field that must be there.
pub fn present<'v>(value: &'v Text<'_>) -> Option<&'v str> {
    match value {
        Loose::Read(Cow::Borrowed(text)) => Some(text),
        Loose::Read(Cow::Owned(text)) => Some(text),
        _ => None,
    }
}
