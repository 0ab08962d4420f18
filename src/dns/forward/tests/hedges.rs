//! Slow upstreams, and a second one that is asked too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An upstream that takes its time, in milliseconds.
pub(super) async fn slow(delay: Arc<AtomicU64>, rcode: u8, last: u8) -> SocketAddr {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let (reply, socket, delay) = (answer(&buffer[..length], rcode, last), socket.clone(), delay.load(Relaxed));
            tokio::spawn(async move {
                tokio::time::sleep(ms(delay)).await;
                socket.send_to(&reply, from).await.unwrap();
            });
        }
    });
    address
}

pub(super) fn after(millis: u64) -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(millis))
}

pub(super) fn hedging(start: Duration) -> Tuning {
    Tuning { hedge_start: start, hedge_floor: ms(1), silence: Duration::from_secs(30), ..patient() }
}

pub(super) fn hedges(forwarder: &Forwarder) -> u64 {
    forwarder.stats().iter().map(|(_, stats)| stats.hedges()).sum()
}

#[tokio::test]
async fn a_second_upstream_is_asked_too_when_the_first_takes_long() {
    let upstreams = [slow(after(60_000), 0, 1).await, says(0, 2).await];
    let forwarder = forwarder(&upstreams, false, hedging(ms(20)));
    let start = Instant::now();
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
    assert!(start.elapsed() >= ms(20), "{:?}", start.elapsed());
    assert_eq!(hedges(&forwarder), 1);
}

#[tokio::test]
async fn the_first_upstream_is_the_only_one_while_it_is_fast() {
    let upstreams = [says(0, 1).await, says(0, 2).await];
    let forwarder = forwarder(&upstreams, false, patient());
    for _ in 0..30 {
        assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
    }
    let second = forwarder.stats().into_iter().find(|(at, _)| *at == upstreams[1]).unwrap().1;
    assert_eq!((second.rcodes()[0], second.took().count), (0, 0));
}

#[tokio::test]
async fn a_no_from_the_second_waits_for_the_first() {
    let upstreams = [slow(after(150), 0, 1).await, says(SERVFAIL, 0).await];
    let forwarder = forwarder(&upstreams, false, hedging(ms(10)));
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 1);
    assert_eq!(hedges(&forwarder), 1);
    let upstreams = [slow(after(100), REFUSED, 0).await, slow(after(200), SERVFAIL, 0).await];
    let both = forwarder_with(&upstreams, ms(10));
    assert_eq!(both.ask(&query(NAME)).await.unwrap().rcode(), u16::from(SERVFAIL), "the last no counts");
}

fn forwarder_with(upstreams: &[SocketAddr], start: Duration) -> Forwarder {
    forwarder(upstreams, false, hedging(start))
}

#[tokio::test]
async fn upstreams_that_are_all_slow_do_not_get_twice_the_load() {
    let upstreams = [slow(after(40), 0, 1).await, slow(after(40), 0, 2).await];
    let forwarder = Arc::new(forwarder(&upstreams, false, hedging(ms(1))));
    for _ in 0..10 {
        let all: Vec<_> = (0..30)
            .map(|_| {
                let forwarder = forwarder.clone();
                tokio::spawn(async move { forwarder.ask(&query(NAME)).await.unwrap() })
            })
            .collect();
        for one in all {
            one.await.unwrap();
        }
    }
    let hedges = hedges(&forwarder);
    assert!((1..=10 + 300 / 10).contains(&hedges), "{hedges}");
}

#[tokio::test]
async fn an_upstream_that_is_slow_all_the_time_is_asked_last_until_it_has_recovered() {
    let delay = after(250);
    let upstreams = [slow(delay.clone(), 0, 1).await, says(0, 2).await];
    let tuning = Tuning { copy_every: ms(10), ..hedging(ms(150)) };
    let forwarder = forwarder(&upstreams, false, tuning);
    // Ten of these are doubled, which is how the second is known to be better.
    for _ in 0..20 {
        forwarder.ask(&query(NAME)).await.unwrap();
    }
    let start = Instant::now();
    for _ in 0..20 {
        assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2);
    }
    assert!(start.elapsed() < ms(1000), "{:?}", start.elapsed());
    delay.store(0, Relaxed);
    let end = Instant::now() + Duration::from_secs(20);
    while last(&forwarder.ask(&query(NAME)).await.unwrap()) != 1 {
        assert!(Instant::now() < end, "the first is never preferred again");
        tokio::time::sleep(ms(5)).await;
    }
}
