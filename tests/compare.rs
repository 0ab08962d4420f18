//! What the comparison in docs/forwarding.md says of segdns, measured by the same code that `cargo run --example compare` runs. Limits are
//! wider than its figures: the machine may be busy.

#[path = "../examples/compare/lab.rs"]
mod lab;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use lab::Took;
use lab::client::{Answer, Saw};
use lab::scenario::Scenario;
use lab::scenario::dead::Dead;
use lab::scenario::first::{First, Spread};
use lab::scenario::greedy::Greedy;
use lab::scenario::herd::{CLIENTS, Herd};
use lab::scenario::lies::Lies;
use lab::scenario::negative::Negative;
use lab::scenario::stale::Stale;
use lab::scenario::truncated::{ADDRESSES, Truncated};
use lab::server::{Kind, Program};
use lab::upstream::TRUTH;

/// EDE: Stale Answer
const STALE: u16 = 3;
/// EDE: No Reachable Authority
const UNREACHABLE: u16 = 22;

fn segdns() -> Program {
    let path = std::env::var_os("SEGDNS_BIN").map_or_else(|| env!("CARGO_BIN_EXE_segdns").into(), PathBuf::from);
    Program { kind: Kind::Segdns, path }
}

async fn measured<S: Scenario>() -> S {
    S::measure(&segdns()).await.unwrap_or_else(|why| panic!("{why}"))
}

fn answer(saw: &Saw) -> &Answer {
    saw.answer.as_ref().unwrap_or_else(|| panic!("no answer in {}", saw.after))
}

/// A line that libtest does not capture.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "compare: {what}");
}

#[track_caller]
fn within(took: Took, limit: Duration, what: &str) {
    assert!(took.0 <= limit, "{what} took {took}, more than {limit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_upstream_is_said_within_four_seconds_then_at_once_and_is_used_when_it_is_back() {
    let dead: Dead = measured().await;
    assert_eq!((&*answer(&dead.first).rcode, &*answer(&dead.first).ede), ("SERVFAIL", &[UNREACHABLE][..]));
    within(dead.first.after, Duration::from_millis(4500), "the first query");
    assert_eq!((&*answer(&dead.later).rcode, &*answer(&dead.later).ede), ("SERVFAIL", &[UNREACHABLE][..]));
    within(dead.later.after, Duration::from_millis(100), "a later query");
    within(dead.back.after.expect("it is used again"), Duration::from_secs(3), "to be used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_name_is_answered_soon_and_refreshed_although_a_client_never_stops_asking() {
    let stale: Stale = measured().await;
    within(stale.fresh.after.expect("the new address is seen"), Duration::from_secs(6), "the new address");
    for saw in [&stale.first, &stale.next] {
        let Answer { addresses, ttl, ede, .. } = answer(saw);
        assert_eq!((&addresses[..], *ttl, &ede[..]), (&[TRUTH][..], Some(30), &[STALE][..]));
        within(saw.after, Duration::from_millis(800), "a stale answer");
    }
    assert_eq!(stale.silent.failed, 0, "of {}", stale.silent.asked);
    within(stale.silent.p50, Duration::from_millis(50), "a stale answer under load");
    assert_eq!(stale.fresh.failed, 0, "of {}", stale.fresh.asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_on_one_cold_name_is_answered_and_the_upstream_asked_once() {
    let herd: Herd = measured().await;
    assert_eq!(herd.answered, usize::from(CLIENTS));
    assert_eq!(herd.asked, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_first_upstream_of_two_costs_clients_little() {
    let first: First = measured().await;
    for (what, spread) in
        [("slow", &first.slow), ("silent", &first.silent), ("lossy", &first.lossy), ("failing", &first.failing)]
    {
        let Spread { asked, good, p95, .. } = spread;
        assert_eq!(good, asked, "{what}");
        within(*p95, Duration::from_millis(500), what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_answer_is_completed_over_tcp_and_tc_is_never_cached() {
    let truncated: Truncated = measured().await;
    for saw in [&truncated.edns, &truncated.tcp] {
        let answer = answer(saw);
        assert_eq!((answer.truncated, answer.addresses.len()), (false, usize::from(ADDRESSES)));
    }
    let plain = answer(&truncated.plain);
    assert!(plain.truncated && plain.addresses.len() < usize::from(ADDRESSES), "{plain:?}");
    for saw in [&truncated.refused, &truncated.refused_again] {
        assert_eq!((&*answer(saw).rcode, answer(saw).truncated), ("SERVFAIL", false));
        within(saw.after, Duration::from_millis(4500), "an upstream without TCP");
    }
    assert_eq!(truncated.asked, [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_another_id_question_or_source_is_not_believed() {
    let lies: Lies = measured().await;
    for saw in [&lies.id, &lies.question, &lies.source] {
        assert_eq!(answer(saw).addresses, [TRUTH], "{saw:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_no_is_remembered_and_does_not_outlive_its_cause_under_load() {
    let negative: Negative = measured().await;
    assert!((1..=3).contains(&negative.failing), "{} queries upstream", negative.failing);
    within(negative.recovered.after.expect("it recovers"), Duration::from_millis(5500), "the recovery");
    within(negative.appeared.after.expect("it appears"), Duration::from_secs(3), "the new name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greedy_pod_takes_nothing_from_another_one() {
    let Greedy { cached, cold } = measured().await;
    assert_eq!((cached.failed, cold.failed), (0, 0), "of {} and {}", cached.asked, cold.asked);
    within(cached.p50, Duration::from_millis(50), "a cached name");
    within(cold.p50, Duration::from_millis(50), "a cold name");
}

/// That another server shows something else, or the same, tells that it is the server which is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_code_measures_unbound() {
    let Some(program) = Program::unbound(Kind::Unbound) else {
        assert!(std::env::var_os("CI").is_none(), "CI has to have unbound");
        return say("SKIPPED: unbound is not installed");
    };
    let herd = Herd::measure(&program).await.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(herd.answered, usize::from(CLIENTS));
    assert!((1..=2).contains(&herd.asked), "{} queries of two threads", herd.asked);
    let truncated = Truncated::measure(&program).await.unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(truncated.asked, [1, 1]);
    assert_eq!(answer(&truncated.tcp).addresses.len(), usize::from(ADDRESSES));
}
