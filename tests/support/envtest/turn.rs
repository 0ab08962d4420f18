//! Which tests run against a real API server, and how many at a time.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};

/// Names the folder with the programs, as it does for controller-runtime's tests.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
/// What has to be there.
const PROGRAMS: [&str; 3] = ["kube-apiserver", "etcd", "kubectl"];
/// An API server takes 300 MiB, and a whole core for the time of its start; a test may have three.
const AT_A_TIME: usize = 4;

/// How many tests run, and when one ends.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// The folder with `kube-apiserver`, `etcd` and `kubectl`.
///
/// # Errors
/// Why there is none.
pub fn assets() -> Result<PathBuf, String> {
    let dir = std::env::var_os(ASSETS).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let dir = dir.ok_or_else(|| format!("{ASSETS} is not set"))?;
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(|program| !dir.join(program).is_file()).collect();
    if missing.is_empty() { Ok(dir) } else { Err(format!("{ASSETS}={} has no {}", dir.display(), missing.join(", "))) }
}

/// Runs a test that needs a real API server, when it is its turn; says so if there is none.
pub fn in_turn(name: &str, test: impl FnOnce()) {
    if let Err(why) = assets() {
        // Not by eprintln!, which the test harness would keep to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED {name} against a real API server: {why}");
        return;
    }
    let _turn = Turn::new();
    test();
}

/// One of those that may run.
struct Turn;

impl Turn {
    fn new() -> Self {
        let (running, ended) = &RUNNING;
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running =
            ended.wait_while(running, |running| *running >= AT_A_TIME).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (running, ended) = &RUNNING;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        ended.notify_one();
    }
}
