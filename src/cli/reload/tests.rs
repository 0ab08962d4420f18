use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

fn watched(path: &Path) -> Watched {
    let mut file = Watched::new(path.to_owned());
    assert!(file.take().is_ok());
    file
}

#[test]
fn a_change_counts_once_two_looks_have_shown_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segdns.yaml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("one");
    let mut file = watched(&path);
    assert_eq!(file.look(), None);
    write("tw");
    assert_eq!(file.look(), None);
    write("two");
    assert_eq!(file.look(), None, "it was still being written");
    assert_eq!(file.look(), Some(Ok("two".into())));
    assert_eq!(file.look(), None, "once");
    write("three");
    assert_eq!(file.look(), None);
    write("two");
    assert_eq!((file.look(), file.look()), (None, None), "taken back before it counted");
}

#[test]
fn a_swap_of_links_as_kubelet_makes_is_seen_and_so_is_a_file_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (version, text) in [("..1", "one"), ("..2", "two")] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("segdns.yaml"), text).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/segdns.yaml", at("segdns.yaml")).unwrap();
    let mut file = watched(&at("segdns.yaml"));
    symlink("..2", at("..tmp")).unwrap();
    std::fs::rename(at("..tmp"), at("..data")).unwrap();
    assert_eq!((file.look(), file.look()), (None, Some(Ok("two".into()))));
    std::fs::remove_file(at("segdns.yaml")).unwrap();
    assert_eq!(file.look(), None);
    let error = file.look().unwrap().unwrap_err().to_string();
    assert!(error.contains("segdns.yaml: it cannot be read: "), "{error}");
    assert_eq!((file.look(), file.look()), (None, None), "said once");
}

#[test]
fn the_hash_is_that_of_sha256sum() {
    assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
