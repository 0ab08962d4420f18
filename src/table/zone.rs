//! Zones that segdns answers for, found by the longest suffix of a name.

use std::collections::BTreeSet;

use crate::mesh::name::Name;
use crate::mesh::segment::SegmentIx;
use crate::mesh::settings::Settings;

use super::key::{Hasher, Key, Span, same, wire_of};

/// What a zone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneKind {
    /// A mesh zone; without a segment if only `segments.zones` names it.
    Mesh(Option<SegmentIx>),
    /// The cluster domain.
    Cluster,
    /// `in-addr.arpa` or `ip6.arpa`.
    Reverse,
}

/// One zone.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its name.
    pub name: Name,
    /// Its name as wire, without root octet.
    pub wire: Box<[u8]>,
    /// How many labels that is.
    pub labels: usize,
    /// What it is for.
    pub kind: ZoneKind,
}

/// All zones, indexed by the hash of their names.
#[derive(Clone, Debug)]
pub struct Zones {
    all: Vec<Zone>,
    slots: Box<[(u64, u16)]>,
    /// How many labels zones have, the most first: other suffixes of a name need no look.
    depths: Box<[usize]>,
    /// The [`tail`] of every zone.
    tails: u64,
    /// RDATA of the SOA that negative answers carry; the same for every zone, so that it tells nothing (R14).
    pub soa: Box<[u8]>,
    /// Names below the cluster domain that `forward` gives upstreams of their own, as wire, and how many labels each has.
    apart: Box<[(usize, Box<[u8]>)]>,
    /// The name server of every zone, as wire with root octet: the cluster DNS' own, which resolves.
    pub ns: Box<[u8]>,
}

/// Seconds: refresh, retry and expire of the SOA; nobody transfers these zones.
const SOA_TIMES: [u32; 3] = [7200, 1800, 86400];

impl Zones {
    /// Indexes the mesh zones, the cluster domain, and the reverse domains.
    #[must_use]
    pub fn new(settings: &Settings, mesh: &[(Name, Option<SegmentIx>)], hasher: Hasher) -> Self {
        let mut all: Vec<Zone> = mesh.iter().filter_map(|(name, s)| zone(name, ZoneKind::Mesh(*s))).collect();
        all.extend(zone(&settings.cluster_domain, ZoneKind::Cluster));
        let reverse = ["in-addr.arpa", "ip6.arpa"].iter().filter_map(|n| Name::parse(n).ok());
        all.extend(reverse.filter_map(|n| zone(&n, ZoneKind::Reverse)));
        let size = (all.len() * 2 + 1).next_power_of_two();
        let mut slots = vec![(0, u16::MAX); size].into_boxed_slice();
        for (ix, zone) in all.iter().enumerate() {
            let hash = hasher.of_wire(&zone.wire);
            let mut at = slot(hash, size);
            while slots[at].1 != u16::MAX {
                at = (at + 1) & (size - 1);
            }
            slots[at] = (hash, u16::try_from(ix).unwrap_or(u16::MAX));
        }
        let with_root = |text: String| {
            let mut wire = wire_of(&text).unwrap_or_default();
            wire.push(0);
            wire
        };
        let ns = with_root(format!("ns.dns.{}", settings.cluster_domain));
        let mut soa = ns.clone();
        soa.extend(with_root(format!("hostmaster.{}", settings.cluster_domain)));
        for number in [1].into_iter().chain(SOA_TIMES).chain([settings.policy.negative_ttl]) {
            soa.extend(number.to_be_bytes());
        }
        let below = settings.forwarded.iter();
        let below = below.filter(|name| **name != settings.cluster_domain && name.is_in(&settings.cluster_domain));
        let apart = below.filter_map(|n| Some((n.as_str().split('.').count(), wire_of(n.as_str())?.into()))).collect();
        let depths: BTreeSet<usize> = all.iter().map(|zone| zone.labels).collect();
        let depths = depths.into_iter().rev().collect();
        let tails = all.iter().fold(0, |tails, zone| tails | tail(&zone.wire));
        Self { all, slots, depths, tails, soa: soa.into(), apart, ns: ns.into() }
    }

    /// One zone by its index.
    #[must_use]
    pub fn get(&self, ix: usize) -> &Zone {
        &self.all[ix]
    }

    /// Every zone.
    #[must_use]
    pub fn all(&self) -> &[Zone] {
        &self.all
    }

    /// The cluster domain's index.
    #[must_use]
    pub fn cluster(&self) -> usize {
        self.all.iter().position(|z| z.kind == ZoneKind::Cluster).unwrap_or(0)
    }

    /// Whether a name of the cluster domain is asked from other upstreams than the rest of it, so that what Kubernetes tells
    /// says nothing about it.
    #[must_use]
    pub fn is_apart(&self, key: &Key) -> bool {
        let inside = |labels: usize, wire: &[u8]| {
            key.count().checked_sub(labels).is_some_and(|from| key.span(from..key.count()) == wire)
        };
        self.apart.iter().any(|(labels, wire)| inside(*labels, wire))
    }

    /// Whether a name may be in one of the zones: most names of the world are not, by their last octets alone.
    #[inline]
    #[must_use]
    pub fn may_hold(&self, key: &Key) -> bool {
        self.tails & tail(key.span(key.all())) != 0
    }

    /// The longest zone that some labels of a key are in, and the hash of all those labels.
    #[inline(always)]
    #[must_use]
    pub fn classify(&self, hasher: Hasher, key: &Key, span: Span) -> (Option<usize>, u64) {
        let hash = hasher.of(key, span.clone());
        if span.end == key.count() && !self.may_hold(key) {
            return (None, hash);
        }
        for &labels in self.depths.iter().filter(|labels| **labels <= span.len()) {
            let part = span.end - labels..span.end;
            if let Some(zone) = self.find(hasher.of(key, part.clone()), key.span(part)) {
                return (Some(zone), hash);
            }
        }
        (None, hash)
    }

    #[inline(always)]
    fn find(&self, hash: u64, wire: &[u8]) -> Option<usize> {
        let mut at = slot(hash, self.slots.len());
        loop {
            let (have, zone) = *self.slots.get(at)?;
            let zone = usize::from(zone);
            if have == hash && self.all.get(zone).is_some_and(|zone| same(&zone.wire, wire)) {
                return Some(zone);
            }
            if zone == usize::from(u16::MAX) {
                return None;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

/// One of 64 bits, which a name (as wire without root octet) has in common with all names below it, by its last four octets; every
/// bit if it has less.
#[inline]
fn tail(name: &[u8]) -> u64 {
    name.last_chunk().map_or(u64::MAX, |last| 1 << (u32::from_le_bytes(*last).wrapping_mul(0x9e37_79b1) >> 26))
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "masked to the table's size")]
fn slot(hash: u64, size: usize) -> usize {
    (hash >> 20) as usize & (size - 1)
}

fn zone(name: &Name, kind: ZoneKind) -> Option<Zone> {
    let wire: Box<[u8]> = wire_of(name.as_str())?.into();
    Some(Zone { name: name.clone(), wire, labels: name.as_str().split('.').count(), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_zone_is_found_however_short_it_is_and_whatever_a_name_ends_in() {
        let hasher = Hasher::new(7);
        let zones = |mesh: &[&str]| {
            let mesh: Vec<_> = mesh.iter().filter_map(|zone| Some((Name::parse(zone).ok()?, None))).collect();
            Zones::new(&Settings::default(), &mesh, hasher)
        };
        let cases: [(&[&str], &str, Option<&str>); 14] = [
            (&["mesh.acme"], "details.back.mesh.acme", Some("mesh.acme")),
            (&["mesh.acme"], "mesh.acme", Some("mesh.acme")),
            (&["mesh.acme"], "details.back.smesh.acme", None),
            (&["mesh.acme"], "acme", None),
            (&["mesh.acme"], "e", None),
            (&["mesh.acme"], "details.back.svc.cluster.local", Some("cluster.local")),
            (&["mesh.acme"], "1.0.0.127.in-addr.arpa", Some("in-addr.arpa")),
            (&["mesh.acme"], "www.example.com", None),
            (&["mesh.acme", "eu.mesh.acme"], "details.back.eu.mesh.acme", Some("eu.mesh.acme")),
            (&["mesh.acme", "eu.mesh.acme"], "details.back.us.mesh.acme", Some("mesh.acme")),
            (&["acme"], "details.back.acme", Some("acme")),
            (&["me"], "details.back.me", Some("me")),
            (&["m", "mesh.acme"], "details.back.m", Some("m")),
            (&["m", "mesh.acme"], "details.back.mesh.acme", Some("mesh.acme")),
        ];
        for (mesh, name, expected) in cases {
            let (zones, key) = (zones(mesh), Key::from_text(name).unwrap());
            let zone = zones.classify(hasher, &key, key.all()).0;
            assert_eq!(zone.map(|zone| zones.get(zone).name.as_str()), expected, "{name} of {mesh:?}");
            assert!(expected.is_none() || zones.may_hold(&key), "{name} of {mesh:?}");
        }
        let one = zones(&["mesh.acme"]);
        let others = (0..1000).filter(|n| one.may_hold(&Key::from_text(&format!("www.example.x{n}")).unwrap()));
        assert!(others.count() < 500, "most names of the world need no look");
    }
}
