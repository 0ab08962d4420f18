use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::super::steer::{self, Parts};
use super::super::testing::{Echo, PATIENCE, listen, options, until};
use super::super::{Listener, Options};

/// A client that takes answers from the asked address only.
async fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let len = timeout(PATIENCE, client.recv(&mut buffer)).await.expect("an answer").unwrap();
    buffer[..len].to_vec()
}

async fn ask(client: &UdpSocket, query: &[u8]) -> Vec<u8> {
    client.send(query).await.unwrap();
    receive(client).await
}

fn port(listener: &Listener) -> u16 {
    listener.addresses()[0].port()
}

#[tokio::test]
async fn both_families_are_answered_on_the_ports_that_were_given() {
    let addresses = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    let listener = listen(Options { addresses, workers: 2, ..options("127.0.0.1:0") }, &Echo::new());
    for address in listener.addresses() {
        assert_eq!(ask(&client(*address).await, b"echo").await, b"echo");
    }
    assert!(listener.stop(PATIENCE).await);
}

#[tokio::test]
async fn a_wildcard_answers_from_the_address_that_was_asked() {
    let echo = Echo::new();
    let listener = listen(options("0.0.0.0:0"), &echo);
    let client_v4 = client(SocketAddr::from(([127, 5, 5, 5], port(&listener)))).await;
    assert_eq!(ask(&client_v4, b"echo").await, b"echo");
    assert_eq!(ask(&client_v4, b"later").await, b"later");

    let six = listen(options("[::]:0"), &echo);
    let client_v6 = client(format!("[::1]:{}", port(&six)).parse().unwrap()).await;
    assert_eq!(ask(&client_v6, b"echo").await, b"echo");
    assert_eq!(ask(&client_v6, b"later").await, b"later");
}

#[tokio::test]
async fn all_of_two_hundred_datagrams_are_answered() {
    let listener = listen(Options { workers: 2, ..options("127.0.0.1:0") }, &Echo::new());
    let client = client(listener.addresses()[0]).await;
    for number in 0..200_u8 {
        client.send(&[b'e', number]).await.unwrap();
    }
    let mut seen = HashSet::new();
    while seen.len() < 200 {
        assert!(seen.insert(receive(&client).await));
    }
}

#[tokio::test]
async fn a_panic_costs_only_its_own_datagram_of_the_batch() {
    let echo = Echo::new();
    let listener = listen(options("127.0.0.1:0"), &echo);
    let client = client(listener.addresses()[0]).await;
    // The worker waits, so that the rest is one batch.
    for query in [&b"w"[..], b"e1", b"p", b"e2", b"p", b"e3"] {
        client.send(query).await.unwrap();
    }
    echo.wake.send(()).unwrap();
    for expected in [&b"w"[..], b"e1", b"e2", b"e3"] {
        assert_eq!(receive(&client).await, expected);
    }
    assert_eq!(listener.stats().panics.load(Relaxed), 2);
    // While those ahead are read: among the first of the batch, in its middle, at its end, and two in turn.
    for query in [&b"w"[..], b"r", b"e1", b"r", b"r", b"p", b"r", b"e2", b"e3", b"r"] {
        client.send(query).await.unwrap();
    }
    echo.wake.send(()).unwrap();
    for expected in [&b"w"[..], b"e1", b"e2", b"e3"] {
        assert_eq!(receive(&client).await, expected);
    }
    assert_eq!(listener.stats().panics.load(Relaxed), 8);
}

#[tokio::test]
async fn the_general_path_answers_and_survives_its_panics() {
    let echo = Echo::new();
    let listener = listen(Options { later_inflight: 1, ..options("127.0.0.1:0") }, &echo);
    let client = client(listener.addresses()[0]).await;
    assert_eq!(ask(&client, b"later").await, b"later");
    echo.started.acquire_many(1).await.unwrap().forget();
    client.send(b"x").await.unwrap();
    timeout(PATIENCE, echo.started.acquire()).await.unwrap().unwrap().forget();
    // The only permit comes back with the task that panicked.
    while ask(&client, b"later").await != b"later" {}
    assert_eq!(listener.stats().panics.load(Relaxed), 1);
}

#[tokio::test]
async fn a_full_general_path_is_said_at_once() {
    let echo = Echo::new();
    let listener = listen(Options { later_inflight: 1, ..options("127.0.0.1:0") }, &echo);
    let client = client(listener.addresses()[0]).await;
    client.send(b"slow").await.unwrap();
    assert_eq!(ask(&client, b"late").await, b"Oate");
    assert_eq!(listener.stats().overloaded.load(Relaxed), 1);
    echo.release.add_permits(1);
    assert_eq!(receive(&client).await, b"slow");
}

#[tokio::test]
async fn a_dropped_query_and_an_overlong_one_leave_the_worker_alone() {
    let listener = listen(options("127.0.0.1:0"), &Echo::new());
    let client = client(listener.addresses()[0]).await;
    client.send(b"d").await.unwrap();
    client.send(b"").await.unwrap();
    assert_eq!(receive(&client).await, b"");
    assert_eq!(ask(&client, &[b'e'; 5000]).await.len(), 1536);
    assert_eq!(listener.stats().udp_truncated.load(Relaxed), 1);
}

#[tokio::test]
async fn a_spare_worker_is_there_while_something_comes() {
    let echo = Echo::new();
    let listener = listen(options("127.0.0.1:0"), &echo);
    let (address, here) = (listener.addresses()[0], "127.0.0.1".parse().unwrap());
    assert_eq!(ask(&client(address).await, b"echo").await, b"echo");
    assert_eq!((echo.made.load(Relaxed), echo.present.load(Relaxed)), (1, 1));

    let parts = Parts { everybody: 0..1, apart: 1..2 };
    steer::attach(&listener.posts[0].udp()[0], &mut steer::program(&parts, &[here], false)).unwrap();
    let client = client(address).await;
    for _ in 0..2 {
        let before = echo.made.load(Relaxed);
        for query in [&b"echo"[..], b"later"].into_iter().cycle().take(20) {
            assert_eq!(ask(&client, query).await, query);
        }
        // One more only if the machine was too busy to ask again within the time that it rests after.
        let made = echo.made.load(Relaxed) - before;
        assert!((1..10).contains(&made), "{made} workers were made");
        until("it rests", || echo.present.load(Relaxed) == 1).await;
    }
    assert!(listener.stop(PATIENCE).await);
}
