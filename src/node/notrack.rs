//! Rules that keep the kernel's connection tracking (conntrack) out of DNS on the node's addresses.
//!
//! Two queries of one socket at a time, as A and AAAA are, race for one entry of conntrack's, and the loser's packet is dropped
//! (kubernetes#56903); and entries of UDP fill its table. The rules are a table of our own in nftables, which neither iptables nor
//! kube-proxy touches. In its two chains packets of port 53 to the addresses, and from them, become untracked before conntrack
//! (at priority raw) sees them.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, InetHookNumber,
    ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute, RuleMessage,
    TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::Netlink;

/// The table's name.
pub const TABLE: &str = "segdns";
/// DNS.
const PORT: u16 = 53;
/// Before conntrack, whose priority is -200 (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// nftables' number among netfilter's subsystems, in the header of a batch (`NFNL_SUBSYS_NFTABLES`).
const NFTABLES: u16 = 10;
/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const IP: u32 = 1;
const TRANSPORT: u32 = 2;

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

/// A chain: its name, where it is hooked in, and which end of a packet is looked at.
const CHAINS: [(&str, InetHookNumber, &[End]); 2] = [
    ("prerouting", InetHookNumber::PreRouting, &[End::Destination]),
    // Answers, and questions of the node's own programs.
    ("output", InetHookNumber::LocalOut, &[End::Source, End::Destination]),
];

/// Puts the rules for these addresses in the place of all that were there.
///
/// # Errors
/// The kernel's: `EPERM` without `CAP_NET_ADMIN`; many others if it has no nftables, or no NOTRACK.
pub fn put(addresses: &[IpAddr]) -> io::Result<()> {
    // Made first, so that there is one to be deleted: all of it is one transaction.
    let mut orders = vec![new_table(), delete_table(), new_table()];
    for (chain, hook, ends) in CHAINS {
        orders.push((new_chain(chain, hook), NLM_F_CREATE));
        for address in addresses {
            for end in ends {
                for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
                    orders.push((new_rule(chain, *address, *end, protocol), NLM_F_CREATE | NLM_F_APPEND));
                }
            }
        }
    }
    transact(orders)
}

/// Whether the table is there.
///
/// # Errors
/// The kernel's.
pub fn there() -> io::Result<bool> {
    let question = message(NfTablesMessage::GetTable(TableMessage { attributes: table() }));
    found(Netlink::open(NETLINK_NETFILTER)?.ask(question, 0).map(drop))
}

/// Removes the rules; false if there were none.
///
/// # Errors
/// The kernel's.
pub fn remove() -> io::Result<bool> {
    found(transact(vec![delete_table()]))
}

/// A kernel without nftables has no table either.
fn found(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}

type Order = (NfTablesMessage, u16);

/// All of it or nothing.
fn transact(orders: Vec<Order>) -> io::Result<()> {
    let edge = |edge: ControlMessage| {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES);
        (NetfilterMessage::new(header, edge), 0)
    };
    let orders = orders.into_iter().map(|(order, flags)| (message(order), flags | NLM_F_ACK));
    let batch = std::iter::once(edge(ControlMessage::BatchBegin)).chain(orders);
    let batch = batch.chain(std::iter::once(edge(ControlMessage::BatchEnd)));
    Netlink::open(NETLINK_NETFILTER)?.exchange(batch).map(drop)
}

fn message(order: impl Into<NetfilterMessageInner>) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), order)
}

fn table() -> Vec<TableAttribute> {
    vec![TableAttribute::Name(TABLE.to_owned())]
}

fn new_table() -> Order {
    (NfTablesMessage::NewTable(TableMessage { attributes: table() }), NLM_F_CREATE)
}

fn delete_table() -> Order {
    (NfTablesMessage::DeleteTable(TableMessage { attributes: table() }), 0)
}

fn new_chain(name: &str, hook: InetHookNumber) -> NfTablesMessage {
    let attributes = vec![
        ChainAttribute::Table(TABLE.to_owned()),
        ChainAttribute::Name(name.to_owned()),
        ChainAttribute::Hook(vec![Hook::Number(hook.into()), Hook::Priority(RAW.cast_unsigned())]),
        ChainAttribute::Type("filter".to_owned()),
    ];
    NfTablesMessage::NewChain(ChainMessage { attributes })
}

fn new_rule(chain: &str, address: IpAddr, end: End, protocol: i32) -> NfTablesMessage {
    // Offsets into the headers: RFC 791 3.1, RFC 8200 3, RFC 9293 3.1.
    let (family, offset, octets) = match (address, end) {
        (IpAddr::V4(ip), End::Source) => (libc::NFPROTO_IPV4, 12, ip.octets().to_vec()),
        (IpAddr::V4(ip), End::Destination) => (libc::NFPROTO_IPV4, 16, ip.octets().to_vec()),
        (IpAddr::V6(ip), End::Source) => (libc::NFPROTO_IPV6, 8, ip.octets().to_vec()),
        (IpAddr::V6(ip), End::Destination) => (libc::NFPROTO_IPV6, 24, ip.octets().to_vec()),
    };
    let port = if end == End::Source { 0 } else { 2 };
    let mut expressions = Vec::new();
    expressions.extend([meta(MetaKey::Nfproto), equal(octet(family))]);
    expressions.extend([payload(IP, offset, octets.len()), equal(octets)]);
    expressions.extend([meta(MetaKey::L4Proto), equal(octet(protocol))]);
    expressions.extend([payload(TRANSPORT, port, 2), equal(PORT.to_be_bytes().to_vec())]);
    expressions.push(Expressions::Other { expression_type: "notrack".to_owned(), attributes: Vec::new() });
    let expressions: Vec<ListAttribute<ExpressionAttribute>> = expressions.into_iter().map(Into::into).collect();
    let attributes = vec![
        RuleAttribute::Table(TABLE.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(expressions),
    ];
    NfTablesMessage::NewRule(RuleMessage { attributes })
}

/// Both constants are below 256.
fn octet(number: i32) -> Vec<u8> {
    vec![number.to_le_bytes()[0]]
}

fn meta(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)])
}

fn payload(base: u32, offset: u32, length: usize) -> Expressions {
    let length = u32::try_from(length).unwrap_or_default();
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn equal(value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}
