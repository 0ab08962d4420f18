//! As the crate's `cache`, with another `sync`.

#![allow(dead_code, unused_imports, reason = "the crate's files, of which only the ring is run")]

#[path = "../../src/dns/cache/entry.rs"]
mod entry;
#[path = "../../src/dns/cache/life.rs"]
mod life;
mod orders;
#[path = "../../src/dns/cache/ring.rs"]
mod ring;
mod sync;

pub use segdns::dns::cache::Options;
