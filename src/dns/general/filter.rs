//! R16: what of an upstream's answer a caller may see, when cluster names are its segment's only.

use hickory_server::proto::op::Message as Decoded;
use hickory_server::proto::rr::{RData, Record};
use hickory_server::proto::serialize::binary::BinEncodable;

use crate::dns::forward::{Message, Section};
use crate::table::Caller;
use crate::table::Table;
use crate::table::decide::names_hidden_cluster_name;
use crate::table::key::Key;

/// The parts of an answer that may be seen.
#[derive(Debug)]
pub enum Judged {
    /// All of it.
    Whole,
    /// None of it: the answer is that of a name that does not exist.
    Nothing,
    /// These answers; true if a chain ends at a hidden name, which does not exist for the caller.
    Part(Vec<Record>, bool),
}

const CNAME: u16 = 5;
const PTR: u16 = 12;
const SRV: u16 = 33;

/// Judges the answer section: PTR and SRV records that name a hidden Service are left out, a chain is cut there.
#[must_use]
pub fn judge(table: &Table, caller: &Caller, message: &Message) -> Judged {
    let names = |rtype: u16| matches!(rtype, CNAME | PTR | SRV);
    let hides = message.records(Section::Answer).filter(|r| names(r.rtype())).any(|record| {
        let skip = if record.rtype() == SRV { 6 } else { 0 };
        message.name_at(record.data().start + skip).is_some_and(|name| hidden(table, caller, &name))
    });
    if !hides {
        return Judged::Whole;
    }
    let Ok(decoded) = Decoded::from_vec(message.wire()) else { return Judged::Nothing };
    let mut kept = Vec::new();
    for record in decoded.answers {
        let target = match &record.data {
            RData::CNAME(name) => Some((&name.0, true)),
            RData::PTR(name) => Some((&name.0, false)),
            RData::SRV(srv) => Some((&srv.target, false)),
            _ => None,
        };
        let target = target.and_then(|(name, chain)| Some((name.to_bytes().ok()?, chain)));
        match target.filter(|(wire, _)| hidden(table, caller, wire)) {
            None => kept.push(record),
            Some((_, true)) => {
                kept.push(record);
                return Judged::Part(kept, true);
            }
            Some((_, false)) => {}
        }
    }
    if kept.is_empty() { Judged::Nothing } else { Judged::Part(kept, false) }
}

fn hidden(table: &Table, caller: &Caller, wire: &[u8]) -> bool {
    let mut key = Key::default();
    key.read(wire).is_some() && names_hidden_cluster_name(table, caller, &key)
}
