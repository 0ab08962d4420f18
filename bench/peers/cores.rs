//! Which core does what: servers on one, the generator and the upstream on another.

use std::mem;

/// Where servers run.
pub const SERVER: usize = 0;
/// Where questions and the upstream's answers come from.
pub const GENERATOR: usize = 1;

/// The calling thread, and threads that it starts, run on this core only. On a machine that does not have it nothing changes.
pub fn pin(core: usize) {
    // SAFETY: a set of cores is integers, for which zero is valid; the call reads it and nothing else.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set);
    }
}

/// The calling thread goes before all ordinary ones, where the system allows it.
pub fn be_urgent() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads the parameters and nothing else.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
}

/// This process, and all that it starts, get most of their cores' time, where the system allows it.
pub fn go_before_others() {
    // SAFETY: the calls touch no memory of ours.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, -19);
        // Where the kernel groups processes by session, priorities count within a session only.
        libc::setsid();
    }
    let _ = std::fs::write("/proc/self/autogroup", "-19");
}
