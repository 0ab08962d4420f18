//! Where objects come from: manifests on disk, or the watches of API servers.
//!
//! Every source ends in [`decode`], and gives [`crate::mesh::object::Change`]s.

pub mod board;
pub mod decode;
pub mod interfaces;
pub mod item;
pub mod kubernetes;
pub mod loose;
pub mod manifests;
pub mod saved;
pub mod yaml;
