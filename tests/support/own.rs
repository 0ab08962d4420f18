//! A process of a test's own, which must not outlive it.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How often it is looked whether one has ended.
const LOOK: Duration = Duration::from_millis(10);

/// It is killed when dropped.
#[derive(Debug)]
pub struct Own(pub Child);

impl Own {
    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let id = i32::try_from(self.0.id()).expect("a process's number");
        // SAFETY: takes no pointer. The child has not been waited for, so its number is still its own.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child")
    }

    /// Its exit status once it has ended; `None`: it goes on for so long.
    pub fn ends(&mut self, within: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + within;
        loop {
            let status = self.ended();
            if status.is_some() || Instant::now() >= end {
                return status;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
