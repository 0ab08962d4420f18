//! What processes cost: CPU time, memory, and how to end them.

use std::fs;
use std::mem;
use std::time::Duration;

use libc::pid_t;

/// CPU time that was used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// All of it, exactly.
    pub total: Duration,
    /// In clock ticks of 10 ms or what the kernel makes of them: good for shares over a long time.
    pub user: Duration,
    /// The same.
    pub system: Duration,
}

impl Cost {
    /// What these processes, with threads that have ended, have used so far.
    #[must_use]
    pub fn of(pids: &[pid_t]) -> Self {
        pids.iter().fold(Self::default(), |sum, pid| {
            let (user, system) = ticks(*pid).unwrap_or_default();
            Self {
                total: sum.total + cpu_time(*pid).unwrap_or_default(),
                user: sum.user + user,
                system: sum.system + system,
            }
        })
    }

    /// What was used since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            total: self.total.saturating_sub(before.total),
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// The CPU clock of another process, in nanoseconds.
fn cpu_time(pid: pid_t) -> Option<Duration> {
    // SAFETY: zero is valid for both, and the calls write to nothing else.
    let time = unsafe {
        let mut clock: libc::clockid_t = 0;
        let mut time: libc::timespec = mem::zeroed();
        if libc::clock_getcpuclockid(pid, &raw mut clock) != 0 || libc::clock_gettime(clock, &raw mut time) != 0 {
            return None;
        }
        time
    };
    Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

fn ticks(pid: pid_t) -> Option<(Duration, Duration)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; behind the last one stands field 3.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace().skip(11);
    let mut next = || Some(Duration::from_millis(fields.next()?.parse::<u64>().ok()? * 10));
    Some((next()?, next()?))
}

/// A process and all that it has started.
#[must_use]
pub fn family(root: pid_t) -> Vec<pid_t> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        // The kernel lists children by the thread that has made them.
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<pid_t>().ok()));
        }
        next += 1;
    }
    found
}

/// Resident and proportional memory, in MiB.
#[must_use]
pub fn memory(pids: &[pid_t]) -> (f64, f64) {
    let of = |field: &str| {
        let kib = |pid: &pid_t| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(field))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()
        };
        pids.iter().filter_map(kib).sum::<f64>() / 1024.0
    };
    (of("Rss:"), of("Pss:"))
}

/// Sends a signal to one process.
pub fn signal(pid: pid_t, signal: libc::c_int) {
    // SAFETY: the call touches no memory of ours.
    unsafe { libc::kill(pid, signal) };
}
