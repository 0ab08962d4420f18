use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::testing::{Echo, PATIENCE, listen, options};
use super::super::{Listener, Options};
use super::connection::PIPELINE;

const SHORT: Duration = Duration::from_millis(150);

fn server(options: Options) -> (Arc<Echo>, Listener) {
    let echo = Echo::new();
    let listener = listen(options, &echo);
    (echo, listener)
}

fn default_options() -> Options {
    options("127.0.0.1:0")
}

async fn connect(listener: &Listener) -> TcpStream {
    let stream = TcpStream::connect(listener.addresses()[0]).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    frame
}

async fn send(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(&frame(message)).await.unwrap();
}

async fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let len = stream.read_u16().await.unwrap();
        let mut message = vec![0; len.into()];
        stream.read_exact(&mut message).await.unwrap();
        message
    };
    timeout(PATIENCE, read).await.expect("an answer")
}

/// Waits for the end of the connection; a reset is one too.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("an end") {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => rest,
    }
}

#[tokio::test]
async fn a_fast_answer_overtakes_a_slow_one() {
    let (echo, listener) = server(default_options());
    let mut client = connect(&listener).await;
    client.write_all(&[frame(b"slow"), frame(b"later"), frame(b"echo")].concat()).await.unwrap();
    let mut first = [receive(&mut client).await, receive(&mut client).await];
    first.sort();
    assert_eq!(first, [b"echo".to_vec(), b"later".to_vec()]);
    echo.release.add_permits(1);
    assert_eq!(receive(&mut client).await, b"slow");
}

#[tokio::test]
async fn a_query_may_come_octet_by_octet() {
    let (_, listener) = server(default_options());
    let mut client = connect(&listener).await;
    for octet in [frame(b"echo"), frame(b""), frame(b"echo again")].concat() {
        client.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(receive(&mut client).await, b"echo");
    assert_eq!(receive(&mut client).await, b"echo again");
}

#[tokio::test]
async fn the_largest_message_goes_both_ways() {
    let (_, listener) = server(default_options());
    let mut client = connect(&listener).await;
    for first in *b"el" {
        let message = vec![first; 65_535];
        send(&mut client, &message).await;
        assert!(receive(&mut client).await == message);
    }
}

#[tokio::test]
async fn an_unfinished_query_does_not_keep_a_connection_open() {
    let (_, listener) = server(Options { tcp_idle: SHORT, ..default_options() });
    let (mut reader, mut writer) = connect(&listener).await.into_split();
    // One octet after the other as long as the server takes them, none of which completes the query.
    let loris = tokio::spawn(async move {
        writer.write_all(&[0xff, 0xff]).await.unwrap();
        let mut tick = tokio::time::interval(SHORT / 10);
        while writer.write_all(b"e").await.is_ok() {
            tick.tick().await;
        }
    });
    let end = timeout(PATIENCE, reader.read(&mut [0; 8])).await.expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)));
    timeout(PATIENCE, loris).await.expect("a refused write").unwrap();
    assert_eq!(listener.stats().tcp_idle_closed.load(Relaxed), 1);
}

#[tokio::test]
async fn waiting_for_our_own_answer_is_not_idle() {
    let (echo, listener) = server(Options { tcp_idle: SHORT, ..default_options() });
    let mut client = connect(&listener).await;
    send(&mut client, b"slow").await;
    // Another connection of the same age is timed out twice meanwhile.
    until_closed(&mut connect(&listener).await).await;
    until_closed(&mut connect(&listener).await).await;
    echo.release.add_permits(1);
    assert_eq!(receive(&mut client).await, b"slow");
}

#[tokio::test]
async fn at_the_bound_the_longest_idle_connection_makes_room() {
    let (_, listener) = server(Options { tcp_connections: 2, ..default_options() });
    let (mut one, mut two) = (connect(&listener).await, connect(&listener).await);
    for client in [&mut two, &mut one] {
        send(client, b"echo").await;
        receive(client).await;
    }
    let mut three = connect(&listener).await;
    assert_eq!(until_closed(&mut two).await, b"");
    for client in [&mut one, &mut three] {
        send(client, b"echo").await;
        assert_eq!(receive(client).await, b"echo");
    }
    assert_eq!(listener.stats().tcp_evicted.load(Relaxed), 1);
    assert_eq!(listener.stats().tcp_connections.load(Relaxed), 2);
}

#[tokio::test]
async fn where_a_bound_is_lowered_the_next_connection_closes_all_idle_ones_above_it() {
    let (_, listener) = server(default_options());
    let (mut one, mut two) = (connect(&listener).await, connect(&listener).await);
    for client in [&mut one, &mut two] {
        send(client, b"echo").await;
        receive(client).await;
    }
    listener.bounds().set(&Options { tcp_per_client: 1, ..default_options() });
    send(&mut one, b"echo").await;
    assert_eq!(receive(&mut one).await, b"echo", "what is open may go on");
    let mut three = connect(&listener).await;
    for client in [&mut one, &mut two] {
        assert_eq!(until_closed(client).await, b"");
    }
    send(&mut three, b"echo").await;
    assert_eq!(receive(&mut three).await, b"echo");
    listener.bounds().set(&default_options());
    let mut four = connect(&listener).await;
    for client in [&mut three, &mut four] {
        send(client, b"echo").await;
        assert_eq!(receive(client).await, b"echo");
    }
}

#[tokio::test]
async fn at_the_bound_of_a_client_its_waiting_connections_are_kept_and_a_new_one_is_refused() {
    let (echo, listener) = server(Options { tcp_per_client: 1, ..default_options() });
    let mut one = connect(&listener).await;
    send(&mut one, b"slow").await;
    echo.started.acquire().await.unwrap().forget();
    assert_eq!(until_closed(&mut connect(&listener).await).await, b"");
    assert_eq!(listener.stats().tcp_refused.load(Relaxed), 1);
    echo.release.add_permits(1);
    assert_eq!(receive(&mut one).await, b"slow");
    let mut two = connect(&listener).await;
    assert_eq!(until_closed(&mut one).await, b"");
    send(&mut two, b"echo").await;
    assert_eq!(receive(&mut two).await, b"echo");
}

#[tokio::test]
async fn a_half_closed_connection_still_gets_its_answers() {
    let (echo, listener) = server(default_options());
    let mut client = connect(&listener).await;
    client.write_all(&[frame(b"slow"), frame(b"echo")].concat()).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(receive(&mut client).await, b"echo");
    echo.release.add_permits(1);
    assert_eq!(until_closed(&mut client).await, frame(b"slow"));
}

#[tokio::test]
async fn more_queries_than_may_be_in_flight_are_all_answered() {
    let (echo, listener) = server(Options { later_inflight: 1000, ..default_options() });
    let mut client = connect(&listener).await;
    let count = 2 * PIPELINE + 10;
    for _ in 0..count {
        send(&mut client, b"slow").await;
    }
    let full = echo.started.acquire_many(PIPELINE as u32);
    timeout(PATIENCE, full).await.unwrap().unwrap().forget();
    // Reading has stopped: nothing else is started before an answer is given.
    assert_eq!(echo.started.available_permits(), 0);
    echo.release.add_permits(count);
    for _ in 0..count {
        assert_eq!(receive(&mut client).await, b"slow");
    }
}

#[tokio::test]
async fn a_full_general_path_is_said_at_once() {
    let (echo, listener) = server(Options { later_inflight: 1, ..default_options() });
    let mut client = connect(&listener).await;
    client.write_all(&[frame(b"slow"), frame(b"late")].concat()).await.unwrap();
    assert_eq!(receive(&mut client).await, b"Oate");
    echo.release.add_permits(1);
    assert_eq!(receive(&mut client).await, b"slow");
}

#[tokio::test]
async fn panics_cost_the_connection_one_answer_each() {
    let (_, listener) = server(default_options());
    let mut client = connect(&listener).await;
    let queries = [frame(b"p"), frame(b"x"), frame(b"d"), frame(b"later")].concat();
    client.write_all(&queries).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(until_closed(&mut client).await, frame(b"later"));
    assert_eq!(listener.stats().panics.load(Relaxed), 2);
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let (_, listener) = server(Options { tcp_idle: SHORT, ..default_options() });
    let mut client = connect(&listener).await;
    let message = frame(&vec![b'e'; 60_000]);
    let flood = async { while client.write_all(&message).await.is_ok() {} };
    timeout(PATIENCE, flood).await.expect("an end of the writing");
    assert_eq!(listener.stats().tcp_write_timeouts.load(Relaxed), 1);
}

#[tokio::test]
async fn a_thousand_streams_of_random_octets_do_no_harm() {
    let (echo, listener) = server(default_options());
    // Nothing is held back, and what is asked to panic does.
    echo.release.add_permits(1_000_000);
    for _ in 0..1000 {
        let mut octets = [0_u8; 200];
        rand::rng().fill(&mut octets[..]);
        octets[0] = 0;
        octets[1] %= 32;
        let mut client = connect(&listener).await;
        client.write_all(&octets).await.unwrap();
        client.shutdown().await.unwrap();
        until_closed(&mut client).await;
    }
    let mut client = connect(&listener).await;
    send(&mut client, b"echo").await;
    assert_eq!(receive(&mut client).await, b"echo");
    assert!(listener.stop(PATIENCE).await);
}
