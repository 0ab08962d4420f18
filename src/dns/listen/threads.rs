//! Threads that wait in a system call on a socket, and how they are told that something else is to be done.
//!
//! The socket may be another process's too, so nothing may be done to it that the other would notice, `shutdown(2)` least of
//! all. A signal ends the wait of one thread alone: the call reports EINTR, unless it has something to give, which is then
//! given.

#![expect(unsafe_code, reason = "a handler of a signal, which does nothing")]

use std::os::unix::thread::JoinHandleExt;
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::pthread::{Pthread, pthread_kill};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Does nothing unless it is handled, so that nobody can do harm with it.
const WAKE: Signal = Signal::SIGURG;
/// From one signal to the next: one that comes just before the thread begins to wait goes unnoticed.
const AGAIN: Duration = Duration::from_millis(2);
/// The longest pause, for a thread that is busy with something.
const SELDOM: Duration = Duration::from_millis(50);

extern "C" fn nothing(_: libc::c_int) {}

/// Makes it possible to wake threads; before the first of them is started.
///
/// # Errors
/// The system's.
pub(super) fn prepare() -> Result<(), Errno> {
    static DONE: OnceLock<Result<(), Errno>> = OnceLock::new();
    *DONE.get_or_init(|| {
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler touches nothing, and nobody else in this process handles this signal.
        unsafe { sigaction(WAKE, &action) }.map(drop)
    })
}

/// Wakes threads, which were told before what they are to see, until each has ended. Does not wait for that.
pub(super) fn end(threads: Vec<JoinHandle<()>>) {
    if threads.is_empty() {
        return;
    }
    for thread in &threads {
        wake(thread);
    }
    let repeat = move || {
        let (mut left, mut pause) = (threads, AGAIN);
        loop {
            // One that has ended is joined by being dropped.
            left.retain(|thread| !thread.is_finished());
            if left.is_empty() {
                return;
            }
            thread::sleep(pause);
            pause = SELDOM.min(pause * 2);
            left.iter().for_each(wake);
        }
    };
    if let Err(error) = thread::Builder::new().name("wake".into()).spawn(repeat) {
        tracing::error!(%error, "no thread could be started to end others");
    }
}

/// A thread that has a handle has a number, even after its end.
fn wake(thread: &JoinHandle<()>) {
    // The standard library has one type for all C libraries, musl another one.
    #[allow(clippy::unnecessary_cast, reason = "not for musl")]
    let number = thread.as_pthread_t() as Pthread;
    let _ = pthread_kill(number, WAKE);
}
