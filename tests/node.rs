//! `segdns setup` and `teardown` through the binary, in network namespaces of their own; `tests/simulated.rs` has a whole node.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use support::netns::{self, Place};
use support::own::Own;
use support::{Ran, binary, run};

/// How long what is taken away may be away.
const BACK: Duration = Duration::from_secs(1);
/// How long anything may take on a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

/// Runs a test in a namespace of its own, where the machine grants one.
fn in_a_place(test: impl FnOnce(&Place) + Send) {
    let place = match Place::new() {
        Ok(place) => place,
        Err(why) if netns::may_skip() => return say(&format!("SKIPPED: {why}")),
        Err(why) => panic!("{why}"),
    };
    place.inside(|| test(&place)).expect("a namespace");
}

/// A line that libtest does not capture.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "node: {what}");
}

/// A program that ended well; `None` if it is not installed.
fn output(program: &str, arguments: &str) -> Option<String> {
    let output = Command::new(program).args(arguments.split(' ')).output().ok()?;
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this kernel has interfaces of type dummy; many that run tests do not.
fn has_dummies() -> bool {
    let made = Place::new().and_then(|place| {
        let add = || Command::new("ip").args(["link", "add", "probe", "type", "dummy"]).output();
        place.inside(add).and_then(|o| o).map_err(|e| e.to_string())
    });
    made.is_ok_and(|output| output.status.success())
}

/// Where addresses are on this kernel, and what is said of making them there.
fn ours() -> (&'static str, &'static str) {
    if has_dummies() { ("segdns", "") } else { ("lo", ", as this kernel has no interfaces of type dummy") }
}

/// That it said this on standard output, nothing else, and ended well.
#[track_caller]
fn said(ran: &Ran, want: &[String]) {
    let out: Vec<&str> = ran.out.lines().collect();
    assert_eq!((ran.status, ran.err.as_str(), out), (0, "", want.iter().map(String::as_str).collect()));
}

/// That it failed with this status and one line on standard error, which has these words.
#[track_caller]
fn failed(ran: &Ran, status: i32, words: &[&str]) {
    assert_eq!((ran.status, ran.out.as_str()), (status, ""), "{ran:?}");
    assert!(status == 2 || ran.err.lines().count() == 1, "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word}: {ran:?}");
    }
}

#[test]
fn addresses_are_made_once_and_removed_once() {
    in_a_place(|_| {
        let (interface, why) = ours();
        let arguments = |what| [what, "--address", "169.254.20.10", "--address", "fd00:20::10"];
        let each = |what: &str| ["169.254.20.10", "fd00:20::10"].map(|address| format!("{address}: {what}"));
        said(&run(&arguments("setup")), &each(&format!("made on {interface}{why}")));
        said(&run(&arguments("setup")), &each(&format!("was there already, on {interface}")));
        for address in ["169.254.20.10:53", "[fd00:20::10]:53"] {
            std::net::UdpSocket::bind(address).expect("an address of the node");
        }
        let removed = match interface {
            "lo" => each("taken off lo").to_vec(),
            own => vec![format!("interface {own}: deleted")],
        };
        said(&run(&arguments("teardown")), &removed);
        said(&run(&arguments("teardown")), &["nothing of segdns is there".to_owned()]);
        let left = output("ip", "-oneline address show").expect("ip");
        assert!(left.lines().all(|line| line.contains("127.0.0.1/8") || line.contains("::1/128")), "{left}");
    });
}

#[test]
fn teardown_leaves_what_setup_has_not_made() {
    in_a_place(|place| {
        place.ip("addr add 169.254.20.10/32 dev lo");
        place.ip("addr add 169.254.99.9/32 dev lo");
        said(&run(&["setup"]), &["169.254.20.10: was there already, on lo".to_owned()]);
        said(&run(&["teardown"]), &["nothing of segdns is there".to_owned()]);
        let left = output("ip", "-oneline address show").expect("ip");
        assert!(left.contains("169.254.20.10/32") && left.contains("169.254.99.9/32"), "{left}");
    });
}

#[test]
fn the_link_local_addresses_of_the_configuration_are_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("segdns.yaml");
    let path = file.to_str().expect("a path");
    in_a_place(|_| {
        std::fs::write(&file, "listen: [\"169.254.7.7:53\", \"169.254.7.7:5353\", \"10.96.0.10:53\"]\n")
            .expect("written");
        let (interface, why) = ours();
        said(&run(&["setup", "--config", path]), &[format!("169.254.7.7: made on {interface}{why}")]);
        // The address of kube-dns is made only if that is said: whoever holds it takes it from everyone else.
        let more = run(&["setup", "--config", path, "--address", "10.96.0.10", "--address", "169.254.7.7"]);
        let there = format!("169.254.7.7: was there already, on {interface}");
        said(&more, &[there, format!("10.96.0.10: made on {interface}{why}")]);
    });
}

#[test]
fn bad_arguments_and_configurations_are_told_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).expect("written");
        file.to_str().expect("a path").to_owned()
    };
    let wide = write("wide.yaml", "listen: [\"0.0.0.0:53\"]\n");
    let wrong = write("wrong.yaml", "listen: [\"169.254.20.10:53\"]\nlisten_on: x\n");
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--address", "169.254.20.10/32"], &["169.254.20.10/32", "without a port or a prefix length"]),
        (&["--address", "127.0.0.1"], &["127.0.0.1", "not of loopback"]),
        (&["--address", "0.0.0.0"], &["the address of one host"]),
        (&["--address", "ff02::1"], &["the address of one host"]),
        (&["--interface", "lo"], &["and not lo"]),
        (&["--interface", "much-too-long-a-name"], &["1 to 15 letters"]),
        (&["--config", &wide], &["wide.yaml: listen: none of its addresses is link-local", "--address"]),
        (&["--config", &wrong], &["wrong.yaml:2", "listen_on"]),
    ];
    for (arguments, words) in cases {
        for command in ["setup", "teardown"] {
            failed(&run(&[&[command], arguments].concat()), 2, words);
        }
    }
}

#[test]
fn an_address_of_another_interface_is_an_error_with_a_remedy() {
    in_a_place(|place| {
        place.ip("link add nodelocaldns type veth peer name other");
        place.ip("addr add 169.254.20.10/32 dev nodelocaldns");
        failed(&run(&["setup"]), 1, &["169.254.20.10 is on interface nodelocaldns already", "another --address"]);
        let interface = run(&["setup", "--interface", "nodelocaldns"]);
        failed(&interface, 1, &["interface nodelocaldns is there, and is none of type dummy", "--interface"]);
        failed(&run(&["teardown", "--interface", "nodelocaldns"]), 1, &["none of type dummy"]);
    });
}

/// As [`run`], without the capability NET_ADMIN.
fn run_unprivileged(arguments: &[&str]) -> Ran {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]).arg(binary()).args(arguments);
    ran(&mut command)
}

fn ran(command: &mut Command) -> Ran {
    let output = command.env("HOME", "/nonexistent").output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn without_the_privilege_it_says_which_one_unless_there_is_nothing_to_do() {
    in_a_place(|_| {
        failed(&run_unprivileged(&["setup"]), 1, &["NET_ADMIN", "run it as root"]);
        assert_eq!(run(&["setup"]).status, 0);
        said(&run_unprivileged(&["setup"]), &[format!("169.254.20.10: was there already, on {}", ours().0)]);
        failed(&run_unprivileged(&["teardown"]), 1, &["NET_ADMIN"]);
        let rules = run_unprivileged(&["setup", "--notrack"]);
        assert_eq!(rules.status, 0, "{rules:?}");
        assert!(rules.err.starts_with("segdns: NOTRACK is left out: ") && rules.err.lines().count() == 1, "{rules:?}");
    });
}

/// As [`run`], on a kernel that seems to have no netfilter over netlink.
fn run_without_netfilter(arguments: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    command.args(arguments);
    // SAFETY: between fork and exec it makes two system calls, and touches nothing but its own stack.
    unsafe { command.pre_exec(forbid_netfilter) };
    ran(&mut command)
}

/// From now on no socket of NETLINK_NETFILTER can be made by this process.
fn forbid_netfilter() -> std::io::Result<()> {
    const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        #[allow(clippy::cast_possible_truncation, reason = "codes of classic BPF have 16 bits")]
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let socket = u32::try_from(libc::SYS_socket).map_err(std::io::Error::other)?;
    // struct seccomp_data: the call's number, and its third argument, of which the low half comes first here.
    let mut program = [
        op(load, 0, 0, 0),
        op(equal, 0, 3, socket),
        op(load, 0, 0, 32),
        op(equal, 0, 1, libc::NETLINK_NETFILTER.cast_unsigned()),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPROTONOSUPPORT.cast_unsigned()),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 6, filter: program.as_mut_ptr() };
    // SAFETY: takes no pointer.
    let first = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: `program` and the instructions that it points to outlive the call, which copies them.
    if first != 0 || unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

#[test]
fn notrack_is_left_out_with_a_word_where_the_kernel_has_none() {
    in_a_place(|_| {
        let (interface, why) = ours();
        let ran = run_without_netfilter(&["setup", "--notrack"]);
        assert_eq!((ran.status, ran.out), (0, format!("169.254.20.10: made on {interface}{why}\n")));
        assert!(ran.err.starts_with("segdns: NOTRACK is left out: ") && ran.err.lines().count() == 1, "{}", ran.err);
        // What was never asked for is not missed.
        said(&run_without_netfilter(&["setup"]), &[format!("169.254.20.10: was there already, on {interface}")]);
        assert_eq!(run_without_netfilter(&["teardown"]).status, 0);
    });
}

/// What `nft` shows of the rules for 169.254.20.10 and fd00:20::10.
const RULES: &str = "table inet segdns {
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		ip daddr 169.254.20.10 udp dport 53 notrack
		ip daddr 169.254.20.10 tcp dport 53 notrack
		ip6 daddr fd00:20::10 udp dport 53 notrack
		ip6 daddr fd00:20::10 tcp dport 53 notrack
	}

	chain output {
		type filter hook output priority raw; policy accept;
		ip saddr 169.254.20.10 udp sport 53 notrack
		ip saddr 169.254.20.10 tcp sport 53 notrack
		ip daddr 169.254.20.10 udp dport 53 notrack
		ip daddr 169.254.20.10 tcp dport 53 notrack
		ip6 saddr fd00:20::10 udp sport 53 notrack
		ip6 saddr fd00:20::10 tcp sport 53 notrack
		ip6 daddr fd00:20::10 udp dport 53 notrack
		ip6 daddr fd00:20::10 tcp dport 53 notrack
	}
}
";

#[test]
fn the_rules_of_notrack_are_replaced_and_removed_as_a_whole() {
    in_a_place(|_| {
        let list = || output("nft", "list ruleset");
        if list().is_none() {
            return say("SKIPPED: no `nft` (apt-get install nftables)");
        }
        let arguments = ["setup", "--notrack", "--address", "169.254.20.10", "--address", "fd00:20::10"];
        for turn in ["made", "replaced"] {
            assert_eq!(run(&arguments).status, 0);
            assert_eq!(list().as_deref(), Some(RULES), "{turn}");
        }
        output("nft", "add table inet other");
        // Without the flag they go, so that a node is as its command line says.
        let without = run(&["setup"]);
        let told = "NOTRACK: table inet segdns of nftables: deleted";
        assert!(without.status == 0 && without.out.lines().any(|line| line == told), "{without:?}");
        assert_eq!(list().as_deref(), Some("table inet other {\n}\n"));
        assert_eq!(run(&arguments).status, 0);
        let teardown = run(&["teardown", "--address", "fd00:20::10"]);
        assert!(teardown.status == 0 && teardown.out.lines().any(|line| line == told), "{teardown:?}");
        assert_eq!(list().as_deref(), Some("table inet other {\n}\n"));
    });
}

/// `segdns setup --watch`, and the lines that it prints.
struct Watch {
    child: Own,
    lines: Receiver<String>,
}

impl Watch {
    /// In the calling thread's namespace; watching already.
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        let mut child =
            command.args(["setup", "--watch"]).args(arguments).stdout(Stdio::piped()).spawn().expect("it runs");
        let (told, lines) = channel();
        let out: ChildStdout = child.stdout.take().expect("a pipe");
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| told.send(line)).ok();
        });
        let watch = Self { child: Own(child), lines };
        watch.wait_for("watching: what is removed is made again");
        watch
    }

    fn wait_for(&self, want: &str) {
        let end = Instant::now() + SOON;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line == want {
                return;
            }
            seen.push(line);
        }
        panic!("not said: {want}: {seen:?}");
    }

    /// Its exit status after SIGTERM.
    fn stop(mut self) -> Option<i32> {
        self.child.terminate();
        self.child.ends(SOON).and_then(|status| status.code())
    }
}

/// Waits until a socket can be bound to the address; how long that took.
fn back(address: &str) -> Duration {
    let start = Instant::now();
    while std::net::UdpSocket::bind(address).is_err() {
        assert!(start.elapsed() < SOON, "{address} is not back");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// The least of some times but the first, at which the watch may only just have begun. All of it may have to wait for a processor;
/// each time would be 10 s if the watch did not hear of what is taken away.
fn quickest(turn: impl FnMut() -> Duration) -> Duration {
    std::iter::repeat_with(turn).take(4).skip(1).min().expect("some")
}

#[test]
fn what_someone_takes_away_is_back_within_a_second() {
    in_a_place(|place| {
        let (interface, why) = ours();
        let watch = Watch::start(&["--address", "169.254.20.10", "--address", "fd00:20::10"]);
        for (address, prefix, bind) in
            [("169.254.20.10", 32, "169.254.20.10:53"), ("fd00:20::10", 128, "[fd00:20::10]:53")]
        {
            let took = quickest(|| {
                place.ip(&format!("addr del {address}/{prefix} dev {interface}"));
                let took = back(bind);
                watch.wait_for(&format!("restored: {address}: made on {interface}{why}"));
                took
            });
            assert!(took < BACK, "{address}: {took:?}");
        }
        if interface == "segdns" {
            let took = quickest(|| {
                place.ip("link del segdns");
                let took = back("169.254.20.10:53");
                // The last of it: what is taken away in the middle is tried again a second later.
                watch.wait_for("restored: fd00:20::10: made on segdns");
                took
            });
            assert!(took < BACK, "{took:?}");
            place.ip("link set segdns down");
            watch.wait_for("restored: interface segdns: was down, is up");
        }
        assert_eq!(watch.stop(), Some(0));
        let after = run(&["setup"]);
        said(&after, &[format!("169.254.20.10: was there already, on {interface}")]);
    });
}

#[test]
fn rules_that_a_firewall_flushes_are_back() {
    in_a_place(|place| {
        if output("nft", "list ruleset").is_none() {
            return say("SKIPPED: no `nft` (apt-get install nftables)");
        }
        let rules = "NOTRACK: rules for port 53 are in table inet segdns of nftables";
        let watch = Watch::start(&["--notrack"]);
        output("nft", "flush ruleset");
        // They are looked for with the addresses, every 10 s and whenever an address or interface changes.
        place.ip("link add one type veth peer name other");
        watch.wait_for(rules);
        assert!(output("nft", "list ruleset").expect("nft").contains("notrack"));
        assert_eq!(watch.stop(), Some(0));
    });
}

#[test]
fn rules_that_the_pod_before_has_put_back_are_gone_once_nobody_wants_them() {
    in_a_place(|place| {
        if output("nft", "list ruleset").is_none() {
            return say("SKIPPED: no `nft` (apt-get install nftables)");
        }
        let watch = Watch::start(&[]);
        // As the keeper of a pod does that ends a moment later.
        let before = run(&["setup", "--notrack"]);
        assert!(before.status == 0 && before.out.contains("NOTRACK: rules for port 53 are in"), "{before:?}");
        place.ip("link add one type veth peer name other");
        watch.wait_for("NOTRACK: table inet segdns of nftables: deleted");
        assert_eq!(output("nft", "list ruleset").as_deref(), Some(""));
        assert_eq!(watch.stop(), Some(0));
    });
}
