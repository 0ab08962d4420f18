//! Clusters of many Services, as they are in the field, and what a server that follows them costs.

#![allow(dead_code, reason = "every test crate uses its own part of this")]

pub mod cluster;
pub mod meter;
pub mod wire;

/// Lets a measurement in a release build be a full one, and one in passing a small one.
#[must_use]
pub fn from_env(name: &str, otherwise: u32) -> u32 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")),
        Err(_) => otherwise,
    }
}
