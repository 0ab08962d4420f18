mod drain;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::testing::{Echo, PATIENCE, listen, options, until};
use super::*;

#[tokio::test]
async fn an_idle_listener_stops_at_once() {
    let mut took = Vec::new();
    // A busy machine can make any one of them late.
    while took.iter().all(|took| *took > Duration::from_millis(100)) {
        assert!(took.len() < 20, "{took:?}");
        let listener = listen(Options { workers: 2, ..options("127.0.0.1:0") }, &Echo::new());
        let before = Instant::now();
        assert!(listener.stop(PATIENCE).await);
        took.push(before.elapsed());
    }
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_takes_nothing_new() {
    let echo = Echo::new();
    let listener = listen(options("127.0.0.1:0"), &echo);
    let address = listener.addresses()[0];
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.send_to(b"s udp", address).await.unwrap();
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(b"\0\x05s tcp").await.unwrap();
    timeout(PATIENCE, echo.started.acquire_many(2)).await.unwrap().unwrap().forget();

    let clients = async {
        // The accept loop ends first of all; from then on the port is closed.
        while TcpStream::connect(address).await.is_ok() {}
        echo.release.add_permits(2);
        let mut buffer = [0; 16];
        let len = timeout(PATIENCE, udp.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(&buffer[..len], b"s udp");
        let mut answer = Vec::new();
        timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, b"\0\x05s tcp");
    };
    let (all_done, ()) = tokio::join!(listener.stop(PATIENCE), clients);
    assert!(all_done);
}

#[tokio::test]
async fn a_stop_gives_up_at_its_deadline() {
    let echo = Echo::new();
    let listener = listen(options("127.0.0.1:0"), &echo);
    let mut tcp = TcpStream::connect(listener.addresses()[0]).await.unwrap();
    tcp.write_all(b"\0\x04slow").await.unwrap();
    timeout(PATIENCE, echo.started.acquire()).await.unwrap().unwrap().forget();
    assert!(!listener.stop(Duration::from_millis(50)).await);
    let mut answer = Vec::new();
    timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn two_listeners_share_a_port_and_either_serves_alone() {
    let echo = Echo::new();
    let first = listen(options("127.0.0.1:0"), &echo);
    let address = first.addresses()[0];
    let second = listen(options(&address.to_string()), &echo);
    assert!(first.stop(PATIENCE).await);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    udp.send_to(b"echo", address).await.unwrap();
    let mut buffer = [0; 16];
    assert_eq!(timeout(PATIENCE, udp.recv(&mut buffer)).await.unwrap().unwrap(), 4);
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(b"\0\x04echo").await.unwrap();
    timeout(PATIENCE, tcp.read_exact(&mut buffer[..6])).await.unwrap().unwrap();
    assert_eq!(&buffer[..6], b"\0\x04echo");
    assert!(second.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_foreign_holder_of_one_address_keeps_the_listener_from_starting() {
    let foreign = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let held = foreign.local_addr().unwrap();
    let addresses = vec!["127.0.0.1:0".parse().unwrap(), held];
    let refused = Listener::start(Options { addresses, ..options("127.0.0.1:0") }, Echo::new(), Handle::current());
    let text = refused.err().unwrap().to_string();
    assert_eq!(text, format!("address in use: another program holds UDP {held}"));

    let none = Options { addresses: Vec::new(), ..options("127.0.0.1:0") };
    assert!(matches!(Listener::start(none, Echo::new(), Handle::current()), Err(ListenError::NoAddress)));
}

async fn connected(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address.ip(), 0)).await.unwrap();
    socket.connect(address).await.unwrap();
    socket
}

async fn echoed(socket: &UdpSocket, query: &[u8]) {
    let mut buffer = [0; 16];
    let len = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..len], query);
}

#[tokio::test]
async fn what_waits_in_queues_and_on_connections_is_answered_by_the_successor() {
    for address in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        let (old, new) = (Echo::new(), Echo::new());
        let first = listen(options(address), &old);
        let at = first.addresses()[0];
        let second = listen(options(&at.to_string()), &new);
        assert!(second.is_inherited() && !*first.succeeded().borrow());
        let at = if at.ip().is_unspecified() { SocketAddr::from(([127, 5, 5, 5], at.port())) } else { at };

        let udp = if at.is_ipv4() { UdpSocket::bind("127.0.0.1:0") } else { UdpSocket::bind("[::1]:0") };
        let udp = udp.await.unwrap();
        udp.connect(at).await.unwrap();
        let mut tcp = TcpStream::connect(at).await.unwrap();
        udp.send(b"slow").await.unwrap();
        tcp.write_all(b"\0\x04slow\0\x04echo\0\x09ha").await.unwrap();
        timeout(PATIENCE, old.started.acquire_many(2)).await.unwrap().unwrap().forget();
        let mut buffer = [0; 16];
        timeout(PATIENCE, tcp.read_exact(&mut buffer[..6])).await.unwrap().unwrap();
        assert_eq!(&buffer[..6], b"\0\x04echo", "out of order");

        second.serve().unwrap();
        let mut succeeded = first.succeeded();
        timeout(PATIENCE, succeeded.wait_for(|yes| *yes)).await.unwrap().unwrap();
        let ends = tokio::spawn(first.stop(PATIENCE));
        tokio::time::sleep(Duration::from_millis(20)).await;
        // In the middle of a query on a connection that the old one still owes an answer.
        tcp.write_all(b"lf-done\0\x04more").await.unwrap();
        for query in [&b"one"[..], b"two"] {
            udp.send(query).await.unwrap();
            echoed(&udp, query).await;
        }
        assert!(!ends.is_finished());
        old.release.add_permits(2);
        echoed(&udp, b"slow").await;
        let mut answers = [0; 23];
        timeout(PATIENCE, tcp.read_exact(&mut answers)).await.unwrap().unwrap();
        assert_eq!(&answers, b"\0\x04slow\0\x09half-done\0\x04more");
        assert!(ends.await.unwrap());
        assert_eq!(second.stats().tcp_connections.load(Relaxed), 1);
        assert!(second.stop(PATIENCE).await);
    }
}

#[tokio::test]
async fn a_newcomer_that_gives_up_changes_nothing_before_and_after_it_serves() {
    let echo = Echo::new();
    let first = listen(Options { workers: 2, ..options("127.0.0.1:0") }, &echo);
    let address = first.addresses()[0];
    for serves in [false, true, true] {
        let second = listen(Options { workers: 3, ..options(&address.to_string()) }, &echo);
        assert!(second.is_inherited());
        if serves {
            second.serve().unwrap();
            until("it is known", || *first.succeeded().borrow()).await;
        }
        drop(second);
        until("it is known", || !*first.succeeded().borrow()).await;
        for _ in 0..20 {
            let udp = connected(address).await;
            udp.send(b"echo").await.unwrap();
            echoed(&udp, b"echo").await;
        }
    }
    assert!(first.stop(PATIENCE).await);
}

#[tokio::test]
async fn each_successor_has_as_many_workers_as_it_wants() {
    let echo = Echo::new();
    let mut running = listen(Options { workers: 2, ..options("127.0.0.1:0") }, &echo);
    let address = running.addresses()[0];
    for workers in [4, 1, 1, 3] {
        let next = listen(Options { workers, ..options(&address.to_string()) }, &echo);
        assert!(next.is_inherited());
        next.serve().unwrap();
        until("it is known", || *running.succeeded().borrow()).await;
        for _ in 0..20 {
            let udp = connected(address).await;
            udp.send(b"echo").await.unwrap();
            echoed(&udp, b"echo").await;
        }
        assert!(running.stop(PATIENCE).await);
        running = next;
        until("what is not needed is closed", || running.posts[0].udp().len() == 2 * workers).await;
        for _ in 0..20 {
            let udp = connected(address).await;
            udp.send(b"echo").await.unwrap();
            echoed(&udp, b"echo").await;
        }
    }
    assert!(running.stop(PATIENCE).await);
}

#[tokio::test]
async fn without_a_successor_each_query_is_answered_or_refused() {
    for is_inherited in [false, true] {
        let echo = Echo::new();
        let mut listener = listen(Options { workers: 2, ..options("127.0.0.1:0") }, &echo);
        let address = listener.addresses()[0];
        if is_inherited {
            let old = std::mem::replace(&mut listener, listen(options(&address.to_string()), &echo));
            listener.serve().unwrap();
            until("it is known", || *old.succeeded().borrow()).await;
            assert!(old.stop(PATIENCE).await);
            until("the old one is gone", || listener.posts[0].udp().len() == 2).await;
        }
        assert_eq!(listener.is_inherited(), is_inherited);
        let answered = Arc::new(AtomicU64::new(0));
        let asking = std::thread::spawn({
            let answered = answered.clone();
            move || ask_to_the_end(address, &answered)
        });
        until("it asks all the time", || answered.load(Relaxed) > 10).await;
        assert!(listener.stop(PATIENCE).await);
        assert_eq!(asking.join().unwrap(), std::io::ErrorKind::ConnectionRefused, "inherited: {is_inherited}");
    }
}

/// Asks, and wants every answer until there is an error: its kind.
fn ask_to_the_end(address: SocketAddr, answered: &AtomicU64) -> std::io::ErrorKind {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut buffer, mut asked) = ([0; 16], 0_u32);
    loop {
        match socket.send(&asked.to_be_bytes()).and_then(|_| socket.recv(&mut buffer)) {
            Ok(len) => assert_eq!(buffer[..len], asked.to_be_bytes()),
            Err(error) => return error.kind(),
        }
        asked += 1;
        add(answered);
    }
}
