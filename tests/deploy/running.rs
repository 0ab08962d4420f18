//! A pod's containers, by hand: in a network namespace of their own, with the commands, environment, mounts, users and
//! capabilities that the DaemonSet gives them, and with the file capability of the image.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pods::{container, daemonsets, spec, words};
use crate::support::client::Client;
use crate::support::fed::{FAR, Lab, NXDOMAIN, SHOP, base};
use crate::support::objects::{list, load, pod, service, text};
use crate::support::own::Own;
use crate::support::server::http_get;
use crate::support::upstream::Upstream;
use crate::support::world::World;
use crate::support::{binary, netns};
use crate::{deploy, only, skipped};

const WEB: &str = "web.shop.mesh.acme";
const LINK_LOCAL: &str = "169.254.20.10";
const KUBE_DNS: &str = "10.96.0.10";
/// Where the Service kube-dns-upstream is.
const UPSTREAM: &str = "10.96.0.11";
/// How long a debug build may take to be ready on a machine that is busy.
const READY: Duration = Duration::from_secs(30);
/// How long one that ends may take: drain.deadline, and some.
const END: Duration = Duration::from_secs(20);
/// Capabilities, as bits (linux/capability.h).
const NET_BIND_SERVICE: u32 = 1 << 10;
const NET_ADMIN: u32 = 1 << 12;

#[test]
fn the_containers_do_as_they_are_written() {
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
    ip_address(UPSTREAM);
    let mut world = World::outside();
    world.add("web.shop.svc.cluster.local", "A", "10.0.0.1");
    let _upstream = Upstream::start(world, SocketAddr::new(ip(UPSTREAM), 53)).expect("an upstream");
    let api = Lab::Double.api_server();
    api.apply_all(base());
    api.apply_all([service("shop", "web", "segment", "10.0.0.1"), pod("shop", "a", SHOP), pod("far", "b", FAR)]);
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::new(dir.path(), &api.kubeconfig());
    node.run(container(spec(daemonset), "setup"), &["command"]).ends();
    let container = container(spec(daemonset), "segdns");
    let mut running = node.run(container, &["command"]);
    running.is_ready();
    let ask = |from, at: &str, name: &str| Client::default().addresses(from, SocketAddr::new(ip(at), 53), name);
    let web = vec!["10.0.0.1".to_owned()];
    assert_eq!(ask(SHOP, LINK_LOCAL, WEB), (0, web.clone()), "{name}");
    assert_eq!(ask(FAR, LINK_LOCAL, WEB), (NXDOMAIN, Vec::new()), "{name}");
    assert_eq!(ask(SHOP, LINK_LOCAL, "web.shop.svc.cluster.local"), (0, web.clone()), "{name}");
    if name == "overlays/kube-dns-address" {
        assert_eq!(ask(SHOP, KUBE_DNS, WEB), (0, web), "{name}");
        assert_eq!(ask(FAR, KUBE_DNS, WEB), (NXDOMAIN, Vec::new()), "{name}");
    }
    is_saved(&dir.path().join("var/lib/segdns"));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        node.run(container, &[probe, "exec", "command"]).ends();
    }
    is_replaced(running, container, &api.kubeconfig());
    let teardown = load(&deploy().join("teardown/daemonset.yaml"));
    node.run(crate::pods::container(spec(only(&teardown, "DaemonSet")), "teardown"), &["command"]).ends();
    let left = Command::new("ip").args(["-oneline", "address"]).output().expect("ip runs").stdout;
    assert!(!String::from_utf8_lossy(&left).contains(LINK_LOCAL), "{}", String::from_utf8_lossy(&left));
}

/// Waits until a state is saved, which comes a moment after it is served.
fn is_saved(dir: &Path) {
    let end = Instant::now() + READY;
    while dir.read_dir().expect("a directory").next().is_none() {
        assert!(Instant::now() < end, "nothing is saved in {}", dir.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A new pod beside the old one on the node, as an upgrade has it: it gets ready by its own probe, the old one ends, and the
/// port of metrics is the new one's.
fn is_replaced(mut old: Running, container: &Value, kubeconfig: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::new(dir.path(), kubeconfig);
    let mut new = node.run(container, &["command"]);
    let end = Instant::now() + READY;
    let ready = || node.run(container, &["readinessProbe", "exec", "command"]).status();
    while !ready().success() {
        assert!(Instant::now() < end, "not ready beside the old one: {}", new.log());
    }
    old.child.terminate();
    assert!(old.status().success(), "{}", old.log());
    assert_eq!(Client::default().addresses(SHOP, SocketAddr::new(ip(LINK_LOCAL), 53), WEB).0, 0, "{}", new.log());
    new.is_ready();
}

/// An address of the node, as `segdns setup` would make it.
fn ip_address(address: &str) {
    let address = format!("{address}/32");
    assert!(Command::new("ip").args(["address", "add", &address, "dev", "lo"]).status().expect("ip runs").success());
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A container's process.
struct Running {
    child: Own,
    log: PathBuf,
}

impl Running {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it serves.
    fn is_ready(&mut self) {
        let (end, mut last) = (Instant::now() + READY, String::new());
        while Instant::now() < end {
            if let Some(status) = self.child.ended() {
                panic!("it ended: {status}: {}", self.log());
            }
            match http_get(SocketAddr::new(ip("127.0.0.1"), 9153), "/readyz") {
                Ok((200, _)) => return,
                other => last = format!("{other:?}: {}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("not ready after {READY:?}: {last}");
    }

    /// Waits until it has ended well.
    fn ends(mut self) {
        let status = self.status();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Waits until it has ended.
    fn status(&mut self) -> ExitStatus {
        self.child.ends(END).unwrap_or_else(|| panic!("it goes on after {END:?}: {}", self.log()))
    }
}

/// What kubelet and containerd give to the containers of a pod. What these mount is below `dir`; instead of the account's token
/// there is a kubeconfig.
struct Node<'a> {
    dir: &'a Path,
}

impl<'a> Node<'a> {
    fn new(dir: &'a Path, kubeconfig: &str) -> Self {
        open(dir);
        for path in ["etc/segdns", "run/segdns", "var/lib/segdns"] {
            let path = dir.join(path);
            std::fs::create_dir_all(&path).expect("a directory");
            path.ancestors().take_while(|above| *above != dir).for_each(open);
        }
        let node = Self { dir };
        let config = std::fs::read_to_string(deploy().join("base/segdns.yaml")).expect("a configuration");
        let config = node.below(&config, &["/run/segdns", "/var/lib/segdns", "/etc/resolv.conf"]);
        let file = |path: &str, text: &str| std::fs::write(dir.join(path), text).expect("written");
        file("etc/segdns/segdns.yaml", &config);
        // The node's resolvers: nobody is there.
        file("etc/resolv.conf", "nameserver 192.0.2.53\n");
        file("kubeconfig", kubeconfig);
        std::fs::copy(binary(), dir.join("segdns")).expect("a copy");
        give_capability(&dir.join("segdns"));
        node
    }

    /// A text with these paths in the folder of the test.
    fn below(&self, text: &str, paths: &[&str]) -> String {
        paths.iter().fold(text.to_owned(), |text, path| text.replace(path, &format!("{}{path}", self.dir.display())))
    }

    /// Starts the command that is there in a container.
    fn run(&self, container: &Value, at: &[&str]) -> Running {
        let command = words(at.iter().fold(container, |value, key| &value[*key]));
        let mounts: Vec<&str> = list(container, "/volumeMounts").iter().map(|m| text(m, "/mountPath")).collect();
        let env = [("KUBE_DNS_SERVICE_HOST", KUBE_DNS), ("KUBE_DNS_UPSTREAM_SERVICE_HOST", UPSTREAM)];
        let path = self.dir.join(format!("log.{}", at.join(".")));
        let log = File::create(&path).expect("a log");
        let mut run = Command::new(self.dir.join("segdns"));
        run.args(command[1..].iter().map(|word| expanded(&self.below(word, &mounts), &env)));
        run.env_clear().envs(env).env("KUBECONFIG", self.dir.join("kubeconfig")).env("NODE_NAME", "node1");
        run.envs(list(container, "/env").iter().filter_map(|v| Some((v["name"].as_str()?, v["value"].as_str()?))));
        run.stdout(log.try_clone().expect("a log")).stderr(log);
        let added = words(&container["securityContext"]["capabilities"]["add"]);
        let capabilities = added.iter().fold(0, |all, name| all | capability(name));
        let own = &container["securityContext"]["runAsUser"];
        let user = own.as_u64().map_or(65532, |user| user.try_into().expect("a user's number"));
        // SAFETY: between fork and exec it only calls functions that are safe there, and allocates nothing.
        unsafe { run.pre_exec(move || confine(user, capabilities)) };
        Running { child: Own(run.spawn().expect("a process")), log: path }
    }
}

/// The bit of a capability that Kubernetes names so.
fn capability(name: &str) -> u32 {
    match name {
        "NET_BIND_SERVICE" => NET_BIND_SERVICE,
        "NET_ADMIN" => NET_ADMIN,
        _ => panic!("{name} is not known here"),
    }
}

/// `$(NAME)`, as kubelet expands it.
fn expanded(word: &str, env: &[(&str, &str)]) -> String {
    env.iter().fold(word.to_owned(), |word, (name, value)| word.replace(&format!("$({name})"), value))
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

/// What containerd and runc do for a user, `drop: [ALL]`, `add` of these capabilities and `allowPrivilegeEscalation: false`:
/// they are in the bounding set and, until exec, permitted; new privileges are not.
fn confine(user: libc::uid_t, capabilities: u32) -> io::Result<()> {
    /// `struct __user_cap_header_struct` of linux/capability.h; its version goes with two of `__user_cap_data_struct`.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    let data = [capabilities, capabilities, 0, 0, 0, 0];
    let told = |result: libc::c_long| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    for capability in 0..=63 {
        if u64::from(capabilities) & 1 << capability == 0 {
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
    told(unsafe { libc::setresgid(user, user, user) }.into())?;
    // SAFETY: takes no pointer.
    told(unsafe { libc::setresuid(user, user, user) }.into())?;
    // SAFETY: both are as long as this version of the header says, and are only read.
    told(unsafe { libc::syscall(libc::SYS_capset, HEADER.as_ptr(), data.as_ptr()) })
}
