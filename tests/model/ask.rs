//! Questions by chance: names that a mesh has, almost has or cannot have, in every form that a client sends.

use super::draw::{Dice, NAMESPACES, SERVICES};
use super::mesh::{CLUSTER, Mesh, Object};
use super::wire::{A, AAAA, ANY, AXFR, Edns, IXFR, NS, PTR, Query, SOA, SRV};

/// What a query's class is, if it is one that is answered.
const IN: u16 = 1;
/// RD
const RD: u16 = 0x0100;
const OUTSIDE: [&str; 9] = [
    "www.example.com",
    "example.com",
    "api.partner.example",
    "a.partner.example",
    "a.b.wild.example",
    "deep.wild.example",
    "wild.example",
    "mail.corp.example",
    "www.test",
];
const ALIASES: [&str; 9] = [
    "web.corp.example",
    "web-shop.corp.example",
    "db-back.corp.example",
    "x.corp.example",
    "n.corp.example",
    "a.mesh.acme",
    "blue.mesh.acme",
    "web.gold.a.mesh.two",
    "gold.b.mesh.two",
];

/// A service and its namespace, mostly of those that exist.
fn service(dice: &mut Dice, mesh: &Mesh) -> String {
    let all: Vec<_> = mesh.clusters.iter().flat_map(|c| c.services()).collect();
    if !all.is_empty() && dice.chance(75) {
        let s = dice.pick(&all);
        return format!("{}.{}", s.name, s.namespace);
    }
    let (name, namespace) = (dice.pick(&SERVICES), dice.pick(&NAMESPACES));
    let name = if dice.chance(30) { "nosuch" } else { name };
    format!("{name}.{}", if dice.chance(15) { "nons" } else { namespace })
}

fn domain(dice: &mut Dice, mesh: &Mesh) -> String {
    let mut all: Vec<String> = mesh.clusters[0].segments().map(|s| s.domain.to_lowercase()).collect();
    all.push("mesh.internal".to_owned());
    dice.pick(&all)
}

/// A name that mesh zones may hold.
fn mesh_name(dice: &mut Dice, mesh: &Mesh) -> String {
    let (service, domain) = (service(dice, mesh), domain(dice, mesh));
    let namespace = service.split_once('.').map_or("", |(_, n)| n);
    match dice.below(20) {
        0..10 => format!("{service}.{domain}"),
        10 => domain,
        11 => format!("{namespace}.{domain}"),
        12 => format!("_http._tcp.{service}.{domain}"),
        13 => format!("_dns._udp.{service}.{domain}"),
        14 => format!("_tcp.{service}.{domain}"),
        15..17 => format!("pod-{}.{service}.{domain}", dice.below(3)),
        17 => format!("x.{service}.{domain}"),
        18 => entry_host(dice, mesh),
        _ => dice.pick(&ALIASES).to_owned(),
    }
}

fn entry_host(dice: &mut Dice, mesh: &Mesh) -> String {
    let hosts: Vec<_> = mesh.clusters.iter().flat_map(|c| c.entries()).flat_map(|e| &e.hosts).collect();
    if hosts.is_empty() { "nosuch.shop.mesh.acme".to_owned() } else { dice.pick(&hosts).replace("*.", "any.") }
}

fn cluster_name(dice: &mut Dice, mesh: &Mesh) -> String {
    let service = service(dice, mesh);
    let namespace = service.split_once('.').map_or("", |(_, n)| n);
    match dice.below(12) {
        0..6 => format!("{service}.svc.{CLUSTER}"),
        6 => format!("_http._tcp.{service}.svc.{CLUSTER}"),
        7 => format!("pod-0.{service}.svc.{CLUSTER}"),
        8 => format!("{namespace}.svc.{CLUSTER}"),
        9 => format!("10-10-0-1.{namespace}.pod.{CLUSTER}"),
        10 => format!("{}.{CLUSTER}", dice.pick(&["svc", "dns", "ns.dns", "nosuch"])),
        _ => format!("www.example.com.{namespace}.svc.{CLUSTER}"),
    }
}

/// A mesh name with a domain of a search list behind it (R21).
fn searched(dice: &mut Dice, mesh: &Mesh) -> String {
    let (name, namespace) = (mesh_name(dice, mesh), dice.pick(&NAMESPACES));
    let namespace = if dice.chance(10) { "nons" } else { namespace };
    match dice.below(4) {
        0..2 => format!("{name}.{namespace}.svc.{CLUSTER}"),
        2 => format!("{name}.svc.{CLUSTER}"),
        _ => format!("{name}.{CLUSTER}"),
    }
}

/// The reverse name of an address that somebody may have.
fn reverse(dice: &mut Dice) -> String {
    format!("{}.0.{}.10.in-addr.arpa", 1 + dice.below(20), dice.pick(&[10, 100]))
}

/// What a pod's search list makes of a name first: of one outside, an alias, a Service's or nobody's.
fn first_form(dice: &mut Dice, mesh: &Mesh, home: &str) -> String {
    let base = match dice.below(10) {
        0..4 => dice.pick(&OUTSIDE).to_owned(),
        4..6 => dice.pick(&ALIASES).to_owned(),
        6..8 => service(dice, mesh),
        8 => service(dice, mesh).split('.').next().unwrap_or_default().to_owned(),
        _ => format!("{}.test", dice.pick(&["a", "b", "c"])),
    };
    format!("{base}.{home}.svc.{CLUSTER}")
}

/// A name, in lower case; `home` is the namespace of the pod that asks.
fn name(dice: &mut Dice, mesh: &Mesh, home: Option<&str>) -> String {
    if let Some(home) = home.filter(|_| dice.chance(15)) {
        return first_form(dice, mesh, home);
    }
    match dice.below(100) {
        0..58 => mesh_name(dice, mesh),
        58..72 => searched(dice, mesh),
        72..84 => cluster_name(dice, mesh),
        84..90 => dice.pick(&ALIASES).to_owned(),
        90..96 => dice.pick(&OUTSIDE).to_owned(),
        _ => reverse(dice),
    }
}

/// Letters in another case here and there (0x20).
fn spelt(dice: &mut Dice, name: &str) -> String {
    name.chars().map(|c| if dice.chance(50) { c.to_ascii_uppercase() } else { c }).collect()
}

fn edns(dice: &mut Dice) -> Edns {
    let options = match dice.below(6) {
        // A client subnet, a cookie, and an option that nobody knows.
        0 => vec![(8, vec![0, 1, 24, 0, 10, 1, 2])],
        1 => vec![(10, vec![1, 2, 3, 4, 5, 6, 7, 8])],
        2 => vec![(65001, Vec::new()), (12, vec![0; 4])],
        _ => Vec::new(),
    };
    let payload = dice.pick(&[1232, 4096, 512, 0, 65535, 600, 900]);
    Edns { payload, version: u8::from(dice.chance(3)), dnssec_ok: dice.chance(30), options }
}

/// A name that somebody sees, or one that means it or is near it.
fn of_known(dice: &mut Dice, known: &[String]) -> String {
    let name = dice.pick(known);
    match dice.below(10) {
        0..6 => name,
        6 => format!("{name}.shop.svc.{CLUSTER}"),
        7 => format!("_http._tcp.{}", name.replace("*.", "x.")),
        8 => format!("pod-{}.{name}", dice.below(2)),
        _ => name.split('.').take(2).chain(["svc", CLUSTER]).collect::<Vec<_>>().join("."),
    }
}

/// A question with everything around it. Often about one of the names that are `known` to be somebody's.
#[must_use]
pub fn query(dice: &mut Dice, mesh: &Mesh, known: &[String], home: Option<&str>) -> Query {
    let name = if !known.is_empty() && dice.chance(40) { of_known(dice, known) } else { name(dice, mesh, home) };
    let srv = name.starts_with('_') && dice.chance(60);
    let rtype = match dice.below(100) {
        _ if srv => SRV,
        0..50 => A,
        50..70 => AAAA,
        70..73 => SRV,
        73..76 => SOA,
        76..78 => NS,
        78..81 => ANY,
        81..83 => PTR,
        // CNAME, TXT, MX, HINFO, HTTPS, DS, CAA, and a type that nobody knows.
        83..99 => dice.pick(&[5, 16, 15, 13, 65, 43, 257, 65280]),
        _ => dice.pick(&[AXFR, IXFR]),
    };
    let name = if dice.chance(30) { spelt(dice, &name) } else { name };
    let mut flags = if dice.chance(92) { RD } else { 0 };
    for (bit, percent) in [(0x20, 8), (0x10, 8), (0x40, 3)] {
        flags |= if dice.chance(percent) { bit } else { 0 };
    }
    let edns = dice.chance(55).then(|| edns(dice));
    let mut query = Query { name, rtype, class: IN, flags, edns, tcp: dice.chance(20) };
    if query.edns.as_ref().is_none_or(|e| e.version == 0) {
        match dice.below(100) {
            0 => query.class = dice.pick(&[4, 254, 255]),
            1 => query.flags |= dice.pick(&[0x0800, 0x2000, 0x2800]),
            _ => {}
        }
    }
    query
}

/// Who might ask: addresses of pods first.
#[must_use]
pub fn caller(dice: &mut Dice, mesh: &Mesh) -> std::net::IpAddr {
    let of_pods = mesh.clusters[0].objects.iter().filter_map(|o| match o {
        Object::Pod(pod) => Some(&pod.addresses),
        _ => None,
    });
    let of_pods: Vec<_> = of_pods.flatten().copied().collect();
    if !of_pods.is_empty() && dice.chance(70) {
        return dice.pick(&of_pods);
    }
    let all = [&super::draw::POD_ADDRESSES[..], &super::draw::OTHER_CALLERS[..]].concat();
    dice.pick(&all).parse().expect("an address")
}
