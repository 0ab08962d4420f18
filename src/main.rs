//! The binary: hands the command line to [`segdns::cli`], and says which allocator there is.

use std::ffi::c_char;

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Read by the allocator before it is first used. Many arenas would each keep free memory of their own, and nothing on the
/// hot path allocates; what is free for a second is given back. Every allocation of 16 KiB and more would have a page of its
/// own beside what it asks for, so that not all begin at the same place in the processor's caches: a table is a thousand of
/// them, of which queries read at places that have nothing to do with where they begin.
// SAFETY: jemalloc declares a symbol of this name and of this type (`const char *`) to be overridden, and only reads it.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static CONFIGURATION: &c_char =
    // SAFETY: it points to the first octet of a literal that ends with NUL.
    unsafe { &*c"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,cache_oblivious:false".as_ptr() };

fn main() -> std::process::ExitCode {
    segdns::cli::main()
}
