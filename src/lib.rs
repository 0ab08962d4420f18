//! segdns: the DNS server of a node that knows mesh segments.
//!
//! ```text
//! watch -> mesh -> table -> dns -> socket
//! ```
//!
//! Objects come in through [`watch`], [`mesh`] turns them into names by the rules of the contract (R1 to R17),
//! [`table`] holds the result as one immutable snapshot, and [`dns`] answers from it. [`admin`] and [`cli`] show it.
//! [`config`], [`histogram`], [`memory`] and [`moment`] are for all of them. [`node`] stands apart: it makes the addresses they listen on.

#![deny(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod dns;
pub mod histogram;
pub mod memory;
pub mod mesh;
pub mod moment;
pub mod node;
pub mod table;
pub mod watch;
