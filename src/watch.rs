//! Where objects come from: manifests on disk now, an API server's watches later.
//!
//! Every source ends in [`decode`], and gives [`crate::mesh::object::Change`]s.

pub mod decode;
pub mod interfaces;
pub mod item;
pub mod loose;
pub mod manifests;
pub mod yaml;
