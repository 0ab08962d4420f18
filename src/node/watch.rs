//! Restores what someone takes away.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use tokio::time::{Instant, sleep, sleep_until};

/// How often it is looked even if the kernel tells nothing: it may drop what it tells when there is much.
const POLL: Duration = Duration::from_secs(10);
/// What changes together is looked at together.
const SETTLE: Duration = Duration::from_millis(100);
/// How soon it is tried again what failed.
const RETRY: Duration = Duration::from_secs(1);
/// Enough to take a message off the queue; what it says does not matter.
const GLANCE: usize = 64;

/// Calls `look` whenever an interface or an address of this network namespace has changed, and every 10 s; sooner if it says
/// that it failed (false). What calls it makes itself is one more call. Ends with an error only.
///
/// # Errors
/// The kernel's.
pub async fn watch(mut look: impl FnMut() -> bool) -> io::Result<()> {
    let changes = Changes::listen()?;
    loop {
        // Also at first: something may have changed before the kernel was listened to.
        let next = if look() { POLL } else { RETRY };
        let end = Instant::now() + next;
        tokio::select! {
            () = sleep_until(end) => {}
            changed = changes.changed() => {
                changed?;
                sleep(SETTLE).await;
                changes.forget();
            }
        }
    }
}

/// What the kernel tells of changes.
struct Changes {
    socket: TokioSocket,
}

impl Changes {
    fn listen() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
        socket.socket_mut().bind(&SocketAddr::new(0, groups.cast_unsigned()))?;
        Ok(Self { socket })
    }

    async fn changed(&self) -> io::Result<()> {
        told(self.socket.recv(&mut Vec::with_capacity(GLANCE)).await)
    }

    /// Empties the queue.
    fn forget(&self) {
        while told(self.socket.socket_ref().recv(&mut Vec::with_capacity(GLANCE), 0).map(drop)).is_ok() {}
    }
}

/// That the kernel had to drop some is a change, too.
fn told(received: io::Result<()>) -> io::Result<()> {
    match received {
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        received => received,
    }
}
