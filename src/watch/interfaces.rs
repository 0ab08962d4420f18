//! The addresses of the node itself, which are callers like its pods (R15).

use std::net::IpAddr;

/// The addresses of this node's interfaces (R15); empty if the system does not tell.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut out: Vec<IpAddr> = all
        .filter_map(|interface| {
            let address = interface.address?;
            let four = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}
