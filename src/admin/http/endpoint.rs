//! Where the endpoints are served: a port, and a Unix socket of the own pod, at which probes reach this very process.
//!
//! During an upgrade two processes share the node's network, and only one of them has the port. The other one does without
//! it until it is free: nobody has to die for that.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use super::health::reachable;

/// How often an address that another segdns holds is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long whoever holds it may take to say what it is.
const WAIT: Duration = Duration::from_secs(1);
/// How often it is found held, and then not, before that is an error.
const ATTEMPTS: usize = 5;
/// Only the own user may ask there.
const MODE: u32 = 0o600;
/// The most that is read of an answer.
const MOST: u64 = 1 << 20;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Somebody at this address.
    Remote(SocketAddr),
    /// A process of this machine that may open the Unix socket.
    Local,
}

impl Peer {
    /// Whether it is on this machine.
    #[must_use]
    pub fn is_local(self) -> bool {
        match self {
            Self::Remote(address) => address.ip().to_canonical().is_loopback(),
            Self::Local => true,
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Remote(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Self {
        Self::Local
    }
}

/// Where endpoints are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// TCP.
    Port(SocketAddr),
    /// A Unix socket.
    Path(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(address) => write!(f, "admin address {address}"),
            Self::Path(path) => write!(f, "admin socket {}", path.display()),
        }
    }
}

/// Why endpoints cannot be served.
#[derive(Debug, Error)]
pub enum EndpointError {
    /// Held, and not by a segdns.
    #[error("{0} cannot be used: another program holds it; stop that, or choose another one")]
    Held(Place),
    /// The system's word.
    #[error("{0} cannot be used: {1}")]
    System(Place, io::Error),
}

/// A place that is ours, or will be once another segdns has left it.
#[derive(Debug)]
pub struct Endpoint {
    place: Place,
    socket: Option<Socket>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Endpoint {
    /// Opens a place. One that another segdns holds is waited for by [`Endpoint::serve`]; `replaces` says that there is one,
    /// which may hang and say nothing.
    ///
    /// # Errors
    /// [`EndpointError`] if it cannot be had, and will not be.
    pub async fn open(place: Place, replaces: bool) -> Result<Self, EndpointError> {
        for _ in 0..ATTEMPTS {
            match place.open().await {
                Ok(socket) => return Ok(Self { place, socket: Some(socket) }),
                Err(error) if error.kind() != ErrorKind::AddrInUse => return Err(EndpointError::System(place, error)),
                Err(_) => {}
            }
            let answer = place.get("/version", WAIT).await;
            let is_ours = answer.as_ref().is_ok_and(|(_, body)| body.starts_with("segdns "));
            if is_ours || (replaces && answer.is_err()) {
                tracing::warn!("{place} is held by another segdns: tried again each second until that has left it");
                return Ok(Self { place, socket: None });
            }
            // Who has just left it says nothing any more.
            if !answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                break;
            }
            sleep(WAIT / 10).await;
        }
        Err(EndpointError::Held(place))
    }

    /// Serves for ever, as soon as the place is free.
    pub async fn serve(self, router: Router) {
        let mut socket = self.socket;
        let socket = loop {
            match socket.take() {
                Some(socket) => break socket,
                None => sleep(AGAIN).await,
            }
            socket = self.place.open().await.ok();
            if socket.is_some() {
                tracing::info!("{} is free, and served from now on", self.place);
            }
        };
        let service = router.into_make_service_with_connect_info::<Peer>();
        // It ends with the process only.
        let _ = match socket {
            Socket::Tcp(listener) => axum::serve(listener, service).await,
            Socket::Unix(listener) => axum::serve(listener, service).await,
        };
    }
}

impl Place {
    /// # Errors
    /// `AddrInUse` if somebody is there, or the system's.
    async fn open(&self) -> io::Result<Socket> {
        match self {
            Self::Port(address) => TcpListener::bind(address).await.map(Socket::Tcp),
            Self::Path(path) => open_path(path).await.map(Socket::Unix),
        }
    }

    /// Status and body of an HTTP GET.
    ///
    /// # Errors
    /// Nobody answers in time, or not in HTTP.
    pub async fn get(&self, path: &str, limit: Duration) -> io::Result<(u16, String)> {
        let got = async {
            match self {
                Self::Port(address) => {
                    let address = SocketAddr::new(reachable(address.ip()), address.port());
                    get(TcpStream::connect(address).await?, path).await
                }
                Self::Path(file) => get(UnixStream::connect(file).await?, path).await,
            }
        };
        timeout(limit, got).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }
}

/// Opens a Unix socket under its name in one step, so that it never is there with other rights, and takes the place of one
/// that nobody answers any more.
async fn open_path(path: &Path) -> io::Result<UnixListener> {
    match path.symlink_metadata() {
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::other("there is a file of this name, which is no socket; remove it"));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => return Err(ErrorKind::AddrInUse.into()),
        _ => {}
    }
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(own);
    let _ = std::fs::remove_file(&own);
    let listener = UnixListener::bind(&own)?;
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(MODE))
        .and_then(|()| std::fs::rename(&own, path))
        .inspect_err(|_| drop(std::fs::remove_file(&own)))?;
    Ok(listener)
}

async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<(u16, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: segdns\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let parsed = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let (http, rest) = head.split_once(' ')?;
        let status = rest.get(..3)?.parse().ok().filter(|_| http.starts_with("HTTP/1."))?;
        Some((status, body.to_owned()))
    });
    parsed.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "what answers does not speak HTTP"))
}

#[cfg(test)]
mod tests;
