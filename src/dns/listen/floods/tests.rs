use std::net::{Ipv4Addr, UdpSocket};

use super::*;
use crate::dns::listen::bind;

/// The slots of a batch.
const SLOTS: usize = 64;

fn ip(last: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(last).unwrap()).into()
}

fn seen(caller: usize, batches: usize) -> Seen {
    Seen { caller: ip(caller), batches }
}

/// Whom a worker tells of after so many full batches, `apart` in time, if `caller` is whose a datagram is, by its batch and slot.
fn told(stats: &Arc<Stats>, batches: u32, apart: Duration, caller: impl Fn(usize, usize) -> usize) -> Vec<IpAddr> {
    let (reports, mut heard) = mpsc::channel(REPORTS);
    let mut watch = Watch::new(stats.clone(), reports);
    let start = Moment::now();
    for number in 0..batches {
        watch.full(start + apart * number, SLOTS, |slot| Some(ip(caller(number as usize, slot))));
    }
    std::iter::from_fn(|| heard.try_recv().ok()).map(|seen| seen.caller).collect()
}

#[test]
fn a_worker_tells_of_those_that_fill_its_batches() {
    let (often, window) = (Duration::from_millis(1), WINDOW as u32);
    let nobody: &[IpAddr] = &[];
    type Caller = fn(usize, usize) -> usize;
    let alone: Caller = |_, _| 7;
    let cases: [(_, _, _, Caller, _); 8] = [
        ("one alone", window, often, alone, &[ip(7)][..]),
        ("most of it", window, often, |_, slot| if slot % 16 == 0 { slot } else { 7 }, &[ip(7)]),
        ("two", window, often, |_, slot| if slot % 16 == 0 { slot } else { 7 + slot % 2 }, &[ip(7), ip(8)]),
        ("a burst that is over", window - 1, often, alone, nobody),
        ("bursts now and then", 10 * window, Duration::from_millis(50), alone, nobody),
        ("64 alike", 10 * window, often, |batch, slot| (batch + slot) % 64, nobody),
        ("64 in bursts of 12", 10 * window, often, |batch, slot| (64 * batch + slot) / 12 % 64, nobody),
        ("no more often than ten times a second", 10 * window, often, alone, &[ip(7), ip(7), ip(7)]),
    ];
    for (what, batches, every, caller, expected) in cases {
        assert_eq!(told(&Arc::default(), batches, every, caller), expected, "{what}");
    }
}

#[test]
fn once_somebody_is_apart_fewer_batches_are_enough() {
    let stats = Arc::new(Stats::default());
    let told = || told(&stats, WINDOW as u32, Duration::from_millis(1), |_, slot| slot / 8).len();
    assert_eq!(told(), 0);
    stats.callers_apart.store(1, Relaxed);
    assert_eq!(told(), 8);
}

/// Two sockets of one address, the first for everybody, and their guard.
fn guarded() -> (Vec<Arc<Socket>>, SocketAddr, Guard) {
    let bound = bind::bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let sockets: Vec<Arc<Socket>> = bound.udp.into_iter().map(Arc::new).collect();
    let groups = Groups::default();
    assert!(groups.add(&sockets, 1, bound.address));
    (sockets, bound.address, Guard::new(groups, Arc::default()))
}

/// Which of the sockets gets what this caller sends.
fn place(sockets: &[Arc<Socket>], address: SocketAddr, caller: IpAddr) -> usize {
    UdpSocket::bind((caller, 0)).unwrap().send_to(b"?", address).unwrap();
    let is_there = |socket: &Arc<Socket>| {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 8];
        socket.recv_with_flags(&mut buffer, libc::MSG_DONTWAIT).is_ok()
    };
    sockets.iter().position(is_there).unwrap()
}

#[test]
fn a_caller_that_floods_is_apart_until_it_was_calm_for_a_while() {
    let (sockets, address, mut guard) = guarded();
    let (greedy, modest) = (Ipv4Addr::new(127, 0, 0, 7).into(), Ipv4Addr::new(127, 0, 0, 8).into());
    let places = || [greedy, modest].map(|caller| place(&sockets, address, caller));
    let apart = |guard: &Guard| (guard.stats.callers_apart.load(Relaxed), guard.stats.floods.load(Relaxed));
    let start = Instant::now();
    assert_eq!(places(), [0, 0]);

    guard.hear(Seen { caller: greedy, batches: FLOOD - 1 }, start);
    assert_eq!((places(), apart(&guard)), ([0, 0], (0, 0)));

    guard.hear(Seen { caller: greedy, batches: FLOOD }, start);
    assert_eq!((places(), apart(&guard)), ([1, 0], (1, 1)));

    guard.hear(Seen { caller: greedy, batches: STILL }, start + CALM / 2);
    guard.release(start + CALM);
    assert_eq!((places(), apart(&guard)), ([1, 0], (1, 1)));

    guard.release(start + CALM * 3 / 2);
    assert_eq!((places(), apart(&guard)), ([0, 0], (0, 1)));
}

#[test]
fn a_program_of_another_process_is_replaced_while_a_flood_lasts() {
    let (sockets, address, mut guard) = guarded();
    let greedy = Ipv4Addr::new(127, 0, 0, 7).into();
    let start = Instant::now();
    guard.hear(Seen { caller: greedy, batches: FLOOD }, start);
    guard.groups.lock()[0].steer(&[]).unwrap();
    assert_eq!(place(&sockets, address, greedy), 0);
    guard.hear(Seen { caller: greedy, batches: FLOOD }, start + CALM + Duration::from_millis(1));
    assert_eq!(place(&sockets, address, greedy), 1);
}

#[test]
fn no_more_callers_are_apart_than_are_compared() {
    let (_sockets, _, mut guard) = guarded();
    let start = Instant::now();
    for caller in 0..3 * MOST {
        guard.hear(seen(caller, WINDOW), start);
    }
    assert_eq!(guard.apart.len(), MOST);
    guard.release(start + CALM);
    assert_eq!(guard.apart.len(), 0);
}

#[test]
fn where_nothing_can_be_steered_nobody_is_said_to_be_apart() {
    let alone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = alone.local_addr().unwrap();
    // No socket of a group takes a program for one.
    let sockets: Vec<Arc<Socket>> =
        [alone, UdpSocket::bind("127.0.0.1:0").unwrap()].map(|socket| Arc::new(socket.into())).into();
    let groups = Groups::default();
    assert!(!groups.add(&sockets, 1, address));
    let mut guard = Guard::new(groups, Arc::default());
    guard.hear(seen(1, WINDOW), Instant::now());
    assert_eq!(guard.apart.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_guard_ends_with_the_last_worker() {
    let (reports, heard) = mpsc::channel(REPORTS);
    let guard = tokio::spawn(Guard::new(Groups::default(), Arc::default()).run(heard));
    reports.send(seen(1, WINDOW)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!guard.is_finished());
    drop(reports);
    guard.await.unwrap();
}
