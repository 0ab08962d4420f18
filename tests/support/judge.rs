//! Everything that one answer has to satisfy, beside what its row says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RData, Record};

use super::rows::{Row, fold, searched, zone_of};
use super::upstream::Upstream;
use super::wire;

/// The TTL of mesh names, positive and negative, when the configuration says nothing (R18).
const TTL: u32 = 5;
/// `minimum` of the scripted upstream's SOA of the cluster domain.
const UPSTREAM_MINIMUM: u32 = 30;
/// The option code of extended errors (RFC 8914).
const EDE: u16 = 15;

/// One record, as `expect.tsv` writes it.
struct Rr {
    owner: String,
    rtype: String,
    ttl: u32,
    text: String,
    target: Option<String>,
    minimum: u32,
}

/// One exchange, taken apart.
struct Seen<'a> {
    row: &'a Row,
    zones: &'a [String],
    up: &'a Upstream,
    aa: bool,
    answers: Vec<Rr>,
    authorities: Vec<Rr>,
    additionals: Vec<Rr>,
    bad: Vec<String>,
}

/// What is wrong with `answer`, the answer to `query`; nothing if all is well.
#[must_use]
pub fn judge(row: &Row, query: &[u8], answer: &[u8], edns: bool, zones: &[String], up: &Upstream) -> Vec<String> {
    let question = wire::question_len(query).expect("our own query");
    if answer.len() < 12 + question {
        return vec![format!("short answer, {} octets", answer.len())];
    }
    let mut bad = header(query, answer, question);
    let message = match Message::from_vec(answer) {
        Ok(message) => message,
        Err(e) => {
            bad.push(format!("cannot be parsed: {e}"));
            return bad;
        }
    };
    if message.edns.is_some() != edns {
        bad.push(if edns { "OPT missing" } else { "OPT in an answer to a query without" }.to_owned());
    }
    let take = |records: &[Record]| records.iter().map(Rr::new).collect::<Vec<_>>();
    let (answers, authorities) = (take(&message.answers), take(&message.authorities));
    let aa = answer[2] & 0x04 != 0;
    let mut seen = Seen { row, zones, up, aa, answers, authorities, additionals: take(&message.additionals), bad };
    let rcode = wire::rcode_text(u16::from(message.metadata.response_code));
    if rcode != row.rcode {
        let got = seen.texts();
        seen.bad.push(format!("{rcode} {got}"));
        return seen.bad;
    }
    let ede = message.edns.iter().flat_map(|e| &e.options().options).any(|(code, _)| u16::from(*code) == EDE);
    if ede && rcode == "NXDOMAIN" && (zone_of(&row.name, zones).is_some() || searched(&row.name, zones).is_some()) {
        seen.bad.push("EDE on NXDOMAIN (R13)".to_owned());
    }
    seen.contents();
    let last = seen.owners();
    seen.mesh_name(&last);
    for token in &row.also {
        seen.also(token);
    }
    seen.bad
}

/// The header's bits and the question.
fn header(query: &[u8], answer: &[u8], question: usize) -> Vec<String> {
    let checks = [
        (answer[..2] == query[..2], "wrong ID"),
        (answer[12..12 + question] == query[12..12 + question], "question not echoed octet for octet"),
        (answer[2] & 0x80 != 0, "QR 0"),
        (answer[3] & 0x80 != 0, "RA 0"),
        (answer[2] & 0x01 != 0, "RD not copied"),
        (answer[2] & 0x02 == 0, "TC set"),
        (answer[3] & 0x20 == 0, "AD set"),
        (answer[3] & 0x40 == 0, "Z set"),
    ];
    checks.into_iter().filter(|(good, _)| !good).map(|(_, text)| text.to_owned()).collect()
}

impl Rr {
    fn new(record: &Record) -> Self {
        let owner = plain(&record.name);
        let rtype = wire::type_text(u16::from(record.record_type()));
        let (mut target, mut minimum) = (None, 0);
        let text = match &record.data {
            RData::A(a) => a.0.to_string(),
            RData::AAAA(a) => a.0.to_string(),
            RData::CNAME(to) => {
                target = Some(plain(&to.0));
                format!("{owner}->{}", plain(&to.0)).to_lowercase()
            }
            RData::SRV(srv) => format!("{}@{}", srv.port, plain(&srv.target).to_lowercase()),
            RData::PTR(to) => format!("ptr:{}", plain(&to.0).to_lowercase()),
            RData::SOA(soa) => {
                minimum = soa.minimum;
                format!("SOA:{soa}")
            }
            other => format!("{rtype}:{other}"),
        };
        Self { owner, rtype, ttl: record.ttl, text, target, minimum }
    }
}

impl Seen<'_> {
    fn texts(&self) -> String {
        let mut texts: Vec<&str> = self.answers.iter().map(|r| &*r.text).collect();
        texts.sort_unstable();
        if texts.is_empty() { "-".to_owned() } else { texts.join(",") }
    }

    /// The answer section against the row.
    fn contents(&mut self) {
        let row = self.row;
        let good = if row.answers == "*" {
            !self.answers.is_empty() && (row.rtype == "ANY" || self.answers.iter().any(|r| r.rtype == row.rtype))
        } else {
            let mut want: Vec<String> = row.answers.split(',').filter(|t| *t != "-").map(canon).collect();
            let mut got: Vec<String> = self.answers.iter().map(|r| canon(&r.text)).collect();
            want.sort_unstable();
            got.sort_unstable();
            want == got
        };
        if !good {
            self.bad.push(format!("got {}", self.texts()));
        }
    }

    /// Owner names: the asked one in the asked spelling, then along the CNAMEs. Returns the last name of the chain.
    fn owners(&mut self) -> String {
        let asked = self.row.name.trim_end_matches('.');
        let mut last = asked.to_owned();
        for rr in &self.answers {
            if rr.owner.eq_ignore_ascii_case(asked) {
                if rr.owner != asked {
                    self.bad.push(format!("owner {} is not in the spelling asked", rr.owner));
                }
            } else if !rr.owner.eq_ignore_ascii_case(&last) {
                self.bad.push(format!("owner {} follows from nothing", rr.owner));
            }
            if let Some(target) = rr.target.as_ref().filter(|_| !["CNAME", "ANY"].contains(&&*self.row.rtype)) {
                last.clone_from(target);
            }
        }
        last
    }

    /// What holds for every name in a mesh zone: AA, TTL, SOA (R18).
    fn mesh_name(&mut self, last: &str) {
        let row = self.row;
        if zone_of(&row.name, self.zones).is_none() || !["NOERROR", "NXDOMAIN"].contains(&&*row.rcode) {
            return;
        }
        let chained = last != row.name.trim_end_matches('.');
        let end = zone_of(last, self.zones);
        let ttls: BTreeSet<u32> = self.answers.iter().map(|r| r.ttl).collect();
        if !self.answers.is_empty() && !chained {
            if !self.aa {
                self.bad.push("AA 0 on a mesh name".to_owned());
            }
            if ["A", "AAAA", "SRV"].contains(&&*row.rtype) && ttls != BTreeSet::from([TTL]) {
                self.bad.push(format!("TTL {ttls:?}, not {TTL}"));
            }
        }
        let only_cnames = chained && end.is_some() && self.answers.iter().all(|r| r.rtype == "CNAME");
        if !self.answers.is_empty() && !only_cnames {
            return;
        }
        let soas: Vec<&Rr> = self.authorities.iter().filter(|r| r.rtype == "SOA").collect();
        let [soa] = soas[..] else {
            return self.bad.push(format!("{} SOA in authority", soas.len()));
        };
        if Some(fold(&soa.owner).as_str()) != end {
            self.bad.push(format!("SOA of {}, not {}", soa.owner, end.unwrap_or("-")));
        }
        if soa.ttl.min(soa.minimum) != TTL {
            self.bad.push(format!("negative TTL {}, not {TTL}", soa.ttl.min(soa.minimum)));
        }
    }

    /// One token of the last column.
    fn also(&mut self, token: &str) {
        let (key, value) = token.split_once('=').unwrap_or((token, ""));
        let asked = || self.up.asked(&self.row.name, wire::type_number(&self.row.rtype));
        let complaint = match key {
            "twin" => None, // asked for by the fixture's runner
            "aa" => (!self.aa).then(|| "AA 0".to_owned()),
            "ttl" => {
                let wrong = self.answers.iter().find(|r| r.ttl.to_string() != value);
                wrong.map(|r| format!("TTL {}, not {value}", r.ttl))
            }
            "soa" => self.soa(value),
            "add" => {
                let have: Vec<&str> = self.additionals.iter().map(|r| &*r.text).collect();
                (!have.iter().any(|t| canon(t) == canon(value))).then(|| format!("additional {have:?} lacks {value}"))
            }
            "up" if !asked() => Some("never reached the upstream".to_owned()),
            "up" => (self.aa && !self.answers.is_empty()).then(|| "AA 1 on a forwarded answer (R23)".to_owned()),
            "-up" => asked().then(|| "went upstream".to_owned()),
            _ => Some(format!("expect.tsv: unknown check {token}")),
        };
        self.bad.extend(complaint);
    }

    fn soa(&self, zone: &str) -> Option<String> {
        let soas: Vec<&Rr> = self.authorities.iter().filter(|r| r.rtype == "SOA").collect();
        match soas[..] {
            [soa] if fold(&soa.owner) == zone => (self.row.rules.contains("R16") && soa.minimum == UPSTREAM_MINIMUM)
                .then(|| "the upstream's SOA, not segdns's own (R16)".to_owned()),
            _ => Some(format!("SOA {:?}, not {zone}", soas.iter().map(|s| &*s.owner).collect::<Vec<_>>())),
        }
    }
}

/// A name without its final dot.
fn plain(name: &Name) -> String {
    let text = name.to_ascii();
    if text == "." { text } else { text.trim_end_matches('.').to_owned() }
}

/// One spelling per address and name.
fn canon(token: &str) -> String {
    token.parse::<IpAddr>().map_or_else(|_| token.to_lowercase(), |ip| ip.to_string())
}
