//! The node's network: addresses of its own to answer on, and what keeps conntrack off them. Knows neither DNS nor Kubernetes.
//!
//! ```text
//! plan -> setup, teardown -> links    interfaces and addresses
//!                         -> notrack  rules in nftables
//!      -> watch           -> setup    again, whenever something is taken away
//! ```
//!
//! Everything here can be done again: what is there stays, what is missing is made. That is also how two of them, of an old
//! pod and of its successor, get along.

mod links;
mod netlink;
pub mod notrack;
pub mod watch;

use std::fmt;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::link::InfoKind;
use thiserror::Error;

use links::{Held, Link, Links};

/// The name of the interface of our own.
pub const INTERFACE: &str = "segdns";
/// Where addresses are on a kernel that has no interfaces of type dummy.
const LOOPBACK: &str = "lo";
/// Octets of an interface's name, and of a label (`IFNAMSIZ` without its NUL).
pub const NAME_LENGTH: usize = 15;

/// What a node is to have.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The interface of our own; see [`valid_name`].
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// What the interface is made by: dummy, but in tests on kernels without.
    kind: InfoKind,
}

/// What was done, or had not to be, as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The interface was there, and down.
    Up(String),
    /// The address was made.
    Made {
        /// The address.
        address: IpAddr,
        /// Where.
        interface: String,
        /// On loopback, since the kernel has no interfaces of this type.
        instead_of: Option<String>,
    },
    /// The address was there.
    There {
        /// The address.
        address: IpAddr,
        /// Where.
        interface: String,
    },
    /// The interface is gone, and its addresses with it.
    Deleted(String),
    /// The address is gone.
    Taken {
        /// The address.
        address: IpAddr,
        /// Where it was.
        interface: String,
    },
}

/// Why a node does not have what it is to have, with the remedy.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The process may not.
    #[error(
        "{0}: this needs the capability NET_ADMIN; run it as root, or as a container with securityContext \
         {{runAsUser: 0, capabilities: {{add: [NET_ADMIN]}}}}"
    )]
    Forbidden(String),
    /// Someone else has the address.
    #[error(
        "{address} is on interface {interface} already, where something else has put it; remove that first (NodeLocal \
         DNSCache has nodelocaldns, kube-proxy in IPVS mode has every ClusterIP on kube-ipvs0), or give another --address"
    )]
    Elsewhere {
        /// The address.
        address: IpAddr,
        /// Who has it.
        interface: String,
    },
    /// The interface is not ours.
    #[error("interface {0} is there, and is none of type {1}; give --interface a name that nothing else has")]
    Foreign(String, String),
    /// IPv6 is off.
    #[error("{0} cannot be made on interface {1}, where IPv6 is off; set net.ipv6.conf.{1}.disable_ipv6=0 on the node")]
    NoIpv6(IpAddr, String),
    /// Anything else.
    #[error("{0}: {1}")]
    Kernel(String, io::Error),
}

impl Plan {
    /// These addresses on an interface of this name.
    #[must_use]
    pub fn new(interface: &str, addresses: Vec<IpAddr>) -> Self {
        Self { interface: interface.to_owned(), addresses, kind: InfoKind::Dummy }
    }

    /// What marks an IPv4 address on loopback as ours.
    fn label(&self) -> String {
        format!("{LOOPBACK}:{}", self.interface).chars().take(NAME_LENGTH).collect()
    }
}

/// Whether an interface may have this name: 1 to 15 of the characters that are safe everywhere.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    let safe = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    (1..=NAME_LENGTH).contains(&name.len()) && name.bytes().all(safe) && !matches!(name, "." | ".." | LOOPBACK)
}

/// Whether an address may be made: not one that means many, none, or any host, or loopback, which is there anyway.
#[must_use]
pub fn valid_address(address: IpAddr) -> bool {
    let special = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    !special
        && match address {
            IpAddr::V4(four) => !four.is_broadcast() && four.octets()[0] != 0,
            IpAddr::V6(six) => six.to_ipv4_mapped().is_none(),
        }
}

/// Makes what is missing, and says of each address what it did.
///
/// # Errors
/// Why something cannot be made; what was made before stays.
pub fn setup(plan: &Plan) -> Result<Vec<Step>, NodeError> {
    let mut links = Links::open().map_err(|e| kernel("opening a netlink socket", e))?;
    let held = links.addresses().map_err(|e| kernel("listing addresses", e))?;
    let mut own = ours(&mut links, plan)?;
    let loopback = named(&mut links, LOOPBACK)?;
    let mut steps = Vec::new();
    if let Some(link) = own.as_ref().filter(|link| !link.up) {
        links.up(link.index).map_err(|e| kernel(format_args!("putting interface {} up", link.name), e))?;
        steps.push(Step::Up(link.name.clone()));
    }
    for &address in &plan.addresses {
        let there = held.iter().find(|h| h.address == address);
        steps.push(match there {
            Some(held) => there_already(&mut links, held, [own.as_ref(), loopback.as_ref()])?,
            None => make(&mut links, plan, &mut own, loopback.as_ref(), address)?,
        });
    }
    Ok(steps)
}

/// Removes the interface, or what is ours on loopback. That nothing is there is no error.
///
/// # Errors
/// Why something cannot be removed.
pub fn teardown(plan: &Plan) -> Result<Vec<Step>, NodeError> {
    let mut links = Links::open().map_err(|e| kernel("opening a netlink socket", e))?;
    let mut steps = Vec::new();
    if let Some(link) = ours(&mut links, plan)? {
        links.remove(link.index).map_err(|e| kernel(format_args!("deleting interface {}", link.name), e))?;
        steps.push(Step::Deleted(link.name));
    }
    let Some(loopback) = named(&mut links, LOOPBACK)? else { return Ok(steps) };
    let held = links.addresses().map_err(|e| kernel("listing addresses", e))?;
    let label = plan.label();
    // IPv6 has no labels.
    let is_ours = |h: &Held| match h.address {
        IpAddr::V4(_) => h.label.as_deref() == Some(&label),
        IpAddr::V6(_) => h.prefix == 128 && plan.addresses.contains(&h.address),
    };
    for held in held.iter().filter(|h| h.index == loopback.index && is_ours(h)) {
        links.take(held).map_err(|e| kernel(format_args!("taking {} off interface {LOOPBACK}", held.address), e))?;
        steps.push(Step::Taken { address: held.address, interface: LOOPBACK.to_owned() });
    }
    Ok(steps)
}

fn named(links: &mut Links, name: &str) -> Result<Option<Link>, NodeError> {
    links.named(name).map_err(|e| kernel(format_args!("looking for interface {name}"), e))
}

/// The interface of the plan, if it is there.
fn ours(links: &mut Links, plan: &Plan) -> Result<Option<Link>, NodeError> {
    match named(links, &plan.interface)? {
        Some(link) if link.kind.as_ref() != Some(&plan.kind) => {
            Err(NodeError::Foreign(link.name, plan.kind.to_string()))
        }
        found => Ok(found),
    }
}

fn there_already(links: &mut Links, held: &Held, good: [Option<&Link>; 2]) -> Result<Step, NodeError> {
    let address = held.address;
    if let Some(link) = good.into_iter().flatten().find(|link| link.index == held.index) {
        return Ok(Step::There { address, interface: link.name.clone() });
    }
    let link =
        links.numbered(held.index).map_err(|e| kernel(format_args!("looking for interface {}", held.index), e))?;
    Err(NodeError::Elsewhere { address, interface: link.map_or_else(|| held.index.to_string(), |link| link.name) })
}

/// Makes an address, and before the first one the interface, unless the kernel has none of its type.
fn make(
    links: &mut Links,
    plan: &Plan,
    own: &mut Option<Link>,
    loopback: Option<&Link>,
    address: IpAddr,
) -> Result<Step, NodeError> {
    if own.is_none() {
        *own = make_link(links, plan)?;
    }
    let (link, label) = match (&*own, loopback) {
        (Some(link), _) => (link, None),
        (None, Some(link)) => (link, Some(plan.label())),
        (None, None) => return Err(kernel("looking for interface lo", io::ErrorKind::NotFound.into())),
    };
    let interface = link.name.clone();
    match links.add(address, link.index, label.as_deref()) {
        Ok(true) => Ok(Step::Made { address, interface, instead_of: label.map(|_| plan.kind.to_string()) }),
        // Another setup was faster.
        Ok(false) => Ok(Step::There { address, interface }),
        Err(e) if address.is_ipv6() && e.raw_os_error() == Some(libc::EACCES) => {
            Err(NodeError::NoIpv6(address, interface))
        }
        Err(e) => Err(kernel(format_args!("making {address} on interface {interface}"), e)),
    }
}

/// The interface, made and up; `None`: the kernel has none of its type.
fn make_link(links: &mut Links, plan: &Plan) -> Result<Option<Link>, NodeError> {
    let name = &plan.interface;
    let made = links.make(name, plan.kind.clone());
    match made {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
        made => made.map_err(|e| kernel(format_args!("making interface {name}"), e))?,
    }
    let link = ours(links, plan)?.ok_or_else(|| kernel(format_args!("making interface {name}"), gone()))?;
    links.up(link.index).map_err(|e| kernel(format_args!("putting interface {name} up"), e))?;
    Ok(Some(link))
}

fn gone() -> io::Error {
    io::Error::other("something removed it at once")
}

fn kernel(what: impl fmt::Display, error: io::Error) -> NodeError {
    match error.raw_os_error() {
        Some(libc::EPERM) => NodeError::Forbidden(what.to_string()),
        _ => NodeError::Kernel(what.to_string(), error),
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(interface) => write!(f, "interface {interface}: was down, is up"),
            Self::Made { address, interface, instead_of: None } => write!(f, "{address}: made on {interface}"),
            Self::Made { address, interface, instead_of: Some(kind) } => {
                write!(f, "{address}: made on {interface}, as this kernel has no interfaces of type {kind}")
            }
            Self::There { address, interface } => write!(f, "{address}: was there already, on {interface}"),
            Self::Deleted(interface) => write!(f, "interface {interface}: deleted"),
            Self::Taken { address, interface } => write!(f, "{address}: taken off {interface}"),
        }
    }
}

#[cfg(test)]
mod tests;
