use super::*;

#[test]
#[ignore = "a measurement, not a check: SEGDNS_BENCH names a directory"]
fn a_hundred_thousand_services_are_loaded_in_time() {
    let dir = std::env::var("SEGDNS_BENCH").unwrap();
    let mut manifests = Manifests::open(vec![(0, dir.into())]).unwrap();
    for _ in 0..3 {
        let start = std::time::Instant::now();
        let changes = manifests.poll();
        println!("{} changes in {:?}", changes.len(), start.elapsed());
    }
}
