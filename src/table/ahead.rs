//! What is about to be looked up, fetched into the processor's caches ahead of its turn: a large table is not in them, and
//! each step of a look-up has to wait for the one before.

#![expect(unsafe_code, reason = "hints to the processor")]

use super::{Table, shard_of};

/// From one step of a look-up to the next, in names.
pub const STEP: usize = 4;
/// How many names before its turn a name is announced.
pub const STEPS: usize = 2 * STEP;

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

/// The name with the hash `next` has its turn in [`STEPS`]: where the index has it is fetched. That with the hash `before`, which
/// was announced [`STEP`] names ago, is in the index by now, and its node is fetched; whether there may be one. Of a query that
/// comes alone both are the same.
#[inline]
pub fn announce(table: &Table, next: u64, before: u64) -> bool {
    let shard = |hash| &table.shards[shard_of(hash)];
    shard(next).fetch_slot(next);
    shard(before).fetch_node(before)
}
