//! The cache's ring under every order in which threads may see each other's steps: loom runs the very source of
//! `src/dns/cache/ring` over atomics of its own, which give a reader whatever the memory model allows, and goes through all
//! that can happen within a few switches between threads.
//!
//! The files are compiled a second time, in a tree of modules like the crate's, in which `sync` is loom's.

#[path = "orders/dns.rs"]
mod dns;

/// What the ring's files take from the crate.
mod table {
    pub use segdns::table::{ahead, decide, key};
}
