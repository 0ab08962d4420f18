//! What is answered after a start with a saved state, with API servers away and not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::fed::{FAR, Fed, NXDOMAIN, SERVFAIL, SHOP};
use super::support::objects::{service, slice};
use super::support::server::Server;
use super::support::steady::{
    Heard, Steady, Want, ask, metric, readyz, until, until_answered, until_ready, until_well,
};
use super::{MOMENTS, ONLY, OUTSIDE, RECOVERY, WEB, clusters, saved, state, until_saved};

/// Asks from the start of a server until it answers; everything before is silence or SERVFAIL.
fn first_answer(fed: &Fed, name: &str) -> Heard {
    let begun = Instant::now();
    loop {
        match ask(fed.at, SHOP, name) {
            Ok(heard) if heard.code != SERVFAIL => return heard,
            other => assert!(begun.elapsed() < RECOVERY, "{name}: {other:?}"),
        }
    }
}

#[test]
fn a_start_without_api_servers_serves_what_was_saved_and_then_catches_up_in_one_step() {
    let (fed, there) = saved(&json!({}));
    fed.api.double().stop();
    there.double().stop();
    let begun = Instant::now();
    let server = fed.spawn();
    let heard = first_answer(&fed, ONLY);
    let took = begun.elapsed();
    assert!(heard.is(0, &["10.5.0.1"]), "a name of a peer: {heard:?}");
    // Nobody is waited for: peers would be for ten seconds.
    assert!(took < MOMENTS, "{took:?}");
    eprintln!("answered by the saved state {took:.1?} after the start");
    let wants: [Want<'_>; 4] = [
        (SHOP, WEB, 0, &["10.0.0.1"]),
        (FAR, WEB, NXDOMAIN, &[]),
        (SHOP, ONLY, 0, &["10.5.0.1"]),
        (SHOP, OUTSIDE, 0, &["192.0.2.80"]),
    ];
    let steady = Steady::start(fed.at, &wants);
    until_ready(&server, 200, &["ok\n", "saved state of ", "here's API server", "refused"], MOMENTS);
    assert_eq!(metric(&server, "segdns_saved_state", &[]) as u8, 1);
    let mtime = || std::fs::metadata(state(&fed)).and_then(|file| file.modified()).expect("a file");
    let before = mtime();
    fed.api.apply(service("shop", "new", "segment", "10.0.0.3"));
    assert!(steady.end() > 3);
    let back = Instant::now();
    in_one_step(&fed);
    eprintln!("caught up {:.1?} after the API server was back", back.elapsed());
    // The peer is still away, and what was last known of it counts.
    fed.is(SHOP, ONLY, 0, &["10.5.0.1"]);
    until("no saved state in /readyz", MOMENTS, || !readyz(&server).1.contains("saved state"));
    assert_eq!(metric(&server, "segdns_saved_state", &[]) as u8, 0);
    there.apply(slice("shop", "only", "10.5.0.2"));
    there.double().resume();
    until_answered(fed.at, (SHOP, ONLY, 0, &["10.5.0.2"]), RECOVERY);
    until_well(&server, RECOVERY);
    until("a new saved state", 2 * RECOVERY, || mtime() > before);
    server.stop().expect("it stops");
}

/// Changes several things while the API server is away, brings it back, and sees that they come together.
fn in_one_step(fed: &Fed) {
    fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
    fed.api.apply_all((0..40).map(|n| service("shop", &format!("n{n}"), "segment", "10.0.5.1")));
    let both = |at| {
        let [web, new] = [WEB, "n39.shop.mesh.acme"].map(|name| ask(at, SHOP, name).expect("an answer"));
        (web.is(0, &["10.0.0.2"]), new.is(0, &["10.0.5.1"]))
    };
    let (at, over) = (fed.at, Arc::new(AtomicBool::new(false)));
    let end = Arc::clone(&over);
    let watching = std::thread::spawn(move || {
        let mut all = Vec::new();
        while !end.load(Ordering::Relaxed) {
            all.push(both(at));
        }
        all
    });
    fed.api.double().resume();
    until("all changes", RECOVERY, || both(at) == (true, true));
    over.store(true, Ordering::Relaxed);
    let all = watching.join().expect("it asked to the end");
    // They are asked one after the other, so the second may be new when the first was not, once.
    let mixed = all.iter().filter(|(web, new)| web != new).count();
    assert!(mixed <= 1 && all.iter().all(|(web, new)| *new || !*web), "{all:?}");
}

#[test]
fn from_the_first_answer_on_peers_names_are_there() {
    // Often, because what goes wrong here does so for a moment.
    let (fed, there) = saved(&json!({"segments": {"zones": ["mesh.acme"]}}));
    fed.api.double().stop();
    there.double().stop();
    for _ in 0..5 {
        let server = fed.spawn();
        let heard = first_answer(&fed, ONLY);
        assert!(heard.is(0, &["10.5.0.1"]), "{heard:?}");
        drop(server);
    }
}

#[test]
fn what_was_deleted_while_it_was_away_is_gone() {
    let (fed, there) = saved(&json!({}));
    fed.api.double().stop();
    there.double().stop();
    let server = fed.spawn();
    until_answered(fed.at, (SHOP, ONLY, 0, &["10.5.0.1"]), RECOVERY);
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    fed.api.delete("v1", "Service", "shop", "web");
    fed.part("there");
    fed.api.double().resume();
    until_answered(fed.at, (SHOP, WEB, NXDOMAIN, &[]), RECOVERY);
    until_answered(fed.at, (SHOP, ONLY, NXDOMAIN, &[]), MOMENTS);
    until_well(&server, RECOVERY);
    server.stop().expect("it stops");
}

#[test]
fn a_local_cluster_that_is_back_does_not_wait_for_a_peer_that_is_not() {
    let (fed, there) = saved(&json!({"sources": {"kubernetes": {"peers": {"wait": "5m"}}}}));
    fed.api.double().stop();
    there.double().stop();
    let server = fed.spawn();
    until_answered(fed.at, (SHOP, ONLY, 0, &["10.5.0.1"]), RECOVERY);
    fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
    fed.api.double().resume();
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.2"]), RECOVERY);
    fed.is(SHOP, ONLY, 0, &["10.5.0.1"]);
    server.stop().expect("it stops");
}

#[test]
fn a_peer_that_is_away_counts_as_it_was_saved() {
    let (fed, there) = saved(&json!({"sources": {"kubernetes": {"peers": {"wait": "2s"}}}}));
    there.double().stop();
    fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
    let begun = Instant::now();
    let mut server = fed.spawn();
    let heard = first_answer(&fed, ONLY);
    assert!(heard.is(0, &["10.5.0.1"]), "{heard:?}");
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2), "{took:?}");
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    fed.is(SHOP, WEB, 0, &["10.0.0.2"]);
    until_ready(&server, 200, &["pending: there ", "services", "refused"], MOMENTS);
    assert!(!readyz(&server).1.contains("saved state"), "{:?}", readyz(&server));
    there.apply(slice("shop", "only", "10.5.0.2"));
    there.double().resume();
    until_answered(fed.at, (SHOP, ONLY, 0, &["10.5.0.2"]), RECOVERY);
    server.stop().expect("it stops");
}

/// Starts with the API server up. What was answered first, unless it was so slow that the saved state was served: then
/// there is nothing to see.
fn fresh(fed: &Fed) -> Option<(Server, Heard)> {
    let mut server = fed.spawn();
    let heard = first_answer(fed, WEB);
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    let served = server.log().contains("the saved one is served");
    (!served).then_some((server, heard))
}

#[test]
fn an_api_server_that_answers_has_precedence() {
    let (fed, _there) = saved(&json!({}));
    fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
    let (server, heard) = (0..5).find_map(|_| fresh(&fed)).expect("an API server that answers within a second");
    assert!(heard.is(0, &["10.0.0.2"]), "{heard:?}");
    until_well(&server, MOMENTS);
    server.stop().expect("it stops");
}

#[test]
fn custom_resources_that_are_not_there_yet_take_no_saved_segments_away() {
    let (fed, _there) = saved(&json!({}));
    let api = fed.api.double();
    // As an API server that has just been started says before it has read its definitions.
    let early = json!({"kind": "Status", "status": "Failure", "code": 404, "message": "404 page not found"});
    let early = super::support::apiserver::Failure::Status(early);
    let while_it_starts = super::support::apiserver::Times::For(Duration::from_secs(3));
    api.fail("segments.admin.solo.io", None, early, while_it_starts);
    let server = fed.spawn();
    let heard = first_answer(&fed, WEB);
    assert!(heard.is(0, &["10.0.0.1"]), "{heard:?}");
    let steady = Steady::start(fed.at, &[(SHOP, WEB, 0, &["10.0.0.1"]), (FAR, WEB, NXDOMAIN, &[])]);
    until_ready(&server, 200, &["saved state of "], MOMENTS);
    until_well(&server, 2 * RECOVERY);
    steady.end();
    server.stop().expect("it stops");
}

#[test]
fn what_was_changed_last_is_saved_at_the_end() {
    let (fed, there) = clusters(&json!({}));
    let server = fed.start();
    until_saved(&fed, 2);
    fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.2"]), MOMENTS);
    // Long before it would be saved by itself.
    server.stop().expect("it stops");
    fed.api.double().stop();
    there.double().stop();
    let server = fed.spawn();
    let heard = first_answer(&fed, WEB);
    assert!(heard.is(0, &["10.0.0.2"]), "{heard:?}");
    server.stop().expect("it stops");
    // What was only restored is not saved as new: the next start finds the same.
    let server = fed.spawn();
    assert_eq!(first_answer(&fed, ONLY), Heard { code: 0, addresses: vec!["10.5.0.1".to_owned()], ede: None });
    server.stop().expect("it stops");
}
