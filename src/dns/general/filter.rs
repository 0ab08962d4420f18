//! R16: what of an upstream's answer a caller may see, when cluster names are its segment's only.
//!
//! Every section is looked through for names that the caller may not know: owners, and names inside the data of any type.
//! A name of a namespace that nobody has told counts as hidden, so what is made of a hidden name and of one that never
//! existed is the same. Text that only looks like a name (in a TXT, say) is none.

use hickory_server::proto::op::Message as Decoded;
use hickory_server::proto::rr::{RData, Record};
use hickory_server::proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::Scene;
use super::render::{Draft, soa};
use crate::dns::forward::{self, Message, Section};
use crate::dns::query::rcode;
use crate::dns::wire;
use crate::table::decide::{Decision, names_hidden_cluster_name, rtype};
use crate::table::key::Key;
use crate::table::zone::ZoneKind;
use crate::table::{Caller, Table};

/// What becomes of an answer.
#[derive(Debug)]
pub enum Judged {
    /// It is passed on as it is.
    Whole,
    /// The name that was asked does not exist for the caller.
    Nothing,
    /// These records of it.
    Part(Draft),
    /// Nothing of it can be passed on, because not all of it can be looked through; what was asked may well exist.
    Unreadable,
}

/// The signatures and proofs of DNSSEC, which say what is missing where something was taken out.
const PROOFS: [u16; 4] = [46, 47, 50, 51];
/// The labels of the cluster domain below which namespaces stand, as wire.
const KINDS: [&[u8; 4]; 2] = [b"\x03svc", b"\x03pod"];

/// Judges an answer to a question about a name that the caller may know. `decision` is what was decided about that name.
pub fn judge(scene: Scene<'_>, decision: &Decision<'_>, message: &Message) -> Judged {
    let Scene { job, table, caller } = scene;
    let eyes = Eyes { table, caller };
    let kind = decision.zone.map(|zone| table.zones.get(zone).kind);
    let absent = message.rcode() == rcode::NXDOMAIN && kind.is_some();
    if !absent && eyes.sees_all(message) {
        return Judged::Whole;
    }
    let Ok(decoded) = Decoded::from_vec(message.wire()) else { return Judged::Unreadable };
    let had = !decoded.answers.is_empty();
    let follows = !matches!(job.asked.query.rtype, rtype::CNAME | rtype::ANY);
    let (answers, cut) = eyes.chain(decoded.answers, follows);
    if answers.is_empty() && (absent || cut || (had && kind == Some(ZoneKind::Reverse))) {
        return Judged::Nothing;
    }
    let mut draft = Draft { answers, authoritative: false, ..Draft::default() };
    if absent || cut {
        draft.code = rcode::NXDOMAIN;
        draft
            .authorities
            .extend(soa(table, &table.zones.get(decision.zone.unwrap_or_else(|| table.zones.cluster())).wire));
        return Judged::Part(draft);
    }
    // A code that only an OPT can hold is about the hop to the upstream.
    draft.code = if message.rcode() < 16 { message.rcode() } else { rcode::SERVFAIL };
    draft.authorities = eyes.kept(decoded.authorities);
    draft.additionals = eyes.kept(decoded.additionals);
    if had && draft.answers.is_empty() {
        draft.authorities.extend(decision.zone.and_then(|zone| soa(table, &table.zones.get(zone).wire)));
    }
    Judged::Part(draft)
}

/// Judges the answer to a question of type PTR about a reverse name, which tells whether that exists for the caller.
pub fn judge_reverse(scene: Scene<'_>, decision: &Decision<'_>, message: &Message) -> Judged {
    if message.rcode() == rcode::NXDOMAIN { Judged::Nothing } else { judge(scene, decision, message) }
}

/// What one caller may know.
#[derive(Clone, Copy)]
struct Eyes<'a> {
    table: &'a Table,
    caller: &'a Caller,
}

impl Eyes<'_> {
    /// Whether nothing in a message is hidden, as far as that is told without decoding it: most answers are addresses.
    fn sees_all(self, message: &Message) -> bool {
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let mut all = sections.into_iter().flat_map(|section| message.records(section));
        all.all(|record| !self.hidden(&record.owner()) && self.sees_data(message, &record))
    }

    fn sees_data(self, message: &Message, record: &forward::Record<'_>) -> bool {
        if matches!(record.rtype(), rtype::A | rtype::AAAA) {
            return true;
        }
        let Some((before, names, _)) = wire::names_in(record.rtype()) else { return false };
        let mut at = record.data().start + before;
        (0..names).all(|_| {
            let Some((name, end)) = wire::name_at(message.wire(), at) else { return false };
            at = end;
            !self.hidden(&name)
        })
    }

    fn hidden(self, wire: &[u8]) -> bool {
        let mut key = Key::default();
        key.read(wire).is_some() && names_hidden_cluster_name(self.table, self.caller, &key)
    }

    /// The answers up to where a chain comes to a hidden name, and whether it does. The link to it stays: its owner is
    /// known, and its target is to look like a name that does not exist. What else names a hidden name is left out.
    fn chain(self, answers: Vec<Record>, follows: bool) -> (Vec<Record>, bool) {
        let mut kept = Vec::new();
        for record in answers {
            if self.hides_owner(&record) || PROOFS.contains(&record.record_type().into()) {
                continue;
            }
            let hides = self.hides_data(&record.data);
            if !matches!(record.data, RData::CNAME(_)) {
                kept.extend((!hides).then_some(record));
                continue;
            }
            kept.push(record);
            if hides && follows {
                return (kept, true);
            }
        }
        (kept, false)
    }

    fn kept(self, records: Vec<Record>) -> Vec<Record> {
        let keep = |r: &Record| !self.hides_owner(r) && !self.hides_data(&r.data);
        records.into_iter().filter(|r| keep(r) && !PROOFS.contains(&r.record_type().into())).collect()
    }

    fn hides_owner(self, record: &Record) -> bool {
        record.name.to_bytes().is_ok_and(|wire| self.hidden(&wire))
    }

    /// Whether a hidden name stands anywhere in the data, whatever its type: it is written without compression, and every
    /// name in it then ends in the cluster domain's octets.
    fn hides_data(self, data: &RData) -> bool {
        let mut octets = Vec::new();
        let mut encoder = BinEncoder::new(&mut octets);
        encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
        data.emit(&mut encoder).is_err() || self.hides_name_in(&octets)
    }

    /// Whether an uncompressed hidden name stands anywhere in octets, which may be 64 KB that a stranger chose.
    ///
    /// Its namespace alone hides a name, so only the label before `svc` or `pod` of the cluster domain is looked for. Few
    /// of its 63 lengths fit, and the first that gives no namespace which the caller sees ends the search.
    fn hides_name_in(self, octets: &[u8]) -> bool {
        let domain = &self.table.zones.get(self.table.zones.cluster()).wire;
        let is_kind = |at: &usize| {
            let Some((kind, rest)) = octets[*at..].split_first_chunk::<4>() else { return false };
            let named = KINDS.iter().any(|known| kind.eq_ignore_ascii_case(*known));
            named && octets_equal(rest, domain) && rest.get(domain.len()) == Some(&0)
        };
        let starts = octets.iter().enumerate().filter(|(_, octet)| **octet == KINDS[0][0]).map(|(at, _)| at);
        let mut key = Key::default();
        starts.filter(is_kind).any(|kind| {
            let label = |len: &usize| kind > *len && usize::from(octets[kind - 1 - len]) == *len;
            (1..=63).filter(label).any(|len| {
                let name = &octets[kind - 1 - len..];
                key.read(name).is_some() && names_hidden_cluster_name(self.table, self.caller, &key)
            })
        })
    }
}

/// Whether octets begin with a name, in any spelling; length octets are below 64, so folding letters leaves them alone.
fn octets_equal(octets: &[u8], name: &[u8]) -> bool {
    octets.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
