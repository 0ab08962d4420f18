//! The container, by hand: in a network namespace with the addresses that `segdns setup` makes, with the command, environment,
//! mounts, user and capabilities that the DaemonSet gives it, and with the file capability of the image.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pods::{container, daemonsets, for_this_build, spec, words};
use crate::support::client::Client;
use crate::support::fed::{FAR, Lab, NXDOMAIN, SHOP, base};
use crate::support::objects::{list, pod, service, text};
use crate::support::server::http_get;
use crate::support::upstream::Upstream;
use crate::support::world::World;
use crate::support::{binary, netns};
use crate::{deploy, skipped};

const WEB: &str = "web.shop.mesh.acme";
const LINK_LOCAL: &str = "169.254.20.10";
const KUBE_DNS: &str = "10.96.0.10";
/// Where the Service kube-dns-upstream is.
const UPSTREAM: &str = "10.96.0.11";
/// How long a debug build may take to be ready on a machine that is busy.
const READY: Duration = Duration::from_secs(30);
/// CAP_NET_BIND_SERVICE, as a bit.
const NET_BIND_SERVICE: u32 = 1 << 10;

#[test]
fn the_container_serves_as_it_is_written() {
    for (name, daemonset) in daemonsets() {
        let ran = std::thread::spawn(move || in_a_namespace(name, &daemonset)).join();
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

/// In a thread of its own, which moves to another network namespace.
fn in_a_namespace(name: &str, daemonset: &Value) {
    if let Err(why) = netns::alone() {
        assert!(netns::may_skip(), "{why}");
        return skipped(&format!("the container of {name}: {why}"));
    }
    for address in [LINK_LOCAL, KUBE_DNS, UPSTREAM] {
        let args = ["address", "add", &format!("{address}/32"), "dev", "lo"].map(str::to_owned);
        assert!(Command::new("ip").args(args).status().expect("ip runs").success());
    }
    let mut world = World::outside();
    world.add("web.shop.svc.cluster.local", "A", "10.0.0.1");
    let _upstream = Upstream::start(world, SocketAddr::new(ip(UPSTREAM), 53)).expect("an upstream");
    let api = Lab::Double.api_server();
    api.apply_all(base());
    api.apply_all([service("shop", "web", "segment", "10.0.0.1"), pod("shop", "a", SHOP), pod("far", "b", FAR)]);
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Running(start(container(spec(daemonset), "segdns"), dir.path(), &api.kubeconfig()));
    running.wait(dir.path());
    let ask = |from, at: &str, name: &str| Client::default().addresses(from, SocketAddr::new(ip(at), 53), name);
    let web = vec!["10.0.0.1".to_owned()];
    assert_eq!(ask(SHOP, LINK_LOCAL, WEB), (0, web.clone()), "{name}");
    assert_eq!(ask(FAR, LINK_LOCAL, WEB), (NXDOMAIN, Vec::new()), "{name}");
    assert_eq!(ask(SHOP, LINK_LOCAL, "web.shop.svc.cluster.local"), (0, web.clone()), "{name}");
    if name == "overlays/kube-dns-address" {
        assert_eq!(ask(SHOP, KUBE_DNS, WEB), (0, web), "{name}");
        assert_eq!(ask(FAR, KUBE_DNS, WEB), (NXDOMAIN, Vec::new()), "{name}");
    }
    assert!(
        dir.path().join("var/lib/segdns").read_dir().expect("a directory").next().is_some(),
        "{name}: nothing is saved"
    );
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Killed when it is dropped.
struct Running(Child);

impl Running {
    fn wait(&mut self, dir: &Path) {
        let (end, mut last) = (Instant::now() + READY, String::new());
        while Instant::now() < end {
            let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            if let Some(status) = self.0.try_wait().expect("a child") {
                panic!("it ended: {status}: {}", log());
            }
            match http_get(SocketAddr::new(ip("127.0.0.1"), 9153), "/readyz") {
                Ok((200, _)) => return,
                other => last = format!("{other:?}: {}", log()),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not ready after {READY:?}: {last}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it as kubelet and containerd do. What it mounts is below `dir`; the account's token is a kubeconfig.
fn start(container: &Value, dir: &Path, kubeconfig: &str) -> Child {
    open(dir);
    for mount in list(container, "/volumeMounts") {
        let path = below(dir, text(mount, "/mountPath"));
        std::fs::create_dir_all(&path).expect("a directory");
        Path::new(&path).ancestors().take_while(|above| *above != dir).for_each(open);
    }
    let config = std::fs::read_to_string(deploy().join("base/segdns.yaml")).expect("a configuration");
    let config = for_this_build(&config).replace("/run/segdns", &below(dir, "/run/segdns"));
    let config = config.replace("/var/lib/segdns", &below(dir, "/var/lib/segdns"));
    // The node's resolvers: nobody is there.
    let config = config.replace("/etc/resolv.conf", &below(dir, "/etc/resolv.conf"));
    let file = |path: &str, text: &str| std::fs::write(below(dir, path), text).expect("written");
    file("/etc/segdns/segdns.yaml", &config);
    file("/etc/resolv.conf", "nameserver 192.0.2.53\n");
    file("/kubeconfig", kubeconfig);
    let program = dir.join("segdns");
    std::fs::copy(binary(), &program).expect("a copy");
    give_capability(&program);
    let env = [("KUBE_DNS_SERVICE_HOST", KUBE_DNS), ("KUBE_DNS_UPSTREAM_SERVICE_HOST", UPSTREAM)];
    let command = words(&container["command"]);
    let log = File::create(dir.join("log")).expect("a log");
    let mut run = Command::new(program);
    run.args(
        command[1..]
            .iter()
            .map(|word| expanded(&word.replace("=/etc/segdns", &format!("={}", below(dir, "/etc/segdns"))), &env)),
    );
    run.env_clear().envs(env).env("KUBECONFIG", below(dir, "/kubeconfig")).env("NODE_NAME", "node1");
    run.envs(list(container, "/env").iter().filter_map(|v| Some((v["name"].as_str()?, v["value"].as_str()?))));
    run.stdout(log.try_clone().expect("a log")).stderr(log);
    // SAFETY: between fork and exec it only calls functions that are safe there, and allocates nothing.
    unsafe { run.pre_exec(confine) };
    run.spawn().expect("a process")
}

/// `$(NAME)`, as kubelet expands it.
fn expanded(word: &str, env: &[(&str, &str)]) -> String {
    env.iter().fold(word.to_owned(), |word, (name, value)| word.replace(&format!("$({name})"), value))
}

fn below(dir: &Path, path: &str) -> String {
    format!("{}{path}", dir.display())
}

/// An emptyDir is everyone's.
fn open(path: &Path) {
    std::fs::set_permissions(path, Permissions::from_mode(0o777)).expect("its owner may");
}

/// `setcap cap_net_bind_service=+ep`, as the image has it.
fn give_capability(file: &Path) {
    // struct vfs_cap_data of linux/capability.h, revision 2, with the effective flag.
    let words = [0x0200_0001, NET_BIND_SERVICE, 0, 0, 0];
    let data: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    let path = CString::new(file.as_os_str().as_bytes()).expect("a path");
    // SAFETY: both names end with a zero, and `data` has as many octets as is said.
    let set =
        unsafe { libc::setxattr(path.as_ptr(), c"security.capability".as_ptr(), data.as_ptr().cast(), data.len(), 0) };
    assert!(set == 0, "setcap: {}", io::Error::last_os_error());
}

/// What containerd and runc do for `runAsUser: 65532`, `drop: [ALL]`, `add: [NET_BIND_SERVICE]` and
/// `allowPrivilegeEscalation: false`: the capability is in the bounding set and, until exec, permitted; new privileges are not.
fn confine() -> io::Result<()> {
    /// `struct __user_cap_header_struct` and two of `__user_cap_data_struct`, of linux/capability.h.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    const DATA: [u32; 6] = [NET_BIND_SERVICE, NET_BIND_SERVICE, 0, 0, 0, 0];
    const USER: libc::uid_t = 65532;
    let told = |result: libc::c_long| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    for capability in 0..=63 {
        if 1 << capability != u64::from(NET_BIND_SERVICE) {
            // SAFETY: takes no pointer. Those that this kernel does not know are refused, which is as good.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
    // SAFETY: takes no pointer.
    told(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    // SAFETY: takes no pointer.
    told(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }.into())?;
    // SAFETY: no group is read from the pointer, as there are none.
    told(unsafe { libc::setgroups(0, std::ptr::null()) }.into())?;
    // SAFETY: takes no pointer.
    told(unsafe { libc::setresgid(USER, USER, USER) }.into())?;
    // SAFETY: takes no pointer.
    told(unsafe { libc::setresuid(USER, USER, USER) }.into())?;
    // SAFETY: both are as long as this version of the header says, and are only read.
    told(unsafe { libc::syscall(libc::SYS_capset, HEADER.as_ptr(), DATA.as_ptr()) })
}
