//! All that the fuzzers have kept (`fuzz/corpus`) is run again, with an ordinary compiler: no octets from outside make the
//! parsers panic, disagree or tell a secret. `fuzz/bodies.rs` says what has to hold for each kind.

#[path = "../fuzz/bodies.rs"]
mod bodies;
mod inside;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Runs a folder of the corpus, and names the files for which something does not hold.
fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder).expect("a corpus").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{} holds {} files only", folder.display(), files.len());
    let fails = |file: &Path| {
        let octets = fs::read(file).expect("a readable file");
        catch_unwind(AssertUnwindSafe(|| body(&octets))).is_err()
    };
    let failed: Vec<_> = files.iter().filter(|file| fails(file)).collect();
    assert!(failed.is_empty(), "these make {target} fail: {failed:?}");
}

#[test]
fn every_reader_makes_the_same_of_a_query() {
    replay("query", bodies::query);
}

#[test]
fn whatever_the_server_is_sent_gets_an_answer_that_parses_or_none() {
    replay("server", bodies::server);
}

#[test]
fn whatever_an_upstream_sends_is_kept_soundly_or_not_at_all() {
    replay("upstream", bodies::upstream);
}

#[test]
fn manifests_become_objects_or_faults_with_their_place() {
    replay("manifests", bodies::manifests);
}

#[test]
fn a_saved_state_is_used_or_refused_with_a_remedy() {
    replay("saved", bodies::saved);
}

#[test]
fn a_configuration_is_used_or_refused_in_one_line() {
    replay("config", bodies::config);
}

/// What fuzzing begins with is in today's formats. `SEGDNS_WRITE_SEEDS=1 cargo test --test corpus seeds` writes it anew.
#[test]
fn the_seeds_are_what_segdns_reads_and_writes_now() {
    let write = std::env::var_os("SEGDNS_WRITE_SEEDS").is_some();
    let mut all: Vec<(&str, Vec<Vec<u8>>)> = vec![("query", queries()), ("upstream", answers())];
    let asked = queries().into_iter().enumerate().map(|(at, query)| [vec![at as u8 % 8], query].concat());
    all.push(("server", asked.collect()));
    all.push(("manifests", texts(&["tests/fixtures", "deploy/demo"], |text| text.contains("kind:"))));
    all.push(("config", configurations()));
    all.push(("saved", states()));
    for (target, seeds) in all {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        if write {
            forget_seeds(&folder);
        }
        assert!(seeds.len() >= 20, "{} seeds for {target}", seeds.len());
        let names: BTreeSet<String> = (0..seeds.len()).map(|at| format!("seed-{at:03}")).collect();
        for (name, seed) in names.iter().zip(seeds) {
            let path = folder.join(name);
            if write {
                fs::write(&path, &seed).expect("a file");
            }
            assert!(
                fs::read(&path).is_ok_and(|kept| kept == seed),
                "{} is not what is made now: write the seeds anew (SEGDNS_WRITE_SEEDS=1)",
                path.display()
            );
        }
        assert_eq!(seeds_in(&folder), names, "{target}");
    }
}

fn seeds_in(folder: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").file_name());
    files.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("seed-")).collect()
}

fn forget_seeds(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    for name in seeds_in(folder) {
        fs::remove_file(folder.join(name)).expect("a file that goes");
    }
}

fn queries() -> Vec<Vec<u8>> {
    let names = [
        "svc-0.shop.mesh.acme",
        "SVC-2.Shop.MESH.acme",
        "secret.shop.mesh.acme",
        "svc-1.far.mesh.other",
        "mesh.acme",
        "shop.mesh.acme",
        "svc-0.corp.example",
        "svc-0.shop.svc.cluster.local",
        "svc-0.shop.mesh.acme.shop.svc.cluster.local",
        "_http._tcp.svc-0.shop.mesh.acme",
        "api.github.com",
        "",
        "version.bind",
        "1.0.2.10.in-addr.arpa",
    ];
    let mut all = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        for (step, rtype) in [1, 28, 33, 255].into_iter().enumerate() {
            all.push(inside::query(name, rtype, (at + step) % 2 == 0));
        }
    }
    let mut chaos = inside::query("version.bind", 16, false);
    let end = chaos.len();
    chaos[end - 1] = 3;
    let mut pointer = inside::query("a", 1, false);
    pointer.splice(12..15, [0xc0, 12]);
    all.extend([chaos, pointer, inside::query("svc-0.shop.mesh.acme", 252, true)]);
    all
}

fn answers() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for (at, name) in ["example.com", "api.github.com", "svc-0.other.svc.cluster.local", "1.0.2.10.in-addr.arpa"]
        .into_iter()
        .enumerate()
    {
        for ttl in [0, 1, 60, u32::MAX] {
            all.push(inside::told(name, Ok(ttl + at as u32 % 2 * u32::from(ttl < 2))).wire().to_vec());
        }
        all.push(inside::told(name, Err("com")).wire().to_vec());
        all.push(inside::query(name, 1, true));
    }
    all
}

/// The whole configuration, each of its sections alone, and each cut in its middle.
fn configurations() -> Vec<Vec<u8>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/segdns.yaml");
    let whole = fs::read_to_string(page).expect("a configuration");
    let mut all: Vec<String> = Vec::new();
    for line in whole.lines() {
        match all.last_mut().filter(|_| line.starts_with([' ', '#'])) {
            Some(section) => section.push_str(&format!("{line}\n")),
            None => all.push(format!("{line}\n")),
        }
    }
    all.push(whole.clone());
    all.iter().flat_map(|text| [text.as_bytes().to_vec(), text.as_bytes()[..text.len() / 2].to_vec()]).collect()
}

/// Texts of files below these folders, the short ones.
fn texts(folders: &[&str], wanted: fn(&str) -> bool) -> Vec<Vec<u8>> {
    let mut open: Vec<_> = folders.iter().map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f)).collect();
    let mut all = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|end| end == "yaml") {
            all.extend(fs::read_to_string(&path).ok().filter(|text| wanted(text) && text.len() < 3000));
        }
    }
    all.sort_by_key(String::len);
    all.dedup();
    all.truncate(60);
    all.into_iter().map(String::into_bytes).collect()
}

fn states() -> Vec<Vec<u8>> {
    let objects = [
        inside::segment("acme-segment", "mesh.acme", &["{service}.corp.example"]),
        inside::namespace("shop", &[(inside::SEGMENT, "acme-segment")]),
        inside::pod("shop", "a", &[inside::ip("10.1.0.1"), inside::ip("fd00::1")]),
        inside::slice("shop", "web", inside::ip("10.3.0.1"), true),
    ];
    let encode = |objects: &[segdns::mesh::object::Object]| {
        segdns::watch::saved::encode([("cluster1", objects.iter().cloned())], 0).bytes().to_vec()
    };
    let whole = encode(&objects);
    let mut all: Vec<_> = (0..=objects.len()).map(|to| encode(&objects[..to])).collect();
    all.extend((1..16).map(|part| whole[..whole.len() * part / 16].to_vec()));
    all
}
