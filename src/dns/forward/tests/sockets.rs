//! Sockets that questions share: ports, IDs, replacement, and what lying upstreams do to them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::*;

type Seen = Arc<Mutex<Vec<(u16, u16)>>>;

/// An upstream that notes port and ID of each question, and answers those of these numbers.
async fn noting(answers: impl Fn(usize) -> bool + Send + 'static) -> (SocketAddr, Seen) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (socket.local_addr().unwrap(), Seen::default());
    let noted = seen.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        for number in 0.. {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            noted.lock().unwrap_or_else(PoisonError::into_inner).push((from.port(), id));
            if answers(number) {
                socket.send_to(&answer(&buffer[..length], 0, 1), from).await.unwrap();
            }
        }
    });
    (address, seen)
}

fn ports(seen: &Seen) -> HashSet<u16> {
    seen.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(port, _)| *port).collect()
}

async fn ask(forwarder: &Forwarder, times: usize) {
    for _ in 0..times {
        forwarder.ask(&query(NAME)).await.unwrap();
    }
}

#[tokio::test]
async fn questions_share_some_random_ports_with_random_ids() {
    let (upstream, seen) = noting(|_| true).await;
    ask(&forwarder(&[upstream], false, patient()), 200).await;
    let ports = ports(&seen).len();
    assert!((4..=8).contains(&ports), "{ports}");
    let ids: HashSet<u16> = seen.lock().unwrap().iter().map(|(_, id)| *id).collect();
    assert!(ids.len() > 180, "{}", ids.len());
}

#[tokio::test]
async fn a_socket_is_replaced_after_some_questions_and_after_some_time() {
    let (upstream, seen) = noting(|_| true).await;
    ask(&forwarder(&[upstream], false, Tuning { udp_questions: 5, ..patient() }), 100).await;
    assert!(ports(&seen).len() >= 20, "{}", ports(&seen).len());

    let (upstream, seen) = noting(|_| true).await;
    let forwarder = forwarder(&[upstream], false, Tuning { udp_life: Duration::from_millis(5), ..patient() });
    for _ in 0..20 {
        ask(&forwarder, 1).await;
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
    assert!(ports(&seen).len() >= 18, "{}", ports(&seen).len());
}

#[tokio::test]
async fn what_waits_on_a_replaced_socket_is_still_answered() {
    let upstream = udp(|_, query| vec![answer(query, 0, query[13])]).await;
    let forwarder = Arc::new(forwarder(&[upstream], false, Tuning { udp_questions: 1, ..patient() }));
    let all: Vec<_> = (b'a'..=b'z')
        .map(|letter| {
            let forwarder = forwarder.clone();
            tokio::spawn(async move {
                let name = [1, letter, 0];
                (letter, last(&forwarder.ask(&query(&name)).await.unwrap()))
            })
        })
        .collect();
    for one in all {
        let (letter, got) = one.await.unwrap();
        assert_eq!(got, letter);
    }
}

#[tokio::test]
async fn a_retry_goes_out_on_another_socket() {
    for _ in 0..10 {
        let (upstream, seen) = noting(|number| number > 0).await;
        let tuning = Tuning { one_try: Duration::from_millis(30), silence: Duration::from_secs(60), ..patient() };
        ask(&forwarder(&[upstream], false, tuning), 1).await;
        let seen = seen.lock().unwrap();
        assert_ne!(seen[0].0, seen[1].0);
    }
}

#[tokio::test]
async fn an_answer_that_comes_late_is_no_forgery() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tuning = Tuning { in_all: Duration::from_millis(50), silence: Duration::from_secs(60), ..patient() };
    let forwarder = forwarder(&[socket.local_addr().unwrap()], false, tuning);
    assert_eq!(forwarder.ask(&query(NAME)).await.unwrap_err(), Failure::Timeout);
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
    let right = answer(&buffer[..length], 0, 1);
    // The second copy is one that nothing waits for.
    for _ in 0..2 {
        socket.send_to(&right, from).await.unwrap();
    }
    until("both have come", || !rejects(&forwarder).is_empty()).await;
    assert_eq!(rejects(&forwarder), [("id", 1)]);
}

/// A UDP socket and a TCP listener on one port; the latter answers 10.0.0.`last` to everything and counts.
async fn both_ways(host: &str, last: u8) -> (UdpSocket, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let socket = UdpSocket::bind(listener.local_addr().unwrap()).await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::spawn(async move {
                loop {
                    let query = read_frame(&mut stream).await;
                    count.fetch_add(1, Relaxed);
                    write_frame(&mut stream, &answer(&query, 0, last)).await;
                }
            });
        }
    });
    (socket, asked)
}

#[tokio::test]
async fn a_flood_of_wrong_answers_sends_the_question_over_tcp() {
    let (socket, asked) = both_ways("127.0.0.11", 2).await;
    let upstream = serve(socket, |_, query| {
        let guess = |id: u16| {
            let mut wrong = answer(query, 0, 66);
            let right = u16::from_be_bytes([query[0], query[1]]);
            wrong[..2].copy_from_slice(&right.wrapping_add(1 + id).to_be_bytes());
            wrong
        };
        (0..150).map(guess).chain([answer(query, 0, 66)]).collect()
    });
    let forwarder = forwarder(&[upstream], false, patient());
    assert_eq!(last(&forwarder.ask(&query(NAME)).await.unwrap()), 2, "the right one comes too late to be trusted");
    assert_eq!(asked.load(Relaxed), 1);
    let rejects = rejects(&forwarder);
    assert!(rejects[0].0 == "id" && rejects[0].1 >= 100, "{rejects:?}");
}

#[tokio::test]
async fn a_datagram_that_is_too_long_is_asked_for_over_tcp() {
    let (socket, asked) = both_ways("127.0.0.12", 2).await;
    let upstream = serve(socket, |_, query| {
        let mut long = answer(query, 0, 66);
        // One record whose data alone fills the room.
        let at = long.len() - 6;
        long[at..at + 2].copy_from_slice(&6000u16.to_be_bytes());
        long.resize(at + 2 + 6000, 0);
        vec![long]
    });
    assert_eq!(last(&forwarder(&[upstream], false, patient()).ask(&query(NAME)).await.unwrap()), 2);
    assert_eq!(asked.load(Relaxed), 1);
}

#[tokio::test]
async fn a_chain_of_names_that_loops_passes_through() {
    let upstream = udp(|_, query| {
        let mut wire = answer(query, 0, 1);
        wire.truncate(wire.len() - 14);
        // CNAME to itself.
        wire.extend([0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xC0, 0x0C]);
        vec![wire]
    })
    .await;
    let got = forwarder(&[upstream], false, patient()).ask(&query(NAME)).await.unwrap();
    assert_eq!(got.records(Section::Answer).map(|record| record.rtype()).collect::<Vec<_>>(), [5]);
}

#[tokio::test]
async fn an_old_connection_takes_no_new_questions_and_answers_those_it_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let age = Duration::from_millis(50);
    let forwarder = forwarder(&[listener.local_addr().unwrap()], true, Tuning { tcp_age: age, ..patient() });
    let server = async {
        let (mut old, _) = listener.accept().await.unwrap();
        let first = read_frame(&mut old).await;
        let (mut new, _) = listener.accept().await.unwrap();
        let second = read_frame(&mut new).await;
        write_frame(&mut new, &answer(&second, 0, 2)).await;
        write_frame(&mut old, &answer(&first, 0, 1)).await;
        assert_eq!(old.read(&mut [0]).await.unwrap(), 0, "it closes when it has nothing to do any more");
        new
    };
    let asked = query(NAME);
    let later = async {
        tokio::time::sleep(age * 2).await;
        forwarder.ask(&asked).await
    };
    let (first, second, _new) = tokio::join!(forwarder.ask(&asked), later, server);
    assert_eq!((last(&first.unwrap()), last(&second.unwrap())), (1, 2));
}

#[tokio::test]
async fn a_connection_of_garbage_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let forwarder = forwarder(&[listener.local_addr().unwrap()], true, patient());
    let server = async {
        let (mut bad, _) = listener.accept().await.unwrap();
        read_frame(&mut bad).await;
        for _ in 0..100 {
            write_frame(&mut bad, b"garbage").await;
        }
        let (mut good, _) = listener.accept().await.unwrap();
        let query = read_frame(&mut good).await;
        write_frame(&mut good, &answer(&query, 0, 1)).await;
        good
    };
    let asked = query(NAME);
    let (got, _good) = tokio::join!(forwarder.ask(&asked), server);
    assert_eq!(last(&got.unwrap()), 1);
}
