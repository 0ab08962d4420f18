//! `segdns check`, and the exit statuses and one-line errors of `serve`.

mod support;

use support::{HERE, free_port, manifests, run};

fn check(fixture: &str, more: &[&str]) -> support::Ran {
    let sources = manifests(fixture, &["cluster1"]);
    run(&[&["check"][..], &sources.iter().map(String::as_str).collect::<Vec<_>>(), more].concat())
}

#[test]
fn nothing_wrong_is_status_0_and_still_says_what_scope_does_not_do() {
    let ran = check("bookinfo-flat", &[]);
    assert_eq!((ran.status, ran.out.trim()), (0, "no reports"), "{ran:?}");
    assert!(ran.err.contains("AuthorizationPolicy"), "{ran:?}");
    let ran = check("bookinfo-flat", &["-o", "json"]);
    assert_eq!((ran.status, ran.out.trim(), &*ran.err), (0, "[]", ""));
}

#[test]
fn any_report_is_status_1_with_its_object_and_remedy() {
    let ran = check("segment-validity", &[]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.starts_with("KIND ") && ran.out.contains("segment-invalid") && ran.out.contains(" -> "), "{ran:?}");
    let json = check("segment-validity", &["-o", "json"]).json();
    let first = &json[0];
    for key in ["kind", "rule", "object", "text", "remedy"] {
        assert!(first.get(key).is_some(), "{key}: {first}");
    }
}

#[test]
fn a_source_that_cannot_be_read_is_status_2() {
    let dir = tempfile::tempdir().expect("a directory");
    let bad = dir.path().join("bad.yaml");
    std::fs::write(&bad, "polcy: {}\n").expect("written");
    let bad = bad.display().to_string();
    let gone = format!("{HERE}:{}", free_port());
    let all: [&[&str]; 6] = [
        // No account and no kubeconfig, so there is nobody to ask.
        &["check", "--kubernetes"],
        &["check", "--manifests", "/nosuch/dir"],
        &["check", "--config", &bad],
        &["check", "--config", "/nosuch.yaml"],
        &["check"],
        &["check", "--server", &gone],
    ];
    for args in all {
        let ran = run(args);
        assert_eq!((ran.status, ran.err.lines().count()), (2, 1), "{args:?}: {ran:?}");
    }
}

#[test]
fn serve_says_in_one_line_why_it_does_not_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let here = dir.path().display().to_string();
    let bad = dir.path().join("bad.yaml");
    std::fs::write(&bad, "polcy: {}\n").expect("written");
    let bad = bad.display().to_string();
    let port = free_port();
    let held = std::net::UdpSocket::bind((HERE, port)).expect("a socket");
    let listen = held.local_addr().expect("an address").to_string();
    let admin = format!("{HERE}:{}", free_port());
    let forward = "192.0.2.1:53";
    let peer = format!("p={here}/nosuch");
    let flags = ["--admin", &admin, "--forward", forward];
    let lone = dir.path().join("lone.yaml");
    std::fs::write(&lone, "sources: {kubernetes: {node: node1}, snapshot: ~}\n").expect("written");
    let lone = lone.display().to_string();
    let all: [(&[&str], i32, &str); 6] = [
        (&["--kubernetes"], 2, "no node name"),
        (&["--config", &lone, "--listen", "127.0.0.1:0"], 1, "set KUBECONFIG"),
        (&["--listen", &listen, "--manifests", &here], 1, "in use"),
        (&["--listen", "127.0.0.1:0", "--manifests", &here, "--manifests", &peer], 1, "manifests directory"),
        (&["--config", &bad], 2, "polcy"),
        (&["--config", "/nosuch.yaml"], 2, "/nosuch.yaml"),
    ];
    for (args, status, says) in all {
        let ran = run(&[&["serve"][..], &flags, args].concat());
        assert_eq!((ran.status, ran.err.lines().count(), &*ran.out), (status, 1, ""), "{args:?}: {ran:?}");
        assert!(ran.err.contains(says), "{args:?}: {ran:?}");
    }
}
