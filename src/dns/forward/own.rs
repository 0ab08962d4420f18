//! Which addresses are segdns's own: asking them would be a loop.

use std::net::{IpAddr, SocketAddr};

/// The addresses that segdns listens on.
#[derive(Debug)]
pub(super) struct Own {
    listen: Vec<SocketAddr>,
}

impl Own {
    pub(super) fn new(listen: &[SocketAddr]) -> Self {
        Self { listen: listen.to_vec() }
    }

    /// Whether a question sent there would come to us. A wildcard listens on every address of the node; the node's
    /// addresses may change, so they are looked up each time.
    pub(super) fn is(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.listen.iter().filter(|own| own.port() == address.port()).any(|own| {
            let own = own.ip().to_canonical();
            own == ip || (own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4()) && is_local(ip))
        })
    }
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || interface_addresses().any(|own| own == ip)
}

fn interface_addresses() -> impl Iterator<Item = IpAddr> {
    nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_owns_every_local_address_with_its_port() {
        let cases = [
            (&["169.254.20.10:53"][..], "169.254.20.10:53", true),
            (&["169.254.20.10:53"], "[::ffff:169.254.20.10]:53", true),
            (&["169.254.20.10:53"], "169.254.20.10:5353", false),
            (&["169.254.20.10:53"], "127.0.0.1:53", false),
            (&["0.0.0.0:53"], "127.0.0.1:53", true),
            (&["0.0.0.0:53"], "192.0.2.1:53", false),
            (&["0.0.0.0:53"], "[::1]:53", false),
            (&["[::]:53"], "[::1]:53", true),
        ];
        for (listen, address, want) in cases {
            let listen: Vec<SocketAddr> = listen.iter().map(|own| own.parse().unwrap()).collect();
            assert_eq!(Own::new(&listen).is(address.parse().unwrap()), want, "{listen:?} {address}");
        }
    }
}
