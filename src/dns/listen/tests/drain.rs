//! A stop in the midst of everything: what was sent before it is answered, whichever way it takes.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::RwLock;
use std::thread::{self, JoinHandle};

use super::*;

/// Stops of a listener that is asked all the time.
const STOPS: usize = 25;
/// Askers of each transport.
const ASKERS: usize = 3;

/// Whether the stop has begun: who asks holds it until the question is sent, so that each is sent before or not at all. And
/// how many answers this asker has had.
type Test = (Arc<RwLock<bool>>, Arc<AtomicU64>);

/// Sends as long as the stop has not begun, and wants every answer.
fn ask((begun, answered): &Test, mut send: impl FnMut(&[u8]), mut receive: impl FnMut() -> Vec<u8>) {
    // At once, and later.
    for (asked, query) in [b"echo".as_slice(), b"late"].into_iter().cycle().enumerate() {
        let stopping = begun.read().unwrap();
        if *stopping {
            return;
        }
        send(query);
        drop(stopping);
        assert_eq!(receive(), query, "question {asked}");
        add(answered);
    }
}

fn over_udp(to: SocketAddr, test: Test) -> JoinHandle<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::spawn(move || {
        let receive = || {
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).expect("an answer");
            buffer[..length].to_vec()
        };
        ask(&test, |query| assert_eq!(socket.send(query).unwrap(), query.len()), receive);
    })
}

fn over_tcp(to: SocketAddr, test: Test) -> JoinHandle<()> {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    thread::spawn(move || {
        let send = |query: &[u8]| (&stream).write_all(&[&[0, query.len() as u8], query].concat()).unwrap();
        let receive = || {
            let mut frame = [0; 6];
            (&stream).read_exact(&mut frame).expect("an answer");
            frame[2..].to_vec()
        };
        ask(&test, send, receive);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_any_moment_loses_nothing_that_was_sent_before_it() {
    for stop in 0..STOPS {
        let listener = listen(Options { workers: 2, ..options("127.0.0.1:0") }, &Echo::new());
        let (to, begun) = (listener.addresses()[0], Arc::new(RwLock::new(false)));
        let answered: Vec<Arc<AtomicU64>> = (0..2 * ASKERS).map(|_| Arc::default()).collect();
        let askers = answered.iter().enumerate().map(|(n, answered)| {
            let ask = if n % 2 == 0 { over_udp } else { over_tcp };
            ask(to, (begun.clone(), answered.clone()))
        });
        let askers: Vec<_> = askers.collect();
        until("all of them ask", || answered.iter().all(|answered| answered.load(Relaxed) >= 5)).await;
        tokio::time::sleep(Duration::from_micros(700 * stop as u64)).await;
        *begun.write().unwrap() = true;
        assert!(listener.stop(PATIENCE).await, "stop {stop}");
        for asker in askers {
            tokio::task::spawn_blocking(|| asker.join().expect("every answer")).await.unwrap();
        }
    }
}
