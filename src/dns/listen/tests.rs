mod drain;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::testing::{Echo, PATIENCE, listen, options};
use super::*;

#[tokio::test]
async fn an_idle_listener_stops_at_once() {
    let listener = listen(Options { workers: 2, ..options("127.0.0.1:0") }, &Echo::new());
    let before = Instant::now();
    assert!(listener.stop(PATIENCE).await);
    assert!(before.elapsed() < Duration::from_millis(250), "{:?}", before.elapsed());
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
