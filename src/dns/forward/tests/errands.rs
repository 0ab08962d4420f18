//! Questions without a task: they come back as those with one do, whatever happens on the way.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::oneshot;

use super::hedges::{after, hedges, hedging, ms, slow};
use super::*;

struct Tell(Option<oneshot::Sender<Result<Message, Failure>>>);

impl Taker for Tell {
    fn take(&mut self, landed: Result<Message, Failure>) {
        self.0.take().expect("once").send(landed).unwrap();
    }
}

struct Panics;

impl Taker for Panics {
    fn take(&mut self, _: Result<Message, Failure>) {
        panic!("asked to");
    }
}

fn depart(forwarder: &Forwarder, plain: Plain, taker: impl Taker + 'static) {
    let mut batch = Departures::default();
    forwarder.depart(plain, &query(NAME), taker, &mut batch);
    forwarder.send(&mut batch);
}

/// Sends a question without a task and waits for what comes of it.
async fn errand(forwarder: &Forwarder) -> Result<Message, Failure> {
    let (tell, wait) = oneshot::channel();
    let plain = forwarder.plain(NAME).expect("nothing is known against the upstream");
    depart(forwarder, plain, Tell(Some(tell)));
    wait.await.expect("it is told in any case")
}

#[tokio::test]
async fn an_errand_brings_the_answer_and_is_counted_like_any_question() {
    let forwarder = forwarder(&[says(0, 1).await], false, patient());
    for _ in 0..20 {
        assert_eq!(last(&errand(&forwarder).await.unwrap()), 1);
    }
    let stats = forwarder.stats();
    assert_eq!((stats[0].1.rcodes()[0], stats[0].1.took().count), (20, 20));
}

#[tokio::test]
async fn an_errand_that_gets_no_for_an_answer_goes_to_the_next_upstream() {
    for rcode in [SERVFAIL, REFUSED] {
        let forwarder = forwarder(&[says(rcode, 0).await, says(0, 2).await], false, patient());
        assert_eq!(last(&errand(&forwarder).await.unwrap()), 2);
    }
    let alone = forwarder(&[says(SERVFAIL, 0).await], false, patient());
    assert_eq!(errand(&alone).await.unwrap().rcode(), u16::from(SERVFAIL), "the last no counts");
}

#[tokio::test]
async fn an_errand_that_takes_long_is_doubled_and_its_first_try_goes_on() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let silent = udp(move |_, _| {
        count.fetch_add(1, SeqCst);
        Vec::new()
    })
    .await;
    let doubled = forwarder(&[silent, says(0, 2).await], false, hedging(ms(30)));
    let start = Instant::now();
    assert_eq!(last(&errand(&doubled).await.unwrap()), 2);
    assert!(start.elapsed() >= ms(30), "{:?}", start.elapsed());
    assert_eq!((hedges(&doubled), asked.load(SeqCst)), (1, 1));

    let late = forwarder(&[slow(after(150), 0, 1).await, says(SERVFAIL, 0).await], false, hedging(ms(10)));
    assert_eq!(last(&errand(&late).await.unwrap()), 1, "the answer to the first try still counts");
}

#[tokio::test]
async fn an_errand_to_a_silent_upstream_fails_in_time_and_makes_it_suspect() {
    let forwarder = forwarder(&[udp(|_, _| Vec::new()).await], false, Tuning { silence: ms(50), ..quick() });
    let start = Instant::now();
    assert_eq!(errand(&forwarder).await.unwrap_err(), Failure::Timeout);
    assert!(start.elapsed() < ms(5000), "{:?}", start.elapsed());
    assert!(forwarder.plain(NAME).is_none(), "what is suspect is not plain");
}

#[tokio::test]
async fn an_errand_to_nobody_goes_to_the_next_upstream() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let forwarder = forwarder(&[nobody, says(0, 2).await], false, patient());
    assert_eq!(last(&errand(&forwarder).await.unwrap()), 2);
}

#[tokio::test]
async fn a_truncated_errand_is_asked_again_over_tcp() {
    let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
    let socket = UdpSocket::bind(listener.local_addr().unwrap()).await.unwrap();
    let upstream = serve(socket, |_, query| {
        let mut cut = answer(query, 0, 66);
        cut[2] |= 2;
        vec![cut]
    });
    let forwarder = forwarder(&[upstream], false, patient());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let query = read_frame(&mut stream).await;
        write_frame(&mut stream, &answer(&query, 0, 1)).await;
        stream
    };
    let (got, _stream) = tokio::join!(errand(&forwarder), server);
    assert_eq!(last(&got.unwrap()), 1);
}

#[tokio::test]
async fn a_panic_of_one_who_waits_is_nobody_elses_trouble() {
    let forwarder = forwarder(&[says(0, 1).await], false, patient());
    for _ in 0..20 {
        depart(&forwarder, forwarder.plain(NAME).unwrap(), Panics);
        assert_eq!(last(&errand(&forwarder).await.unwrap()), 1);
    }
}

#[tokio::test]
async fn what_goes_over_tcp_always_is_not_plain() {
    assert!(forwarder(&[says(0, 1).await], true, patient()).plain(NAME).is_none());
}

#[tokio::test]
async fn errands_of_one_batch_leave_by_few_ports_with_ids_of_their_own_and_all_come_back() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (upstream, noted) = (socket.local_addr().unwrap(), Arc::clone(&seen));
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            noted.lock().unwrap().insert((from.port(), [buffer[0], buffer[1]]));
            socket.send_to(&answer(&buffer[..length], 0, buffer[13]), from).await.unwrap();
        }
    });
    let forwarder = forwarder(&[upstream], false, Tuning { udp_questions: 10, ..patient() });
    let (mut batch, mut waits) = (Departures::default(), Vec::new());
    for letter in b'a'..=b'z' {
        let (tell, wait) = oneshot::channel();
        let name = [1, letter, 0];
        forwarder.depart(forwarder.plain(&name).unwrap(), &query(&name), Tell(Some(tell)), &mut batch);
        waits.push((letter, wait));
    }
    assert!(seen.lock().unwrap().is_empty(), "nothing leaves before the batch does");
    forwarder.send(&mut batch);
    for (letter, wait) in waits {
        assert_eq!(last(&wait.await.unwrap().unwrap()), letter);
    }
    let seen = seen.lock().unwrap();
    let ports: HashSet<u16> = seen.iter().map(|(port, _)| *port).collect();
    assert_eq!((seen.len(), ports.len()), (26, 3), "ten questions by each socket");
}
