//! Memory that is free, and that the allocator would keep.

#![expect(unsafe_code, reason = "the allocator's own interface")]

use std::ptr::null_mut;

/// Gives memory that is free in between back to the system. It takes milliseconds, so it is for what happens rarely: after a
/// first state, which is read piece by piece and then put together.
pub fn give_back() {
    // 4096 stands for all arenas. Neither can fail in a way that matters: memory then goes back later.
    for command in [c"thread.tcache.flush", c"arena.4096.purge"] {
        // SAFETY: these commands read and write nothing through the pointers, which have to be null, and may be given at any
        // time from any thread, whether the program allocates by this allocator (the binary) or not (tests).
        unsafe {
            tikv_jemalloc_sys::mallctl(command.as_ptr(), null_mut(), null_mut(), null_mut(), 0);
        }
    }
}
