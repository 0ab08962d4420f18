//! Every fixture of `tests/fixtures`, against the binary: one test per directory.
//!
//! What a fixture is and what is checked beyond its rows is described in `tests/fixtures/README.md`. A fixture whose callers
//! are outside 127.0.0.0/8 needs root and `ip`, and is skipped without, visibly (in CI only with `SEGDNS_SKIP_NETNS=1`).
//! `SEGDNS_BIN` names another build of
//! the binary, `SEGDNS_KEEP=1` keeps configurations and logs.

mod support;

use support::fixture;

macro_rules! fixtures {
    ($($test:ident => $directory:literal,)+) => {
        /// Directories that have a test.
        const DIRECTORIES: &[&str] = &[$($directory),+];
        $(#[test]
        fn $test() {
            fixture::run($directory);
        })+
    };
}

fixtures! {
    addresses => "addresses",
    aliases => "aliases",
    answers => "answers",
    bookinfo_flat => "bookinfo-flat",
    bookinfo_segments => "bookinfo-segments",
    bookinfo_standalone_flat => "bookinfo-standalone-flat",
    bookinfo_standalone_segments => "bookinfo-standalone-segments",
    callers => "callers",
    cluster_invalid => "cluster-invalid",
    cluster_names => "cluster-names",
    entries => "entries",
    external_names => "external-names",
    forwarding => "forwarding",
    httpbin_global => "httpbin-global",
    httpbin_segment_scope => "httpbin-segment-scope",
    httpbin_takeover => "httpbin-takeover",
    namespace_segments => "namespace-segments",
    peers => "peers",
    renamed => "renamed",
    search_paths => "search-paths",
    search_paths_one_label => "search-paths-one-label",
    segment_validity => "segment-validity",
    service_entries_all => "service-entries-all",
    takeover => "takeover",
    unknown_callers => "unknown-callers",
    visibility => "visibility",
    zone_collision => "zone-collision",
}

#[test]
fn every_directory_has_a_test() {
    let entries = std::fs::read_dir(fixture::root()).expect("tests/fixtures").map(|e| e.expect("an entry"));
    let mut found: Vec<String> =
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    found.sort_unstable();
    assert_eq!(found, DIRECTORIES, "directories of tests/fixtures, and those with a test in tests/fixtures.rs");
}
