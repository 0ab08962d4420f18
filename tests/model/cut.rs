//! R24's last lines: how long an answer may be, and what is left of one that is longer.

use super::wire::{Query, Rec, Seen, parse};

/// TC in the header's flags.
pub const TC: u16 = 0x0200;
/// The least that an asker takes, and the most that it gets over UDP.
const LEAST: u16 = 512;
const MOST: u16 = 1232;
/// Octets of an OPT record without options.
const OPT: usize = 11;

/// How long the answer to a query may be.
#[must_use]
pub fn limit(query: &Query) -> usize {
    let payload = query.edns.as_ref().map_or(LEAST, |edns| edns.payload.clamp(LEAST, MOST));
    if query.tcp { usize::from(u16::MAX) } else { payload.into() }
}

/// Whether an answer says that it is cut.
#[must_use]
pub fn is_cut(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| u16::from(*flags) << 8 & TC != 0)
}

/// What is wrong with an answer as a cut one, beside the whole one, which is what the same query gets over TCP: only what does
/// not fit is cut, only at its end, by whole records, and no more of them than has to be.
#[must_use]
pub fn complaints(query: &Query, answer: &[u8], seen: &Seen, whole: &[u8]) -> Vec<String> {
    let Some(all) = parse(whole) else { return vec!["over TCP it cannot be parsed".to_owned()] };
    let mut bad = Vec::new();
    let limit = limit(query);
    if is_cut(whole) {
        bad.push("it is cut over TCP, too".to_owned());
    }
    if whole.len() <= limit {
        bad.push(format!("it is cut, though the whole of it is {} octets of {limit}", whole.len()));
    }
    let opt = if query.edns.is_some() { OPT } else { 0 };
    let fit = all.ends.iter().filter(|end| **end + opt <= limit).count();
    if seen.ends.len() != fit {
        bad.push(format!("{} records are left in {} octets, not {fit}", seen.ends.len(), answer.len()));
    }
    // Several addresses are turned, so which of them are left is not said; in each section they are some of the same.
    for (section, (some, all)) in seen.sections.iter().zip(&all.sections).enumerate() {
        let kinds = |of: &[Rec]| of.iter().map(|r| (r.owner.to_lowercase(), r.rtype)).collect::<Vec<_>>();
        let mut rest: Vec<_> = all.iter().map(|r| (r.owner.to_lowercase(), r.rtype, &r.data)).collect();
        let is_of = |r: &Rec| {
            let at = rest.iter().position(|other| *other == (r.owner.to_lowercase(), r.rtype, &r.data));
            at.map(|at| rest.swap_remove(at)).is_some()
        };
        if !kinds(all).starts_with(&kinds(some)) || !some.iter().all(is_of) {
            bad.push(format!("section {section} is {some:?}, which is not the front of {all:?}"));
        }
    }
    bad
}
