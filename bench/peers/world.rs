//! The plan's names for servers that know no callers: each name once, with the addresses that all who see it get.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::data::{EXTERNAL, EXTERNAL_ADDRESS, Plan, domain, external};

/// Of every record, as segdns's default (R18).
pub const TTL: u32 = 5;
/// The zone of takeover names.
const CLUSTER: &str = "svc.cluster.local";
/// The zone of what is external to segdns.
const EXTERNAL_ZONE: &str = "example.com";

/// Names with their addresses: mesh names, those under takeover, and external ones.
pub fn records(plan: &Plan) -> impl Iterator<Item = (String, IpAddr)> + '_ {
    let mesh = plan.services().flat_map(|service| {
        let names = [Some(service.mesh_name()), service.takeover().then(|| service.cluster_name())];
        let addresses = [Some(IpAddr::V4(service.ipv4())), service.ipv6().map(IpAddr::V6)];
        names
            .into_iter()
            .flatten()
            .flat_map(move |name| addresses.into_iter().flatten().map(move |ip| (name.clone(), ip)))
    });
    mesh.chain((0..EXTERNAL).map(|number| (external(number), IpAddr::V4(EXTERNAL_ADDRESS))))
}

/// The zones that these are in.
#[must_use]
pub fn zones(plan: &Plan) -> Vec<String> {
    (0..plan.segments).map(domain).chain([CLUSTER.to_owned(), EXTERNAL_ZONE.to_owned()]).collect()
}

/// One zone as a master file.
#[must_use]
pub fn master_file(plan: &Plan, zone: &str) -> String {
    let mut text = format!(
        "$ORIGIN {zone}.\n$TTL {TTL}\n@ SOA ns.dns.{zone}. hostmaster.{zone}. 1 7200 1800 86400 {TTL}\n@ NS ns.dns.{zone}.\n\
         ns.dns A 192.0.2.53\n"
    );
    for (name, address) in records(plan) {
        if let Some(name) = name.strip_suffix(zone).and_then(|name| name.strip_suffix('.')) {
            let _ = writeln!(text, "{name} {} {address}", rtype(address));
        }
    }
    text
}

/// All of it but what is external, as Unbound's `local-zone` and `local-data`.
#[must_use]
pub fn local_data(plan: &Plan) -> String {
    let mut text = String::new();
    for zone in zones(plan).iter().filter(|zone| *zone != EXTERNAL_ZONE) {
        let _ = writeln!(text, "local-zone: \"{zone}.\" static");
        let soa = format!("{zone}. {TTL} SOA ns.dns.{zone}. hostmaster.{zone}. 1 7200 1800 86400 {TTL}");
        let _ = writeln!(text, "local-data: \"{soa}\"");
    }
    for (name, address) in records(plan).filter(|(name, _)| !name.ends_with(EXTERNAL_ZONE)) {
        let _ = writeln!(text, "local-data: \"{name}. {TTL} {} {address}\"", rtype(address));
    }
    text
}

/// All of it but what is external, as in `/etc/hosts`.
#[must_use]
pub fn hosts(plan: &Plan) -> String {
    let inside = records(plan).filter(|(name, _)| !name.ends_with(EXTERNAL_ZONE));
    inside.map(|(name, address)| format!("{address} {name}\n")).collect()
}

fn rtype(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}
