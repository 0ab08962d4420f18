//! As much of the crate's `dns` as the ring needs.

pub mod cache;

pub use segdns::dns::{forward, query};

/// As the crate's own.
pub mod wire {
    /// A number of 32 bits at a place.
    pub fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
        octets.get(at..)?.first_chunk().map(|number| u32::from_be_bytes(*number))
    }
}
