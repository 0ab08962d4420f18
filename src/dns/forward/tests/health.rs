//! Who is left out, when, and how it comes back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::hedges::ms;
use super::*;

/// An upstream that can be silenced; it never answers names that begin with `broken`.
async fn moody(talks: Arc<AtomicBool>) -> SocketAddr {
    udp(move |_, query| {
        let broken = query[HEADER..].starts_with(b"\x06broken");
        if talks.load(Relaxed) && !broken { vec![answer(query, 0, 1)] } else { vec![] }
    })
    .await
}

fn probes(forwarder: &Forwarder, result: Probed) -> u64 {
    forwarder.stats()[0].1.probes().find(|(probed, _)| *probed == result).unwrap().1
}

#[tokio::test]
async fn a_silent_upstream_is_found_out_by_the_first_question_and_used_again_when_it_is_back() {
    let talks = Arc::new(AtomicBool::new(false));
    let forwarder = forwarder(&[moody(talks.clone()).await], false, alert());
    assert!(!forwarder.is_down(NAME));
    let start = Instant::now();
    assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
    let took = start.elapsed();
    let least = alert().silence + alert().verdict;
    assert!(took >= least && took < 10 * least, "{took:?}");
    assert!(forwarder.is_down(NAME));
    let (_, upstreams) = forwarder.upstreams_of(NAME).unwrap();
    assert!(upstreams[0].to_string().ends_with(" (down: no answer for 0 s)"), "{}", upstreams[0]);
    // Nobody is asked now.
    let asked = forwarder.stats()[0].1.timeouts();
    assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
    assert_eq!((forwarder.stats()[0].1.timeouts(), forwarder.broken()), (asked, 1));

    talks.store(true, Relaxed);
    until("it is back", || !forwarder.is_down(NAME)).await;
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
    assert_eq!(forwarder.upstreams_of(NAME).unwrap().1[0].left_out, None);
    assert!(probes(&forwarder, Probed::Answered) > 0);
}

#[test]
fn the_times_of_r23_are_kept() {
    let tuning = Tuning::default();
    assert!(tuning.silence + tuning.verdict < tuning.one_try, "found out before the first try ends");
    assert!(2 * tuning.one_try < tuning.in_all, "time for the next upstream");
    assert!(tuning.probe_every.mul_f64(1.2) < Duration::from_secs(1), "used again within a second");
    assert!((tuning.probe_every * 8).mul_f64(1.2) < Duration::from_secs(5), "and later within five");
}

#[tokio::test]
async fn a_domain_that_is_broken_takes_no_upstream_down() {
    let verdict = Duration::from_secs(5);
    let tuning = Tuning { one_try: Duration::from_millis(400), in_all: Duration::from_millis(900), verdict, ..alert() };
    let forwarder = forwarder(&[moody(Arc::new(AtomicBool::new(true))).await], false, tuning);
    let broken = query(b"\x06broken\x07example\0");
    for _ in 0..2 {
        let all = tokio::join!(forwarder.ask(&broken), forwarder.ask(&broken), forwarder.ask(&broken));
        assert_eq!([all.0, all.1, all.2].map(Result::unwrap_err), [Failure::Timeout; 3]);
        assert!(!forwarder.is_down(NAME));
        forwarder.ask(&query(NAME)).await.unwrap();
    }
    // Nothing else was asked meanwhile, so only a probe could tell.
    assert!(probes(&forwarder, Probed::Answered) > 0);
    assert_eq!(probes(&forwarder, Probed::Timeout), 0);
}

/// A resolver without the world: names of its own it answers at once, the root's name servers and `localhost` never.
#[tokio::test]
async fn an_upstream_that_never_answers_what_it_is_usually_probed_with_is_probed_with_what_it_answers() {
    let own = udp(|_, query| {
        let known = query[HEADER..].starts_with(&NAME[..4]);
        if known { vec![answer(query, 0, 1)] } else { vec![] }
    })
    .await;
    let forwarder = forwarder(&[own], false, alert_but_short());
    forwarder.ask(&query(NAME)).await.unwrap();
    tokio::time::sleep(2 * alert().silence).await;
    let foreign = forwarder.ask(&query(b"\x06broken\x07example\0")).await.unwrap_err();
    assert_eq!(foreign, Failure::Timeout);
    assert!(!forwarder.is_down(NAME));
    assert!(probes(&forwarder, Probed::Answered) > 0);
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
}

#[tokio::test]
async fn many_questions_that_it_cannot_answer_cost_few_probes() {
    let forwarder = Arc::new(forwarder(&[moody(Arc::new(AtomicBool::new(true))).await], false, alert_but_short()));
    let asks = (0..200).map(|n: u8| {
        let forwarder = forwarder.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(3 * u64::from(n))).await;
            forwarder.ask(&query(b"\x06broken\x07example\0")).await.unwrap_err()
        })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert_eq!(ask.await.unwrap(), Failure::Timeout);
    }
    let sent: u64 = forwarder.stats()[0].1.probes().map(|(_, count)| count).sum();
    assert!(sent < 60, "{sent} probes for 200 questions in 1.3 s");
}

fn alert_but_short() -> Tuning {
    Tuning { one_try: Duration::from_millis(300), in_all: Duration::from_millis(700), ..alert() }
}

#[tokio::test]
async fn an_upstream_that_refuses_is_down_at_once_and_back_when_it_listens() {
    for tcp in [false, true] {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let forwarder = forwarder(&[free], tcp, Tuning { probe_every: Duration::from_millis(40), ..patient() });
        assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
        assert!(forwarder.is_down(NAME));
        let text = forwarder.upstreams_of(NAME).unwrap().1[0].to_string();
        assert!(text.contains("(down: nobody listens, or no way there for "), "{text}");
        let server = if tcp {
            let listener = TcpListener::bind(free).await.unwrap();
            tokio::spawn(answer_all(listener, 1))
        } else {
            serve(UdpSocket::bind(free).await.unwrap(), |_, query| vec![answer(query, 0, 1)]);
            tokio::spawn(async {})
        };
        until("it is back", || !forwarder.is_down(NAME)).await;
        assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
        server.abort();
    }
}

/// Answers each question of each connection.
async fn answer_all(listener: TcpListener, last: u8) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                write_frame(&mut stream, &answer(&query, 0, last)).await;
            }
        });
    }
}

#[tokio::test]
async fn what_waits_for_an_upstream_that_goes_down_is_asked_elsewhere_at_once() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstreams = [silent.local_addr().unwrap(), says(0, 2).await];
    let forwarder = Arc::new(forwarder(&upstreams, false, alert()));
    let start = Instant::now();
    let all: Vec<_> = (0..100)
        .map(|_| {
            let forwarder = forwarder.clone();
            tokio::spawn(async move { last(&forwarder.ask(&query(NAME)).await.unwrap()) })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), 2);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    until("the first is down", || forwarder.upstreams_of(NAME).unwrap().1[0].left_out.is_some()).await;
    assert!(!forwarder.is_down(NAME));
    let before = forwarder.stats().into_iter().find(|(at, _)| *at == upstreams[0]).unwrap().1;
    let tries = (before.timeouts(), before.errors());
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
    assert_eq!((before.timeouts(), before.errors()), tries, "it is not asked any more");
}

/// As when a pod is replaced: the new one is there before the old one goes, but nobody has found out.
#[tokio::test]
async fn the_last_one_that_goes_is_replaced_at_once_by_one_that_has_come_back() {
    let free = || async { UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let (first, second) = (free().await, free().await);
    // Nobody is probed again while the test runs unless somebody asks for it.
    let forwarder = forwarder(&[first, second], false, Tuning { probe_every: ms(20_000), ..patient() });
    let serve_on = |socket, last| tokio::spawn(served(socket, move |_, query| vec![answer(query, 0, last)]));
    let old = serve_on(UdpSocket::bind(second).await.unwrap(), 2);
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
    let out = || forwarder.upstreams_of(NAME).unwrap().1[0].left_out.is_some();
    until("the first is down", out).await;
    let new = serve_on(UdpSocket::bind(first).await.unwrap(), 1);
    old.abort();
    drop(old.await);
    assert!(out());
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
    new.abort();
}

#[tokio::test]
async fn an_upstream_whose_questions_are_always_answered_elsewhere_is_found_out_too() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstreams = [silent.local_addr().unwrap(), says(0, 2).await];
    // Doubled long before it counts as silent.
    let tuning = Tuning { hedge_start: Duration::from_millis(1), hedge_floor: Duration::ZERO, ..alert() };
    let forwarder = forwarder(&upstreams, false, tuning);
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
    tokio::time::sleep(alert().silence * 2).await;
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
    until("the first is down", || forwarder.upstreams_of(NAME).unwrap().1[0].left_out.is_some()).await;
}

#[tokio::test]
async fn an_upstream_that_only_lies_is_down() {
    let upstream = udp(|_, query| {
        let mut wrong = answer(query, 0, 66);
        wrong[0] ^= 1;
        vec![wrong]
    })
    .await;
    let forwarder = forwarder(&[upstream], false, alert());
    assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
    assert!(forwarder.is_down(NAME));
    assert!(rejects(&forwarder)[0].1 > 1, "the probes' too");
}

#[tokio::test]
async fn an_upstream_over_tcp_is_probed_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let forwarder = forwarder(&[upstream], true, alert());
    // Connections come up, and nobody takes them.
    assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
    assert!(forwarder.is_down(NAME));
    tokio::spawn(answer_all(listener, 1));
    until("it is back", || !forwarder.is_down(NAME)).await;
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
}

#[tokio::test]
async fn who_waits_for_a_connection_that_never_comes_up_is_sent_on_when_the_upstream_is_down() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let full = listener.local_addr().unwrap().as_socket().unwrap();
    // One fits; what comes after that gets no answer from the kernel, as from a node that is gone.
    let _first = TcpStream::connect(full).await.unwrap();
    let connect = TcpStream::connect(full);
    assert!(tokio::time::timeout(Duration::from_millis(100), connect).await.is_err(), "the queue is full");
    let forwarder = forwarder(&[full], true, alert());
    let start = Instant::now();
    assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Unreachable);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_connection_to_a_backend_that_vanished_is_left_as_soon_as_another_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tuning = Tuning { verdict: Duration::from_secs(5), ..alert() };
    let forwarder = forwarder(&[listener.local_addr().unwrap()], true, tuning);
    let server = async {
        let (_vanished, _) = listener.accept().await.unwrap();
        answer_all(listener, 1).await;
    };
    let asked = query(NAME);
    // Nothing but the probe ends the first wait within a minute.
    tokio::select! {
        got = forwarder.ask(&asked) => assert_eq!(last(&got.unwrap()), 1),
        () = server => {}
    }
    assert!(!forwarder.is_down(NAME));
}

#[tokio::test]
async fn zones_with_the_same_upstream_share_its_health() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let good = says(0, 2).await;
    let zones = vec![
        zone(None, &[silent], false),
        zone(Some("a"), &[silent], false),
        zone(Some("b"), &[silent, good], false),
        zone(Some("c"), &[good], false),
    ];
    let forwarder = Forwarder::with_tuning(zones, &[], patient()).unwrap();
    forwarder.ask(&query(NAME)).await.unwrap_err();
    let names: [(&[u8], bool); 4] =
        [(NAME, true), (b"\x01x\x01A\0", true), (b"\x01x\x01b\0", false), (b"\x01c\0", false)];
    for (name, down) in names {
        assert_eq!(forwarder.is_down(name), down, "{name:?}");
    }
    let healthy: Vec<_> = forwarder.conditions().iter().map(|one| one.left_out.is_none()).collect();
    assert_eq!(healthy.iter().filter(|healthy| **healthy).count(), 2, "once for each zone: {healthy:?}");
    let only = Forwarder::new(vec![zone(Some("a"), &[good], false)], &[]).unwrap();
    assert!(only.is_down(NAME), "nobody takes it");
}

#[tokio::test]
async fn other_zones_know_what_was_known_of_their_upstreams() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let good = says(0, 2).await;
    let forwarder = forwarder(&[closed], false, patient());
    forwarder.ask(&query(NAME)).await.unwrap_err();
    forwarder.ask(&query(NAME)).await.unwrap_err();
    forwarder.set_zones(vec![zone(None, &[closed], false), zone(Some("b"), &[good], false)], &[]).unwrap();
    assert!(forwarder.is_down(NAME) && !forwarder.is_down(b"\x01b\0"));
    assert_eq!(forwarder.broken(), 1);
    assert_eq!(forwarder.stats().iter().map(|(_, stats)| stats.errors()).sum::<u64>(), 1);
    assert!(forwarder.set_zones(vec![zone(None, &[], false)], &[]).is_err());
    assert!(!forwarder.is_down(b"\x01b\0"), "what cannot be used changes nothing");
    serve(UdpSocket::bind(closed).await.unwrap(), |_, query| vec![answer(query, 0, 1)]);
    until("it is back", || !forwarder.is_down(NAME)).await;
}
