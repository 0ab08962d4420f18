use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::mesh::object::{Kind, Object, Reach};

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  clusterIPs:\n  - {address}\n"
    )
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

fn start(files: &[(&str, &str)]) -> (TempDir, Manifests) {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        write(&dir, name, text);
    }
    let manifests = Manifests::open(vec![(0, dir.path().to_owned())]).unwrap();
    (dir, manifests)
}

fn write(dir: &TempDir, name: &str, text: &str) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Changes as short words, sorted, with the directory left out.
fn poll(dir: &TempDir, manifests: &mut Manifests) -> Vec<String> {
    let root = format!("{}/", dir.path().display());
    let mut out: Vec<String> = manifests
        .poll()
        .into_iter()
        .map(|change| match change {
            Change::Apply { object, faults, .. } => {
                let address = match &object {
                    Object::Service(service) => match &service.reach {
                        Reach::ClusterIps(list) => list.first().map(ToString::to_string),
                        _ => None,
                    },
                    _ => None,
                };
                let faults: Vec<String> = faults.into_iter().map(|f| f.text.replace(&root, "")).collect();
                let title = held::title(&object.key());
                [vec![format!("+{title}")], address.into_iter().collect(), faults].concat().join(" ")
            }
            Change::Delete { key, .. } => format!("-{}", held::title(&key)),
            Change::Source { place, faults, .. } => {
                let faults: Vec<String> = faults.into_iter().map(|f| f.text.replace(&root, "")).collect();
                format!("!{} {}", place.replace(&root, ""), faults.join(" & ")).trim().to_owned()
            }
            Change::Synced { cluster } => format!("synced {cluster}"),
            Change::Joined { .. } | Change::Left { .. } => unreachable!("the configuration names manifests' clusters"),
            Change::Told { .. } => unreachable!("what is in no file may exist all the same"),
        })
        .collect();
    out.sort();
    out
}

#[test]
fn the_first_poll_gives_everything_and_later_ones_differences() {
    let text = format!("{}---\n{}", service("a", "10.0.0.1"), service("b", "10.0.0.2"));
    let (dir, mut manifests) =
        start(&[("s.yaml", &text), ("sub/deep/n.yml", NAMESPACE), ("readme.txt", ": ["), (".hidden.yaml", ": [")]);
    assert_eq!(
        poll(&dir, &mut manifests),
        ["+Namespace shop", "+Service shop/a 10.0.0.1", "+Service shop/b 10.0.0.2", "synced 0"]
    );
    assert!(poll(&dir, &mut manifests).is_empty());
    write(&dir, "s.yaml", &service("a", "10.0.0.9"));
    assert_eq!(poll(&dir, &mut manifests), ["+Service shop/a 10.0.0.9", "-Service shop/b"]);
    fs::remove_file(dir.path().join("s.yaml")).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["-Service shop/a"]);
    fs::remove_dir_all(dir.path().join("sub")).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["-Namespace shop"]);
}

#[test]
fn an_edit_of_the_same_size_in_the_same_tick_is_seen() {
    let (dir, mut manifests) = start(&[("s.yaml", &service("a", "10.0.0.1"))]);
    let path = dir.path().join("s.yaml");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    poll(&dir, &mut manifests);
    write(&dir, "s.yaml", &service("a", "10.0.0.2"));
    fs::File::open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["+Service shop/a 10.0.0.2"]);
    let old = time - Duration::from_secs(60);
    fs::File::open(&path).unwrap().set_modified(old).unwrap();
    assert!(poll(&dir, &mut manifests).is_empty());
}

#[test]
fn a_file_that_does_not_parse_keeps_what_it_held_and_says_so() {
    let (dir, mut manifests) = start(&[("s.yaml", &service("a", "10.0.0.1"))]);
    poll(&dir, &mut manifests);
    write(&dir, "s.yaml", "kind: Service\nmetadata: {name: [\n");
    let changes = poll(&dir, &mut manifests);
    assert!(changes.len() == 1 && changes[0].starts_with("!s.yaml s.yaml:"), "{changes:?}");
    assert!(!changes[0].contains("stay closed"), "{changes:?}");
    assert!(poll(&dir, &mut manifests).is_empty());
    write(&dir, "s.yaml", &service("a", "10.0.0.1"));
    assert_eq!(poll(&dir, &mut manifests), ["!s.yaml"]);
    fs::write(dir.path().join("s.yaml"), b"\xff\xfe\x00").unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["!s.yaml s.yaml:1: it is not UTF-8 text; what it held before stays"]);
    fs::remove_file(dir.path().join("s.yaml")).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["!s.yaml", "-Service shop/a"]);
}

#[test]
fn an_emptied_file_counts_once_it_stays_empty() {
    let (dir, mut manifests) = start(&[("s.yaml", &service("a", "10.0.0.1")), ("empty.yaml", "")]);
    // An empty file names no kind, and parses.
    assert_eq!(poll(&dir, &mut manifests), ["+Service shop/a 10.0.0.1", "synced 0"]);
    write(&dir, "s.yaml", "");
    assert!(poll(&dir, &mut manifests).is_empty());
    assert_eq!(poll(&dir, &mut manifests), ["-Service shop/a"]);
    write(&dir, "s.yaml", &service("a", "10.0.0.2"));
    assert_eq!(poll(&dir, &mut manifests), ["+Service shop/a 10.0.0.2"]);
}

#[test]
fn of_two_files_with_one_object_the_last_by_path_counts() {
    let (dir, mut manifests) = start(&[("a.yaml", &service("x", "10.0.0.1")), ("b.yaml", &service("x", "10.0.0.2"))]);
    let report = "!a.yaml a.yaml:1: Service shop/x is also in b.yaml:1, which sorts last and is used";
    assert_eq!(poll(&dir, &mut manifests), [report, "+Service shop/x 10.0.0.2", "synced 0"]);
    write(&dir, "a.yaml", &service("x", "10.0.0.3"));
    assert!(poll(&dir, &mut manifests).is_empty());
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["!a.yaml", "+Service shop/x 10.0.0.3"]);
    write(&dir, "b.yaml", &service("x", "10.0.0.3"));
    let changes = poll(&dir, &mut manifests);
    assert_eq!(changes, [report], "the same object, so only the report is new");
    let twice = format!("{}---\n{}", service("z", "10.0.0.1"), service("z", "10.0.0.2"));
    write(&dir, "c.yaml", &twice);
    let report = "!c.yaml c.yaml:1: Service shop/z stands in this file twice; the one in line 8 is used";
    assert_eq!(poll(&dir, &mut manifests), [report, "+Service shop/z 10.0.0.2"]);
}

#[test]
fn a_cluster_stays_incomplete_while_a_file_that_may_hold_policy_does_not_parse() {
    let cases = [
        ("kind: Namespace\nmetadata: [", true),
        ("kind: Segment\nmetadata: [", true),
        ("kind: List\nitems: [", true),
        ("\u{1}", true),
        ("kind: Service\nmetadata: [", false),
        ("kind: Deployment\nmetadata: [", false),
    ];
    for (text, closed) in cases {
        let (dir, mut manifests) = start(&[("x.yaml", text), ("s.yaml", &service("a", "10.0.0.1"))]);
        let changes = poll(&dir, &mut manifests);
        assert_eq!(changes.contains(&"synced 0".to_owned()), !closed, "{text}: {changes:?}");
        assert_eq!(changes[0].ends_with("; mesh names stay closed until it parses"), closed, "{text}: {changes:?}");
        write(&dir, "x.yaml", NAMESPACE);
        let changes = poll(&dir, &mut manifests);
        assert_eq!(changes.contains(&"synced 0".to_owned()), closed, "{text}: {changes:?}");
        assert!(changes.contains(&"!x.yaml".to_owned()), "{text}: {changes:?}");
    }
}

#[test]
fn a_broken_object_keeps_its_version_and_costs_no_other() {
    let two = |label: &str| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    labels:\n      x: {label}\n    \
             name: a\n    namespace: shop\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: b\n    namespace: shop\n  spec:\n    \
             clusterIPs:\n    - 10.0.0.1\n    - 10.0.0.300\n- 5\n"
        )
    };
    let (dir, mut manifests) = start(&[("s.yaml", &two("\"true\""))]);
    let b = "+Service shop/b 10.0.0.1 s.yaml:19: spec.clusterIPs[1]: \"10.0.0.300\" is not an IP address";
    let five = "s.yaml:20: the number 5 where an object has to be";
    assert_eq!(
        poll(&dir, &mut manifests),
        [format!("!s.yaml {five}"), "+Service shop/a".into(), b.into(), "synced 0".into()]
    );
    write(&dir, "s.yaml", &two("true"));
    let label = "!s.yaml s.yaml:8: metadata.labels.x: the boolean true where a string has to be";
    assert_eq!(poll(&dir, &mut manifests), [format!("{label} & {five}")]);
}

#[test]
fn a_config_map_mount_is_followed_through_its_links() {
    let (dir, mut manifests) =
        start(&[("..1/s.yaml", &service("a", "10.0.0.1")), ("..2/s.yaml", &service("a", "10.0.0.2"))]);
    symlink("..1", dir.path().join("..data")).unwrap();
    symlink("..data/s.yaml", dir.path().join("s.yaml")).unwrap();
    symlink(".", dir.path().join("loop")).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["+Service shop/a 10.0.0.1", "synced 0"]);
    symlink("..2", dir.path().join("..tmp")).unwrap();
    fs::rename(dir.path().join("..tmp"), dir.path().join("..data")).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["+Service shop/a 10.0.0.2"]);
}

#[test]
fn a_directory_that_vanishes_keeps_its_last_state() {
    let (dir, mut manifests) = start(&[("s.yaml", &service("a", "10.0.0.1"))]);
    poll(&dir, &mut manifests);
    let away = dir.path().with_extension("away");
    fs::rename(dir.path(), &away).unwrap();
    let changes = poll(&dir, &mut manifests);
    assert!(changes.len() == 1 && changes[0].contains("the directory cannot be read"), "{changes:?}");
    fs::rename(&away, dir.path()).unwrap();
    assert_eq!(poll(&dir, &mut manifests), [format!("!{}", dir.path().display())]);
    let error = Manifests::open(vec![(0, "/nonexistent".into())]).unwrap_err().to_string();
    assert!(
        error.starts_with("manifests directory \"/nonexistent\": No such file") && !error.contains('\n'),
        "{error}"
    );
}

#[test]
fn bombs_are_refused_and_json_lists_are_read() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, next) in ('a'..'j').zip('b'..'k') {
        let nine = vec![format!("*{one}"); 9].join(",");
        bomb.push_str(&format!("{next}: &{next} [{nine}]\n"));
    }
    let deep = "kind: Service\n".to_owned() + "a: " + &"[".repeat(5000);
    let json = r#"{"apiVersion":"v1","kind":"ServiceList","items":[{"metadata":{"name":"j","namespace":"shop"},"spec":{"clusterIP":"10.0.0.7"}}]}"#;
    let (dir, mut manifests) =
        start(&[("bomb.yaml", &(bomb + "kind: Service\n")), ("deep.yaml", &deep), ("j.json", json)]);
    let changes = poll(&dir, &mut manifests);
    assert!(
        changes[0].starts_with("!bomb.yaml bomb.yaml:") && changes[1].starts_with("!deep.yaml deep.yaml:"),
        "{changes:?}"
    );
    assert_eq!(changes[2..], ["+Service shop/j 10.0.0.7", "synced 0"]);
}

#[test]
fn a_large_list_is_cut_into_pieces_and_keeps_its_lines() {
    let mut text = "apiVersion: v1\nitems:\n".to_owned();
    for index in 0..2_000 {
        let address = if index == 1_900 { "bad" } else { "10.0.0.1" };
        text.push_str(&format!(
            "- apiVersion: v1\n  kind: Service\n  metadata:\n    name: s{index}\n    namespace: shop\n  spec:\n    clusterIP: {address}\n"
        ));
    }
    text.push_str("kind: List\nmetadata:\n  resourceVersion: \"\"\n");
    let (dir, mut manifests) = start(&[("s.yaml", &text)]);
    let changes = poll(&dir, &mut manifests);
    assert_eq!(changes.len(), 2_001);
    let line = 2 + 1_900 * 7 + 7;
    let want = format!("+Service shop/s1900 s.yaml:{line}: spec.clusterIP: \"bad\" is not an IP address");
    assert!(changes.contains(&want));
    write(&dir, "s.yaml", &text.replace("clusterIP: bad", "clusterIP: ["));
    let changes = poll(&dir, &mut manifests);
    assert!(changes.len() == 1 && changes[0].starts_with("!s.yaml s.yaml:13310"), "{changes:?}");
}

#[test]
fn what_kubectl_prints_is_read_in_full() {
    let text = r#"apiVersion: v1
items:
- addressType: IPv4
  apiVersion: discovery.k8s.io/v1
  endpoints: null
  kind: EndpointSlice
  metadata:
    creationTimestamp: "2026-11-20T14:40:20Z"
    labels:
      kubernetes.io/service-name: details
    name: details-x7k2p
    namespace: bookinfo
  ports: null
- apiVersion: v1
  kind: Service
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"v1","kind":"Service","metadata":{"name":"details"}}
    creationTimestamp: "2026-11-20T14:40:20Z"
    name: details
    namespace: bookinfo
  spec:
    clusterIP: 10.101.211.162
    clusterIPs:
    - 10.101.211.162
  status:
    loadBalancer: {}
kind: List
metadata:
  resourceVersion: ""
"#;
    let (_dir, mut manifests) = start(&[("all.yaml", text)]);
    let changes = manifests.poll();
    assert_eq!(changes.len(), 3);
    for change in &changes {
        let Change::Apply { object, faults, .. } = change else { continue };
        assert!(faults.is_empty(), "{faults:?}");
        match object {
            Object::Service(service) => assert_eq!(service.created, 1_795_185_620),
            Object::EndpointSlice(slice) => assert_eq!((&*slice.service, slice.endpoints.len()), ("details", 0)),
            other => panic!("{:?}", other.key().kind == Kind::Source),
        }
    }
}

#[test]
fn every_fixture_loads_without_a_fault() {
    let real = ["bookinfo-", "httpbin-"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for fixture in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        real.iter().any(|prefix| name.starts_with(prefix))
    }) {
        let dirs = ["cluster1", "cluster2"].map(|cluster| fixture.join(cluster)).into_iter().enumerate().collect();
        let changes = Manifests::open(dirs).unwrap().poll();
        let synced = changes.iter().filter(|change| matches!(change, Change::Synced { .. })).count();
        let clean = changes.iter().all(|change| match change {
            Change::Apply { faults, .. } => faults.is_empty(),
            change => matches!(change, Change::Synced { .. }),
        });
        assert!(synced == 2 && clean && changes.len() > 20, "{}: {changes:?}", fixture.display());
    }
}

#[test]
fn what_another_file_hid_counts_again_as_soon_as_it_can_be_read() {
    let (dir, mut manifests) = start(&[("a.yaml", &service("a", "10.0.0.1")), ("b.yaml", &service("a", "10.0.0.2"))]);
    let hidden = "!a.yaml a.yaml:1: Service shop/a is also in b.yaml:1, which sorts last and is used";
    let first = poll(&dir, &mut manifests);
    assert!(first.contains(&"+Service shop/a 10.0.0.2".to_owned()), "{first:?}");
    assert!(first.iter().any(|change| change == hidden), "{first:?}");
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    assert_eq!(poll(&dir, &mut manifests), ["!a.yaml", "+Service shop/a 10.0.0.1"]);
    write(&dir, "b.yaml", &service("a", "10.0.0.2"));
    assert_eq!(poll(&dir, &mut manifests).len(), 2);
    // It hides another one that has come to lack what it had: the last that was told stays until there is a better one.
    write(&dir, "a.yaml", "kind: Service\nmetadata: {name: [\n");
    poll(&dir, &mut manifests);
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    let changes = poll(&dir, &mut manifests);
    assert!(!changes.iter().any(|change| change.starts_with(['+', '-'])), "{changes:?}");
    assert!(!poll(&dir, &mut manifests).iter().any(|change| change.starts_with(['+', '-'])));
    write(&dir, "a.yaml", &service("a", "10.0.0.3"));
    assert_eq!(poll(&dir, &mut manifests), ["!a.yaml", "+Service shop/a 10.0.0.3"]);
}
