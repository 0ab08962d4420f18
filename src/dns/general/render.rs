//! From records to octets, through hickory's request and response types.

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::SOA;
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::proto::serialize::binary::{BinDecodable, BinDecoder, BinEncoder};
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;

use super::Job;
use crate::dns::listen::Transport;
use crate::dns::query::{PAYLOAD, flag, rcode};
use crate::table::Table;

/// TC in the header's third octet.
const TC: u8 = (flag::TC >> 8) as u8;

/// An answer before it is written.
#[derive(Debug)]
pub struct Draft {
    /// Response code.
    pub code: u16,
    /// AA
    pub authoritative: bool,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authorities: Vec<Record>,
    /// Additional section, without OPT.
    pub additionals: Vec<Record>,
}

impl Default for Draft {
    fn default() -> Self {
        Self { code: 0, authoritative: true, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() }
    }
}

/// A wire name, with or without root octet.
#[must_use]
pub fn name_of(wire: &[u8]) -> Option<Name> {
    let mut with_root = wire.to_vec();
    if with_root.last() != Some(&0) || with_root.is_empty() {
        with_root.push(0);
    }
    Name::read(&mut BinDecoder::new(&with_root)).ok()
}

/// The SOA of a zone (wire, with or without root octet), as negative answers carry it.
#[must_use]
pub fn soa(table: &Table, zone: &[u8]) -> Option<Record> {
    let mut decoder = BinDecoder::new(&table.zones.soa);
    let (mname, rname) = (Name::read(&mut decoder).ok()?, Name::read(&mut decoder).ok()?);
    let number = |decoder: &mut BinDecoder<'_>| decoder.read_u32().ok().map(|v| v.unverified());
    let [serial, refresh, retry, expire, minimum] = [(); 5].map(|()| number(&mut decoder));
    let signed = |v: Option<u32>| i32::try_from(v?).ok();
    let soa = SOA::new(mname, rname, serial?, signed(refresh)?, signed(retry)?, signed(expire)?, minimum?);
    Some(Record::from_rdata(name_of(zone)?, minimum?, RData::SOA(soa)))
}

/// Writes a draft. The packet's count fields were checked by [`crate::dns::query::read`] before hickory sees them.
pub fn render(job: &Job<'_>, draft: Draft) -> Option<Vec<u8>> {
    let protocol = match job.transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    };
    let request = Request::from_bytes(job.asked.packet.to_vec(), job.from, protocol).ok()?;
    let mut metadata = Metadata::response_from_request(&request.metadata);
    // A failure is no statement about the name, as on the hot path.
    metadata.authoritative = draft.authoritative && draft.code != rcode::SERVFAIL;
    metadata.recursion_available = true;
    metadata.authentic_data = false;
    metadata.response_code = ResponseCode::from(0, u8::try_from(draft.code).ok()?);
    let edns = job.asked.query.edns.map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        edns.set_dnssec_ok(asked.dnssec_ok);
        edns
    });
    let sections = [&draft.answers, &draft.authorities, &draft.additionals];
    let all = sections.iter().map(|records| records.len()).sum();
    // The first so many records, if they fit.
    let first = |count: usize| {
        let mut left = count;
        let [answers, authorities, additionals] = sections.map(|records| {
            let some = &records[..left.min(records.len())];
            left -= some.len();
            some
        });
        let none: [&Record; 0] = [];
        let mut builder = MessageResponseBuilder::from_message_request(&request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let response = builder.build(metadata, answers, authorities, none, additionals);
        let mut reply = Vec::with_capacity(512);
        response.destructive_emit(&mut BinEncoder::new(&mut reply)).ok()?;
        let whole = reply.get(2)? & TC == 0 && reply.len() <= job.asked.limit;
        whole.then_some(reply)
    };
    first(all).or_else(|| cut(first, all))
}

/// The most records that fit, the last ones left out, with TC. Where hickory cuts by itself it leaves a piece of a record.
fn cut(first: impl Fn(usize) -> Option<Vec<u8>>, all: usize) -> Option<Vec<u8>> {
    let (mut fit, mut over, mut reply) = (0, all, first(0)?);
    while over - fit > 1 {
        let count = fit + (over - fit) / 2;
        match first(count) {
            Some(more) => (fit, reply) = (count, more),
            None => over = count,
        }
    }
    reply[2] |= TC;
    Some(reply)
}
