//! Interfaces and their addresses, as the kernel has them (rtnetlink).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::Netlink;

/// How long an address is valid: forever.
const FOREVER: u32 = u32::MAX;

/// The kernel's interfaces and addresses in this network namespace.
#[derive(Debug)]
pub struct Links {
    netlink: Netlink,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What it is made by (`dummy`, `veth`); `None` for hardware and loopback.
    pub kind: Option<InfoKind>,
    /// Whether it is up.
    pub up: bool,
}

/// An address on an interface.
#[derive(Clone, Debug)]
pub struct Held {
    /// The address.
    pub address: IpAddr,
    /// The interface's number.
    pub index: u32,
    /// The length of its prefix, bits.
    pub prefix: u8,
    /// IPv4 only: what `ip` shows behind it; the interface's name, unless whoever made it said something else.
    pub label: Option<String>,
}

impl Links {
    /// Asks the kernel from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open(NETLINK_ROUTE)? })
    }

    /// The interface of this name.
    ///
    /// # Errors
    /// The kernel's.
    pub fn named(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.link(message)
    }

    /// The interface of this number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn numbered(&mut self, index: u32) -> io::Result<Option<Link>> {
        self.link(of_link(index))
    }

    /// All addresses.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&mut self) -> io::Result<Vec<Held>> {
        let all = self.netlink.list(Message::GetAddress(AddressMessage::default()))?;
        Ok(all
            .into_iter()
            .filter_map(|message| if let Message::NewAddress(m) = message { held(m) } else { None })
            .collect())
    }

    /// Makes an interface. One of this name that has come meanwhile is as good.
    ///
    /// # Errors
    /// The kernel's: `EOPNOTSUPP` if it has none of this kind.
    pub fn make(&mut self, name: &str, kind: InfoKind) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        unless_there(self.netlink.ask(Message::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)).map(drop)
    }

    /// Puts an interface up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        let mut message = of_link(index);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.netlink.ask(Message::SetLink(message), 0).map(drop)
    }

    /// Removes an interface, and its addresses with it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(&mut self, index: u32) -> io::Result<()> {
        self.netlink.ask(Message::DelLink(of_link(index)), 0).map(drop)
    }

    /// Adds an address as a host's, /32 or /128, with this label if it is IPv4. False: it has come meanwhile.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(&mut self, address: IpAddr, index: u32, label: Option<&str>) -> io::Result<bool> {
        let mut message = of_address(address, index);
        match label {
            Some(label) if address.is_ipv4() => message.attributes.push(AddressAttribute::Label(label.to_owned())),
            _ => {}
        }
        // What the node itself connects to elsewhere must not come from this address.
        message.header.scope = AddressScope::Link;
        if address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            let mut life = CacheInfo::default();
            (life.ifa_preferred, life.ifa_valid) = (0, FOREVER);
            message.attributes.push(AddressAttribute::CacheInfo(life));
        }
        unless_there(self.netlink.ask(Message::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL))
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// The kernel's.
    pub fn take(&mut self, held: &Held) -> io::Result<()> {
        let mut message = of_address(held.address, held.index);
        message.header.prefix_len = held.prefix;
        self.netlink.ask(Message::DelAddress(message), 0).map(drop)
    }

    fn link(&mut self, message: LinkMessage) -> io::Result<Option<Link>> {
        match self.netlink.ask(Message::GetLink(message), 0) {
            Ok(told) => {
                Ok(told.into_iter().find_map(|m| if let Message::NewLink(m) = m { Some(link(m)) } else { None }))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// True if it was done, false if what is to be made is there already.
fn unless_there<T>(done: io::Result<T>) -> io::Result<bool> {
    match done {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn of_link(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn of_address(address: IpAddr, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    (message.header.family, message.header.prefix_len) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn link(message: LinkMessage) -> Link {
    let mut out = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => out.name = name,
            LinkAttribute::LinkInfo(all) => {
                out.kind =
                    all.into_iter().find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind) } else { None });
            }
            _ => {}
        }
    }
    out
}

/// An address with a peer (`Local` is then this end) has both attributes; most have one.
fn held(message: AddressMessage) -> Option<Held> {
    let (mut local, mut other, mut label) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Address(address) => other = Some(address),
            AddressAttribute::Label(text) => label = Some(text),
            _ => {}
        }
    }
    let (index, prefix) = (message.header.index, message.header.prefix_len);
    Some(Held { address: local.or(other)?, index, prefix, label })
}
