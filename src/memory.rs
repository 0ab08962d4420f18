//! Memory that is free, and that the allocator would keep.

/// Gives memory that is free in between back to the system. It takes milliseconds, so it is for what happens rarely: after a
/// first state, which is read piece by piece and then put together.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointer, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
