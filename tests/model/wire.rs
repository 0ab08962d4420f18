//! Messages as octets: queries of every kind, and answers taken apart without asking any library.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Types that are known by name.
pub const A: u16 = 1;
/// NS
pub const NS: u16 = 2;
/// CNAME
pub const CNAME: u16 = 5;
/// SOA
pub const SOA: u16 = 6;
/// PTR
pub const PTR: u16 = 12;
/// HINFO
pub const HINFO: u16 = 13;
/// AAAA
pub const AAAA: u16 = 28;
/// SRV
pub const SRV: u16 = 33;
/// OPT
pub const OPT: u16 = 41;
/// IXFR
pub const IXFR: u16 = 251;
/// AXFR
pub const AXFR: u16 = 252;
/// ANY
pub const ANY: u16 = 255;

/// A record; names in its data are in lower case, its owner is as it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rec {
    /// Whose it is.
    pub owner: String,
    /// Its type.
    pub rtype: u16,
    /// Seconds.
    pub ttl: u32,
    /// As zone files have it.
    pub data: String,
}

/// The data of the SOA that both segdns and the upstream of these tests have, but for the last number.
#[must_use]
pub fn soa(minimum: u32) -> String {
    format!("ns.dns.cluster.local hostmaster.cluster.local 1 7200 1800 86400 {minimum}")
}

/// EDNS of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Edns {
    /// The payload it announces.
    pub payload: u16,
    /// Its version; above 0 is BADVERS.
    pub version: u8,
    /// DO.
    pub dnssec_ok: bool,
    /// Options, code and data.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// In the spelling that is asked.
    pub name: String,
    /// The type.
    pub rtype: u16,
    /// The class.
    pub class: u16,
    /// Opcode, RD, AD and CD as the header has them, and bits that mean nothing in a query.
    pub flags: u16,
    /// EDNS.
    pub edns: Option<Edns>,
    /// Over TCP.
    pub tcp: bool,
}

impl Query {
    /// The message.
    #[must_use]
    pub fn packet(&self, id: u16) -> Vec<u8> {
        let mut out = [id.to_be_bytes(), self.flags.to_be_bytes()].concat();
        out.extend([0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        out.extend(name(&self.name));
        out.extend([self.rtype.to_be_bytes(), self.class.to_be_bytes()].concat());
        if let Some(edns) = &self.edns {
            let options: Vec<u8> = edns.options.iter().flat_map(|(code, data)| option(*code, data)).collect();
            out.extend([0, 0, 41]);
            out.extend(edns.payload.to_be_bytes());
            out.extend([0, edns.version, if edns.dnssec_ok { 0x80 } else { 0 }, 0]);
            out.extend(u16::try_from(options.len()).expect("short options").to_be_bytes());
            out.extend(options);
        }
        out
    }
}

fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short data");
    [&code.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// A name without compression.
fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    for label in text.split('.').filter(|l| !l.is_empty()) {
        out.push(u8::try_from(label.len()).expect("a short label"));
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// A record without compression.
#[must_use]
pub fn record(rec: &Rec) -> Vec<u8> {
    let fields: Vec<&str> = rec.data.split(' ').collect();
    let short = |at: usize| fields[at].parse::<u16>().expect("a number").to_be_bytes();
    let data = match rec.rtype {
        A => rec.data.parse::<Ipv4Addr>().expect("an address").octets().to_vec(),
        CNAME | PTR => name(&rec.data),
        SRV => [short(0).to_vec(), short(1).to_vec(), short(2).to_vec(), name(fields[3])].concat(),
        SOA => {
            let numbers = fields[2..].iter().flat_map(|n| n.parse::<u32>().expect("a number").to_be_bytes());
            [name(fields[0]), name(fields[1]), numbers.collect()].concat()
        }
        other => panic!("the upstream has no TYPE{other}"),
    };
    let mut out = name(&rec.owner);
    out.extend([rec.rtype.to_be_bytes(), [0, 1]].concat());
    out.extend(rec.ttl.to_be_bytes());
    out.extend(option(0, &data).split_off(2));
    out
}

/// A message taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The flags of the header, without the response code.
    pub flags: u16,
    /// The response code, with its upper bits from EDNS.
    pub rcode: u16,
    /// The question as octets.
    pub question: Vec<u8>,
    /// The three sections, without OPT.
    pub sections: [Vec<Rec>; 3],
    /// What the OPT record says, if there is one.
    pub edns: Option<Edns>,
    /// Where each record of the sections ends.
    pub ends: Vec<usize>,
}

impl Seen {
    /// The extended error, if there is one.
    #[must_use]
    pub fn ede(&self) -> Option<u16> {
        let (_, data) = self.edns.as_ref()?.options.iter().find(|(code, _)| *code == 15)?;
        Some(u16::from_be_bytes([*data.first()?, *data.get(1)?]))
    }
}

/// The question of a message, the name as text, and where it ends.
#[must_use]
pub fn question(message: &[u8]) -> Option<(String, u16, usize)> {
    let mut reader = Reader { message, at: 12 };
    let name = reader.name()?;
    let rtype = reader.short()?;
    reader.short()?;
    Some((name, rtype, reader.at))
}

/// Takes a message apart; `None` if it is none, or has octets after its end.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Seen> {
    let mut reader = Reader { message, at: 2 };
    let flags = reader.short()?;
    let counts = [reader.short()?, reader.short()?, reader.short()?, reader.short()?];
    let mut seen = Seen { flags: flags & 0xfff0, rcode: flags & 0xf, ..Seen::default() };
    for _ in 0..counts[0] {
        reader.name()?;
        reader.at += 4;
    }
    seen.question = message.get(12..reader.at)?.to_vec();
    for section in 0..3 {
        for _ in 0..counts[section + 1] {
            reader.take(section, &mut seen)?;
        }
    }
    (reader.at == message.len()).then_some(seen)
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl Reader<'_> {
    fn octet(&mut self) -> Option<u8> {
        self.at += 1;
        self.message.get(self.at - 1).copied()
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.octet()?, self.octet()?]))
    }

    fn long(&mut self) -> Option<u32> {
        Some(u32::from(self.short()?) << 16 | u32::from(self.short()?))
    }

    fn name(&mut self) -> Option<String> {
        let (mut text, mut back, mut links) = (String::new(), None, 0);
        loop {
            let length = usize::from(self.octet()?);
            if length == 0 {
                break;
            }
            if length >= 0xc0 {
                let to = (length & 0x3f) << 8 | usize::from(self.octet()?);
                back.get_or_insert(self.at);
                links += 1;
                // A pointer leads back, and a name has at most 127 labels.
                if to >= self.at - 2 || links > 127 {
                    return None;
                }
                self.at = to;
                continue;
            }
            text.extend((!text.is_empty()).then_some('.'));
            text.extend(self.message.get(self.at..self.at + length)?.iter().map(|b| char::from(*b)));
            self.at += length;
        }
        self.at = back.unwrap_or(self.at);
        Some(text)
    }

    /// One record of a section.
    fn take(&mut self, section: usize, seen: &mut Seen) -> Option<()> {
        let owner = self.name()?;
        let (rtype, class, ttl) = (self.short()?, self.short()?, self.long()?);
        let length = usize::from(self.short()?);
        let end = self.at + length;
        if rtype == OPT {
            return self.take_opt(class, ttl, end, seen);
        }
        let lower = |name: String| name.to_lowercase();
        let data = match rtype {
            A => <[u8; 4]>::try_from(self.message.get(self.at..end)?).ok().map(Ipv4Addr::from)?.to_string(),
            AAAA => <[u8; 16]>::try_from(self.message.get(self.at..end)?).ok().map(Ipv6Addr::from)?.to_string(),
            CNAME | NS | PTR => lower(self.name()?),
            SRV => format!("{} {} {} {}", self.short()?, self.short()?, self.short()?, lower(self.name()?)),
            SOA => {
                let names = format!("{} {}", lower(self.name()?), lower(self.name()?));
                let numbers = [self.long()?, self.long()?, self.long()?, self.long()?, self.long()?];
                numbers.iter().fold(names, |text, n| format!("{text} {n}"))
            }
            _ => String::from_utf8_lossy(self.message.get(self.at..end)?).into_owned(),
        };
        if [CNAME, NS, PTR, SRV, SOA].contains(&rtype) && self.at != end {
            return None;
        }
        self.at = end;
        seen.sections[section].push(Rec { owner, rtype, ttl, data });
        seen.ends.push(end);
        Some(())
    }

    fn take_opt(&mut self, payload: u16, ttl: u32, end: usize, seen: &mut Seen) -> Option<()> {
        let [extended, version, flags, _] = ttl.to_be_bytes();
        let mut options = Vec::new();
        while self.at < end {
            let (code, length) = (self.short()?, usize::from(self.short()?));
            options.push((code, self.message.get(self.at..self.at + length)?.to_vec()));
            self.at += length;
        }
        let edns = Edns { payload, version, dnssec_ok: flags & 0x80 != 0, options };
        seen.rcode |= u16::from(extended) << 4;
        // A second OPT record is no message.
        seen.edns.replace(edns).is_none().then_some(())
    }
}
