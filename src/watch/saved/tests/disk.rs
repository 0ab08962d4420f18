//! The file on a real disk: modes, leftovers, and what the system refuses.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::tempdir;

use super::*;

/// Where the child of [`a_full_disk_keeps_the_old_state`] writes.
const FULL: &str = "SEGDNS_TEST_FULL_DISK";

fn save(dir: &Path, cluster: &str) -> Result<(), WriteError> {
    write(dir, &Identity { cluster: cluster.into(), node: None }, when(), &encode([(cluster, Vec::new())], 0))
}

fn load(dir: &Path, cluster: &str) -> Result<Option<Saved>, SavedError> {
    read(dir, &Identity { cluster: cluster.into(), node: None })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name())).collect()
}

#[test]
fn what_is_written_is_private_and_reads_back() {
    let temporary = tempdir().unwrap();
    let dir = temporary.path().join("a/b");
    assert!(load(&dir, "one").unwrap().is_none());
    save(&dir, "one").unwrap();
    save(&dir, "one").unwrap();
    assert_eq!((mode(&dir), mode(&dir.join(NAME))), (0o700, 0o600));
    assert_eq!(names(&dir), [Path::new(NAME)]);
    assert_eq!(&*load(&dir, "one").unwrap().unwrap().clusters[0].name, "one");
    assert!(matches!(load(&dir, "two"), Err(SavedError::Elsewhere { .. })));
}

#[test]
fn what_a_crash_left_is_replaced() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("state.new"), [7; 100_000]).unwrap();
    fs::write(dir.path().join(NAME), b"segdns saved sta").unwrap();
    assert!(matches!(load(dir.path(), "one"), Err(SavedError::Torn { .. })));
    save(dir.path(), "one").unwrap();
    assert!(load(dir.path(), "one").unwrap().is_some());
    assert_eq!(names(dir.path()), [Path::new(NAME)]);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let dir = tempdir().unwrap();
    let inside = |name: &str| dir.path().join(name);
    fs::write(inside("file"), "").unwrap();
    fs::create_dir_all(inside("dir").join(NAME)).unwrap();
    fs::create_dir(inside("fifo")).unwrap();
    let made = Command::new("mkfifo").arg(inside("fifo").join(NAME)).status().unwrap();
    assert!(made.success());
    fs::create_dir(inside("sparse")).unwrap();
    File::create(inside("sparse").join(NAME)).unwrap().set_len(1 << 40).unwrap();
    let cases = [
        ("file", "cannot be read: Not a directory"),
        ("dir", "it is no regular file"),
        ("fifo", "it is no regular file"),
        ("sparse", "it does not begin with"),
    ];
    for (name, expected) in cases {
        let refusal = load(&inside(name), "one").unwrap_err().to_string();
        assert!(refusal.contains(expected), "{name}: {refusal}");
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let dir = tempdir().unwrap();
    save(dir.path(), "one").unwrap();
    let path = dir.path().join(NAME);
    let mut bytes = fs::read(&path).unwrap();
    bytes.resize(bytes.len() + 50_000, 0);
    fs::write(&path, bytes).unwrap();
    let refusal = load(dir.path(), "one").unwrap_err().to_string();
    assert!(refusal.contains("it goes on after its"), "{refusal}");
}

#[test]
fn what_cannot_be_written_is_said() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let busy = dir.path().join("busy");
    fs::create_dir(&busy).unwrap();
    let other = File::open(&busy).unwrap();
    other.lock().unwrap();
    let blocked = dir.path().join("blocked");
    fs::create_dir_all(blocked.join(NAME).join("full")).unwrap();
    let cases = [
        (file.join("below"), "cannot make the directory: Not a directory", "correct sources.snapshot"),
        (busy, "cannot lock the directory: another process is writing", "its own sources.snapshot"),
        (blocked.clone(), "state\": cannot write it: Is a directory", "correct sources.snapshot"),
    ];
    for (dir, text, remedy) in cases {
        let error = save(&dir, "one").unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.remedy().contains(remedy), "{}", error.remedy());
    }
    assert_eq!(names(&blocked), [Path::new(NAME)], "the unfinished file is removed");
}

/// The disk is a tmpfs of 64 KiB in a mount namespace of a child process; where that is not allowed, a limit on the size of
/// files does the same at the same place.
#[test]
fn a_full_disk_keeps_the_old_state() {
    if let Some(dir) = std::env::var_os(FULL) {
        return on_a_full_disk(Path::new(&dir));
    }
    let dir = tempdir().unwrap();
    let script = r#"if unshare -rm true 2>/dev/null
        then exec unshare -rm sh -c 'mount -t tmpfs -o size=64k none "$0" && exec "$@"' "$SEGDNS_TEST_FULL_DISK" "$@"
        else trap "" XFSZ; ulimit -f 32; exec "$@"; fi"#;
    let mut child = Command::new("sh");
    child.args(["-c", script, "sh"]).arg(std::env::current_exe().unwrap()).env(FULL, dir.path());
    let child = child.args(["--exact", "watch::saved::tests::disk::a_full_disk_keeps_the_old_state"]).output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
}

fn on_a_full_disk(dir: &Path) {
    let objects = |n: usize| vec![Object::Namespace(crate::mesh::object::Namespace::default()); n];
    let identity = Identity { cluster: "one".into(), node: None };
    write(dir, &identity, when(), &encode([("one", objects(100))], 0)).unwrap();
    let error = write(dir, &identity, when(), &encode([("one", objects(100_000))], 0)).unwrap_err();
    assert!(error.to_string().contains("cannot write it: "), "{error}");
    assert!(["free space", "RLIMIT_FSIZE"].iter().any(|word| error.remedy().contains(word)), "{error}");
    assert_eq!(load(dir, "one").unwrap().unwrap().clusters[0].objects.len(), 100);
    assert_eq!(names(dir), [Path::new(NAME)]);
}
