//! The clock on the wall jumps by years. Times are counted by the one that does not. What the API server says, and what is
//! saved, under such clocks: `tests/kubernetes_faults/clock.rs` and `tests/kubernetes_saved/disk.rs`.

use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use serde_json::json;

use super::support::client::{Client, Proto, next_id};
use super::support::clock::Clock;
use super::support::server::Server;
use super::support::steady::{until, until_answered};
use super::support::wire;
use super::{Lab, MOMENTS, OUTSIDE, SHOP, WEB, is_answered};

/// Lets the server say something; the year that its log gives for it.
fn year(server: &Server) -> String {
    let before = server.log().len();
    server.signal(libc::SIGHUP);
    until("a line in the log", MOMENTS, || server.log()[before..].ends_with('\n'));
    server.log()[before..][..4].to_owned()
}

/// The TTL of the only record of an answer.
fn ttl(lab: &Lab, name: &str) -> u32 {
    let query = wire::query(next_id(), name, 1, true);
    let answer = Client::default().ask(SHOP, lab.at, Proto::Udp, &query).expect("an answer");
    let message = Message::from_vec(&answer).expect("a message");
    assert_eq!(message.answers.len(), 1, "{message:?}");
    message.answers[0].ttl
}

#[test]
fn a_wall_clock_that_jumps_by_years_changes_no_ttl_and_no_table() {
    let lab = Lab::new(&json!({}));
    let Some(clock) = Clock::new(lab.dir.path()) else { return };
    let server = lab.start_by(&[], &clock.env());
    // It was cached between the two.
    let asked = Instant::now();
    assert_eq!(ttl(&lab, OUTSIDE), 30);
    let cached = Instant::now();
    assert_eq!(ttl(&lab, WEB), 5);
    let (count, now) = (lab.upstream.count(), year(&server));
    for (at, offset) in ["+4000d", "-4000d", "+0d"].into_iter().enumerate() {
        clock.jump(offset);
        assert_eq!(year(&server) == now, offset == "+0d", "{offset}: the clock has not jumped");
        std::thread::sleep(Duration::from_millis(1100));
        let least = cached.elapsed().as_secs();
        let left = ttl(&lab, OUTSIDE);
        let most = asked.elapsed().as_secs();
        let passed = u64::from(31 - left);
        assert!((least..=most + 1).contains(&passed), "{offset}: {left} s left after {least} to {most} s");
        let address = format!("10.0.7.{at}");
        lab.move_web(&address);
        until_answered(lab.at, (SHOP, WEB, 0, &[&address]), MOMENTS);
        assert_eq!(ttl(&lab, WEB), 5);
        is_answered(&lab, SHOP, OUTSIDE, "192.0.2.80");
    }
    assert_eq!(lab.upstream.count(), count, "it was in the cache all the time");
    server.stop().expect("it stops");
}
