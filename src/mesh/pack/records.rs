//! A set of records, packed one after the other into one piece of memory. Each begins with a part, its key, by which it is
//! found. A hundred thousand small allocations would cost more in pointers, and in what the allocator rounds up and cannot
//! give back, than what they hold.
//!
//! ```text
//! record   number (length of what follows) | part (key) | anything
//! ```
//!
//! A record that changes without becoming longer or shorter is replaced where it lies; any other goes to the end, and leaves
//! a hole. When holes are a quarter of all, what is there is moved together, so that a change costs what it changes.

use std::fmt;
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{part_len, put_part, split_part};

/// So little is not worth the work.
const SMALL: usize = 512;

/// See the module's page.
#[derive(Clone, Default)]
pub struct Records {
    octets: Vec<u8>,
    /// Where each record begins.
    index: HashTable<u32>,
    /// So many of `octets` are holes.
    holes: usize,
    hasher: RandomState,
}

/// The record that begins here, without its length.
fn record(octets: &[u8], at: u32) -> &[u8] {
    split_part(&octets[at as usize..]).0
}

fn key(record: &[u8]) -> &[u8] {
    split_part(record).0
}

impl Records {
    /// The record of this key.
    #[must_use]
    pub fn get(&self, wanted: &[u8]) -> Option<&[u8]> {
        let same = |at: &u32| key(record(&self.octets, *at)) == wanted;
        self.index.find(self.hasher.hash_one(wanted), same).map(|at| record(&self.octets, *at))
    }

    /// Puts a record in the place of the one of its key, or as one more.
    ///
    /// # Panics
    /// There are 4 GiB of records.
    pub fn put(&mut self, new: &[u8]) {
        let Self { octets, index, holes, hasher } = self;
        let wanted = key(new);
        let same = |at: &u32| key(record(octets, *at)) == wanted;
        let hash = |at: &u32| hasher.hash_one(key(record(octets, *at)));
        let end = u32::try_from(octets.len()).expect("records below 4 GiB");
        match index.entry(hasher.hash_one(wanted), same, hash) {
            Entry::Occupied(mut entry) => {
                let old = record(octets, *entry.get()).len();
                if old == new.len() {
                    let from = *entry.get() as usize + part_len(old) - old;
                    octets[from..from + old].copy_from_slice(new);
                    return;
                }
                *holes += part_len(old);
                *entry.get_mut() = end;
            }
            Entry::Vacant(entry) => drop(entry.insert(end)),
        }
        reserve(octets, part_len(new.len()));
        put_part(octets, new);
        self.close();
    }

    /// Takes the record of this key out; whether there was one.
    pub fn remove(&mut self, wanted: &[u8]) -> bool {
        let Self { octets, index, holes, hasher } = self;
        let same = |at: &u32| key(record(octets, *at)) == wanted;
        let Ok(entry) = index.find_entry(hasher.hash_one(wanted), same) else { return false };
        let (at, _) = entry.remove();
        *holes += part_len(record(octets, at).len());
        self.close();
        true
    }

    /// All records, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.index.iter().map(|at| record(&self.octets, *at))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Gives back the room for records that might come: after many have come, not many more will.
    pub fn trim(&mut self) {
        self.octets.shrink_to_fit();
    }

    /// Moves what is there together, if it is worth the work.
    fn close(&mut self) {
        let Self { octets, index, holes, .. } = self;
        if *holes <= SMALL.max(octets.len() / 4) {
            return;
        }
        let mut next = Vec::with_capacity(octets.len() - *holes);
        for at in index.iter_mut() {
            let old = record(octets, *at);
            // No more than there was, so that it is below 4 GiB.
            *at = u32::try_from(next.len()).unwrap_or(u32::MAX);
            put_part(&mut next, old);
        }
        (self.octets, self.holes) = (next, 0);
    }
}

/// Makes room for so many octets more; where there is none, for an eighth more than there are and not as many again.
fn reserve(octets: &mut Vec<u8>, more: usize) {
    if octets.capacity() - octets.len() < more {
        octets.reserve_exact(more.max(octets.len() / 8));
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|record| String::from_utf8_lossy(key(record)))).finish()
    }
}

#[cfg(test)]
mod tests;
