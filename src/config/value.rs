//! What single keys take. An error is what was found and what is allowed; the caller adds the place.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::tree::Node;
use super::{Debug, Events, Format, Level, Queries, Upstream};
use crate::mesh::name::Name;
use crate::mesh::settings::{Aaaa, ClusterNames, CrossSegment, ServiceEntries, TakeoverAnswer, TakeoverFor};

/// A value that a key takes.
pub trait Value: Sized {
    /// Reads it.
    fn read(node: &Node) -> Result<Self, String>;
}

fn found(node: &Node) -> String {
    match node {
        Node::Null => "nothing".to_owned(),
        Node::Bool(value) => format!("the boolean {value}"),
        Node::Number(value) => format!("the number {value}"),
        Node::Fraction(value) => format!("the number {value}"),
        Node::Text(text) => format!("{text:?}"),
        Node::List(_) => "a list".to_owned(),
        Node::Map(_) => "a mapping".to_owned(),
    }
}

/// "X where Y has to be".
pub fn not<T>(node: &Node, want: &str) -> Result<T, String> {
    Err(format!("{} is not allowed here; write {want}", found(node)))
}

impl Value for Box<str> {
    fn read(node: &Node) -> Result<Self, String> {
        match node {
            Node::Text(text) if !text.is_empty() => Ok(text.as_str().into()),
            Node::Bool(_) | Node::Number(_) | Node::Fraction(_) => not(node, "a text, in quotes"),
            _ => not(node, "a text"),
        }
    }
}

impl Value for bool {
    fn read(node: &Node) -> Result<Self, String> {
        match node {
            Node::Bool(value) => Ok(*value),
            // From the environment, or in quotes.
            Node::Text(text) if text == "true" => Ok(true),
            Node::Text(text) if text == "false" => Ok(false),
            _ => not(node, "true or false"),
        }
    }
}

fn number(node: &Node) -> Option<u64> {
    match node {
        Node::Number(value) => Some(*value),
        Node::Text(text) => text.parse().ok(),
        _ => None,
    }
}

impl Value for u32 {
    fn read(node: &Node) -> Result<Self, String> {
        number(node)
            .and_then(|value| value.try_into().ok())
            .map_or_else(|| not(node, "a whole number from 0 to 4294967295"), Ok)
    }
}

impl Value for usize {
    fn read(node: &Node) -> Result<Self, String> {
        number(node).and_then(|value| value.try_into().ok()).map_or_else(|| not(node, "a whole number from 0"), Ok)
    }
}

impl Value for Duration {
    fn read(node: &Node) -> Result<Self, String> {
        const WANT: &str = "a time with its unit: 300ms, 2s, 5m or 1h";
        let Node::Text(text) = node else {
            return if matches!(node, Node::Number(0)) { Ok(Self::ZERO) } else { not(node, WANT) };
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = match &text[digits..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return not(node, WANT),
        };
        let millis = text[..digits].parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        millis.map_or_else(|| not(node, WANT), |millis| Ok(Self::from_millis(millis)))
    }
}

/// A number of octets.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl Value for Bytes {
    fn read(node: &Node) -> Result<Self, String> {
        const WANT: &str = "a size in octets, or with its unit: 512KiB, 16MiB or 1GiB";
        if let Some(count) = number(node) {
            return Ok(Self(count));
        }
        let Node::Text(text) = node else { return not(node, WANT) };
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit: u64 = match &text[digits..] {
            "B" => 1,
            "KiB" | "Ki" => 1 << 10,
            "MiB" | "Mi" => 1 << 20,
            "GiB" | "Gi" => 1 << 30,
            _ => return not(node, WANT),
        };
        let count = text[..digits].parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        count.map_or_else(|| not(node, WANT), |count| Ok(Self(count)))
    }
}

impl Value for SocketAddr {
    fn read(node: &Node) -> Result<Self, String> {
        let Node::Text(text) = node else { return not(node, "ADDRESS:PORT") };
        text.parse().or_else(|_| not(node, "ADDRESS:PORT, e.g. \"169.254.20.10:53\" or \"[fd00::10]:53\""))
    }
}

impl Value for Name {
    fn read(node: &Node) -> Result<Self, String> {
        let Node::Text(text) = node else { return not(node, "a DNS name") };
        Self::parse(text).map_err(|error| format!("{text:?} is no DNS name: {error}; write one such as \"mesh.acme\""))
    }
}

/// A zone of `forward`; `None` is the root.
#[derive(Clone, Debug)]
pub struct ZoneName(pub Option<Name>);

impl Value for ZoneName {
    fn read(node: &Node) -> Result<Self, String> {
        match node {
            Node::Text(text) if text == "." => Ok(Self(None)),
            Node::Text(text) => match Name::parse_service(text.strip_suffix('.').unwrap_or(text)) {
                Ok(name) => Ok(Self(Some(name))),
                Err(error) => Err(format!("{text:?} is no zone: {error}; write a DNS name, or \".\" for all")),
            },
            _ => not(node, "a DNS name, or \".\" for all"),
        }
    }
}

impl Value for PathBuf {
    fn read(node: &Node) -> Result<Self, String> {
        match node {
            Node::Text(text) if !text.is_empty() => Ok(text.into()),
            _ => not(node, "a path"),
        }
    }
}

impl Value for IpNet {
    fn read(node: &Node) -> Result<Self, String> {
        let Node::Text(text) = node else { return not(node, "a CIDR") };
        let single = || text.parse::<IpAddr>().map(Self::from);
        text.parse().or_else(|_| single()).or_else(|_| not(node, "a CIDR, e.g. 10.0.0.0/8 or fd00::/8"))
    }
}

impl Value for Upstream {
    fn read(node: &Node) -> Result<Self, String> {
        const WANT: &str = "ADDRESS:PORT, an IP address (port 53), or the absolute path of a resolv.conf";
        let Node::Text(text) = node else { return not(node, WANT) };
        if Path::new(text).is_absolute() {
            return Ok(Self::ResolvConf(text.into()));
        }
        let bare = || text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        match text.parse::<SocketAddr>().or_else(|_| bare()) {
            Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => Ok(Self::Address(address)),
            _ => not(node, WANT),
        }
    }
}

impl Value for Queries {
    fn read(node: &Node) -> Result<Self, String> {
        let share = match node {
            Node::Number(value) => Some(*value as f64),
            Node::Fraction(value) => Some(*value),
            Node::Text(text) => match text.as_str() {
                "none" => return Ok(Self::None),
                "failures" => return Ok(Self::Failures),
                "all" => return Ok(Self::All),
                text => text.parse().ok(),
            },
            _ => None,
        };
        match share {
            Some(share) if share > 0.0 && share <= 1.0 => Ok(Self::Sample(share)),
            _ => not(node, "none, failures, all, or the share to sample, e.g. 0.01"),
        }
    }
}

impl Value for Aaaa {
    fn read(node: &Node) -> Result<Self, String> {
        match node {
            Node::Bool(true) => Ok(Self::On),
            Node::Bool(false) => Ok(Self::Off),
            Node::Text(text) => match text.to_ascii_lowercase().as_str() {
                "auto" => Ok(Self::Auto),
                "on" | "yes" | "true" => Ok(Self::On),
                "off" | "no" | "false" => Ok(Self::Off),
                _ => not(node, "auto, on or off"),
            },
            _ => not(node, "auto, on or off"),
        }
    }
}

impl Value for Events {
    fn read(node: &Node) -> Result<Self, String> {
        match (node, bool::read(node)) {
            (_, Ok(true)) => Ok(Self::On),
            (_, Ok(false)) => Ok(Self::Off),
            (Node::Text(text), _) if text == "auto" => Ok(Self::Auto),
            _ => not(node, "auto, true or false"),
        }
    }
}

macro_rules! words {
    ($($type:ty: $want:literal, $($word:literal => $value:expr),+;)+) => {$(
        impl Value for $type {
            fn read(node: &Node) -> Result<Self, String> {
                match node {
                    Node::Text(text) => match text.as_str() {
                        $($word => Ok($value),)+
                        _ => not(node, $want),
                    },
                    _ => not(node, $want),
                }
            }
        }
    )+};
}

words! {
    ServiceEntries: "generated or all", "generated" => Self::Generated, "all" => Self::All;
    CrossSegment: "scope or deny", "scope" => Self::Scope, "deny" => Self::Deny;
    ClusterNames: "open or segment", "open" => Self::Open, "segment" => Self::Segment;
    TakeoverFor: "enrolled or all", "enrolled" => Self::Enrolled, "all" => Self::All;
    TakeoverAnswer: "flatten or cname", "flatten" => Self::Flatten, "cname" => Self::Cname;
    Debug: "loopback or any", "loopback" => Self::Loopback, "any" => Self::Any;
    Format: "text or json", "text" => Self::Text, "json" => Self::Json;
    LevelWord: "error, warn, info, debug, trace or off",
        "error" => Self(Level::Error), "warn" => Self(Level::Warn), "info" => Self(Level::Info),
        "debug" => Self(Level::Debug), "trace" => Self(Level::Trace), "off" => Self(Level::Off);
}

/// [`Level`]; YAML takes an unquoted `off` for a boolean.
#[derive(Clone, Copy, Debug)]
pub struct LevelWord(pub Level);

impl Value for Level {
    fn read(node: &Node) -> Result<Self, String> {
        match node {
            Node::Bool(false) => Ok(Self::Off),
            node => LevelWord::read(node).map(|word| word.0),
        }
    }
}
