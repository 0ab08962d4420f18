//! From a message to what an entry holds of it.

use crate::dns::forward::{Message, Record, Section};
use crate::dns::query::HEADER;
use crate::dns::wire::name_at;
use crate::table::decide::rtype;

use super::Options;
use super::entry::{Body, NAMES};
use super::life::{self, Life};

const SECTIONS: [Section; 3] = [Section::Answer, Section::Authority, Section::Additional];

/// All records of a message. `None` if its question is not about `name`, folded and without the root octet.
pub(super) fn whole(message: &Message, name: &[u8], life: Life, options: &Options) -> Option<Body> {
    let wire = message.wire();
    let name_end = HEADER + name.len() + 1;
    let question = wire.get(HEADER..name_end)?;
    if !question[..name.len()].eq_ignore_ascii_case(name) || question[name.len()] != 0 {
        return None;
    }
    let first = name_end + 4;
    let mut body = Body { records: wire.get(first..)?.to_vec(), ..Body::default() };
    let mut at = first;
    for (count, section) in body.counts.iter_mut().zip(SECTIONS) {
        *count = u16::try_from(message.records(section).len()).ok()?;
        for record in message.records(section) {
            let ttl_at = record.ttl_at() - first;
            body.records.get_mut(ttl_at..ttl_at + 4)?.copy_from_slice(
                // What stands there is not always what it means.
                &life::ttl(&record, section, life, options).to_be_bytes(),
            );
            body.ttls.push(u16::try_from(ttl_at).ok()?);
            // A TTL stands behind the owner, the type and the class.
            let owner = wire.get(at..record.ttl_at() - 4)?;
            if section == Section::Answer && owner.eq_ignore_ascii_case(question) {
                body.owners.push(u16::try_from(at - first).ok()?);
            }
            at = record.data().end;
        }
    }
    Some(body)
}

/// The SOA alone, without pointers, so that it can stand in an answer to another question.
pub(super) fn soa(message: &Message, life: Life) -> Option<Body> {
    let soa = message.records(Section::Authority).find(|record| life::is(record, rtype::SOA))?;
    let (first, at) = name_at(message.wire(), soa.data().start)?;
    let (second, at) = name_at(message.wire(), at)?;
    let numbers = message.wire().get(at..soa.data().end)?;
    let data = [first.as_slice(), &second, numbers].concat();
    let mut records = soa.owner();
    records.extend(rtype::SOA.to_be_bytes());
    records.extend([0, 1]);
    let ttl_at = u16::try_from(records.len()).ok()?;
    records.extend(life.seconds.to_be_bytes());
    records.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    records.extend(data);
    Some(Body { counts: [0, 1, 0], records, ttls: vec![ttl_at], owners: Vec::new() })
}

/// The bit that says that there is more than addresses of the name that was asked, at which policy may have to look.
/// `name`: folded, without the root octet.
pub(super) fn names(message: &Message, name: &[u8]) -> u8 {
    let own = |owner: &[u8]| owner.strip_suffix(&[0]).is_some_and(|owner| owner == name);
    let address = |record: Record<'_>| matches!(record.rtype(), rtype::A | rtype::AAAA) && own(&record.owner());
    let plain = SECTIONS.into_iter().all(|section| message.records(section).all(address));
    if plain { 0 } else { NAMES }
}
