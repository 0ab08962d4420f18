//! The saved snapshot (`sources.snapshot`, R22): the last complete state on disk, for a start without the API server.
//!
//! One file, [`NAME`], in the configured directory. Its head is for people, too: `head -3 state` shows it, and
//! `tail -n +4 state | sha256sum` gives the `sha256` that it names.
//!
//! ```text
//! segdns saved state, format 1
//! {"written":"2026-02-03T04:05:06Z","cluster":"cluster1","node":"node-7","segdns":"0.1.0","clusters":2,...}
//! SHA-256 of the two lines above, in hexadecimal
//! the body, see [`body`]
//! ```
//!
//! What is served from it may be old: an address that went to another pod meanwhile is judged by the pod that had it, and a
//! Service that is gone is still answered, until the API server is back. How old it is, [`Saved::written`] says; of a peer
//! that was away when it was written, it has what was last known of it.

pub mod body;
mod error;
mod file;
mod head;

use std::time::SystemTime;

use crate::mesh::object::Object;

pub use body::{Body, encode};
pub use error::{SavedError, WriteError};
pub use file::{NAME, parse, read, write};

/// The version of all that is in the file, the shape of [`Object`] included: another one is refused, not guessed at.
pub const FORMAT: u32 = 3;

/// What was saved: the objects of every cluster, the local one first.
#[derive(Debug)]
pub struct Saved {
    /// When it was written.
    pub written: SystemTime,
    /// The clusters that were complete then.
    pub clusters: Vec<SavedCluster>,
}

/// One cluster of a saved state.
#[derive(Debug)]
pub struct SavedCluster {
    /// Its name.
    pub name: Box<str>,
    /// All its objects.
    pub objects: Vec<Object>,
}

/// Whose state it is: under another cluster's name the objects would be published as what they are not, and of another node
/// the Pods are not the callers here (R15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The local cluster's name.
    pub cluster: Box<str>,
    /// The node whose Pods were read; `None` for those of every node.
    pub node: Option<Box<str>>,
}

#[cfg(test)]
mod tests;
