//! The reply that one asker gets, copied from a [`Message`].

use super::message::Message;
use super::query::{OPT_OCTETS, Query, opt};
use super::wire::HEADER;

/// The least a reply may hold (RFC 1035 section 4.2.1); header, question and OPT always fit.
const LEAST: usize = 512;
/// Octets of explaining text at most, so that the OPT fits beside any question.
const MOST_TEXT: usize = 128;
const SERVFAIL: u16 = 2;
/// EDNS option of extended errors (RFC 8914).
const EDE: u16 = 15;

/// One asker of a message.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The ID of its query.
    pub id: u16,
    /// The longest reply in octets, OPT included: 65535 over TCP; below 512 counts as 512.
    pub limit: usize,
    /// Its question.
    pub query: &'a Query<'a>,
    /// An extended error: INFO-CODE and text (RFC 8914); shown only to an asker with an OPT.
    pub error: Option<(u16, &'a str)>,
}

impl Message {
    /// Appends the reply for `asker` to `out`, which may hold something already (TCP's length).
    ///
    /// Records are copied octet by octet, so unknown types pass. The question, and owners written out in full that
    /// equal it, come in the asker's spelling. AA 0, RA 1; AD only if the upstream set it and the asker set DO or AD.
    /// A code that only the OPT can hold (16 and above) speaks about the hop to the upstream and becomes SERVFAIL.
    ///
    /// Over the limit, additional records go first, without TC and by whole RRsets; if answer and authority do not fit,
    /// TC is set and the whole records that fit stay (RFC 2181 section 9). As only the end is cut, pointers stay right.
    ///
    /// A message whose question is not `asker`'s is the caller's mistake and gives SERVFAIL.
    pub fn write(&self, asker: &Asker<'_>, out: &mut Vec<u8>) {
        let query = asker.query;
        let ours = self.wire[HEADER..self.name_end].eq_ignore_ascii_case(query.name);
        let options = query.edns.map(|_| asker.error.map_or_else(Vec::new, |(code, text)| extended_error(code, text)));
        let hop = options.as_ref().map_or(0, |options| OPT_OCTETS + options.len());
        let room = asker.limit.max(LEAST) - hop;
        let (kept, truncated) = if ours { self.fit(room) } else { (0, false) };
        let rcode = if ours && self.rcode() < 16 { self.rcode() } else { SERVFAIL };
        let authentic = self.authentic_data() && (query.authentic_data || query.edns == Some(true));

        let base = out.len();
        let mut header = [0; HEADER];
        header[..2].copy_from_slice(&asker.id.to_be_bytes());
        header[2] = 0x80 | u8::from(truncated) << 1 | u8::from(query.recursion_desired);
        header[3] = 0x80 | u8::from(authentic) << 5 | u8::from(query.checking_disabled) << 4 | rcode as u8;
        header[5] = 1;
        let mut from = 0;
        for (section, end) in self.ends.iter().enumerate() {
            let count = kept.clamp(from, *end) - from + usize::from(section == 2 && options.is_some());
            header[6 + 2 * section..8 + 2 * section].copy_from_slice(&(count as u16).to_be_bytes());
            from = *end;
        }
        out.reserve(self.wire.len() + query.name.len() + hop);
        out.extend_from_slice(&header);
        out.extend_from_slice(query.name);
        out.extend_from_slice(&query.rtype.to_be_bytes());
        out.extend_from_slice(&query.class.to_be_bytes());
        if kept > 0 {
            out.extend_from_slice(&self.wire[self.name_end + 4..usize::from(self.spans[kept - 1].end)]);
            self.respell(kept, query.name, &mut out[base..]);
        }
        if let Some(options) = options {
            out.extend_from_slice(&opt(query.edns == Some(true), options.len() as u16));
            out.extend_from_slice(&options);
        }
    }

    /// How many records fit into `room` octets, and whether one is missing that the answer needs.
    fn fit(&self, room: usize) -> (usize, bool) {
        let mut kept = self.spans.partition_point(|span| usize::from(span.end) <= room);
        let [_, needed, all] = self.ends;
        if kept < needed {
            return (kept, true);
        }
        while kept < all && kept > needed && self.same_set(kept - 1, kept) {
            kept -= 1;
        }
        (kept, false)
    }

    fn same_set(&self, one: usize, other: usize) -> bool {
        let (one, other) = (self.record(one), self.record(other));
        one.rtype() == other.rtype() && one.class() == other.class() && one.owner() == other.owner()
    }

    /// Gives uncompressed owners that equal the question the asker's spelling: some resolvers compare octets (0x20).
    fn respell(&self, kept: usize, name: &[u8], reply: &mut [u8]) {
        for span in &self.spans[..kept.min(self.ends[0])] {
            let owner = usize::from(span.start)..usize::from(span.fixed);
            if reply[owner.clone()].eq_ignore_ascii_case(name) {
                reply[owner].copy_from_slice(name);
            }
        }
    }
}

fn extended_error(code: u16, text: &str) -> Vec<u8> {
    let text = &text[..text.floor_char_boundary(MOST_TEXT)];
    let mut option = Vec::with_capacity(6 + text.len());
    option.extend(EDE.to_be_bytes());
    option.extend((2 + text.len() as u16).to_be_bytes());
    option.extend(code.to_be_bytes());
    option.extend(text.as_bytes());
    option
}
