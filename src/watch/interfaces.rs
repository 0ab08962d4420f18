//! The addresses of the node itself, which are callers like its pods (R15).

use std::io;
use std::net::IpAddr;

/// The addresses of this node's interfaces (R15).
///
/// # Errors
/// The system does not tell, as it takes a file that may not be opened: the node then has those that it had.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let all = nix::ifaddrs::getifaddrs()?;
    let mut out: Vec<IpAddr> = all
        .filter_map(|interface| {
            let address = interface.address?;
            let four = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect();
    out.sort_unstable();
    out.dedup();
    Ok(out)
}
