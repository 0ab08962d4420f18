//! The node's clock jumps.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::support::fed::SHOP;
use super::support::objects::service;
use super::support::server::Server;
use super::support::steady::{metric, until, until_answered, until_ready, until_well};
use super::{MOMENTS, RECOVERY, WEB, cluster, steadily};

/// What makes up a process's clock, if it is installed.
fn library() -> Option<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").ok()?;
    let inside = |dir: PathBuf| dir.join("faketime/libfaketimeMT.so.1");
    libraries.filter_map(|dir| Some(inside(dir.ok()?.path()))).find(|path| path.is_file())
}

#[test]
fn a_clock_that_jumps_to_and_fro_changes_nothing() {
    let Some(library) = library() else {
        eprintln!("SKIPPED: this test needs libfaketime (package faketime)");
        return;
    };
    let fed = cluster(&json!({}));
    let api = fed.api.double();
    // kube reads the file again when its copy is a minute old, by the clock.
    let token = fed.dir.path().join("token");
    std::fs::write(&token, api.token()).expect("a file");
    std::fs::write(fed.kubeconfig(), api.kubeconfig_with_token_file(&token)).expect("a kubeconfig");
    let clock = fed.dir.path().join("clock");
    let jump = |offset: &str| std::fs::write(&clock, offset).expect("a file");
    jump("+0d");
    let env: [(&str, &Path); 4] = [
        ("LD_PRELOAD", &library),
        ("FAKETIME_TIMESTAMP_FILE", &clock),
        ("FAKETIME_NO_CACHE", Path::new("1")),
        // No clock that counts from the start of the system jumps.
        ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
    ];
    let mut server = Server::spawn_in(&fed.config, Some(&fed.kubeconfig()), &env).expect("a process");
    server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
    let steady = steadily(&fed);
    for (at, offset) in ["-4000d", "+4000d", "+0d"].into_iter().enumerate() {
        let year = |log: &str| log.lines().last().map(|line| line[..4].to_owned());
        let before = year(&server.log());
        jump(offset);
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
