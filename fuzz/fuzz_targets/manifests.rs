//! See `bodies::manifests`.
#![no_main]

#[path = "../bodies.rs"]
mod bodies;
#[path = "../../tests/inside/mod.rs"]
mod inside;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| bodies::manifests(octets));
