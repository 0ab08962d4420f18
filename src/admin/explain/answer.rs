//! What stands in the answer, as text.

use std::net::IpAddr;

use super::Scene;
use crate::table::decide::{Decision, Verdict, rtype};
use crate::table::key::{Key, text_of};
use crate::table::node::View;

/// The answer of one link.
#[derive(Debug, Default)]
pub struct Given {
    /// Response code, unless an upstream decides it.
    pub rcode: Option<&'static str>,
    /// RDATA.
    pub answers: Vec<String>,
    /// Seconds.
    pub ttl: Option<u32>,
    /// Where the chain goes on: wire without root octet.
    pub next: Option<Vec<u8>>,
}

/// What a decision about `key` puts into the answer.
pub fn answer(scene: Scene<'_>, key: &Key, decision: &Decision<'_>) -> Given {
    let policy = &scene.table.policy;
    let found = |answers| Given { rcode: Some("NOERROR"), answers, ttl: Some(policy.ttl), next: None };
    let negative = |rcode| Given { rcode: Some(rcode), ttl: Some(policy.negative_ttl), ..Given::default() };
    let labels = decision.mesh_labels.map_or(key.count(), usize::from);
    let chain = |target: &[u8]| format!("CNAME {}", text_of(target));
    let through = decision.mesh_labels.map(|_| chain(key.span(0..labels)));
    let mut given = match decision.verdict {
        Verdict::Addresses(view) => found(addresses(scene, view)),
        Verdict::Chain(target, view) => {
            let mut all = vec![chain(target)];
            all.extend(addresses(scene, view));
            found(all)
        }
        Verdict::Cname(target) => {
            let next = (scene.rtype != rtype::CNAME).then(|| target.to_vec());
            Given { next, ..found(vec![chain(target)]) }
        }
        Verdict::Services(port) => {
            let service = key.text(2..labels);
            let target = |hostname: &[u8]| match hostname {
                [] => service.clone(),
                hostname => format!("{}.{service}", String::from_utf8_lossy(hostname)),
            };
            found(port.targets().map(|(number, hostname)| format!("0 100 {number} {}", target(hostname))).collect())
        }
        Verdict::Apex => found(vec![apex(scene)]),
        Verdict::Any => found(vec!["HINFO RFC8482".to_owned()]),
        Verdict::NoData => negative("NOERROR"),
        Verdict::NxDomain => negative("NXDOMAIN"),
        Verdict::ServFail | Verdict::HoldThenFail => Given { rcode: Some("SERVFAIL"), ..Given::default() },
        Verdict::Forward(_) | Verdict::Complete(_) | Verdict::HoldThenForward => Given::default(),
    };
    if given.rcode == Some("NOERROR") {
        given.answers.splice(0..0, through);
    }
    given
}

fn addresses(scene: Scene<'_>, view: View<'_>) -> Vec<String> {
    let wanted = |address: &IpAddr| match scene.rtype {
        rtype::A => address.is_ipv4(),
        rtype::AAAA => address.is_ipv6() && scene.asker.caller.aaaa,
        _ => false,
    };
    view.addresses().filter(wanted).map(|a| a.to_string()).collect()
}

fn apex(scene: Scene<'_>) -> String {
    let zones = &scene.table.zones;
    let ns = text_of(&zones.ns);
    if scene.rtype == rtype::NS {
        return ns;
    }
    let mut at = zones.ns.len();
    let mut person = Vec::new();
    while let Some(len) = zones.soa.get(at).map(|l| usize::from(*l)).filter(|l| *l != 0) {
        person.extend(zones.soa.get(at..=at + len).unwrap_or_default());
        at += 1 + len;
    }
    let numbers = zones.soa.get(at + 1..).unwrap_or_default().chunks_exact(4);
    let numbers = numbers.filter_map(|n| n.try_into().ok().map(u32::from_be_bytes)).map(|n| n.to_string());
    let numbers: Vec<String> = numbers.collect();
    format!("{ns} {} {}", text_of(&person), numbers.join(" "))
}
