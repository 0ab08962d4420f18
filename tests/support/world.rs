//! What the scripted upstream knows: CoreDNS's answers for one cluster, and the rest of the world.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde_json::Value;

use super::CLUSTER_DOMAIN;
use super::objects::{list, load, text};
use super::wire;

/// What the world outside the clusters looks like.
const OUTSIDE: [(&str, &str, &str); 8] = [
    ("www.example.com", "A", "192.0.2.80"),
    ("www.example.com", "AAAA", "2001:db8::80"),
    ("www.example.com", "TXT", "\"hello\""),
    ("example.com", "MX", "10 mail.example.com."),
    ("example.com", "A", "192.0.2.81"),
    ("mail.example.com", "A", "192.0.2.82"),
    ("alias.example.com", "CNAME", "www.example.com."),
    (".", "NS", "a.root-servers.test."),
];
/// The SOA of the cluster domain, as CoreDNS has it; its minimum of 30 tells it from segdns's own (R16).
const CLUSTER_SOA: &str = "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 30";
/// The SOA of everything else.
const ROOT_SOA: &str = "a.root-servers.test. nstld.test. 1 1800 900 604800 60";
/// The TTL of everything.
const TTL: u32 = 30;

/// Names and their records, in lower case, without a final dot (but for the root).
#[derive(Clone, Debug, Default)]
pub struct World {
    table: HashMap<String, Vec<(String, String)>>,
    parents: HashSet<String>,
    namespaces: HashSet<String>,
}

/// What is answered to one question.
#[derive(Debug)]
pub struct Answer {
    /// NOERROR or NXDOMAIN, as a number.
    pub rcode: u8,
    /// Records of the answer section.
    pub answers: Vec<Vec<u8>>,
    /// The SOA, if the answer is negative.
    pub authorities: Vec<Vec<u8>>,
}

impl World {
    /// The world outside the clusters.
    #[must_use]
    pub fn outside() -> Self {
        let mut world = Self::default();
        for (name, rtype, value) in OUTSIDE {
            world.add(name, rtype, value);
        }
        world
    }

    /// Adds a record.
    pub fn add(&mut self, name: &str, rtype: &str, value: &str) {
        let name = name.to_lowercase();
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            self.parents.insert(parent.to_owned());
            rest = parent;
        }
        let records = self.table.entry(name).or_default();
        let record = (rtype.to_owned(), value.to_owned());
        if !records.contains(&record) {
            records.push(record);
        }
    }

    /// Adds the lines of an `upstream.tsv`: name, type, value.
    pub fn add_tsv(&mut self, path: &Path) {
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            if let [name, rtype, value] = line.split('\t').collect::<Vec<_>>()[..]
                && !line.starts_with('#')
            {
                self.add(name, rtype, value);
            }
        }
    }

    /// Adds what CoreDNS answers for the cluster whose manifests are in `dir`.
    pub fn add_cluster(&mut self, dir: &Path) {
        for namespace in load(&dir.join("namespaces.yaml")) {
            let name = text(&namespace, "/metadata/name").to_owned();
            let node = format!("{name}.svc.{CLUSTER_DOMAIN}");
            self.add(&node, "", "");
            self.table.entry(node).or_default().clear();
            self.namespaces.insert(name);
        }
        let slices = load(&dir.join("endpointslices.yaml"));
        for service in load(&dir.join("services.yaml")) {
            let (name, namespace) = (text(&service, "/metadata/name"), text(&service, "/metadata/namespace"));
            let base = format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}");
            let ips: Vec<&str> =
                list(&service, "/spec/clusterIPs").iter().filter_map(Value::as_str).filter(|i| *i != "None").collect();
            if text(&service, "/spec/type") == "ExternalName" {
                self.add(&base, "CNAME", text(&service, "/spec/externalName"));
            } else if ips.is_empty() {
                let own = slices.iter().filter(|s| {
                    text(s, "/metadata/namespace") == namespace
                        && text(s, "/metadata/labels/kubernetes.io~1service-name") == name
                });
                self.add_endpoints(&base, own, service["spec"]["publishNotReadyAddresses"] == true);
            } else {
                self.add_cluster_ips(&base, &ips, list(&service, "/spec/ports"));
            }
        }
    }

    fn add_cluster_ips(&mut self, base: &str, ips: &[&str], ports: &[Value]) {
        for ip in ips {
            self.add(base, family(ip), ip);
            self.add(&reverse(ip.parse().expect("a ClusterIP")), "PTR", base);
        }
        for port in ports.iter().filter(|p| !text(p, "/name").is_empty()) {
            let proto = port["protocol"].as_str().unwrap_or("TCP").to_lowercase();
            let owner = format!("_{}._{proto}.{base}", text(port, "/name"));
            self.add(&owner, "SRV", &format!("0 100 {} {base}", port["port"]));
        }
    }

    fn add_endpoints<'a>(&mut self, base: &str, slices: impl Iterator<Item = &'a Value>, all: bool) {
        for endpoint in slices.flat_map(|s| list(s, "/endpoints")) {
            if !all && endpoint["conditions"]["ready"] == false {
                continue;
            }
            for address in list(endpoint, "/addresses").iter().filter_map(Value::as_str) {
                self.add(base, family(address), address);
                if let Some(hostname) = endpoint["hostname"].as_str() {
                    self.add(&format!("{hostname}.{base}"), family(address), address);
                }
            }
        }
    }

    /// The answer to a question; CNAMEs are chased.
    #[must_use]
    pub fn answer(&self, qname: &str, rtype: &str) -> Answer {
        let mut answers = Vec::new();
        let (mut owner, mut found, mut exists) = (qname.trim_end_matches('.').to_owned(), false, false);
        for _ in 0..8 {
            let key = key(&owner);
            let pod = self.pod_record(&key);
            let records = pod.as_ref().or_else(|| self.table.get(&key));
            exists = records.is_some() || self.parents.contains(&key);
            let of_type = |t: &str| records.into_iter().flatten().filter(move |(k, _)| k == t).collect::<Vec<_>>();
            let (hits, aliases) = (of_type(rtype), of_type("CNAME"));
            found = !hits.is_empty();
            for (t, value) in if found { hits } else { aliases.clone() } {
                answers.push(wire::record(&owner, wire::type_number(t), TTL, &wire::rdata(t, value)));
            }
            match aliases.first() {
                Some((_, target)) if !found => owner = target.trim_end_matches('.').to_owned(),
                _ => break,
            }
        }
        let in_cluster = format!(".{}", key(&owner)).ends_with(&format!(".{CLUSTER_DOMAIN}"));
        let (zone, soa) = if in_cluster { (CLUSTER_DOMAIN, CLUSTER_SOA) } else { ("", ROOT_SOA) };
        let soa = || wire::record(zone, wire::type_number("SOA"), TTL, &wire::rdata("SOA", soa));
        let authorities = if found { Vec::new() } else { vec![soa()] };
        Answer { rcode: if exists { 0 } else { 3 }, answers, authorities }
    }

    /// `10-11-0-1.shop.pod.cluster.local` in a namespace that exists.
    fn pod_record(&self, key: &str) -> Option<Vec<(String, String)>> {
        let rest = key.strip_suffix(CLUSTER_DOMAIN)?.strip_suffix(".pod.")?;
        let (dashed, namespace) = rest.split_once('.')?;
        let address: Ipv4Addr = dashed.replace('-', ".").parse().ok()?;
        self.namespaces.contains(namespace).then(|| vec![("A".to_owned(), address.to_string())])
    }
}

fn key(name: &str) -> String {
    if name.is_empty() { ".".to_owned() } else { name.to_lowercase() }
}

fn family(address: &str) -> &'static str {
    if address.contains(':') { "AAAA" } else { "A" }
}

/// The reverse name of an address.
#[must_use]
pub fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|o| [o & 15, o >> 4]);
            nibbles.fold(String::new(), |all, n| format!("{all}{n:x}.")) + "ip6.arpa"
        }
    }
}
