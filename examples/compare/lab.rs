//! What a client sees of a DNS server whose upstreams misbehave, measured. The example `compare` prints it of several servers,
//! and `tests/compare.rs` holds segdns to it.
//!
//! ```text
//! scenario/* -> server     the program under test, as a process
//!            -> upstream   what it forwards to, inside this process, misbehaving as told
//!            -> client     questions, and how soon what came back
//! column     -> scenario   all of them for one server
//! ```
//!
//! Every scenario starts a server and upstreams of its own, on loopback, and ends them. Everything has a limit in time, so
//! that a server which never answers is a result, too.

#![allow(dead_code, reason = "the test and the example use their own parts of this")]

pub mod client;
pub mod column;
pub mod scenario;
pub mod server;
pub mod upstream;
#[path = "../../tests/support/wire.rs"]
pub mod wire;

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// How long something took: as JSON in milliseconds, in words rounded to what matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_secs_f64() * 1000.0;
        match ms {
            ..1.0 => write!(f, "under 1 ms"),
            1.0..1000.0 => write!(f, "{ms:.0} ms"),
            _ => write!(f, "{:.1} s", ms / 1000.0),
        }
    }
}

impl Serialize for Took {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0.as_secs_f64() * 1e6).round() / 1000.0)
    }
}
