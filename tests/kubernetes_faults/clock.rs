//! The node's clock jumps.

use serde_json::json;

use super::support::clock::Clock;
use super::support::fed::SHOP;
use super::support::objects::service;
use super::support::server::Server;
use super::support::steady::{metric, until, until_answered, until_ready, until_well};
use super::{MOMENTS, RECOVERY, WEB, cluster, steadily};

#[test]
fn a_clock_that_jumps_to_and_fro_changes_nothing() {
    let fed = cluster(&json!({}));
    let Some(clock) = Clock::new(fed.dir.path()) else { return };
    let api = fed.api.double();
    // kube reads the file again when its copy is a minute old, by the clock.
    let token = fed.dir.path().join("token");
    std::fs::write(&token, api.token()).expect("a file");
    std::fs::write(fed.kubeconfig(), api.kubeconfig_with_token_file(&token)).expect("a kubeconfig");
    let mut server = Server::spawn_in(&fed.config, Some(&fed.kubeconfig()), &clock.env()).expect("a process");
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    let steady = steadily(&fed);
    for (at, offset) in ["-4000d", "+4000d", "+0d"].into_iter().enumerate() {
        let year = |log: &str| log.lines().last().map(|line| line[..4].to_owned());
        let before = year(&server.log());
        clock.jump(offset);
        let refused = format!("rotated-{at}");
        api.set_token(&refused);
        api.cut();
        until_ready(&server, 200, &["trouble: here ", "services", "401"], MOMENTS);
        until("a line of another year, as the clock has jumped", MOMENTS, || year(&server.log()) != before);
        std::fs::write(&token, &refused).expect("a file");
        let address = format!("10.0.6.{at}");
        fed.api.apply(service("shop", "web", "segment", &address));
        until_answered(fed.at, (SHOP, WEB, 0, &[&address]), RECOVERY);
        until_well(&server, RECOVERY);
        until("an age of moments", MOMENTS, || metric(&server, "segdns_source_age_seconds", &[]) < 60.0);
    }
    steady.end();
    server.stop().expect("it stops");
}
