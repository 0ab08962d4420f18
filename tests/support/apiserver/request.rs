//! What a request asks for.

use std::collections::BTreeMap;

use hyper::Method;

/// What is wanted of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One page, or all.
    List,
    /// A stream, with or without initial events.
    Watch,
    /// One object.
    Get,
    /// A new object.
    Create,
    /// An object as a whole, in the version that it holds.
    Update,
    /// Some of its fields: a merge patch.
    Patch,
}

impl Verb {
    /// As RBAC and the messages of the server spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
        }
    }
}

/// A request for objects of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) verb: Verb,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

/// The query of a request.
pub(super) type Query = BTreeMap<String, String>;

/// Reads a query string; of a key that comes twice, the first counts, as in Go.
pub(super) fn query(text: &str) -> Query {
    let mut query = Query::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        query.entry(decode(key)).or_insert_with(|| decode(value));
    }
    query
}

/// Whether a boolean parameter is set, as the server reads it.
pub(super) fn is_set(query: &Query, key: &str) -> bool {
    query.get(key).is_some_and(|value| value != "false" && value != "0")
}

impl Target {
    /// What a path asks for; `None` is a path that is no resource's, such as discovery.
    pub(super) fn parse(method: &Method, path: &str, query: &Query) -> Option<Self> {
        let segments: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match segments[..] {
            ["api", version, ref rest @ ..] => ("", version, rest),
            ["apis", group, version, ref rest @ ..] => (group, version, rest),
            _ => return None,
        };
        let (namespace, plural, name) = match *rest {
            ["namespaces", namespace, plural] => (Some(namespace), plural, None),
            ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name)),
            [plural] => (None, plural, None),
            [plural, name] => (None, plural, Some(name)),
            _ => return None,
        };
        let verb = match (method.as_str(), name) {
            ("POST", None) => Verb::Create,
            ("PUT", Some(_)) => Verb::Update,
            ("PATCH", Some(_)) => Verb::Patch,
            (_, Some(_)) => Verb::Get,
            (_, None) if is_set(query, "watch") => Verb::Watch,
            (_, None) => Verb::List,
        };
        let owned = |text: &str| text.to_owned();
        Some(Self {
            verb,
            group: owned(group),
            version: owned(version),
            plural: owned(plural),
            namespace: namespace.map(owned),
            name: name.map(owned),
        })
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = || tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match first {
            b'+' => out.push(b' '),
            b'%' if let Some(octet) = escaped() => {
                out.push(octet);
                rest = &tail[2..];
            }
            other => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
