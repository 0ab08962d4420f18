//! Tests of the cache: what they share. Messages are hickory-proto's, askers are packets.

mod bounds;
mod flushing;
mod lives;
mod replies;
mod threads;

use std::net::Ipv4Addr;
use std::str::FromStr;

use hickory_proto::op::{Message as Theirs, MessageType, OpCode, Query as TheirQuery, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record as TheirRecord, RecordType};
use hickory_proto::serialize::binary::BinEncodable;

use super::*;
use crate::dns::forward;
use crate::dns::query::{self, Read as ReadQuery};
use crate::table::key::Key as NameKey;

const MIB: u64 = 1 << 20;

/// Any will do.
fn hasher() -> Hasher {
    Hasher::new(7)
}

/// A question as the hot path has it, with the hash of its name.
fn hashed<'a, 'q>(question: &'a Question<'q>) -> (&'a Question<'q>, u64) {
    (question, hasher().of_wire(question.name))
}

const OPTIONS: Options =
    Options { max_ttl: 3600, max_negative_ttl: 30, serve_stale: Duration::from_secs(3600), prefetch: true };

fn cache() -> Cache {
    Cache::new(MIB, OPTIONS, hasher())
}

fn at(seconds: f64) -> Now {
    Now((seconds * 1000.0).round() as u64)
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> TheirRecord {
    TheirRecord::from_rdata(name(owner), ttl, data)
}

fn a(owner: &str, ttl: u32) -> TheirRecord {
    record(owner, ttl, RData::A(A::new(10, 0, 0, 1)))
}

fn cname(owner: &str, ttl: u32, to: &str) -> TheirRecord {
    record(owner, ttl, RData::CNAME(CNAME(name(to))))
}

fn soa(ttl: u32, minimum: u32) -> TheirRecord {
    record("example.", ttl, RData::SOA(SOA::new(name("ns.example."), name("host.example."), 1, 2, 3, 4, minimum)))
}

fn text(owner: &str, text: &str) -> TheirRecord {
    record(
        owner,
        300,
        RData::TXT(TXT::new(text.as_bytes().chunks(255).map(|c| String::from_utf8_lossy(c).into()).collect())),
    )
}

/// A response to `owner` and `rtype`.
fn response(owner: &str, rtype: RecordType, code: ResponseCode) -> Theirs {
    let mut message = Theirs::new(7, MessageType::Response, OpCode::Query);
    message.add_query(TheirQuery::query(name(owner), rtype));
    message.metadata.response_code = code;
    message
}

fn parsed(theirs: &Theirs) -> Message {
    Message::parse(&theirs.to_vec().unwrap()).unwrap()
}

/// An answer of one address.
fn address(owner: &str, ttl: u32) -> Message {
    let mut theirs = response(owner, RecordType::A, ResponseCode::NoError);
    theirs.add_answer(a(owner, ttl));
    parsed(&theirs)
}

/// An NXDOMAIN with an SOA.
fn nxdomain(owner: &str, ttl: u32) -> Message {
    let mut theirs = response(owner, RecordType::A, ResponseCode::NXDomain);
    theirs.add_authority(soa(ttl, ttl));
    parsed(&theirs)
}

fn servfail(owner: &str) -> Message {
    parsed(&response(owner, RecordType::A, ResponseCode::ServFail))
}

/// A name as the cache is asked for it.
fn key(text: &str) -> NameKey {
    NameKey::from_text(text).unwrap()
}

fn question(key: &NameKey, rtype: u16) -> Question<'_> {
    Question { name: key.span(key.all()), rtype, dnssec_ok: false, checking_disabled: false }
}

/// Stores an answer to a question for its A record, asked by one who does not care for authenticity.
fn keep(cache: &Cache, owner: &str, message: &Message, now: Now) -> Kept {
    cache.store(&question(&key(owner), 1), false, message, now)
}

/// The state and the kind of what is found through the hot door.
fn state(cache: &Cache, owner: &str, now: Now) -> Option<(State, Kind)> {
    load(cache, owner, now, Look::Use)
}

/// As [`state`], which changes nothing.
fn peek(cache: &Cache, owner: &str, now: Now) -> Option<(State, Kind)> {
    load(cache, owner, now, Look::Peek)
}

fn load(cache: &Cache, owner: &str, now: Now, look: Look) -> Option<(State, Kind)> {
    let loaded = cache.load(&question(&key(owner), 1), false, now, look)?;
    Some((loaded.found().state, loaded.found().kind()))
}

/// As [`state`] through the door of the hot path.
fn pass(cache: &Cache, owner: &str, now: Now) -> Option<(State, Kind)> {
    match cache.find(hashed(&question(&key(owner), 1)), false, now, &mut Scratch::default()) {
        Find::Hit(found) => Some((found.state, found.kind())),
        Find::Large | Find::Miss => None,
    }
}

/// An asker: a packet and what was read from it.
struct Packet {
    octets: Vec<u8>,
    key: NameKey,
    query: Query,
    limit: usize,
}

impl Packet {
    /// `name` in the asker's spelling, with the root octet; `edns` is its payload and DO.
    fn new(name: &[u8], rtype: u16, flags: u16, edns: Option<(u16, bool)>) -> Self {
        let mut octets = vec![0xab, 0xcd];
        octets.extend(flags.to_be_bytes());
        octets.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
        octets.extend(name);
        octets.extend(rtype.to_be_bytes());
        octets.extend([0, 1]);
        if let Some((payload, dnssec_ok)) = edns {
            octets.extend([0, 0, 41]);
            octets.extend(payload.to_be_bytes());
            octets.extend([0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
        }
        let mut key = NameKey::default();
        let ReadQuery::Ask(query) = query::read(&octets, &mut key) else { panic!("no question: {octets:?}") };
        Self { octets, key, query, limit: query.limit(false) }
    }

    fn asked(&self) -> Asked<'_> {
        Asked { packet: &self.octets, query: &self.query, key: &self.key, limit: self.limit }
    }

    fn name(&self) -> &[u8] {
        self.query.name(&self.octets)
    }

    /// What [`Message::write`] makes of a message for this asker.
    fn reply(&self, message: &Message, stale: bool) -> Vec<u8> {
        let set = |bit: u16| self.query.flags & bit != 0;
        let query = forward::Query {
            name: self.name(),
            rtype: self.query.rtype,
            class: self.query.class,
            recursion_desired: set(flag::RD),
            checking_disabled: set(flag::CD),
            authentic_data: set(flag::AD),
            edns: self.query.edns.map(|edns| edns.dnssec_ok),
        };
        let error = stale.then_some((3, ""));
        let mut out = Vec::new();
        message.write(&forward::Asker { id: 0xabcd, limit: self.limit, query: &query, error }, &mut out);
        out
    }
}
