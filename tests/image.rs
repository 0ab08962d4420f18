//! The image: what the Dockerfile says is held against what the binary and Kubernetes need, and its commands are run by hand, as
//! there may be no container engine.
//!
//! By default a stand-in takes cargo's place, which takes a second. `SEGDNS_IMAGE=dev` builds the static binary as a debug build
//! (minutes, the first time) and runs it in the image's root, `SEGDNS_IMAGE=release` the one of the image. That needs the Rust
//! target, `musl-tools` and `libcap2-bin`: `rustup target add x86_64-unknown-linux-musl`; and, as the test of what the binary is
//! made of, `cargo install --locked cargo-cyclonedx@0.5.9`.

mod support;

#[path = "image/byhand.rs"]
mod byhand;
#[path = "image/dockerfile.rs"]
mod dockerfile;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use byhand::Build;
use dockerfile::Stage;
use support::client::Client;
use support::netns::Place;
use support::own::Own;
use support::server::http_get;
use support::{HERE, run};

/// Of the image, and of pods that say `runAsNonRoot`.
const USER: u32 = 65532;
/// How long a debug build may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// What the binary is made of, where scanners find it by its name's end.
const BILL: &str = "usr/share/sbom/segdns.cdx.json";
/// Stands for cargo: notes how it was called, and installs a file.
const CARGO: &str = "#!/bin/sh
if [ \"$1\" = cyclonedx ]; then
    echo \"$@\" > \"$NOTES.sbom\"
    while [ $# -gt 0 ]; do
        [ \"$1\" = --override-filename ] && echo {} > \"$2.json\"
        shift
    done
    exit
fi
env > \"$NOTES.env\"
echo \"$@\" > \"$NOTES\"
while [ $# -gt 0 ]; do
    [ \"$1\" = --root ] && mkdir -p \"$2/bin\" && echo stand-in > \"$2/bin/segdns\"
    shift
done
";

/// A line that libtest does not capture.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "image: {what}");
}

/// The stage that builds, and the image.
fn stages() -> (Stage, Stage) {
    let mut stages = dockerfile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile"));
    let image = stages.pop().expect("two stages");
    let build = stages.pop().expect("two stages");
    assert!(stages.is_empty() && build.name.as_deref() == Some("build"), "teach this test of more stages");
    (build, image)
}

#[test]
fn the_image_has_a_user_labels_and_a_command_that_the_binary_knows() {
    let (build, image) = stages();
    assert_eq!((image.from.as_str(), image.only("USER")), ("scratch", format!("{USER}:{USER}").as_str()));
    assert_eq!(image.list("ENTRYPOINT"), ["/segdns"]);
    // There is no such file here: what is wrong is the file, and not how it is asked for.
    let command = image.list("CMD");
    let ran = run(&command.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.starts_with("segdns: /etc/segdns/segdns.yaml: it cannot be read"), "{ran:?}");
    let labels = image.only("LABEL");
    for key in ["title", "description", "version", "revision", "licenses"] {
        assert!(labels.contains(&format!("org.opencontainers.image.{key}=")), "{key}: {labels}");
    }
    assert!(image.all("ARG").contains(&concat!("VERSION=", env!("CARGO_PKG_VERSION"))));
    // The compiler is the one that Cargo.toml asks for at least.
    assert_eq!(build.from, concat!("rust:", env!("CARGO_PKG_RUST_VERSION"), "-bookworm"));
}

#[test]
fn the_commands_make_the_root_of_the_image_for_both_architectures() {
    let (build, image) = stages();
    let tools = ["setcap", "getcap"].map(|tool| Command::new(tool).arg("-h").output().is_ok());
    // SAFETY: takes no pointer.
    if tools != [true; 2] || unsafe { libc::geteuid() } != 0 {
        return say("SKIPPED: needs root, and setcap (apt-get install libcap2-bin)");
    }
    let cargo = tempfile::tempdir().expect("a directory");
    let program = cargo.path().join("cargo");
    std::fs::write(&program, CARGO).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:{}", cargo.path().display(), std::env::var("PATH").expect("PATH"));
    let notes = cargo.path().join("notes");
    for (arch, rust, page) in [("amd64", "x86_64", "12"), ("arm64", "aarch64", "16")] {
        let by_hand = Build::new(arch, &[("PATH", &path), ("NOTES", notes.to_str().expect("a path"))]);
        by_hand.run(&build, &image);
        check_root(&by_hand.root());
        let called = std::fs::read_to_string(&notes).expect("cargo was called");
        assert!(called.contains(&format!("--target {rust}-unknown-linux-musl --profile release")), "{called}");
        assert!(called.starts_with("install --locked ") && called.contains("--bin segdns"), "{called}");
        let bill = std::fs::read_to_string(cargo.path().join("notes.sbom")).expect("cargo cyclonedx was called");
        assert!(bill.contains(&format!(" --target {rust}-unknown-linux-musl --no-build-deps ")), "{bill}");
        let told = std::fs::read_to_string(cargo.path().join("notes.env")).expect("cargo was called");
        for line in [
            format!("CC_{rust}_unknown_linux_musl={rust}-linux-musl-gcc"),
            format!("AR_{rust}_unknown_linux_musl={rust}-linux-gnu-ar"),
            format!("CARGO_TARGET_{}_UNKNOWN_LINUX_MUSL_LINKER={rust}-linux-gnu-gcc", rust.to_uppercase()),
            format!("JEMALLOC_SYS_WITH_LG_PAGE={page}"),
        ] {
            assert!(told.lines().any(|l| l == line), "{line}: {told}");
        }
    }
}

/// What is in the image, and whose it is.
fn check_root(root: &Path) {
    let found =
        Command::new("find").arg(root).args(["-mindepth", "1", "-printf", "%P\\n"]).output().expect("find runs");
    let mut found: Vec<String> = String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect();
    found.sort_unstable();
    let mut wanted = ["LICENSE", "run", "run/segdns", "segdns", "var", "var/lib", "var/lib/segdns"].to_vec();
    wanted.extend(["usr", "usr/share", "usr/share/sbom", BILL]);
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    let of = |path: &str| std::fs::metadata(root.join(path)).expect("it is there");
    let program = of("segdns");
    assert_eq!((program.uid(), program.mode() & 0o7777), (0, 0o755));
    assert_eq!(["run/segdns", "var/lib/segdns"].map(|dir| of(dir).uid()), [USER; 2]);
    let capabilities = Command::new("getcap").arg(root.join("segdns")).output().expect("getcap runs");
    assert!(String::from_utf8_lossy(&capabilities.stdout).contains("cap_net_bind_service=ep"), "{capabilities:?}");
}

/// Checks the list of what the binary is made of: valid, and of the versions that Cargo.lock has.
fn check_bill(file: &Path) {
    let text = std::fs::read_to_string(file).expect("a bill of materials");
    let bill: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let named = |component: &serde_json::Value| {
        let text = |key: &str| component[key].as_str().unwrap_or_default().to_owned();
        (text("name"), text("version"))
    };
    let own = named(&bill["metadata"]["component"]);
    assert_eq!(own, ("segdns".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
    let parts: Vec<_> = bill["components"].as_array().expect("components").iter().map(named).collect();
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).expect("Cargo.lock");
    for (name, version) in &parts {
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"\n")), "{name} {version}");
    }
    let has = |name: &str| parts.iter().any(|(n, _)| n == name);
    assert!(["tokio", "hickory-proto", "kube", "rustls"].into_iter().all(has), "{parts:?}");
    // Tests only.
    assert!(!["proptest", "divan", "tempfile"].into_iter().any(has), "{parts:?}");
}

#[test]
fn the_bill_of_materials_names_what_the_binary_is_made_of_in_cargo_locks_versions() {
    if !Command::new("cargo").args(["cyclonedx", "--version"]).output().is_ok_and(|o| o.status.success()) {
        return say("SKIPPED: needs cargo install --locked cargo-cyclonedx@0.5.9");
    }
    let (build, _) = stages();
    for arch in ["amd64", "arm64"] {
        let by_hand = Build::new(arch, &[]);
        let made = by_hand.make(&build, |command| command.contains("cargo cyclonedx"));
        check_bill(&made.join(BILL));
    }
}

/// A program in the image's root, with no capability but these within reach; as root, or as the image's user.
fn contained(root: &Path, root_user: bool, capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    let bounds = format!("-all,+sys_chroot,+setuid,+setgid{capabilities}");
    command.args(["--bounding-set", &bounds, "--inh-caps", "-all", "chroot"]);
    if !root_user {
        command.arg(format!("--userspec={USER}:{USER}"));
    }
    command.arg(root).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[test]
fn the_static_binary_serves_in_an_empty_root_without_being_root() {
    let profile = match std::env::var("SEGDNS_IMAGE").as_deref() {
        Ok(profile @ ("dev" | "release")) => profile.to_owned(),
        Ok(other) => panic!("SEGDNS_IMAGE is dev or release, not {other}"),
        Err(_) => return say("SKIPPED: without SEGDNS_IMAGE=dev or release no image is built"),
    };
    let (build, image) = stages();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let target =
        std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/target").into());
    let by_hand = Build::new(arch, &[("PROFILE", &profile), ("CARGO_TARGET_DIR", &format!("{target}/image"))]);
    by_hand.run(&build, &image);
    let root = by_hand.root();
    check_root(&root);
    check_bill(&root.join(BILL));
    let size = std::fs::metadata(root.join("segdns")).expect("a binary").len();
    say(&format!("{profile}, {arch}: /segdns has {:.1} MB", size as f64 / 1e6));
    prepare(&root);
    let place = Place::new().unwrap_or_else(|error| panic!("{error}"));
    place.inside(|| serve(&root, &image)).expect("a namespace");
}

/// What Kubernetes mounts: the configuration. And objects, since there is no API server.
fn prepare(root: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo");
    std::fs::create_dir_all(root.join("etc/segdns")).expect("a directory");
    std::fs::copy(repository.join("segdns.yaml"), root.join("etc/segdns/segdns.yaml")).expect("a copy");
    // The walk's second stage lies over its first.
    for (from, to) in [("flat", "objects"), ("segments/.", "objects")] {
        let copied = Command::new("cp").arg("-R").arg(repository.join(from)).arg(root.join(to)).status();
        assert!(copied.is_ok_and(|status| status.success()), "the demo's objects");
    }
}

/// In a network namespace of its own.
fn serve(root: &Path, image: &Stage) {
    let entry = image.list("ENTRYPOINT");
    let ran = |command: &mut Command| -> Output { command.output().expect("setpriv runs") };
    let version = ran(contained(root, false, ",+net_bind_service").args(&entry).arg("--version"));
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        concat!("segdns ", env!("CARGO_PKG_VERSION"), "\n"),
        "{version:?}"
    );
    // As the init container: the kernel starts no file with a capability that is out of reach, which docs/image.md says.
    let setup = ran(contained(root, true, ",+net_admin,+net_bind_service").args(&entry).arg("setup"));
    assert!(setup.status.success() && setup.stdout.starts_with(b"169.254.20.10: made on"), "{setup:?}");
    assert!(!ran(contained(root, true, ",+net_admin").args(&entry).arg("setup")).status.success());
    let mut command = contained(root, false, ",+net_bind_service");
    command.args(&entry).args(image.list("CMD")).args(["--listen", "169.254.20.10:53", "--node", "node1"]);
    for cluster in ["acme-east", "acme-west", "acquired"] {
        command.args(["--manifests", &format!("{cluster}=/objects/{cluster}")]);
    }
    let _server = Own(command.stdout(Stdio::null()).spawn().expect("setpriv runs"));
    let end = Instant::now() + READY;
    while !http_get(SocketAddr::new(HERE, 9253), "/readyz").is_ok_and(|(status, _)| status == 200) {
        assert!(Instant::now() < end, "not ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pod = IpAddr::V4(Ipv4Addr::new(127, 10, 1, 11));
    let at = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10)), 53);
    let name = "reviews.bookinfo-backends.mesh.acme";
    assert_eq!(Client::default().addresses(pod, at, name), (0, vec!["10.101.0.23".to_owned()]));
}
