//! Loops, and resolv.conf files that change while nobody can be asked.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn watchful() -> Tuning {
    Tuning { loop_tick: ms(10), loop_every: ms(40), loop_again: ms(40), loop_valid: ms(100), ..patient() }
}

/// What stands in the question.
fn name_in(query: &[u8]) -> Vec<u8> {
    query[HEADER..wire::skip_name(query, HEADER).unwrap()].to_vec()
}

#[tokio::test]
async fn an_upstream_that_sends_questions_back_is_left_out_until_it_stops() {
    let door: Arc<OnceLock<Arc<Forwarder>>> = Arc::default();
    let (loops, probes) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let upstream = {
        let (door, loops, probes) = (door.clone(), loops.clone(), probes.clone());
        udp(move |_, query| {
            let name = name_in(query);
            let is_of_a = name.ends_with(b"\x01a\0");
            probes.fetch_add(usize::from(is_of_a), Relaxed);
            // It knows the zone b itself and sends all else back to where it came from.
            let back = loops.load(Relaxed) && !name.ends_with(b"\x01b\0");
            let refused = back && door.get().is_some_and(|door| door.is_probe(&name));
            vec![answer(query, if refused { REFUSED } else { 0 }, 1)]
        })
        .await
    };
    let zones = vec![zone(Some("a"), &[upstream], false), zone(Some("b"), &[upstream], false)];
    let forwarder = Arc::new(Forwarder::with_tuning(zones, &[], watchful()).unwrap());
    assert!(door.set(forwarder.clone()).is_ok());
    let (a, b): (&[u8], &[u8]) = (b"\x03www\x01a\0", b"\x03www\x01b\0");
    assert!(!forwarder.is_down(a), "nothing is looked for before the start");
    forwarder.start();
    until("the loop is found", || forwarder.is_down(a)).await;
    assert!(!forwarder.is_down(b), "the other zone is sound");
    assert_eq!(forwarder.ask(&query(a)).await.unwrap_err(), Failure::Unreachable);
    let text = forwarder.upstreams_of(a).unwrap().1[0].to_string();
    assert!(text.ends_with("(left out: it sends questions back to segdns, a forwarding loop)"), "{text}");
    assert_eq!(forwarder.stats()[0].1.rcodes()[5], 0, "probes are no clients' questions");
    let good = says(0, 2).await;
    for others in [vec![upstream, good], vec![upstream]] {
        let zones = vec![zone(Some("a"), &others, false), zone(Some("c"), &[good], false)];
        forwarder.set_zones(zones, &[]).unwrap();
        let left_out =
            forwarder.upstreams_of(a).unwrap().1.iter().map(|one| one.left_out.is_some()).collect::<Vec<_>>();
        assert_eq!(
            left_out,
            [vec![true], vec![false; others.len() - 1]].concat(),
            "another configuration forgets no loop"
        );
    }
    let before = probes.load(Relaxed);
    loops.store(false, Relaxed);
    until("the loop is gone", || !forwarder.is_down(a)).await;
    assert!(probes.load(Relaxed) > before);
    assert_eq!(last(&forwarder.ask(&query(a)).await.unwrap()), 1);
}

#[tokio::test]
async fn probe_names_are_readable_and_never_the_same() {
    let (seen, mut names) = mpsc::unbounded_channel();
    let upstream = udp(move |_, query| {
        let _ = seen.send(name_in(query));
        vec![answer(query, 3, 0)]
    })
    .await;
    let forwarder = Forwarder::with_tuning(vec![zone(Some("a.b"), &[upstream], false)], &[], watchful()).unwrap();
    forwarder.start();
    let (first, second) = (names.recv().await.unwrap(), names.recv().await.unwrap());
    for name in [&first, &second] {
        assert!(name.starts_with(b"\x32segdns-loop-probe-") && name.ends_with(b"\x01a\x01b\0"), "{name:?}");
        assert_eq!(name.len(), 1 + 50 + 5);
    }
    assert_ne!(first, second);
    drop(forwarder);
    // What was on its way may still come.
    tokio::time::sleep(ms(50)).await;
    while names.try_recv().is_ok() {}
    tokio::time::sleep(ms(200)).await;
    assert!(names.try_recv().is_err(), "they end with the forwarder");
}

#[tokio::test]
async fn a_changed_resolv_conf_is_followed_while_nobody_can_be_asked() {
    let good = says(0, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    std::fs::write(&path, "nameserver 127.0.0.77\n").unwrap();
    let zones = vec![Zone { zone: None, upstreams: vec![Upstream::ResolvConf(path.clone())], tcp: false }];
    let tuning = Tuning { resolv_port: good.port(), resolv_check: Duration::ZERO, ..watchful() };
    let forwarder = Forwarder::with_tuning(zones, &[], tuning).unwrap();
    forwarder.start();
    assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
    assert!(forwarder.is_down(NAME));
    std::fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
    until("the new one is taken", || !forwarder.is_down(NAME)).await;
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
}
