//! The wire: the batched UDP path, TCP, the general path on hickory, forwarding.

pub mod forward;
pub mod listen;
