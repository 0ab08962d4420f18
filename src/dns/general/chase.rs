//! Records of decisions that are not one prebuilt run: SRV with its addresses, apexes, ANY, and chains of CNAMEs with
//! every link judged for the same caller (R6, R18, R19, R21).

use hickory_server::proto::op::Message;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, HINFO, NS, SRV};
use hickory_server::proto::rr::{Name, RData, Record};

use super::filter;
use super::render::{Draft, name_of, soa};
use super::{Reverse, Scene};
use crate::dns::query::rcode;
use crate::dns::resolve::Answer;
use crate::dns::serve::Server;
use crate::table::Caller;
use crate::table::Table;
use crate::table::decide::{Decision, Forward, Question, Verdict, decide, rtype};
use crate::table::key::Key;
use crate::table::node::{PortView, View};

/// Most links of a chain; a longer one is a loop.
const LINKS: usize = 8;

impl Server {
    pub(super) async fn draft(&self, scene: Scene<'_>, decision: &Decision<'_>) -> Draft {
        let job = scene.job;
        let mut draft = Draft::default();
        self.follow(scene, decision, job.asked.query.name(job.asked.packet).to_vec(), &mut draft).await;
        draft
    }

    /// Appends what a decision about `name` (wire with root octet) gives, and every link that follows from it.
    pub(super) async fn follow(&self, scene: Scene<'_>, decision: &Decision<'_>, name: Vec<u8>, draft: &mut Draft) {
        let Scene { job, table, caller } = scene;
        let mut link = self.link(scene, decision, name, draft).await;
        let mut key = Key::default();
        for _ in 0..LINKS {
            let Some(next) = link.take().filter(|next| key.read(next).is_some()) else { return };
            let decision = decide(table, caller, Question::new(table, &key, job.asked.query.rtype));
            link = self.link(scene, &decision, next, draft).await;
        }
        if link.is_some() {
            *draft = Draft { code: rcode::SERVFAIL, ..Draft::default() };
        }
    }

    /// Appends what one decision gives under `name`; returns where the chain goes on, as wire with root octet.
    async fn link(
        &self,
        scene: Scene<'_>,
        decision: &Decision<'_>,
        name: Vec<u8>,
        draft: &mut Draft,
    ) -> Option<Vec<u8>> {
        let Scene { job, table, caller } = scene;
        let name = &*match decision.mesh_labels {
            Some(labels) => {
                let mesh = first_labels(&name, usize::from(labels));
                push_cname(draft, table, &name, &mesh);
                if job.asked.query.rtype == rtype::CNAME {
                    return None;
                }
                mesh
            }
            None => name,
        };
        let rtype = job.asked.query.rtype;
        match decision.plain().verdict {
            Verdict::Addresses(view) => push_addresses(draft, table, name, rtype, view),
            Verdict::Chain(target, view) => {
                let mut mesh = target.to_vec();
                mesh.push(0);
                push_cname(draft, table, name, &mesh);
                let links = draft.answers.len();
                if rtype == rtype::A || caller.aaaa {
                    push_addresses(draft, table, &mesh, rtype, view);
                }
                if draft.answers.len() == links {
                    negative(draft, table, (zone_of(table, &mesh), &mesh), rcode::NOERROR);
                }
            }
            Verdict::Cname(target) => {
                let mut target = target.to_vec();
                target.push(0);
                push_cname(draft, table, name, &target);
                // ANY is satisfied by what the name itself has (RFC 8482).
                if rtype != rtype::CNAME && rtype != rtype::ANY {
                    return Some(target);
                }
            }
            Verdict::Services(port) => services(draft, table, caller, name, port),
            Verdict::Apex => apex(draft, table, name, decision.zone, rtype),
            Verdict::Any => draft.answers.extend(any(table, name)),
            Verdict::NoData => negative(draft, table, (decision.zone, name), rcode::NOERROR),
            Verdict::NxDomain => negative(draft, table, (decision.zone, name), rcode::NXDOMAIN),
            Verdict::ServFail | Verdict::HoldThenFail => {
                *draft = Draft { code: rcode::SERVFAIL, ..Draft::default() };
            }
            Verdict::Forward(how) => self.link_upstream(scene, decision, name, how, draft).await,
            Verdict::HoldThenForward => {
                self.link_upstream(scene, decision, name, Forward::of(table), draft).await;
            }
            Verdict::Complete(_) => {}
        }
        None
    }

    /// The rest of a chain that leaves our zones.
    async fn link_upstream(
        &self,
        scene: Scene<'_>,
        decision: &Decision<'_>,
        name: &[u8],
        how: Forward,
        draft: &mut Draft,
    ) {
        let Scene { job, table, .. } = scene;
        let fail = || Draft { code: rcode::SERVFAIL, ..Draft::default() };
        match self.reverse(scene, decision, name, how).await {
            None => {}
            Some(Reverse::Nothing(_)) => return negative(draft, table, (decision.zone, name), rcode::NXDOMAIN),
            Some(Reverse::Unreadable(_) | Reverse::Failed(_)) => {
                *draft = fail();
                return;
            }
        }
        let mut key = Key::default();
        let proof = key.read(name).and_then(|_| how.proof(&key));
        let asked = self.resolver.ask(&job.upstream_query(name), job.from.ip(), proof).await;
        let Ok(Answer { message, .. }) = asked else {
            *draft = fail();
            return;
        };
        let code = message.rcode();
        if how.exists && code == rcode::NXDOMAIN {
            // Nothing of the upstream's is passed on.
            draft.authoritative |= draft.answers.is_empty();
            return negative(draft, table, (decision.zone, name), rcode::NOERROR);
        }
        if how.filtered {
            match filter::judge(scene, decision, &message) {
                filter::Judged::Whole => {}
                filter::Judged::Nothing => return negative(draft, table, (decision.zone, name), rcode::NXDOMAIN),
                filter::Judged::Unreadable => {
                    *draft = fail();
                    return;
                }
                filter::Judged::Part(part) => {
                    draft.code = part.code;
                    draft.answers.extend(part.answers);
                    return draft.authorities.extend(part.authorities);
                }
            }
        }
        let Ok(decoded) = Message::from_vec(message.wire()) else {
            *draft = fail();
            return;
        };
        draft.code = code.min(15);
        let empty = decoded.answers.is_empty() || code != rcode::NOERROR;
        draft.answers.extend(decoded.answers);
        if empty {
            draft.authorities.extend(decoded.authorities);
        }
    }
}

fn zone_of(table: &Table, wire: &[u8]) -> Option<usize> {
    let mut key = Key::default();
    key.read(wire)?;
    table.classify(&key, key.all()).0
}

/// With the SOA of the zone that says no; outside all zones that of the name itself, as on the hot path.
fn negative(draft: &mut Draft, table: &Table, (zone, name): (Option<usize>, &[u8]), code: u16) {
    draft.code = code;
    let owner = zone.map_or(name, |z| &table.zones.get(z).wire);
    draft.authorities.extend(soa(table, owner));
}

fn push_cname(draft: &mut Draft, table: &Table, owner: &[u8], target: &[u8]) {
    if let (Some(owner), Some(target)) = (name_of(owner), name_of(target)) {
        draft.answers.push(Record::from_rdata(owner, table.policy.ttl, RData::CNAME(CNAME(target))));
    }
}

impl Draft {
    /// Puts a CNAME in front, from the name that was asked to the one that was answered; it lasts no longer than that.
    pub(super) fn lead(&mut self, table: &Table, asked: &[u8], answered: &[u8]) {
        let (Some(owner), Some(target)) = (name_of(asked), name_of(answered)) else { return };
        let ttls = self.answers.iter().chain(&self.authorities).map(|record| record.ttl);
        let ttl = ttls.fold(table.policy.ttl, u32::min);
        self.answers.insert(0, Record::from_rdata(owner, ttl, RData::CNAME(CNAME(target))));
    }
}

fn push_addresses(draft: &mut Draft, table: &Table, owner: &[u8], rtype: u16, view: View<'_>) {
    if let Some(owner) = name_of(owner) {
        draft.answers.extend(addresses(table, &owner, view).filter(|r| u16::from(r.record_type()) == rtype));
    }
}

fn addresses(table: &Table, owner: &Name, view: View<'_>) -> impl Iterator<Item = Record> {
    view.addresses().map(move |address| {
        let data = match address {
            std::net::IpAddr::V4(a) => RData::A(A(a)),
            std::net::IpAddr::V6(a) => RData::AAAA(AAAA(a)),
        };
        Record::from_rdata(owner.clone(), table.policy.ttl, data)
    })
}

/// SRV records, and the addresses of their targets that the caller is answered.
fn services(draft: &mut Draft, table: &Table, caller: &Caller, name: &[u8], port: PortView<'_>) {
    let Some(owner) = name_of(name) else { return };
    let service = after_labels(name, 2);
    let mut targets: Vec<Vec<u8>> = Vec::new();
    for (number, hostname) in port.targets() {
        let mut target = Vec::new();
        if !hostname.is_empty() {
            target.push(u8::try_from(hostname.len()).unwrap_or(0));
            target.extend(hostname);
        }
        target.extend(service.to_ascii_lowercase());
        if let Some(name) = name_of(&target) {
            let data = RData::SRV(SRV::new(0, 100, number, name));
            draft.answers.push(Record::from_rdata(owner.clone(), table.policy.ttl, data));
        }
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    for target in targets {
        let mut key = Key::default();
        let Some(owner) = name_of(&target).filter(|_| key.read(&target).is_some()) else { continue };
        for rtype in [rtype::A, rtype::AAAA] {
            if let Verdict::Addresses(view) = decide(table, caller, Question::new(table, &key, rtype)).verdict {
                let of_type = addresses(table, &owner, view).filter(|r| u16::from(r.record_type()) == rtype);
                draft.additionals.extend(of_type);
            }
        }
    }
}

/// The first labels of a wire name, with a root octet.
fn first_labels(name: &[u8], labels: usize) -> Vec<u8> {
    let rest = after_labels(name, labels);
    let mut first = name[..name.len() - rest.len()].to_vec();
    first.push(0);
    first
}

/// What follows the first labels of a wire name.
fn after_labels(mut name: &[u8], labels: usize) -> &[u8] {
    for _ in 0..labels {
        let skip = name.first().map_or(0, |len| 1 + usize::from(*len));
        name = name.get(skip..).unwrap_or_default();
    }
    name
}

fn apex(draft: &mut Draft, table: &Table, name: &[u8], zone: Option<usize>, rtype: u16) {
    let Some(mut record) = zone.and_then(|_| soa(table, name)) else { return };
    if rtype == rtype::SOA {
        record.ttl = table.policy.ttl;
        draft.answers.push(record);
    } else if let Some(ns) = name_of(&table.zones.ns) {
        draft.answers.push(Record::from_rdata(record.name, table.policy.ttl, RData::NS(NS(ns))));
    }
}

/// RFC 8482 section 4.2.
fn any(table: &Table, name: &[u8]) -> Option<Record> {
    let data = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
    Some(Record::from_rdata(name_of(name)?, table.policy.ttl, data))
}
