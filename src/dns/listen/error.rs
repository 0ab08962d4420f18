//! Why an address cannot be listened on.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use thiserror::Error;

use super::Transport;

/// Why there is no listener.
#[derive(Debug, Error)]
pub enum ListenError {
    /// EADDRINUSE: the holder does not share the port (another segdns of the same user would).
    #[error("address in use: another program holds {transport} {address}")]
    InUse {
        /// Which of the two is held.
        transport: Transport,
        /// The address asked.
        address: SocketAddr,
    },
    /// EADDRNOTAVAIL.
    #[error("cannot listen on {transport} {address}: no interface of this node has the address {}", address.ip())]
    NoInterface {
        /// Which socket was opened.
        transport: Transport,
        /// The address asked.
        address: SocketAddr,
    },
    /// EACCES or EPERM.
    #[error("cannot listen on {transport} {address}: not permitted, ports below 1024 need CAP_NET_BIND_SERVICE")]
    NotPermitted {
        /// Which socket was opened.
        transport: Transport,
        /// The address asked.
        address: SocketAddr,
    },
    /// Anything else that the system reports.
    #[error("cannot listen on {transport} {address}: {source}")]
    Socket {
        /// Which socket was opened.
        transport: Transport,
        /// The address asked.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
    /// There is nothing to listen on.
    #[error("no address to listen on")]
    NoAddress,
    /// A worker thread could not be started.
    #[error("cannot start a UDP worker: {0}")]
    Thread(io::Error),
}

impl ListenError {
    pub(super) fn new(transport: Transport, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::AddrInUse => Self::InUse { transport, address },
            ErrorKind::AddrNotAvailable => Self::NoInterface { transport, address },
            ErrorKind::PermissionDenied => Self::NotPermitted { transport, address },
            _ => Self::Socket { transport, address, source },
        }
    }
}
