//! The file itself: when it is written, and what is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::support::fed::{Fed, Lab, SERVFAIL, SHOP};
use super::support::objects::service;
use super::support::server::Server;
use super::support::steady::{ask, readyz, until, until_answered, until_ready, until_well};
use super::{MOMENTS, NOT_READY, ONLY, OUTSIDE, RECOVERY, WEB, clusters, head, refusal, saved, state, until_saved};

/// The same state with other words in its head, whose checksum is right.
fn with_head(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let lines: Vec<&[u8]> = bytes.splitn(4, |byte| *byte == b'\n').collect();
    let mut head: Value = serde_json::from_slice(lines[1]).expect("a head in JSON");
    change(&mut head);
    let mut out = [lines[0], b"\n", head.to_string().as_bytes(), b"\n"].concat();
    let sum: String = digest(&SHA256, &out).as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    out.extend_from_slice(sum.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(lines[3]);
    out
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// All that may be wrong with the file, and the words of the log on it.
fn spoilt(good: &[u8]) -> Vec<(Vec<u8>, [&'static str; 2])> {
    const TORN: [&str; 2] = ["it is torn", "check the disk"];
    let body = good.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2).map_or(0, |(at, _)| at + 1);
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    let old = text(&good[..40]).replace("format 3", "format 0").into_bytes();
    let node = |head: &mut Value| head["node"] = json!("node2");
    vec![
        (Vec::new(), TORN),
        (good[..10].to_vec(), TORN),
        (good[..60].to_vec(), TORN),
        (good[..body + 1].to_vec(), TORN),
        (good[..good.len() - 1].to_vec(), TORN),
        ([good, b"x"].concat(), TORN),
        (flipped(good, 60), TORN),
        (flipped(good, body + 100), TORN),
        (flipped(good, good.len() - 1), TORN),
        ([&old, &good[40..]].concat(), ["it has format 0", "the next complete state replaces it"]),
        (b"dear diary\n".to_vec(), ["it does not begin with", "move it away"]),
        (vec![0; 4096], ["it does not begin with", "move it away"]),
        (with_head(good, node), ["node \"node2\"", "give each its own sources.snapshot"]),
        (with_head(good, |head| head["cluster"] = json!("elsewhere")), ["elsewhere", "correct cluster.name"]),
    ]
}

/// Without a saved state nothing is known, and the log says why, with the file's name and the remedy.
fn is_refused(fed: &Fed, server: &Server, words: [&str; 2]) {
    until("a refusal in the log", MOMENTS, || refusal(server).is_some());
    let line = refusal(server).unwrap_or_default();
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
    assert!(line.contains("saved/state"), "{line}");
    until_ready(server, 503, &["pending: first complete state of here"], MOMENTS);
    let heard = ask(fed.at, SHOP, WEB).expect("an answer");
    assert!(heard.is(SERVFAIL, &[]) && heard.ede == Some(NOT_READY), "{heard:?}");
    fed.is(SHOP, OUTSIDE, 0, &["192.0.2.80"]);
}

#[test]
fn what_is_torn_old_or_somebody_elses_is_refused_and_replaced() {
    let (fed, _there) = saved(&json!({"segments": {"zones": ["mesh.acme"]}}));
    let good = fs::read(state(&fed)).expect("a saved state");
    fed.api.double().stop();
    let all = spoilt(&good);
    let last = all.len() - 1;
    for (at, (bytes, words)) in all.into_iter().enumerate() {
        fs::write(state(&fed), &bytes).expect("a spoilt state");
        let server = fed.spawn();
        is_refused(&fed, &server, words);
        assert!(fs::read(state(&fed)).expect("a file") == bytes, "what is refused is left as it is");
        if at == last {
            fed.api.double().resume();
            until_answered(fed.at, (SHOP, ONLY, 0, &["10.5.0.1"]), RECOVERY);
            // What stands there until then names two clusters, too.
            let own = || head(&fed).is_some_and(|head| head["cluster"] == json!("here"));
            until("a state of its own", 2 * RECOVERY, own);
        }
    }
}

#[test]
fn a_clock_that_jumped_decides_nothing() {
    let (fed, there) = saved(&json!({}));
    let good = fs::read(state(&fed)).expect("a saved state");
    for written in ["1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z"] {
        fs::write(state(&fed), with_head(&good, |head| head["written"] = json!(written))).expect("a state");
        fed.api.double().stop();
        there.double().stop();
        let server = fed.spawn();
        until_answered(fed.at, (SHOP, ONLY, 0, &["10.5.0.1"]), RECOVERY);
        until_ready(&server, 200, &[&format!("saved state of {written} is served")], MOMENTS);
        fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
        fed.api.double().resume();
        there.double().resume();
        until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.2"]), RECOVERY);
        until_well(&server, 2 * RECOVERY);
        // The new state replaces one that claims to be newer.
        until("a state of now", 2 * RECOVERY, || {
            head(&fed).is_some_and(|head| {
                head["written"].as_str().is_some_and(|text| text.starts_with("20") && text < "2900")
            })
        });
        server.stop().expect("it stops");
        fed.api.apply(service("shop", "web", "segment", "10.0.0.1"));
    }
}

#[test]
fn it_is_private_soon_there_and_not_rewritten_for_nothing() {
    let (fed, _there) = clusters(&json!({}));
    let server = fed.start();
    until_saved(&fed, 2);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let path = state(&fed);
    assert_eq!((mode(&path), mode(path.parent().expect("a directory"))), (0o600, 0o700));
    let mtime = || fs::metadata(&path).and_then(|file| file.modified()).expect("a file");
    let before = mtime();
    let web = service("shop", "web", "segment", "10.0.0.2");
    fed.api.apply(web.clone());
    let took = until("a new saved state", Duration::from_secs(8), || mtime() > before);
    eprintln!("saved {took:.1?} after a change");
    // What changes nothing but versions is no reason to write.
    let before = mtime();
    let quiet = Instant::now();
    fed.api.apply(web);
    until("twice the time between two saves", Duration::from_secs(20), || {
        assert_eq!(mtime(), before, "it is written again");
        quiet.elapsed() > Duration::from_secs(11)
    });
    server.stop().expect("it stops");
    assert_eq!(mtime(), before, "it is written again at the end");
}

/// A server whose state cannot be saved works, and says so.
fn works_unsaved(fed: &Fed, words: &[&str]) -> Server {
    let server = fed.start();
    fed.is(SHOP, WEB, 0, &["10.0.0.1"]);
    until_ready(&server, 200, &[&["ok\n", "snapshot"], words].concat(), MOMENTS);
    let log = server.log();
    let said = log.lines().any(|line| line.contains("WARN") && words.iter().all(|word| line.contains(word)));
    assert!(said, "{words:?}: {log}");
    server
}

#[test]
fn a_directory_that_is_none_or_missing_costs_nothing_but_the_saved_state() {
    let mut fed = Fed::new(Lab::Double, &json!({}));
    let file = fed.dir.path().join("file");
    fs::write(&file, "a file").expect("a file");
    fed.config["sources"]["snapshot"] = json!(file);
    works_unsaved(&fed, &["correct sources.snapshot"]).stop().expect("it stops");
    fed.config["sources"]["snapshot"] = json!(fed.dir.path().join("a/b/c"));
    let server = fed.start();
    until("a directory and a state", MOMENTS, || fed.dir.path().join("a/b/c/state").is_file());
    until_well(&server, MOMENTS);
    server.stop().expect("it stops");
}

#[test]
fn a_state_that_cannot_be_read_is_refused() {
    let fed = Fed::new(Lab::Double, &json!({"segments": {"zones": ["mesh.acme"]}}));
    fs::create_dir_all(state(&fed)).expect("a directory");
    fed.api.double().stop();
    let server = fed.spawn();
    is_refused(&fed, &server, ["no regular file", "move it away"]);
    fed.api.double().resume();
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.1"]), RECOVERY);
    until_ready(&server, 200, &["snapshot", "cannot write it"], MOMENTS);
    // As soon as it can be written, it is.
    fs::remove_dir(state(&fed)).expect("it is empty");
    until_well(&server, 2 * RECOVERY);
    assert!(state(&fed).is_file());
    server.stop().expect("it stops");
}

/// A small file system that is taken away when dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "segdns"]).arg(at).output();
        mount.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_or_read_only_disk_keeps_the_state_before() {
    let fed = Fed::new(Lab::Double, &json!({}));
    let dir = fed.dir.path().join("saved");
    let Some(_small) = Small::mount(&dir) else {
        eprintln!("SKIPPED: this test mounts a small file system, which this machine does not allow");
        return;
    };
    let mut server = fed.start();
    until("a saved state", MOMENTS, || state(&fed).is_file());
    let good = fs::read(state(&fed)).expect("a state");
    let filler = dir.join("filler");
    let full = fs::write(&filler, vec![0; 1 << 20]);
    assert!(full.is_err(), "the disk is full");
    fed.api.apply_all((0..50).map(|n| service("shop", &format!("n{n}"), "segment", "10.0.5.1")));
    until_answered(fed.at, (SHOP, "n49.shop.mesh.acme", 0, &["10.0.5.1"]), MOMENTS);
    until_ready(&server, 200, &["trouble: here snapshot", "free space there"], 2 * RECOVERY);
    assert!(fs::read(state(&fed)).expect("a state") == good, "the state before is kept");
    fs::remove_file(&filler).expect("the filler");
    until_well(&server, 3 * RECOVERY);
    assert!(fs::read(state(&fed)).expect("a state") != good);
    let remount = |how: &str| Command::new("mount").args(["-o", how]).arg(&dir).status();
    assert!(remount("remount,ro").is_ok_and(|status| status.success()));
    fed.api.apply(service("shop", "web", "segment", "10.0.0.2"));
    until_ready(&server, 200, &["trouble: here snapshot", "mount it writable"], 2 * RECOVERY);
    // Nor does it keep the next start from anything.
    drop(server);
    server = fed.spawn();
    until_answered(fed.at, (SHOP, WEB, 0, &["10.0.0.2"]), RECOVERY);
    assert_eq!(readyz(&server).0, 200);
    server.stop().expect("it stops");
}
