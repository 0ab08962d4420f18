//! The cache and the forwarder as a user meets them, over UDP and TCP (R23).

mod support;

#[path = "cache/ageing.rs"]
mod ageing;
#[path = "cache/keys.rs"]
mod keys;
#[path = "cache/lab.rs"]
mod lab;
#[path = "cache/lives.rs"]
mod lives;
#[path = "cache/loops.rs"]
mod loops;
#[path = "cache/octets.rs"]
mod octets;
#[path = "cache/operator.rs"]
mod operator;
#[path = "cache/policy.rs"]
mod policy;
#[path = "cache/sharing.rs"]
mod sharing;
