//! The rules of segments (R1 to R17): pure functions over plain data. No async, no I/O, no DNS wire.

pub mod name;
pub mod object;
pub mod settings;
