//! The API server is away, restarts, breaks connections, says nothing, or goes back in time.

use std::time::{Duration, Instant};

use serde_json::json;

use super::support::apiserver::{Observed, Verb};
use super::support::fed::{Fed, SERVFAIL, SHOP};
use super::support::objects::service;
use super::support::server::Server;
use super::support::steady::{Steady, Want, ask, metric, readyz, until, until_answered, until_ready, until_well};
use super::{KEEP, MOMENTS, OUTSIDE, RECOVERY, WEB, change, cluster, steadily, until_changed, until_watched, well};

/// Not Ready (RFC 8914).
const NOT_READY: u16 = 14;

#[test]
fn after_a_restart_that_ends_streams_and_refuses_for_a_while_everything_is_followed_again() {
    let fed = cluster(&json!({}));
    let server = fed.start();
    let steady = steadily(&fed);
    let refused = Duration::from_millis(1500);
    fed.api.double().restart(refused, refused);
    let healthy = Instant::now() + 2 * refused;
    change(&fed);
    until_ready(&server, 200, &["trouble:"], MOMENTS);
    let took = until_changed(&fed, healthy, RECOVERY);
    until_well(&server, RECOVERY);
    well("restarted for 3 s, recovered", took, steady, server);
}

#[test]
fn broken_connections_are_resumed_without_a_new_list() {
    let fed = cluster(&json!({}));
    let server = fed.start();
    let api = fed.api.double();
    let lists = |log: &Observed| {
        let streamed = log.of(Verb::Watch, "*").filter(|r| r.query.contains_key("sendInitialEvents")).count();
        streamed + log.count(Verb::List, "*")
    };
    let before = api.observed(lists);
    let steady = steadily(&fed);
    let begun = Instant::now();
    api.cut();
    fed.api.apply(service("shop", "web", "segment", "10.0.0.5"));
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.5"]), MOMENTS);
    until_watched(api, begun);
    let begun = Instant::now();
    api.cut_mid_line();
    change(&fed);
    let took = until_changed(&fed, begun, MOMENTS);
    assert_eq!(api.observed(lists), before, "lists");
    well("cut in the middle of a line, recovered", took, steady, server);
}

/// The API server is away for as long as it takes to be noticed, and things change meanwhile.
fn outage(compact: bool) {
    let fed = cluster(&json!({}));
    let server = fed.start();
    let api = fed.api.double();
    let steady = steadily(&fed);
    api.stop();
    change(&fed);
    if compact {
        api.compact();
    }
    let address = api.address().to_string();
    until_ready(&server, 200, &["ok\n", "trouble: here ", "services", &address, "refused"], RECOVERY);
    assert_eq!(metric(&server, "segdns_source_trouble", &["kind=\"services\"", "reason=\"unreachable\""]) as u8, 1);
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    let back = Instant::now();
    api.resume();
    let took = until_changed(&fed, back, RECOVERY);
    until_well(&server, RECOVERY);
    well(if compact { "away, compacted, recovered" } else { "away, recovered" }, took, steady, server);
}

#[test]
fn what_changed_while_it_was_away_is_answered_soon_after() {
    outage(false);
}

#[test]
fn what_changed_while_it_was_away_is_answered_even_if_its_history_is_gone() {
    outage(true);
}

/// Forwarding works, and mesh names are SERVFAIL with a reason, while nothing is known.
fn nothing_is_known(fed: &Fed, server: &Server) {
    until_ready(server, 503, &["pending: first complete state of here"], MOMENTS);
    let heard = ask(fed.at, SHOP, WEB).expect("an answer");
    assert!(heard.is(SERVFAIL, &[]) && heard.ede == Some(NOT_READY), "{heard:?}");
    fed.is(SHOP, OUTSIDE, 0, &["192.0.2.80"]);
}

#[test]
fn unreachable_at_the_start_it_is_named_until_it_comes() {
    let fed = cluster(&json!({"segments": {"zones": ["mesh.acme"]}}));
    let api = fed.api.double();
    api.stop();
    let mut server = fed.spawn();
    let address = api.address().to_string();
    until_ready(&server, 503, &["pending: here ", "services", &address, "refused"], MOMENTS);
    nothing_is_known(&fed, &server);
    let wants: [Want<'_>; 2] = [(SHOP, WEB, SERVFAIL, &[]), (SHOP, OUTSIDE, 0, &["192.0.2.80"])];
    let steady = Steady::start(fed.at, &wants);
    // Long enough for the longest wait between two attempts.
    let errors = || metric(&server, "segdns_source_errors_total", &["kind=\"services\""]);
    until("eight refused attempts", 4 * RECOVERY, || errors() >= 8.0);
    let asked = steady.end();
    assert!(asked > 100, "{asked}");
    let back = Instant::now();
    api.resume();
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.1"]), RECOVERY);
    eprintln!("unreachable at the start, recovered: {:.1?}", back.elapsed());
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    assert!(server.log().contains(&address), "{}", server.tail());
    server.stop().expect("it stops");
}

#[test]
fn without_known_zones_outside_names_are_forwarded_before_anything_is_known() {
    let fed = cluster(&json!({}));
    fed.api.double().stop();
    let server = fed.spawn();
    until_ready(&server, 503, &["refused"], MOMENTS);
    // Nobody knows yet that this is a mesh name; the upstream does not either.
    fed.is(SHOP, OUTSIDE, 0, &["192.0.2.80"]);
    let api = fed.api.double();
    api.resume();
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.1"]), RECOVERY);
    server.stop().expect("it stops");
}

#[test]
fn a_list_that_hangs_is_named_and_nothing_is_guessed() {
    for resource in ["*", "services"] {
        let fed = cluster(&json!({"segments": {"zones": ["mesh.acme"]}}));
        let api = fed.api.double();
        api.hang(resource, true);
        let mut server = fed.spawn();
        let asked = |log: &Observed| log.count(Verb::Watch, "services") > 0;
        api.wait_for("a request", MOMENTS, asked).unwrap_or_else(|error| panic!("{error}"));
        until_ready(&server, 503, &["pending: here ", "services", "no complete list yet"], MOMENTS);
        nothing_is_known(&fed, &server);
        api.hang(resource, false);
        server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
        fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
        server.stop().expect("it stops");
    }
}

#[test]
fn a_list_that_hangs_for_long_is_a_trouble_of_its_own() {
    let fed = cluster(&json!({}));
    fed.api.double().hang("services", true);
    let server = fed.spawn();
    until_ready(&server, 503, &["pending: here services: ", "no answer"], Duration::from_secs(40));
    assert_eq!(metric(&server, "segdns_source_trouble", &["kind=\"services\"", "reason=\"unreachable\""]) as u8, 1);
}

#[test]
fn a_slow_list_is_waited_for() {
    let fed = cluster(&json!({"segments": {"zones": ["mesh.acme"]}}));
    let api = fed.api.double();
    api.slow(Duration::from_millis(300));
    let mut server = fed.spawn();
    until_ready(&server, 503, &["pending"], MOMENTS);
    // A part of a list is no state: nothing is answered by it.
    loop {
        let heard = ask(fed.at, SHOP, KEEP).expect("an answer");
        if !heard.is(SERVFAIL, &[]) {
            assert!(heard.is(0, &["10.0.0.9"]), "{heard:?}");
            break;
        }
        assert!(server.ended().is_none(), "{}", server.tail());
    }
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    server.stop().expect("it stops");
}

#[test]
fn a_watch_that_says_nothing_is_resumed_and_then_listed_anew() {
    let fed = cluster(&json!({"sources": {"kubernetes": {"watchSilence": "1s"}}}));
    let api = fed.api.double();
    api.bookmarks(Some(Duration::from_millis(250)));
    let server = fed.start();
    let steady = steadily(&fed);
    let frozen = Instant::now();
    api.freeze("*");
    change(&fed);
    until_watched(api, frozen);
    let noticed = frozen.elapsed();
    assert!(noticed < MOMENTS, "{noticed:?}");
    // Lists are answered, though no watch says a word.
    let took = until_changed(&fed, frozen, 2 * MOMENTS);
    api.thaw("*");
    fed.api.apply(service("shop", "web", "segment", "10.0.0.6"));
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.6"]), MOMENTS);
    eprintln!("silent: noticed after {noticed:.1?}");
    well("silent, caught up by a list", took, steady, server);
}

#[test]
fn an_api_server_that_went_back_in_time_is_believed() {
    let fed = cluster(&json!({"sources": {"kubernetes": {"watchSilence": "1s"}}}));
    let api = fed.api.double();
    api.bookmarks(Some(Duration::from_millis(250)));
    let server = fed.start();
    let backup = api.version();
    let begun = Instant::now();
    change(&fed);
    until_changed(&fed, begun, MOMENTS);
    let steady = steadily(&fed);
    let restored = Instant::now();
    api.rewind(backup);
    let wants: [Want<'_>; 3] = [
        (SHOP, WEB, 0, &["10.0.0.1"]),
        (SHOP, "gone.shop.mesh.acme", 0, &["10.0.0.8"]),
        (SHOP, "new.shop.mesh.acme", 3, &[]),
    ];
    for want in wants {
        until_answered(fed.at, want, 2 * MOMENTS);
    }
    let took = restored.elapsed();
    fed.api.apply(service("shop", "web", "segment", "10.0.0.6"));
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.6"]), MOMENTS);
    assert_eq!(readyz(&server).0, 200);
    well("back in time with watchSilence 1s, caught up", took, steady, server);
}
