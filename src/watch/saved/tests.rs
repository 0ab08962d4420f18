//! Everything that is saved reads back; whatever else the file holds is refused with the reason.

mod disk;
mod samples;

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

fn identity() -> Identity {
    Identity { cluster: "cluster1".into(), node: Some("node-7".into()) }
}

fn when() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(1_770_091_506_123_456)
}

/// A local cluster with one object of every kind and shape, and an empty peer.
fn body() -> Body {
    encode([("cluster1", samples::objects()), ("peer", Vec::new())], 0)
}

/// A whole file with this body.
fn file(body: &Body) -> Vec<u8> {
    let mut bytes = head::Head::new(&identity(), when(), body).lines().unwrap().into_bytes();
    bytes.extend_from_slice(body.bytes());
    bytes
}

fn parsed(bytes: &[u8]) -> Result<Saved, SavedError> {
    parse(Path::new("/var/lib/segdns/state"), bytes, &identity())
}

fn refusal(bytes: &[u8]) -> String {
    parsed(bytes).unwrap_err().to_string()
}

/// A file of these objects without a correct body around them.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let whole = String::from_utf8_lossy(&file(&body())).into_owned();
    let json = whole.lines().nth(1).unwrap();
    let mut head: serde_json::Value = serde_json::from_str(json).unwrap();
    head["bytes"] = bytes.len().into();
    head["sha256"] = super::body::sha256(bytes).into();
    let two = format!("segdns saved state, format {FORMAT}\n{head}\n");
    let sum = super::body::sha256(two.as_bytes());
    [two.as_bytes(), sum.as_bytes(), b"\n", bytes].concat()
}

#[test]
fn every_object_reads_back() {
    let saved = parsed(&file(&body())).unwrap();
    assert_eq!(saved.written, when());
    let names: Vec<&str> = saved.clusters.iter().map(|c| &*c.name).collect();
    assert_eq!(names, ["cluster1", "peer"]);
    assert_eq!(saved.clusters[0].objects, samples::objects());
    assert!(saved.clusters[1].objects.is_empty());
}

#[test]
fn the_format_is_what_it_was() {
    // If this fails, the encoding of an object has changed: raise FORMAT, then take over the new sum.
    assert_eq!((FORMAT, body().sha256()), (3, "609f9e586961916bcfc4a000ced0b12c8e407702e1621ff622a1597651d2b507"));
}

#[test]
fn the_head_is_for_people() {
    let bytes = file(&body());
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("segdns saved state, format 3"));
    let head: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(head["written"], "2026-02-03T04:05:06.123456Z");
    assert_eq!((&head["cluster"], &head["node"]), (&"cluster1".into(), &"node-7".into()));
    assert_eq!((&head["clusters"], &head["objects"]), (&2.into(), &samples::objects().len().into()));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = file(&body());
    for length in 0..bytes.len() {
        let error = parsed(&bytes[..length]).unwrap_err();
        assert!(matches!(error, SavedError::Torn { .. }), "{length} bytes: {error}");
    }
    assert!(matches!(parsed(&[&*bytes, b"\0"].concat()), Err(SavedError::Torn { .. })));
}

#[test]
fn every_flipped_bit_is_refused() {
    let mut bytes = file(&body());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(parsed(&bytes).is_err(), "byte {at}, bit {bit}");
            bytes[at] ^= 1 << bit;
        }
    }
}

#[test]
fn what_is_no_saved_state_of_ours_is_refused_with_the_reason() {
    let whole = file(&body());
    let other = |identity: Identity| {
        let mut bytes = head::Head::new(&identity, when(), &body()).lines().unwrap().into_bytes();
        bytes.extend_from_slice(body().bytes());
        bytes
    };
    let text = |lines: &str| lines.as_bytes().to_vec();
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("empty", Vec::new(), "is torn: it ends in its first line"),
        ("text", text("hello\n"), "it does not begin with \"segdns saved state, format \"; if it is somebody else's"),
        ("zeros", vec![0; 4096], "it does not begin with"),
        (
            "a later format",
            text("segdns saved state, format 4\nwhatever"),
            "it has format 4 and this segdns (0.1.0) knows format 3",
        ),
        ("no format", text("segdns saved state, format \n"), "it has format  and"),
        ("endless line", [whole[..27].to_vec(), vec![b'1'; 1 << 20]].concat(), "its first line has no end"),
        ("endless head", [whole[..29].to_vec(), vec![b'x'; 1 << 20]].concat(), "its head is not complete"),
        (
            "another cluster",
            other(Identity { cluster: "b".into(), ..identity() }),
            "is of cluster \"b\", node \"node-7\" and this is cluster \"cluster1\", node",
        ),
        (
            "another node",
            other(Identity { node: Some("n2".into()), ..identity() }),
            "give each its own sources.snapshot",
        ),
        (
            "all nodes",
            other(Identity { node: None, ..identity() }),
            "is of cluster \"cluster1\", all nodes and this is",
        ),
        ("no cluster", sealed(b""), "the local cluster is not the first"),
        ("another local one", sealed(b"\x01b\0"), "the local cluster is not the first"),
        ("no object", sealed(b"\x01b\x07"), "does not decode: at byte 3 of the objects: 7 is neither another object"),
    ];
    for (what, bytes, expected) in cases {
        let refusal = refusal(&bytes);
        assert!(refusal.starts_with("saved state \"/var/lib/segdns/state\" is ignored: "), "{what}: {refusal}");
        assert!(refusal.contains(expected), "{what}: {refusal}");
    }
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    // Lengths of 2^63, as postcard writes them: of the cluster's name, of an object's text, of an object's list.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let name = huge.to_vec();
    let text = [&[1, b'a', 1, 0][..], &huge].concat();
    let list = [&[1, b'a', 1, 2, 0, 0, 0][..], &huge].concat();
    for bytes in [name, text, list] {
        assert!(super::body::decode(&bytes).is_err(), "{bytes:?}");
        assert!(matches!(parsed(&sealed(&bytes)), Err(SavedError::Undecodable { .. })));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(parsed(&bytes).is_err());
        let _ = parsed(&sealed(&bytes));
    }

    #[test]
    fn changed_bodies_are_safe(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = body().bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = parsed(&sealed(&bytes));
    }
}
