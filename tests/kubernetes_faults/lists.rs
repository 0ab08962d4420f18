//! How a list comes, and how often it is asked for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::apiserver::{Failure, Observed, Streaming, Times, Verb};
use super::support::fed::SHOP;
use super::support::objects::service;
use super::support::steady::{metric, until, until_answered};
use super::{MOMENTS, RECOVERY, WEB, change, cluster, steadily, until_changed, well};

/// How often a list in a stream of Services was asked for.
fn streams(log: &Observed) -> usize {
    log.of(Verb::Watch, "services").filter(|r| r.query.contains_key("sendInitialEvents")).count()
}

/// An API server that does not list in streams is asked for pages, and not again for streams.
fn by_pages(streaming: Streaming, attempts: usize) {
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    api.streaming_lists(streaming);
    let server = fed.start();
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    let steady = steadily(&fed);
    // Twice everything has to be listed anew.
    for round in 0..2 {
        api.stop();
        if round == 0 {
            change(&fed);
        }
        fed.api.apply(service("shop", "late", "segment", &format!("10.0.1.{round}")));
        api.compact();
        api.resume();
        until_answered(fed.at, (SHOP, "late.shop.mesh.acme", 0, &[&format!("10.0.1.{round}")]), RECOVERY);
    }
    until_changed(&fed, Instant::now(), MOMENTS);
    let (streamed, pages, watches) =
        api.observed(|log| (streams(log), log.count(Verb::List, "services"), log.count(Verb::Watch, "services")));
    assert!(streamed <= attempts, "{streamed} lists in streams");
    assert!((3..=6).contains(&pages), "{pages} pages");
    assert!(watches <= attempts + 20, "{watches} watches");
    well("by pages", Duration::ZERO, steady, server);
}

#[test]
fn refused_lists_in_streams_come_by_pages() {
    by_pages(Streaming::Refused, 1);
}

#[test]
fn lists_in_streams_that_fail_for_ever_come_by_pages() {
    by_pages(Streaming::Broken, 2);
}

#[test]
fn a_page_that_has_expired_starts_the_list_over() {
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    api.streaming_lists(Streaming::Refused);
    let many = |n: usize| service("shop", &format!("s{n:04}"), "segment", &format!("10.1.{}.{}", n / 250, n % 250));
    api.apply_all((0..1200).map(many));
    api.slow(Duration::from_millis(400));
    let mut server = fed.spawn();
    let paged = |log: &Observed| log.of(Verb::List, "services").any(|r| r.query.contains_key("continue"));
    api.wait_for("a second page of services", 2 * RECOVERY, paged).unwrap_or_else(|error| panic!("{error}"));
    // The token of the third page is of a version that is no longer there.
    fed.api.delete("v1", "Service", "shop", "s0001");
    fed.api.apply(many(1200));
    api.compact();
    api.slow(Duration::ZERO);
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    fed.is(SHOP, "s0000.shop.mesh.acme", 0, &["10.1.0.0"]);
    fed.is(SHOP, "s0001.shop.mesh.acme", 3, &[]);
    fed.is(SHOP, "s1200.shop.mesh.acme", 0, &["10.1.4.200"]);
    let (expired, pages) = api.observed(|log| {
        let pages: Vec<_> = log.of(Verb::List, "services").map(|r| r.code).collect();
        (pages.iter().filter(|code| **code == Some(410)).count(), pages.len())
    });
    assert_eq!(expired, 1, "expired pages");
    assert!(pages <= 8, "{pages} pages");
    server.stop().expect("it stops");
}

#[test]
fn the_longer_it_fails_the_more_rarely_it_is_asked_and_not_by_all_at_once() {
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    let server = fed.start();
    let steady = steadily(&fed);
    let errors = |kind: &str| metric(&server, "segdns_source_errors_total", &[&format!("kind=\"{kind}\"")]);
    let kinds = ["services", "namespaces", "segments", "pods"];
    let begun = Instant::now();
    api.stop();
    until("ten seconds without a connection", Duration::from_secs(20), || begun.elapsed() > Duration::from_secs(10));
    let refused: Vec<f64> = kinds.iter().map(|kind| errors(kind)).collect();
    assert!(refused.iter().all(|count| (4.0..=12.0).contains(count)), "{refused:?}");
    api.fail("*", None, Failure::Unavailable, Times::Always);
    let resumed = Instant::now();
    api.resume();
    until("20 seconds of 503", Duration::from_secs(30), || resumed.elapsed() > Duration::from_secs(20));
    let asked: BTreeMap<String, Vec<Duration>> = api.observed(|log| {
        let mut asked: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
        for request in log.requests.iter().filter(|r| r.at > resumed) {
            asked.entry(request.resource.clone()).or_default().push(request.at - resumed);
        }
        asked
    });
    assert_eq!(asked.len(), 8, "{:?}", asked.keys());
    for (resource, times) in &asked {
        // One each 2.5 to 5 s: the waits do not begin anew with another sort of failure.
        assert!((3..=9).contains(&times.len()), "{resource}: {times:?}");
    }
    let mut last: Vec<Duration> = asked.values().filter_map(|times| times.last().copied()).collect();
    last.sort_unstable();
    let apart = last[last.len() - 1] - last[0];
    assert!(apart > Duration::from_millis(300), "all ask at once: {last:?}");
    api.heal();
    let healed = Instant::now();
    change(&fed);
    let took = until_changed(&fed, healed, RECOVERY);
    well("30 s of failures, recovered", took, steady, server);
}
