//! An answer beside the model's: everything in it, from the header's bits to the last option.

use super::answer::Answer;
use super::cut::{self, TC, is_cut, limit};
use super::rules::Model;
use super::upstream;
use super::wire::{A, AAAA, AXFR, IXFR, Query, Rec, Seen, parse};

/// AA in the header's flags.
const AA: u16 = 0x0400;
/// What a reply copies from the query: opcode, RD and CD.
const COPIED: u16 = 0x7910;
/// What every reply has: QR and RA.
const ALWAYS: u16 = 0x8080;
/// The payload that we announce.
const PAYLOAD: u16 = 1232;
/// The option of extended errors.
const EDE: u16 = 15;

/// What has to be answered to a query, refusals by R24 among it.
#[must_use]
pub fn expected(model: &Model<'_>, caller: std::net::IpAddr, query: &Query) -> Answer {
    let refused = |rcode| Answer { rcode, ..Answer::default() };
    if query.flags & 0x7800 != 0 {
        return refused(4);
    }
    if query.edns.as_ref().is_some_and(|e| e.version > 0) {
        return refused(16);
    }
    if query.class != 1 || [AXFR, IXFR].contains(&query.rtype) {
        return refused(5);
    }
    model.answer(&model.caller(caller), &query.name.to_lowercase(), query.rtype)
}

/// What is wrong with the answer to a query; nothing if it is the model's. Where it is cut, `whole` is asked for the answer
/// that the same query gets over TCP.
#[must_use]
pub fn complaints(
    query: &Query,
    packet: &[u8],
    answer: &[u8],
    want: &Answer,
    whole: &mut dyn FnMut(&Query) -> Vec<u8>,
) -> Vec<String> {
    let Some(seen) = parse(answer) else { return vec!["cannot be parsed".to_owned()] };
    let mut bad = Vec::new();
    let cut = is_cut(answer);
    if answer.len() > limit(query) {
        bad.push(format!("it is {} octets long, of at most {}", answer.len(), limit(query)));
    }
    if cut && !query.tcp {
        let over_tcp = Query { tcp: true, ..query.clone() };
        let all = whole(&over_tcp);
        bad.extend(cut::complaints(query, answer, &seen, &all));
        let of_whole = complaints(&over_tcp, packet, &all, want, whole);
        bad.extend(of_whole.into_iter().map(|text| format!("over TCP: {text}")));
    }
    let mut check = |what: &str, got: String, want: String| {
        if got != want {
            bad.push(format!("{what} is {got}, not {want}"));
        }
    };
    let flags = ALWAYS | query.flags & COPIED | if want.aa { AA } else { 0 } | if cut && !query.tcp { TC } else { 0 };
    check("ID", format!("{:?}", &answer[..2]), format!("{:?}", &packet[..2]));
    check("rcode", seen.rcode.to_string(), want.rcode.to_string());
    check("flags", format!("{:04x}", seen.flags), format!("{flags:04x}"));
    let question = &packet[12..12 + seen.question.len().min(packet.len() - 12)];
    check("question", format!("{:?}", seen.question), format!("{question:?}"));
    let opt = |dnssec_ok, ede: Option<u16>| format!("payload {PAYLOAD} version 0 DO {dnssec_ok} EDE {ede:?}");
    let got_opt = seen.edns.as_ref().map(|e| {
        let strange = e.options.iter().any(|(code, _)| *code != EDE) || e.payload != PAYLOAD || e.version != 0;
        if strange { format!("{e:?}") } else { opt(e.dnssec_ok, seen.ede()) }
    });
    let want_opt = query.edns.as_ref().map(|e| opt(e.dnssec_ok, want.ede));
    check("EDNS", format!("{got_opt:?}"), format!("{want_opt:?}"));
    if !cut {
        for (section, want) in [&want.answers, &want.authority, &want.additional].into_iter().enumerate() {
            let what = ["answer", "authority", "additional"][section];
            check(what, texts(&seen.sections[section]), texts(want));
        }
    }
    bad.extend(spelling(query, &seen));
    bad
}

/// Our own answers have the asked name in the asked spelling (0x20).
fn spelling(query: &Query, seen: &Seen) -> Option<String> {
    let asked = |r: &&Rec| r.owner.eq_ignore_ascii_case(&query.name) && r.ttl < upstream::TTL / 2;
    let wrong = seen.sections[0].iter().filter(asked).find(|r| r.owner != query.name)?;
    Some(format!("{} is not in the spelling that was asked", wrong.owner))
}

/// Records as texts in an order of their own. Upstreams' TTLs are counted down, which is no difference.
fn texts(records: &[Rec]) -> String {
    let text = |r: &Rec| {
        let ttl =
            if (upstream::TTL - 10..=upstream::TTL).contains(&r.ttl) { "<=30".to_owned() } else { r.ttl.to_string() };
        format!("{} {ttl} TYPE{} {}", r.owner.to_lowercase(), r.rtype, r.data.escape_debug())
    };
    let mut all: Vec<String> = records.iter().map(text).collect();
    all.sort_unstable();
    format!("{all:?}")
}

/// Whether two answers to one query are the same but for their IDs, for the seconds that an upstream's answer was in the
/// cache, and for the order of several addresses.
#[must_use]
pub fn alike(one: &[u8], other: &[u8]) -> bool {
    if one.get(2..) == other.get(2..) {
        return true;
    }
    let (Some(one), Some(other)) = (parse(one), parse(other)) else { return false };
    let body = |seen: &Seen| {
        let mut sections = seen.sections.clone();
        let many = sections[0].len() > 1;
        for record in sections.iter_mut().flatten().filter(|r| (20..=upstream::TTL).contains(&r.ttl)) {
            record.ttl = upstream::TTL;
        }
        // Which of several addresses are left of a cut answer depends on their order.
        let addresses = |r: &&mut Rec| seen.flags & TC != 0 && [A, AAAA].contains(&r.rtype);
        sections.iter_mut().flatten().filter(addresses).for_each(|r| r.data.clear());
        for section in sections.iter_mut().filter(|_| many) {
            section.sort_unstable();
        }
        Seen { sections, ends: Vec::new(), ..seen.clone() }
    };
    body(&one) == body(&other)
}
