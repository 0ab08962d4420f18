//! What is about to be looked up, fetched into the processor's caches ahead of its turn: a large table is not in them, and
//! each step of a look-up has to wait for the one before.

#![expect(unsafe_code, reason = "hints to the processor")]

use super::Table;
use super::key::Hasher;

/// Tells the processor that an address is about to be read.
#[inline(always)]
pub fn fetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; nothing is read.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint; nothing is read.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) place, options(nostack, readonly, preserves_flags));
    }
}

/// Octets of the longest name on the wire, and of what is read with its last ones.
const LONGEST: usize = 255 + 16;

/// Names on their way to their turn. A name that is not in lower case is not fetched, and found all the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ahead {
    hashes: [u64; Self::STEP],
    turn: usize,
}

impl Ahead {
    /// From one step of a look-up to the next, in names.
    pub const STEP: usize = 4;
    /// How many names before its turn a name is announced.
    pub const STEPS: usize = 2 * Self::STEP;

    /// A name, in wire form with whatever stands behind it, has its turn in [`Ahead::STEPS`]: where the index has it is
    /// fetched. What was announced [`Ahead::STEP`] before is in the index by now, and its node is fetched.
    #[inline]
    pub fn announce(&mut self, table: &Table, wire: &[u8]) {
        let hash = raw_hash(table.hasher, wire);
        let shard = |hash| &*table.shards[super::shard_of(hash)];
        shard(hash).fetch_slot(hash);
        let before = std::mem::replace(&mut self.hashes[self.turn % Self::STEP], hash);
        shard(before).fetch_node(before);
        self.turn = self.turn.wrapping_add(1);
    }
}

/// The hash of the name at the front, as it stands there; of anything else any number.
#[inline]
fn raw_hash(hasher: Hasher, wire: &[u8]) -> u64 {
    // Whoever sends more than a name can be is not worth more.
    let wire = wire.get(..LONGEST).unwrap_or(wire);
    let mut end = 0;
    while let Some(length @ 1..=63) = wire.get(end) {
        end += 1 + usize::from(*length);
    }
    hasher.of_front(wire, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::settings::Settings;
    use crate::table::keeper::Keeper;
    use crate::table::key::Key;

    #[test]
    fn a_name_has_the_hash_that_it_is_found_by() {
        let hasher = Hasher::new(7);
        let mut name = String::new();
        for labels in 1..60 {
            name = format!("{}x{name}", "l".repeat(labels % 7)) + if name.is_empty() { "" } else { ".b" };
            let Some(key) = Key::from_text(&name) else { break };
            for behind in [&[0][..], &[0, 0, 1, 0, 1], &[0; 40]] {
                let wire = [key.span(key.all()), behind].concat();
                assert_eq!(raw_hash(hasher, &wire), hasher.of(&key, key.all()), "{name}");
            }
        }
    }

    #[test]
    fn whatever_is_no_name_does_no_harm() {
        let mut octets: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut ahead = Ahead::default();
        let table = Keeper::new(Settings::default()).snapshot().load();
        while octets.pop().is_some() {
            octets.reverse();
            ahead.announce(&table, &octets);
        }
    }
}
