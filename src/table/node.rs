//! What stands at one name, as flat octets: written once when a shard is built, read in place by look-ups.
//!
//! ```text
//! node   length u32 | segment u16 | zone u16 | kind u8 | flags u8 | key length u8 | key | payload
//! view   rung u8 | flags u8 | A count u16 | AAAA count u16 | CNAME length u8 | 0 u8 | A | AAAA | CNAME | ports
//! port   name length u8 | name | protocol u8 | targets length u32 | targets (port u16 | hostname length u8 | hostname)
//! ```
//!
//! A and AAAA stand as RDATA, ready to be copied out; what is before them in a record is the same for all names.

use std::net::IpAddr;

use crate::mesh::address::{Answers, Rung, SrvPort};
use crate::mesh::object::Protocol;
use crate::mesh::publish::{Body, Cross};
use crate::mesh::segment::{DEFAULT, SegmentIx};

use super::key::wire_of;

/// Octets of an A record's RDATA.
pub const A: usize = 4;
/// Octets of an AAAA record's RDATA.
pub const AAAA: usize = 16;
/// Most addresses of one family: what fits in one message over TCP.
const MAX_ADDRESSES: usize = 2000;

/// What kind of name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeKind {
    /// Nothing stands here, but something below does (R14).
    Bare = 0,
    /// A name of a segment.
    Mesh = 1,
    /// A name for everyone (R10).
    Public = 2,
    /// A cluster name under takeover (R19).
    Cluster = 3,
}

/// A caller of the segment sees something below.
pub const BELOW_OWN: u8 = 1;
/// A caller of another segment may see something below.
pub const BELOW_CROSS: u8 = 2;
/// Every caller sees something below: the apex of another mesh zone.
pub const BELOW_ALL: u8 = 4;
/// There is a view for callers of the segment.
const HAS_OWN: u8 = 8;
/// There is a view for callers of other segments.
const HAS_CROSS: u8 = 16;
/// Both views are the same, and stand once.
const SAME: u8 = 32;
/// The flags that are kept from what stands below.
pub const BELOW: u8 = BELOW_OWN | BELOW_CROSS | BELOW_ALL;

/// View flag: SERVFAIL while its grace lasts (R22).
const PENDING: u8 = 1;

/// A node in a shard.
#[derive(Clone, Copy, Debug)]
pub struct Node<'t> {
    /// What kind of name it is.
    pub kind: NodeKind,
    /// `BELOW_*` and the like.
    pub flags: u8,
    /// Whose name it is.
    pub segment: SegmentIx,
    /// The longest zone that it is in ([`super::zone::Zones::get`]).
    pub zone: Option<usize>,
    /// Octets of the payload, which is at the front of what follows the key.
    length: usize,
    rest: &'t [u8],
}

#[inline]
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

/// Octets before a node's key.
const HEAD: usize = 11;
/// Where a node's kind and flags are.
const KIND: usize = 8;
const FLAGS: usize = 9;
/// The zone of a node that is in none.
const NO_ZONE: u16 = u16::MAX;

/// The length of the node that starts here, and its key.
#[inline]
#[must_use]
pub fn head(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let ([.., key], rest) = bytes.split_first_chunk::<HEAD>()?;
    Some((u32_at(bytes, 0)?, rest.get(..usize::from(*key))?))
}

/// The flags of the node that starts here.
#[must_use]
pub fn flags(bytes: &[u8]) -> Option<u8> {
    bytes.get(FLAGS).copied()
}

/// Whether nothing stands at the node that starts here.
#[must_use]
pub fn is_bare(bytes: &[u8]) -> bool {
    bytes.get(KIND) == Some(&(NodeKind::Bare as u8))
}

/// Sets the `BELOW_*` flags of the node that starts here.
pub fn set_below(bytes: &mut [u8], below: u8) {
    if let Some(flags) = bytes.get_mut(FLAGS) {
        *flags = (*flags & !BELOW) | below;
    }
}

impl<'t> Node<'t> {
    /// Whether the callers of its segment, and those of others, have a view.
    #[must_use]
    pub fn seen(&self) -> (bool, bool) {
        (self.flags & HAS_OWN != 0, self.flags & HAS_CROSS != 0)
    }

    /// Reads the node that starts here.
    #[inline]
    #[must_use]
    pub fn read(bytes: &'t [u8]) -> Option<Self> {
        Self::read_if(bytes, |_| true)
    }

    /// The same if its key is the one that is meant.
    #[inline(always)]
    pub fn read_if(bytes: &'t [u8], is_meant: impl FnOnce(&[u8]) -> bool) -> Option<Self> {
        let ([l1, l2, l3, l4, s1, s2, z1, z2, kind, flags, key], rest) = bytes.split_first_chunk::<HEAD>()?;
        let (key, rest) = rest.split_at_checked(usize::from(*key))?;
        if !is_meant(key) {
            return None;
        }
        let whole = usize::try_from(u32::from_le_bytes([*l1, *l2, *l3, *l4])).ok()?;
        let kind = match kind {
            0 => NodeKind::Bare,
            1 => NodeKind::Mesh,
            2 => NodeKind::Public,
            _ => NodeKind::Cluster,
        };
        let zone = Some(u16::from_le_bytes([*z1, *z2])).filter(|zone| *zone != NO_ZONE).map(usize::from);
        let length = whole.wrapping_sub(HEAD + key.len());
        Some(Self { kind, flags: *flags, segment: u16::from_le_bytes([*s1, *s2]), zone, length, rest })
    }

    /// The view of callers of its segment; of everyone for a public name.
    #[inline]
    #[must_use]
    pub fn own(&self) -> Option<View<'t>> {
        if self.flags & HAS_OWN == 0 { None } else { View::framed(self.rest).map(|(view, _)| view) }
    }

    /// The view of callers of other segments.
    #[inline]
    #[must_use]
    pub fn cross(&self) -> Option<View<'t>> {
        match self.flags & (HAS_OWN | HAS_CROSS | SAME) {
            f if f & HAS_CROSS == 0 => None,
            f if f & SAME != 0 || f & HAS_OWN == 0 => View::framed(self.rest).map(|(view, _)| view),
            _ => View::framed(View::framed(self.rest)?.1).map(|(view, _)| view),
        }
    }

    /// What the cluster name means to callers of a segment: the mesh name's wire (without root octet), and the view.
    #[must_use]
    pub fn takeover(&self, segment: SegmentIx) -> Option<(&'t [u8], View<'t>)> {
        let payload = self.rest.get(..self.length).filter(|_| self.kind == NodeKind::Cluster);
        let mut rest = payload.unwrap_or_default();
        while !rest.is_empty() {
            let len = usize::from(*rest.get(2)?);
            let target = rest.get(3..3 + len)?;
            let (view, after) = View::framed(rest.get(3 + len..)?)?;
            if u16_at(rest, 0)? == segment {
                return Some((target, view));
            }
            rest = after;
        }
        None
    }
}

/// What one class of callers is answered at a name.
#[derive(Clone, Copy, Debug)]
pub struct View<'t> {
    bytes: &'t [u8],
}

const VIEW_HEAD: usize = 8;

impl<'t> View<'t> {
    #[inline]
    fn framed(bytes: &'t [u8]) -> Option<(Self, &'t [u8])> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        Some((Self { bytes }, rest)).filter(|_| bytes.len() >= VIEW_HEAD)
    }

    #[inline]
    fn head(&self) -> [u8; VIEW_HEAD] {
        self.bytes.first_chunk().copied().unwrap_or_default()
    }

    /// How many A and AAAA records, and octets of the CNAME.
    #[inline]
    fn counts(&self) -> (usize, usize, usize) {
        let [_, _, a, a1, aaaa, aaaa1, cname, _] = self.head();
        (u16::from_le_bytes([a, a1]).into(), u16::from_le_bytes([aaaa, aaaa1]).into(), cname.into())
    }

    /// RDATA of the A records, [`A`] octets each.
    #[inline]
    #[must_use]
    pub fn a(&self) -> &'t [u8] {
        let (a, _, _) = self.counts();
        self.bytes.get(VIEW_HEAD..VIEW_HEAD + a * A).unwrap_or_default()
    }

    /// RDATA of the AAAA records, [`AAAA`] octets each.
    #[inline]
    #[must_use]
    pub fn aaaa(&self) -> &'t [u8] {
        let (a, aaaa, _) = self.counts();
        let from = VIEW_HEAD + a * A;
        self.bytes.get(from..from + aaaa * AAAA).unwrap_or_default()
    }

    /// The CNAME's target as wire without root octet.
    #[inline]
    #[must_use]
    pub fn cname(&self) -> Option<&'t [u8]> {
        let (a, aaaa, cname) = self.counts();
        let from = VIEW_HEAD + a * A + aaaa * AAAA;
        self.bytes.get(from..from + cname).filter(|c| !c.is_empty())
    }

    /// Whether a missing address may yet come (R22).
    #[inline]
    #[must_use]
    pub fn pending(&self) -> bool {
        self.head()[1] & PENDING != 0
    }

    /// Which rung of R6 gave the addresses.
    #[must_use]
    pub fn rung(&self) -> Rung {
        Rung::ALL.get(usize::from(self.head()[0])).copied().unwrap_or_default()
    }

    /// The addresses, A first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'t> {
        let four = self.a().as_chunks::<A>().0.iter().copied().map(IpAddr::from);
        let six = self.aaaa().as_chunks::<AAAA>().0.iter().copied().map(IpAddr::from);
        four.chain(six)
    }

    /// Its named ports.
    #[must_use]
    pub fn ports(&self) -> Ports<'t> {
        let (a, aaaa, cname) = self.counts();
        let from = VIEW_HEAD + a * A + aaaa * AAAA + cname;
        Ports { rest: self.bytes.get(from..).unwrap_or_default() }
    }
}

/// One named port.
#[derive(Clone, Copy, Debug)]
pub struct PortView<'t> {
    /// Its name, folded.
    pub name: &'t [u8],
    /// The label that SRV has for its transport, `_tcp` for instance.
    pub protocol: &'static [u8],
    targets: &'t [u8],
}

impl<'t> PortView<'t> {
    /// Port numbers, and the endpoint's hostname or an empty slice for the service's own name.
    pub fn targets(&self) -> impl Iterator<Item = (u16, &'t [u8])> + use<'t> {
        let mut rest = self.targets;
        std::iter::from_fn(move || {
            let len = usize::from(*rest.get(2)?);
            let item = (u16_at(rest, 0)?, rest.get(3..3 + len)?);
            rest = &rest[3 + len..];
            Some(item)
        })
    }
}

/// Iterates over named ports.
#[derive(Clone, Copy, Debug)]
pub struct Ports<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Ports<'t> {
    type Item = PortView<'t>;

    fn next(&mut self) -> Option<PortView<'t>> {
        let len = usize::from(*self.rest.first()?);
        let name = self.rest.get(1..1 + len)?;
        let protocol = protocol_label(*self.rest.get(1 + len)?);
        let size = u32_at(self.rest, 2 + len)?;
        let targets = self.rest.get(6 + len..6 + len + size)?;
        self.rest = &self.rest[6 + len + size..];
        Some(PortView { name, protocol, targets })
    }
}

const fn protocol_label(number: u8) -> &'static [u8] {
    match number {
        0 => b"_tcp",
        1 => b"_udp",
        _ => b"_sctp",
    }
}

/// What has been written at a name: its kind, and whether the callers of the segment, and those of others, see it.
pub type Written = (NodeKind, (bool, bool));

/// Where a node stands: its key, and the longest zone that it is in.
pub type Site<'k> = (&'k [u8], Option<usize>);

/// Appends the node of a site with what stands there.
pub fn write(out: &mut Vec<u8>, at: Site<'_>, body: &Body) -> Written {
    match body {
        Body::Mesh { segment, own, cross } => {
            let flags = match cross {
                Cross::Hidden => HAS_OWN,
                Cross::Same => HAS_OWN | HAS_CROSS | SAME,
                Cross::Other(_) => HAS_OWN | HAS_CROSS,
            };
            write_node(out, at, (NodeKind::Mesh, flags, *segment), |out| {
                put_view(out, own);
                if let Cross::Other(cross) = cross {
                    put_view(out, cross);
                }
            });
            (NodeKind::Mesh, (true, flags & HAS_CROSS != 0))
        }
        Body::Public(answers) => {
            write_node(out, at, (NodeKind::Public, HAS_OWN, DEFAULT), |out| put_view(out, answers));
            (NodeKind::Public, (true, true))
        }
        Body::Cluster(all) => {
            write_node(out, at, (NodeKind::Cluster, 0, DEFAULT), |out| {
                for takeover in all {
                    out.extend_from_slice(&takeover.segment.to_le_bytes());
                    put_bytes(out, &wire_of(takeover.target.as_str()).unwrap_or_default());
                    put_view(out, &takeover.answers);
                }
            });
            (NodeKind::Cluster, (false, false))
        }
    }
}

/// Appends the node of a site at which nothing stands, with `below` of the `BELOW_*` flags.
pub fn write_bare(out: &mut Vec<u8>, at: Site<'_>, segment: SegmentIx, below: u8) {
    write_node(out, at, (NodeKind::Bare, below, segment), |_| ());
}

fn write_node(
    out: &mut Vec<u8>,
    (key, zone): Site<'_>,
    (kind, flags, segment): (NodeKind, u8, SegmentIx),
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&segment.to_le_bytes());
    let zone = zone.and_then(|zone| u16::try_from(zone).ok()).unwrap_or(NO_ZONE);
    out.extend_from_slice(&zone.to_le_bytes());
    out.extend_from_slice(&[kind as u8, flags]);
    put_bytes(out, key);
    payload(out);
    let len = u32::try_from(out.len() - start).unwrap_or(0);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(u8::try_from(bytes.len()).unwrap_or(0));
    out.extend_from_slice(bytes);
}

fn put_view(out: &mut Vec<u8>, answers: &Answers) {
    let view = out;
    let start = view.len();
    view.extend_from_slice(&[0; 4]);
    let v4 = &answers.v4[..answers.v4.len().min(MAX_ADDRESSES)];
    let v6 = &answers.v6[..answers.v6.len().min(MAX_ADDRESSES)];
    let count = |n: usize| u16::try_from(n).unwrap_or(0).to_le_bytes();
    let cname = answers.cname.as_ref().and_then(|n| wire_of(n.as_str())).unwrap_or_default();
    view.extend_from_slice(&[answers.rung as u8, if answers.pending { PENDING } else { 0 }]);
    view.extend_from_slice(&count(v4.len()));
    view.extend_from_slice(&count(v6.len()));
    view.extend_from_slice(&[u8::try_from(cname.len()).unwrap_or(0), 0]);
    for address in v4 {
        view.extend(address.octets());
    }
    for address in v6 {
        view.extend(address.octets());
    }
    view.extend(cname);
    answers.ports.iter().for_each(|port| put_port(view, port));
    let len = u32::try_from(view.len() - start - 4).unwrap_or(0);
    view[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_port(out: &mut Vec<u8>, port: &SrvPort) {
    put_bytes(out, port.name.as_bytes());
    out.push(match port.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    });
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    for (number, hostname) in &port.targets {
        out.extend_from_slice(&number.to_le_bytes());
        put_bytes(out, hostname.as_deref().unwrap_or_default().as_bytes());
    }
    let len = u32::try_from(out.len() - start - 4).unwrap_or(0);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}
