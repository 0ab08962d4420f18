//! DNS messages as octets: just enough to write queries and scripted answers, without asking a library what is proper.

/// Types by the name that `expect.tsv` uses; others are written `TYPE65280`.
const TYPES: [(&str, u16); 14] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("OPT", 41),
    ("DS", 43),
    ("ANY", 255),
    ("CAA", 257),
];

/// The payload that queries with EDNS announce.
const PAYLOAD: u16 = 1232;

/// The number of a type.
#[must_use]
pub fn type_number(text: &str) -> u16 {
    TYPES.iter().find(|(name, _)| *name == text).map_or_else(
        || text.strip_prefix("TYPE").and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("unknown type {text}")),
        |(_, number)| *number,
    )
}

/// The name of a type.
#[must_use]
pub fn type_text(number: u16) -> String {
    TYPES.iter().find(|(_, n)| *n == number).map_or_else(|| format!("TYPE{number}"), |(name, _)| (*name).to_owned())
}

/// The name of a response code.
#[must_use]
pub fn rcode_text(code: u16) -> String {
    const NAMES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    NAMES.get(usize::from(code)).map_or_else(|| format!("RCODE{code}"), |name| (*name).to_owned())
}

/// A name as uncompressed labels. Escapes are not known; a final dot is optional.
#[must_use]
pub fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    for label in text.split('.').filter(|l| !l.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a label has at most 63 octets"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// A query of class IN with RD set; with an OPT record if `edns`.
#[must_use]
pub fn query(id: u16, qname: &str, qtype: u16, edns: bool) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    out.extend(name(qname));
    out.extend_from_slice(&qtype.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    if edns {
        out.extend(opt());
    }
    out
}

/// An OPT record of version 0 without options.
#[must_use]
pub fn opt() -> Vec<u8> {
    let [high, low] = PAYLOAD.to_be_bytes();
    vec![0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]
}

/// How many octets the question has; it starts at octet 12. `None` if the message ends before it does.
#[must_use]
pub fn question_len(wire: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*wire.get(at)?) {
            0 => break,
            length => at += length + 1,
        }
    }
    Some(at + 5 - 12)
}

/// The message without ID and question: what has to be equal for a hidden and an absent name (R13).
#[must_use]
pub fn core(wire: &[u8]) -> Vec<u8> {
    let question = question_len(wire).unwrap_or(0);
    let rest = wire.get(12 + question..).unwrap_or_default();
    [wire.get(2..12).unwrap_or_default(), rest].concat()
}

/// One record, uncompressed.
#[must_use]
pub fn record(owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let mut out = name(owner);
    out.extend_from_slice(&rtype.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&u16::try_from(rdata.len()).expect("short rdata").to_be_bytes());
    out.extend_from_slice(rdata);
    out
}

/// Record data from its usual text, for the types that scripted upstreams answer.
#[must_use]
pub fn rdata(rtype: &str, text: &str) -> Vec<u8> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let short = |i: usize| fields[i].parse::<u16>().expect("a number").to_be_bytes().to_vec();
    match rtype {
        "A" => text.parse::<std::net::Ipv4Addr>().expect("an IPv4 address").octets().to_vec(),
        "AAAA" => text.parse::<std::net::Ipv6Addr>().expect("an IPv6 address").octets().to_vec(),
        "CNAME" | "NS" | "PTR" => name(text),
        "MX" => [short(0), name(fields[1])].concat(),
        "SRV" => [short(0), short(1), short(2), name(fields[3])].concat(),
        "TXT" => {
            let bare = text.trim_matches('"').as_bytes();
            [vec![u8::try_from(bare.len()).expect("a short text")], bare.to_vec()].concat()
        }
        "SOA" => {
            let numbers = fields[2..].iter().flat_map(|n| n.parse::<u32>().expect("a number").to_be_bytes());
            [name(fields[0]), name(fields[1]), numbers.collect()].concat()
        }
        _ => panic!("scripted upstreams know no {rtype}"),
    }
}
