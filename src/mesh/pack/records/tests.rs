use std::collections::HashMap;

use super::*;

fn of(name: &str, value: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    put_part(&mut record, name.as_bytes());
    record.extend_from_slice(value);
    record
}

fn all(records: &Records) -> HashMap<Vec<u8>, Vec<u8>> {
    records.iter().map(|record| (key(record).to_vec(), record.to_vec())).collect()
}

#[test]
fn they_are_what_a_map_would_be_however_they_come_and_go() {
    let (mut records, mut map) = (Records::default(), HashMap::new());
    let mut state = 7_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..20_000 {
        let name = format!("n{}", draw(300));
        if draw(4) == 0 {
            assert_eq!(records.remove(name.as_bytes()), map.remove(name.as_bytes()).is_some());
        } else {
            // From none to what takes two octets to count.
            let record = of(&name, &vec![u8::try_from(draw(256)).unwrap(); usize::try_from(draw(200)).unwrap()]);
            records.put(&record);
            map.insert(name.into_bytes(), record);
        }
    }
    assert_eq!(all(&records), map);
    for (name, record) in &map {
        assert_eq!(records.get(name), Some(&**record));
    }
    assert_eq!(records.get(b"n300"), None);
    for name in map.keys() {
        assert!(records.remove(name) && records.get(name).is_none());
    }
    assert!(records.is_empty() && all(&records).is_empty());
}

#[test]
fn holes_are_a_quarter_at_most() {
    let mut records = Records::default();
    let put = |records: &mut Records, n: usize, len: usize| records.put(&of(&format!("name-{n:05}"), &vec![1; len]));
    (0..1000).for_each(|n| put(&mut records, n, 20));
    for round in 0..50 {
        (0..1000).for_each(|n| put(&mut records, n, 20 + (round + n) % 3));
        let live: usize = records.iter().map(|record| part_len(record.len())).sum();
        assert_eq!(records.octets.len() - records.holes, live);
        assert!(records.octets.len() <= live * 4 / 3 + SMALL, "{} of {live}", records.octets.len());
        assert!(records.octets.capacity() <= records.octets.len() * 3 / 2 + SMALL);
    }
    let at = records.octets.len();
    (0..1000).for_each(|n| put(&mut records, n, 20 + (49 + n) % 3));
    assert_eq!(records.octets.len(), at, "what stays as long is replaced where it lies");
    assert!((0..990).all(|n| records.remove(format!("name-{n:05}").as_bytes())));
    assert!(records.octets.len() < 2 * SMALL);
    records.trim();
    assert!(records.octets.capacity() < 2 * SMALL);
}
