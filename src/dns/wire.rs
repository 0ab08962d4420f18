//! Octets of RFC 1035: names with compression pointers, and the names inside record data.

/// The length of a message's header in octets.
pub const HEADER: usize = 12;
/// The longest name on the wire, root octet included (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;
/// Pointers followed in one name: a name has at most 127 labels, and no sane writer spends more pointers than labels.
const MAX_POINTERS: usize = 128;

/// Two octets, most significant first; `None` past the end.
pub fn u16_at(wire: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*wire.get(at..)?.first_chunk()?))
}

/// Four octets, most significant first; `None` past the end.
pub fn u32_at(wire: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*wire.get(at..)?.first_chunk()?))
}

/// Hands every label, its length octet first, to `each`, and gives the offset after the name.
///
/// `None` for a name that runs over the end, has over 255 octets, or a pointer that does not go strictly backwards to
/// behind the header: the last rule is what makes loops impossible.
fn walk(wire: &[u8], start: usize, mut each: impl FnMut(&[u8])) -> Option<usize> {
    let (mut at, mut floor, mut end) = (start, start, None);
    let (mut octets, mut pointers) = (1, 0);
    loop {
        let length = *wire.get(at)?;
        match length {
            0 => return Some(end.unwrap_or(at + 1)),
            1..=63 => {
                let label = wire.get(at..=at + usize::from(length))?;
                octets += label.len();
                if octets > MAX_NAME {
                    return None;
                }
                each(label);
                at += label.len();
            }
            0xC0.. => {
                let target = usize::from(u16_at(wire, at)? & 0x3FFF);
                pointers += 1;
                if target < HEADER || target >= floor || pointers > MAX_POINTERS {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, floor) = (target, target);
            }
            _ => return None,
        }
    }
}

/// Checks the name at an offset and gives the offset after it.
pub fn skip_name(wire: &[u8], at: usize) -> Option<usize> {
    walk(wire, at, |_| ())
}

/// The name at an offset, uncompressed, in lower case, with the root octet, and the offset after it.
pub fn name_at(wire: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::with_capacity(64);
    let end = walk(wire, at, |label| name.extend(label.iter().map(u8::to_ascii_lowercase)))?;
    name.push(0);
    Some((name, end))
}

/// Where the names stand in the data of a type that may compress them: octets before, names, octets after.
///
/// RFC 3597 section 4 allows compression in the types of RFC 1035 only; the others are listed because older servers
/// compressed them too, and a receiver is told to expect that.
pub fn names_in(rtype: u16) -> Option<(usize, usize, usize)> {
    Some(match rtype {
        2..=5 | 7..=9 | 12 | 39 => (0, 1, 0), // NS MD MF CNAME, MB MG MR, PTR, DNAME
        6 => (0, 2, 20),                      // SOA
        14 | 17 => (0, 2, 0),                 // MINFO, RP
        15 | 18 | 21 | 36 => (2, 1, 0),       // MX, AFSDB, RT, KX
        26 => (2, 2, 0),                      // PX
        33 => (6, 1, 0),                      // SRV
        _ => return None,
    })
}

/// Whether the data of a record has the form of its type, as far as a forwarder must know: the length of addresses,
/// and names that end where they should.
pub fn data_is_sound(wire: &[u8], rtype: u16, class: u16, data: std::ops::Range<usize>) -> bool {
    const IN: u16 = 1;
    match (rtype, class) {
        (1, IN) => return data.len() == 4,
        (28, IN) => return data.len() == 16,
        _ => {}
    }
    let Some((before, names, after)) = names_in(rtype) else { return true };
    let end = (0..names).try_fold(data.start + before, |at, _| skip_name(wire, at));
    end.is_some_and(|end| end + after == data.end)
}

/// The offset after a name as it stands, and that of the pointer it ends in, which is not followed.
pub fn as_it_stands(wire: &[u8], mut at: usize) -> Option<(usize, Option<usize>)> {
    loop {
        match *wire.get(at)? {
            0 => return Some((at + 1, None)),
            0xC0.. => return Some((at + 2, Some(at))),
            length => at += 1 + usize::from(length),
        }
    }
}

/// The offsets of the compression pointers in a record that [`data_is_sound`] has passed: its owner's and its data's.
pub fn pointers(wire: &[u8], start: usize, rtype: u16, data: usize) -> Vec<usize> {
    let mut found = Vec::new();
    found.extend(as_it_stands(wire, start).and_then(|(_, pointer)| pointer));
    if let Some((before, names, _)) = names_in(rtype) {
        let mut at = data + before;
        for _ in 0..names {
            let Some((end, pointer)) = as_it_stands(wire, at) else { break };
            found.extend(pointer);
            at = end;
        }
    }
    found
}
