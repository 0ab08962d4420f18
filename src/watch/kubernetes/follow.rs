//! Follows one resource of one cluster.

use crate::mesh::object::Key;
use crate::watch::decode::Decoded;

/// Where a follower tells what it reads. Calls come in order: [`Sink::begin`], [`Sink::seen`] for each object of a list,
/// [`Sink::complete`]; then [`Sink::applied`] and [`Sink::deleted`] as the watch tells them, until a new list begins.
pub trait Sink: Send {
    /// A list begins. What an earlier one told before it was complete counts for nothing more than that it exists.
    fn begin(&mut self);
    /// An object of the list.
    fn seen(&mut self, object: Decoded);
    /// The list is complete: objects that it did not tell are gone.
    fn complete(&mut self);
    /// The watch tells an object as it is now.
    fn applied(&mut self, object: Decoded);
    /// The watch tells that an object is gone.
    fn deleted(&mut self, key: Key);
}
