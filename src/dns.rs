//! The wire: the batched UDP path, TCP, the general path on hickory, forwarding.
//!
//! ```text
//! listen   sockets: batched UDP workers, the TCP accept loop
//! query    what a packet asks           reply    answers from prebuilt parts
//! serve    both paths behind one door: decide, then answer from the table or hand over
//! general  what the hot path does not know, on hickory and tokio
//! wire     names on the wire, bounded
//! resolve  what upstreams know, asked for as seldom as can be
//! cache    what they said
//! forward  upstreams                    count    each worker counts for itself
//! log      which queries are logged     seen     who has asked lately
//! writers  what each worker has for itself
//! ```

pub mod cache;
pub mod count;
pub mod forward;
pub mod general;
pub mod listen;
pub mod log;
pub mod query;
pub mod reply;
pub mod resolve;
pub mod seen;
pub mod serve;
mod wire;
mod writers;
